"""Write the plan: one row per experiment, category and run."""

from pathlib import Path

from reconpatch.pipeline.from_snakemake import job_of
from reconpatch.pipeline.plan import write_plan

with job_of(snakemake):
    write_plan(snakemake.params.rows, Path(snakemake.output[0]))
