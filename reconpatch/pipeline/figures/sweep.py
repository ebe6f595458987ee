"""The step that draws an experiment's AUROC over the setting it varies, for every method, with published points."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from reconpatch.method.metrics import METRICS
from reconpatch.records.record import read_record
from reconpatch.results.figures.captions import of_published
from reconpatch.results.figures.common import save
from reconpatch.results.figures.sweeps import is_scale, series_of, sweep, widest


@dataclass(frozen=True)
class SweepFiles:
    """What the step reads: the cells of the experiment's table, and the record of every run. What it writes: the
    figure.
    """

    cells: Path
    records: list[Path]
    figure: Path


def draw_sweep(files: SweepFiles, labels: Sequence[str], departures: Sequence[str]) -> None:
    """Cells of an experiment's table, records of its runs, the names of what it varies -> figure."""
    table = pd.read_csv(files.cells, dtype={"category": str})
    records = [read_record(file) for file in files.records]
    shown, x, what = series_of(table, labels)
    panels = {metric.label: shown[name] for name, metric in METRICS.items() if metric.interval and name in shown}
    xlabel = "" if list(labels) == ["variant"] else ", ".join(labels)
    figure = sweep(panels, x, xlabel, f"AUROC in %, {what}")
    remarks = ["Values are joined, and evenly spaced whatever they are."] if is_scale(x) else []
    drawn, _ = widest(table)
    save(figure, files.figure, records, departures, *remarks, *of_published(drawn["source"].dropna(), drawn["verdict"]))
