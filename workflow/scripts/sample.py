"""Draw one category of the embedded sample."""

from pathlib import Path

from reconpatch.data.sample import write_sample
from reconpatch.files import replacing
from reconpatch.pipeline.from_snakemake import job_of

with job_of(snakemake), replacing(Path(snakemake.output[0])) as folder:
    write_sample(folder, snakemake.wildcards.category, snakemake.params.seed)
