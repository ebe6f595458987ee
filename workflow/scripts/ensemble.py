"""Combine the scores of several runs on one category and write the record of the ensemble."""

from reconpatch.pipeline.ensemble import EnsembleFiles, combine_ensemble
from reconpatch.pipeline.from_snakemake import files_of, job_of

with job_of(snakemake) as job:
    combine_ensemble(job, files_of(EnsembleFiles, snakemake), snakemake.params.combine, snakemake.wildcards.run)
