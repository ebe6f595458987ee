"""Draw one category's test images with both methods' maps."""

from reconpatch.pipeline.figures.examples import QualitativeFiles, draw_qualitative
from reconpatch.pipeline.from_snakemake import files_of, job_of

with job_of(snakemake):
    draw_qualitative(files_of(QualitativeFiles, snakemake), snakemake.params.departures)
