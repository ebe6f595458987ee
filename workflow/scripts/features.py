"""Extract the patch features of one category with one backbone."""

from reconpatch.pipeline.features import FeatureFiles, extract_features
from reconpatch.pipeline.from_snakemake import files_of, job_of

with job_of(snakemake) as job:
    files, config = files_of(FeatureFiles, snakemake), snakemake.config
    extract_features(job, files, snakemake.params.run, int(config["batch_images"]), config["weight_digests"])
