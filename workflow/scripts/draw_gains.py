"""Draw the gains over PatchCore by category."""

from reconpatch.pipeline.figures.effects import GainFiles, draw_gains
from reconpatch.pipeline.from_snakemake import files_of, job_of

with job_of(snakemake):
    draw_gains(files_of(GainFiles, snakemake), snakemake.params.labels, snakemake.params.departures)
