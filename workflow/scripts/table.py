"""Make one experiment's table in four formats."""

from pathlib import Path
from typing import TYPE_CHECKING

from reconpatch.files import write_text
from reconpatch.jobs import job
from reconpatch.records import read_record
from reconpatch.tables import comparison, formatted, notes, results_frame, to_html, to_latex, to_markdown

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with job(snakemake.log[0], f"table {snakemake.wildcards.experiment}"):
    axes, title, out = snakemake.params.axes, snakemake.params.title, snakemake.output
    records = [read_record(Path(file)) for file in snakemake.input]
    frame = results_frame(records, axes)
    table = formatted(comparison(frame, axes))
    lines = notes(frame, records, snakemake.params.differences)
    write_text(Path(out.csv), frame.to_csv(index=False))
    write_text(Path(out.md), to_markdown(table, title, lines))
    write_text(Path(out.tex), to_latex(table, title, lines))
    write_text(Path(out.html), to_html(table, title, lines))
