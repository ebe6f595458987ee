"""Make one experiment's table in four formats."""

from pathlib import Path

from reconpatch.pipeline.from_snakemake import job_of
from reconpatch.results.make_table import write_table

with job_of(snakemake):
    paper = Path(snakemake.input.paper[0]) if snakemake.input.paper else None
    write_table(snakemake.params.settings, paper, Path("results"), snakemake.wildcards.experiment)
