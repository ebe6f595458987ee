"""Score the test images of one category with one run's memory bank and write the record."""

from reconpatch.pipeline.from_snakemake import files_of, job_of
from reconpatch.pipeline.score import ScoreFiles, Target, score_run

with job_of(snakemake) as job:
    where, params = snakemake.wildcards, snakemake.params
    target = Target(where.dataset, where.category, where.run, params.layout)
    score_run(job, files_of(ScoreFiles, snakemake), params.run, target)
