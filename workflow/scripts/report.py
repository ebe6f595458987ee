"""Put tables and figures into one self-contained page."""

from pathlib import Path

from reconpatch.pipeline.from_snakemake import job_of
from reconpatch.pipeline.report import write_report

with job_of(snakemake):
    write_report(
        Path("results"),
        snakemake.params.sections,
        list(map(Path, snakemake.input.thumbnails)),
        snakemake.params.absent,
        Path(snakemake.output[0]),
    )
