"""Draw one category of the embedded sample."""

from pathlib import Path
from typing import TYPE_CHECKING

from reconpatch.data.sample import write_sample
from reconpatch.files import replacing
from reconpatch.pipeline.job import job

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with job(snakemake.log[0], f"sample {snakemake.wildcards.category}"), replacing(Path(snakemake.output[0])) as folder:
    write_sample(folder, snakemake.wildcards.category, snakemake.params.seed)
