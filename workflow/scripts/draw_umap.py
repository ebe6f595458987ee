"""Draw UMAP layouts of normal and defective test patches among the memory bank, one panel a method."""

from reconpatch.pipeline.figures.umap import UmapFiles, draw_umap
from reconpatch.pipeline.from_snakemake import files_of, job_of

with job_of(snakemake):
    draw_umap(files_of(UmapFiles, snakemake), snakemake.params.departures)
