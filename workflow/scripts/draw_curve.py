"""Draw one category's loss, mean pairwise similarity and AUROC over epochs."""

from reconpatch.pipeline.figures.curve import CurveFiles, draw_curve
from reconpatch.pipeline.from_snakemake import files_of, job_of

with job_of(snakemake):
    draw_curve(files_of(CurveFiles, snakemake), snakemake.params.departures)
