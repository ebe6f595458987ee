"""Make one experiment's table in four formats."""

from pathlib import Path
from typing import TYPE_CHECKING

from reconpatch.pipeline.job import job
from reconpatch.results.make_table import write_table

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with job(snakemake.log[0], f"table {snakemake.wildcards.experiment}"):
    paper = Path(snakemake.input.paper[0]) if snakemake.input.paper else None
    write_table(snakemake.params.settings, paper, Path("results"), snakemake.wildcards.experiment)
