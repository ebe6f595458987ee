"""The step that puts tables and figures into one self-contained page."""

from pathlib import Path

from reconpatch.experiments.outputs import Section, reasons
from reconpatch.files import write_text
from reconpatch.records.provenance import code_state
from reconpatch.results.report import render


def write_report(results: Path, sections: list[Section], absent: dict[str, list[str]], destination: Path) -> None:
    """Folder of results, what to show of each experiment, what each absent experiment lacks -> HTML page."""
    write_text(destination, render(results, sections, reasons(absent), code_state()))
