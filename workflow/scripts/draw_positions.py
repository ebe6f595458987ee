"""Draw UMAP layouts of a few patch positions over one category's training images, one panel a model."""

from reconpatch.pipeline.figures.positions import PositionFiles, draw_positions
from reconpatch.pipeline.from_snakemake import files_of, job_of

with job_of(snakemake):
    draw_positions(files_of(PositionFiles, snakemake), snakemake.params.departures)
