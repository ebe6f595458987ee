"""Score the training images of one category with one run's memory bank: what an ensemble's z-scores refer to."""

from reconpatch.pipeline.from_snakemake import files_of, job_of
from reconpatch.pipeline.training_scores import TrainingScoreFiles, score_training

with job_of(snakemake) as job:
    score_training(job, files_of(TrainingScoreFiles, snakemake), snakemake.params.run)
