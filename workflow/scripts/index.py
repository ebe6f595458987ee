"""Index one category: every file listed, decoded and checked."""

from pathlib import Path
from typing import TYPE_CHECKING

from reconpatch.data.index import manifest
from reconpatch.data.indexing import index
from reconpatch.data.remarks import data_flags
from reconpatch.files import write_text
from reconpatch.pipeline.job import job

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with job(snakemake.log[0], f"index {snakemake.wildcards.dataset}/{snakemake.wildcards.category}") as running:
    items = index(snakemake.params.layout, Path(snakemake.params.root), snakemake.wildcards.category, snakemake.threads)
    write_text(Path(snakemake.output[0]), manifest(items))
    running.note(f"{len(items)} images, {sum(item.label for item in items)} of them anomalous")
    for flag in data_flags(snakemake.params.layout, snakemake.wildcards.category, items):
        running.note(f"remark: {flag}")
