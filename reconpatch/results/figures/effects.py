"""Figures of what a setting or a method changes: effects of a table's rows, gains by category. Values are points."""

from collections.abc import Collection, Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from reconpatch.errors import ReconpatchError
from reconpatch.results.comparison import EFFECT, ORACLE
from reconpatch.results.figures.dots import Dot
from reconpatch.results.figures.sweeps import widest
from reconpatch.results.names import ALL, KIND, MEAN_OF_KINDS, METHODS, category_name
from reconpatch.results.statistics import LEVEL


def effects_of(cells: pd.DataFrame, labels: Sequence[str]) -> tuple[dict[str, list[Dot]], str]:
    """Cells of a table's CSV, the names of what it varies -> (metric -> effects, x 100, of the places that have one;
    what they are of, a category or a mean over categories).

    Raises ReconpatchError where the table has no effects.
    """
    if EFFECT not in cells:
        raise ReconpatchError(
            "the table compares no rows", where="figures: effects", fix="give the experiment a `reference`"
        )
    wide, what = widest(cells)
    wide = wide[wide[EFFECT].notna()]
    rows = [", ".join(str(row[label]) for label in labels) for row in wide.to_dict("records")]
    return _by_metric(wide, EFFECT, [METHODS[method] for method in wide["method"]], rows), what


def largest_first(panels: dict[str, list[Dot]]) -> list[str]:
    """Dots by panel -> the rows in the order of their largest value in any panel, whatever its sign."""
    largest: dict[str, float] = {}
    for dot in (dot for shown in panels.values() for dot in shown):
        largest[dot.row] = max(largest.get(dot.row, 0.0), abs(np.nan_to_num(dot.value)))
    return sorted(largest, key=lambda row: -largest[row])


def gains_of(
    cells: pd.DataFrame, labels: Sequence[str], runs: Collection[str]
) -> tuple[dict[str, list[Dot]], list[str], int]:
    """Cells of a table's CSV, the names of what it varies, the runs to draw -> (metric -> gains over PatchCore, x 100;
    the categories, the largest gain first, and below them the means; how many means there are).

    There is a series for each method and place in the table. An oracle is no result, and left out. Raises
    ReconpatchError where no run has a gain.
    """
    if "gain" not in cells:
        cells = cells.assign(gain=np.nan)
    shown = cells[cells["gain"].notna()]
    shown = shown[shown["runs"].map(lambda names: {*str(names).split()} <= {*runs}).astype(bool)]
    for label in labels:
        shown = shown[shown[label] != ORACLE]
    if KIND in shown:  # each category by its kinds, all together also by their mean: else the figure fills pages
        kind, of_one = shown[KIND], shown["categories"] == 1
        shown = shown[kind.isna() | (of_one & (kind != MEAN_OF_KINDS)) | (shown["category"] == "mean")]
    of_natures = shown["dataset"] == ALL
    if of_natures.any():  # they stand for the means of single data sets
        shown = shown[of_natures | (shown["categories"] == 1)]
    # Runs that stand at several places of a table, as an untrained f at several epochs, are drawn once.
    place = ["dataset", "category", "method", "metric", "runs", *({KIND} & {*shown.columns})]
    shown = shown.drop_duplicates(place)
    if shown.empty:
        raise ReconpatchError(
            "no gain over PatchCore among the runs drawn",
            where="figures: gains",
            fix="draw ReConPatch where PatchCore runs with the same settings",
        )
    several = shown.loc[shown["dataset"] != ALL, "dataset"].nunique() > 1
    varied = [label for label in labels if shown[label].nunique() > 1]
    rows = [_row(cell, several) for cell in shown.to_dict("records")]
    series = [
        ", ".join([METHODS[cell["method"]], *(f"{label} {cell[label]}" for label in varied)])
        for cell in shown.to_dict("records")
    ]
    single = ((shown["categories"] == 1) & (shown["dataset"] != ALL)).tolist()
    by_metric = _by_metric(shown, "gain", series, rows)
    first = next(iter(by_metric.values()))
    value = {dot.row: dot.value for dot in first if dot.series == first[-1].series}
    of_categories = dict.fromkeys(row for row, one in zip(rows, single, strict=True) if one)
    means = dict.fromkeys(row for row, one in zip(rows, single, strict=True) if not one)
    ordered = sorted(of_categories, key=lambda row: -value.get(row, -np.inf))
    return by_metric, [*ordered, *means], len(means)


def _row(cell: Mapping[Hashable, Any], several: bool) -> str:
    """A cell -> the name of its row: its category, or which mean it is."""
    name = category_name(str(cell["category"]), int(cell["categories"]), str(cell["dataset"]))
    name += f", {cell[KIND]}" if isinstance(cell.get(KIND), str) else ""
    return f"{cell['dataset']}: {name}" if several and cell["dataset"] != ALL else name


def _by_metric(cells: pd.DataFrame, gain: str, series: Sequence[str], rows: Sequence[str]) -> dict[str, list[Dot]]:
    """Cells, one of their gains, the series and the row of each -> metric -> dots, x 100."""
    paper = cells[f"paper_{gain}"] if f"paper_{gain}" in cells else pd.Series(np.nan, cells.index)
    p = cells[f"{gain}_holm"].fillna(cells[f"{gain}_p"])  # the corrected one counts, where there is one
    numbers = (100 * cells[[gain, f"{gain}_low", f"{gain}_high"]]).itertuples(index=False)
    by_metric: dict[str, list[Dot]] = {}
    for metric, name, row, (value, low, high), theirs, each in zip(
        cells["metric"], series, rows, numbers, paper, p, strict=True
    ):
        dot = Dot(name, row, value, low, high, 100 * theirs, each <= LEVEL)
        by_metric.setdefault(metric, []).append(dot)
    return by_metric
