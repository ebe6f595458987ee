"""The step that puts tables and figures into one self-contained page."""

from collections.abc import Sequence
from pathlib import Path

from reconpatch.experiments.outputs import Section, reasons
from reconpatch.files import write_text
from reconpatch.records.provenance import code_state
from reconpatch.results.report import render
from reconpatch.results.thumbnails import read_thumbnails


def write_report(
    results: Path,
    sections: list[Section],
    thumbnails: Sequence[Path],
    absent: dict[str, list[str]],
    destination: Path,
) -> None:
    """Folder of results, what to show of each experiment, files of thumbnails, what each absent experiment lacks ->
    HTML page.
    """
    images = [read_thumbnails(file) for file in thumbnails]
    write_text(destination, render(results, sections, images, reasons(absent), code_state()))
