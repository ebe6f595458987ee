"""Train the representation f of ReConPatch on the normal patches of one category."""

from reconpatch.pipeline.from_snakemake import files_of, job_of
from reconpatch.pipeline.training import TrainingFiles, train_representation

with job_of(snakemake) as job:
    train_representation(job, files_of(TrainingFiles, snakemake), snakemake.params.run, snakemake.params.checkpoints)
