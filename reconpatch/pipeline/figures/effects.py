"""The steps that draw what a setting changes, and what a method gains over PatchCore, the largest first."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from reconpatch.method.metrics import METRICS
from reconpatch.records.record import read_record
from reconpatch.results.figures.captions import of_published
from reconpatch.results.figures.common import save
from reconpatch.results.figures.dots import dots
from reconpatch.results.figures.effects import effects_of, gains_of, largest_first


@dataclass(frozen=True)
class EffectFiles:
    """What the step reads: the cells of the experiment's table, its settings, and the record of every run. What it
    writes: the figure.
    """

    cells: Path
    settings: Path
    records: list[Path]
    figure: Path


def draw_effects(files: EffectFiles, labels: Sequence[str], departures: Sequence[str]) -> None:
    """Cells of an experiment's table, records of its runs, the names of what it varies -> figure.

    Raises ReconpatchError where the table has no reference row.
    """
    table = pd.read_csv(files.cells, dtype={"category": str})
    reference = json.loads(files.settings.read_text(encoding="utf-8"))["reference"]
    shown, what = effects_of(table, labels)
    panels = {metric.label: shown[name] for name, metric in METRICS.items() if metric.interval and name in shown}
    xlabel = f"points against {', '.join(map(str, reference.values()))}, {what}"
    figure = dots(panels, largest_first(panels), xlabel, zero=True)
    save(figure, files.figure, [read_record(file) for file in files.records], departures)


@dataclass(frozen=True)
class GainFiles:
    """What the step reads: the cells of the experiment's table, and the record of every run to draw. What it writes:
    the figure.
    """

    cells: Path
    records: list[Path]
    figure: Path


def draw_gains(files: GainFiles, labels: Sequence[str], departures: Sequence[str]) -> None:
    """Cells of an experiment's table, records of the runs to draw, the names of what it varies -> figure.

    Raises ReconpatchError where none of the runs has a gain over PatchCore.
    """
    table = pd.read_csv(files.cells, dtype={"category": str})
    records = [read_record(file) for file in files.records]
    shown, rows, means = gains_of(table, labels, {record.run for record in records})
    panels = {metric.label: shown[name] for name, metric in METRICS.items() if metric.interval and name in shown}
    beside = table[table["paper_gain"].notna()] if "paper_gain" in table else table[:0]
    remarks = of_published(beside["source"], beside.get("gain_verdict", ()))
    figure = dots(panels, rows, "gain over PatchCore in points", zero=True, apart=means)
    save(figure, files.figure, records, departures, *remarks)
