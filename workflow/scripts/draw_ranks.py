"""Draw critical-difference diagrams of the methods' average ranks over the categories of an experiment."""

from reconpatch.pipeline.figures.ranks import RankFiles, draw_ranks
from reconpatch.pipeline.from_snakemake import files_of, job_of

with job_of(snakemake):
    draw_ranks(files_of(RankFiles, snakemake), snakemake.params.labels, snakemake.params.departures)
