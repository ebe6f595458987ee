"""The step that draws the average ranks of an experiment's methods over categories."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from reconpatch.records.record import read_record
from reconpatch.results.figures.common import save
from reconpatch.results.figures.ranks import rank_panels, ranks


@dataclass(frozen=True)
class RankFiles:
    """What the step reads: the cells of the experiment's table, and the record of every run. What it writes: the
    figure.
    """

    cells: Path
    records: list[Path]
    figure: Path


def draw_ranks(files: RankFiles, labels: Sequence[str], departures: Sequence[str]) -> None:
    """Cells of an experiment's table, records of its runs, the names of what it varies -> figure."""
    table = pd.read_csv(files.cells, dtype={"category": str})
    save(ranks(rank_panels(table, labels)), files.figure, [read_record(file) for file in files.records], departures)
