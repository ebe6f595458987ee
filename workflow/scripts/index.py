"""Index one category: every file listed, decoded and checked."""

from pathlib import Path

from reconpatch.pipeline.from_snakemake import job_of
from reconpatch.pipeline.index import index_category

with job_of(snakemake) as job:
    root, category, manifest = Path(snakemake.params.root), snakemake.wildcards.category, Path(snakemake.output[0])
    index_category(job, snakemake.params.layout, root, category, manifest)
