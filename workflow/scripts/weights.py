"""Download one backbone's weights, once for all categories."""

from pathlib import Path

from reconpatch.pipeline.from_snakemake import job_of
from reconpatch.pipeline.weights import fetch_weights

with job_of(snakemake):
    fetch_weights(snakemake.wildcards.backbone, Path(snakemake.output[0]))
