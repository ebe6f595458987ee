"""Score one category's test images without truth and write what the server of their publisher takes."""

from reconpatch.pipeline.from_snakemake import files_of, job_of
from reconpatch.pipeline.submission import SubmissionFiles, write_submission

with job_of(snakemake) as job:
    files, config = files_of(SubmissionFiles, snakemake), snakemake.config
    params, category = snakemake.params, snakemake.wildcards.category
    batches = int(config["batch_images"]), int(config["gpu_batch_images"])
    write_submission(job, files, params.run, params.layout, category, *batches, config["weight_digests"])
