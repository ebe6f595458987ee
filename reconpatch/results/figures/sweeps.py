"""Figures of sweeps and of training. Drawing only; values come in percent, NaN where missing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from reconpatch.results.figures.common import COLOURS, MARKERS, add_legend, in_print_style, panel_grid, series_index
from reconpatch.results.figures.dots import Dot, dots, say_empty, series_legend
from reconpatch.results.names import KIND, MEAN_OF_KINDS, METHODS

if TYPE_CHECKING:  # the step that draws sweeps reads the CSV; training curves need no pandas
    import pandas as pd


@dataclass(frozen=True)
class Series:
    """One line of an ablation, a value per position of the swept axis; NaN and None: missing."""

    name: str
    values: Sequence[float]
    low: Sequence[float]  # ends of the 95 % interval
    high: Sequence[float]
    paper: Sequence[float | None]


def series_of(cells: "pd.DataFrame", labels: Sequence[str]) -> tuple[dict[str, list[Series]], list[str], str]:
    """Cells of a table's CSV, the swept labels -> (metric -> a Series per method, x 100; the x labels; what the values
    are of, a category or a mean).
    """
    wide, what = widest(cells)
    x = [", ".join(map(str, v)) for v in wide[list(labels)].drop_duplicates().itertuples(index=False)]
    by_metric: dict[str, list[Series]] = {}
    for (metric, method), part in wide.groupby(["metric", "method"], sort=False):
        columns = [(100 * part[c]).tolist() for c in ("value", "low", "high", "paper")]
        by_metric.setdefault(str(metric), []).append(Series(METHODS[str(method)], *columns))
    return by_metric, x, what


def widest(cells: "pd.DataFrame") -> tuple["pd.DataFrame", str]:
    """Cells of a table's CSV -> (those of the first data set's mean over most categories, or of its only category; what
    they are of); where its kinds of anomalies are measured apart, those of the mean of kinds.
    """
    if KIND in cells:
        cells = cells[cells[KIND].isna() | (cells[KIND] == MEAN_OF_KINDS)]
    wide = cells[cells["categories"] == cells["categories"].max()]
    wide = wide[wide["dataset"] == wide["dataset"].iloc[0]]
    wide = wide[wide["category"] == wide["category"].iloc[-1]]
    count = int(wide["categories"].iloc[0])
    return wide, f"mean of {count} categories" if count > 1 else str(wide["category"].iloc[0])


def is_scale(x: Sequence[str]) -> bool:
    """Labels of a swept axis -> whether all are numbers or shares, as 1/2: other settings have no order to join."""
    try:
        return bool([Fraction(label) for label in x])
    except ValueError:
        return False


def sweep(panels: Mapping[str, Sequence[Series]], x: Sequence[str], xlabel: str, ylabel: str) -> Figure:
    """(series by panel title, as many x labels as values, axis labels) -> one panel per title.

    Values of a scale are evenly spaced and joined: filled markers are ours, with the 95 % interval as a bar, hollow
    ones on dashed lines published. Series stand a little apart, so that no bar hides another. Settings that are no
    scale are rows, without lines. Raises ReconpatchError for more series than colours.
    """
    if is_scale(x):
        return _lines(panels, x, xlabel, ylabel)
    return dots({title: _dots(shown, x) for title, shown in panels.items()}, x, ylabel, xlabel)


def _dots(shown: Sequence[Series], x: Sequence[str]) -> list[Dot]:
    """Series over the same labels -> their values by row."""
    return [
        Dot(series.name, *values)
        for series in shown
        for values in zip(x, series.values, series.low, series.high, series.paper, strict=True)
    ]


@in_print_style
def _lines(panels: Mapping[str, Sequence[Series]], x: Sequence[str], xlabel: str, ylabel: str) -> Figure:
    """`sweep` of a scale."""
    every = [series for shown in panels.values() for series in shown]
    index = series_index((series.name for series in every), "choose fewer under `figures`, or split the experiment")
    figure, axes = panel_grid(len(panels), 1.7)
    characters = sum(len(label) + 2 for label in x)
    for axis, (title, shown) in zip(axes, panels.items(), strict=True):
        for series in shown:
            shift = 0.06 * (list(index).index(series.name) - (len(index) - 1) / 2)
            _draw_series(axis, series, index[series.name], shift)
        axis.set(title=title, xlabel=xlabel, xlim=(-0.5, len(x) - 0.5))
        axis.set_xticks(range(len(x)), x, rotation=90 if characters > 28 else 0)  # that many fit below a panel
        axis.grid(axis="y")
        if not any(_any_finite(series.values, series.paper) for series in shown):
            axis.set_yticks([])
            say_empty(axis)
    axes[0].set_ylabel(ylabel)
    series_legend(
        figure,
        index,
        interval=any(_any_finite(series.low, series.high) for series in every),
        paper=any(_any_finite(series.paper) for series in every),
        joined=True,
    )
    return figure


def _draw_series(axis: Axes, series: Series, index: int, shift: float) -> None:
    """One series in the colour and marker of its index among all, `shift` to the right of the tick marks."""
    style: dict[str, Any] = {"marker": MARKERS[index], "color": COLOURS[index]}
    x = np.arange(len(series.values)) + shift
    low, high, paper = (np.asarray(v, float) for v in (series.low, series.high, series.paper))
    known = np.isfinite(low) & np.isfinite(high)
    axis.vlines(x[known], low[known], high[known], color=COLOURS[index], linewidth=1.2)
    axis.plot(x, paper, linestyle="--", markerfacecolor="white", linewidth=0.8, markersize=6, **style)
    axis.plot(x, np.asarray(series.values, float), linestyle="-", **style)


def _any_finite(*lists: Sequence[float | None]) -> bool:
    """Whether any number is neither None nor NaN."""
    return any(np.isfinite(np.asarray(values, float)).any() for values in lists)


@in_print_style
def curve(
    epochs: Sequence[int],
    loss: NDArray[np.float64],
    pairwise: NDArray[np.float64],
    auroc_epochs: Sequence[int],
    aurocs: Mapping[str, NDArray[np.float64]],
    reference: Mapping[str, NDArray[np.float64]],
) -> Figure:
    """((E,) epochs, (S, E) losses and mean pairwise similarities of S seeds; (C,) checkpoints, (S, C) AUROCs by what
    they are of) -> two panels: means over the seeds, shaded from the lowest to the highest.

    `reference` is PatchCore's (S,) AUROC by what it is of, drawn as dashed lines and shades; it may be empty.
    """
    figure, (left, right) = panel_grid(2, 2.0, sharex=True)
    similarity = left.twinx()
    marker = "." if len(epochs) <= 20 else ""  # many points would hide the dashes
    for axis, values, label, colour, style in (
        (left, loss, "training loss (solid)", COLOURS[0], "-"),
        (similarity, pairwise, "mean pairwise similarity (dashed)", COLOURS[1], "--"),
    ):
        _mean_and_shade(axis, epochs, values, colour, marker=marker, linestyle=style)
        axis.set_ylabel(label, color=colour)
        axis.tick_params(axis="y", colors=colour)
        if not np.isfinite(values).any():
            axis.set_yticks([])
    similarity.spines["right"].set_visible(True)
    for index, (name, values) in enumerate(aurocs.items()):
        colour = COLOURS[2 * index + 2]
        if np.isfinite(values).any():
            label = f"ReConPatch, {name}"
            _mean_and_shade(right, auroc_epochs, values, colour, marker=MARKERS[index], label=label)
        level = reference.get(name)
        if level is not None and np.isfinite(level).any():
            right.axhline(float(level.mean()), linestyle="--", color=colour, label=f"PatchCore, {name}")
            right.axhspan(level.min(), level.max(), color=colour, alpha=0.08, linewidth=0)
    right.set_ylabel("AUROC in %")
    for axis in (left, right):
        axis.set_xlabel("epoch")
    left.xaxis.set_major_locator(MaxNLocator(integer=True))  # the panels share it
    add_legend(figure, right.get_legend_handles_labels()[0])
    return figure


def _mean_and_shade(axis: Axes, x: Sequence[int], values: NDArray[np.float64], colour: str, **style: Any) -> None:
    """(S, n) values of S seeds: their mean as a line, shaded from the lowest to the highest where there are several."""
    axis.plot(x, values.mean(0), color=colour, **style)
    if len(values) > 1:
        axis.fill_between(x, values.min(0), values.max(0), color=colour, alpha=0.15, linewidth=0)
