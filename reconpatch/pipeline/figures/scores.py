"""The steps that draw one category's image scores: histograms, ROC and precision-recall curves."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from safetensors.numpy import load_file

from reconpatch.data.manifest import read_manifest
from reconpatch.records.record import read_record
from reconpatch.results.figures.common import panel_titles, save
from reconpatch.results.figures.maps import curves, histogram


@dataclass(frozen=True)
class ScoreFiles:
    """What the steps read: manifest of the category, record and scores of every run. What they write: the figure."""

    manifest: Path
    runs: list[Path]
    scores: list[Path]
    figure: Path


def draw_histogram(files: ScoreFiles, departures: Sequence[str]) -> None:
    """Scores of the test images -> figure, one panel a run."""
    _draw(histogram, files, departures)


def draw_roc(files: ScoreFiles, departures: Sequence[str]) -> None:
    """Scores of the test images -> figure, one line a run."""
    _draw(curves, files, departures)


def _draw(drawing: Callable[..., Figure], files: ScoreFiles, departures: Sequence[str]) -> None:
    """Draw (image scores of every run, labels, titles) and save."""
    records = [read_record(file) for file in files.runs]
    labels = np.array([item.label for item in read_manifest(files.manifest)[0] if item.split == "test"])
    scores = [load_file(file)["image"] for file in files.scores]
    save(drawing(scores, labels, panel_titles(records)), files.figure, records, departures)
