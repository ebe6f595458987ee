"""Build the memory bank of one category: the ordered coreset of its represented patches."""

from reconpatch.pipeline.coreset import CoresetFiles, select_coreset
from reconpatch.pipeline.from_snakemake import files_of, job_of

with job_of(snakemake) as job:
    select_coreset(job, files_of(CoresetFiles, snakemake), snakemake.params.run, snakemake.params.ratio)
