"""Make thumbnails of one category's test images for the report."""

from reconpatch.pipeline.from_snakemake import files_of, job_of
from reconpatch.pipeline.thumbnails import ThumbnailFiles, make_thumbnails

with job_of(snakemake):
    params = snakemake.params
    make_thumbnails(files_of(ThumbnailFiles, snakemake), params.keep, params.departures)
