"""Extract the patch features of one category with one backbone."""

from reconpatch.pipeline.features import FeatureFiles, extract_features
from reconpatch.pipeline.from_snakemake import files_of, job_of

with job_of(snakemake) as job:
    files, config = files_of(FeatureFiles, snakemake), snakemake.config
    batches = int(config["batch_images"]), int(config["gpu_batch_images"])
    extract_features(job, files, snakemake.params.run, *batches, config["weight_digests"])
