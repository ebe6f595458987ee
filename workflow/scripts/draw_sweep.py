"""Draw an experiment's AUROC over what it sweeps, both methods, with the paper's points."""

from reconpatch.pipeline.figures.sweep import SweepFiles, draw_sweep
from reconpatch.pipeline.from_snakemake import files_of, job_of

with job_of(snakemake):
    draw_sweep(files_of(SweepFiles, snakemake), snakemake.params.labels, snakemake.params.departures)
