"""Download one backbone's weights, once for all categories."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

from reconpatch.files import write_text
from reconpatch.method.backbones import fetch
from reconpatch.pipeline.job import job

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with job(snakemake.log[0], f"weights of {snakemake.wildcards.backbone}"):
    write_text(Path(snakemake.output[0]), json.dumps(fetch(snakemake.wildcards.backbone)) + "\n")
