"""Draw one category's ROC and precision-recall curves of image scores."""

from reconpatch.pipeline.figures.scores import ScoreFiles, draw_roc
from reconpatch.pipeline.from_snakemake import files_of, job_of

with job_of(snakemake):
    draw_roc(files_of(ScoreFiles, snakemake), snakemake.params.departures)
