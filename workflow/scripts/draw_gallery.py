"""Draw one defective image of every category with its anomaly map."""

from reconpatch.pipeline.figures.examples import GalleryFiles, draw_gallery
from reconpatch.pipeline.from_snakemake import files_of, job_of

with job_of(snakemake):
    draw_gallery(files_of(GalleryFiles, snakemake), snakemake.params.departures)
