"""Read the masks of one category's test images onto the grid of the anomaly maps."""

from reconpatch.pipeline.from_snakemake import files_of, job_of
from reconpatch.pipeline.masks import MaskFiles, read_masks

with job_of(snakemake) as job:
    read_masks(job, files_of(MaskFiles, snakemake), snakemake.params.run)
