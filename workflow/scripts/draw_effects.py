"""Draw how much each row of a table changes against its reference row."""

from reconpatch.pipeline.figures.effects import EffectFiles, draw_effects
from reconpatch.pipeline.from_snakemake import files_of, job_of

with job_of(snakemake):
    draw_effects(files_of(EffectFiles, snakemake), snakemake.params.labels, snakemake.params.departures)
