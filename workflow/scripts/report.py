"""Put tables and figures into one self-contained page."""

from pathlib import Path
from typing import TYPE_CHECKING

from reconpatch.files import write_text
from reconpatch.pipeline.job import job
from reconpatch.records.provenance import code_state
from reconpatch.results.report import render

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with job(snakemake.log[0], "report"):
    page = render(Path("results"), snakemake.params.sections, snakemake.params.absent, code_state())
    write_text(Path(snakemake.output[0]), page)
