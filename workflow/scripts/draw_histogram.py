"""Draw one category's histograms of image scores."""

from reconpatch.pipeline.figures.scores import ScoreFiles, draw_histogram
from reconpatch.pipeline.from_snakemake import files_of, job_of

with job_of(snakemake):
    draw_histogram(files_of(ScoreFiles, snakemake), snakemake.params.departures)
