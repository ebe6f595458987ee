"""The step that draws one category's histograms of image scores."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

from reconpatch.data.manifest import read_manifest
from reconpatch.records.record import read_record
from reconpatch.results.figures.common import footnote, panel_titles, save
from reconpatch.results.figures.maps import histogram


@dataclass(frozen=True)
class HistogramFiles:
    """What the step reads: manifest of the category, record and scores of every run. What it writes: the figure."""

    manifest: Path
    runs: list[Path]
    scores: list[Path]
    figure: Path


def draw_histogram(files: HistogramFiles) -> None:
    """Scores of the test images -> figure, one panel a run."""
    records = [read_record(file) for file in files.runs]
    labels = np.array([item.label for item in read_manifest(files.manifest)[0] if item.split == "test"])
    figure = histogram([load_file(file)["image"] for file in files.scores], labels, panel_titles(records))
    save(figure, files.figure, footnote(records))
