"""The step that draws how much each row of a table changes against its reference row, the largest effect first."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from reconpatch.method.metrics import METRICS
from reconpatch.records.record import read_record
from reconpatch.results.figures.common import footnote, save
from reconpatch.results.figures.effects import effects, effects_of


@dataclass(frozen=True)
class EffectFiles:
    """What the step reads: the cells of the experiment's table, its settings, and the record of every run. What it
    writes: the figure.
    """

    cells: Path
    settings: Path
    records: list[Path]
    figure: Path


def draw_effects(files: EffectFiles, labels: Sequence[str]) -> None:
    """Cells of an experiment's table, records of its runs, the names of what it varies -> figure.

    Raises ReconpatchError where the table has no reference row.
    """
    table = pd.read_csv(files.cells, dtype={"category": str})
    reference = json.loads(files.settings.read_text(encoding="utf-8"))["reference"]
    shown, what = effects_of(table, labels)
    panels = {metric.label: shown[name] for name, metric in METRICS.items() if metric.interval and name in shown}
    below = footnote([read_record(file) for file in files.records])
    save(effects(panels, f"points against {', '.join(map(str, reference.values()))}, {what}"), files.figure, below)
