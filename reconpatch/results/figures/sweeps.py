"""Figures of sweeps and of training. Drawing only; values come in percent, NaN where missing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from textwrap import fill
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from reconpatch.errors import ReconpatchError
from reconpatch.results.figures.common import COLOURS, MARKERS, PLOT_STYLE, add_legend, settled
from reconpatch.results.names import METHODS

if TYPE_CHECKING:  # the step that draws sweeps reads the CSV; training curves need no pandas
    import pandas as pd

GREY = "#555555"
WRAP = 24  # characters in a line of an x label


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
    they are of).
    """
    wide = cells[cells["categories"] == cells["categories"].max()]
    wide = wide[wide["dataset"] == wide["dataset"].iloc[0]]
    wide = wide[wide["category"] == wide["category"].iloc[-1]]
    count = int(wide["categories"].iloc[0])
    return wide, f"mean of {count} categories" if count > 1 else str(wide["category"].iloc[0])


def sweep(
    panels: Mapping[str, Sequence[Series]], x: Sequence[str], xlabel: str, ylabel: str, joined: bool = True
) -> Figure:
    """(series by panel title, as many x labels as values, axis labels) -> one panel per title, side by side.

    The swept values are evenly spaced, whatever they are. Filled markers on lines are ours, with the 95 % interval as
    a bar; hollow ones on dashed lines the paper's; without lines if the values are not `joined`, being no scale.
    Series stand a little apart, so that no bar hides another. The same name has the same colour in all panels. Raises
    ReconpatchError for more names than colours.
    """
    every = [series for shown in panels.values() for series in shown]
    names = list(dict.fromkeys(series.name for series in every))
    if len(names) > len(COLOURS):
        raise ReconpatchError(
            f"{len(names)} series in one figure, at most {len(COLOURS)} can be told apart", fix="split the experiment"
        )
    width = min(max(3.4, 0.6 * len(x) + 1.2), 10)
    longest = min(max((len(label) for label in x), default=0), WRAP)
    crowded = longest * len(x) > 12 * width  # about 12 characters fit in an inch
    with plt.rc_context(PLOT_STYLE):
        size = (width * len(panels), 3.6 + 0.05 * longest * crowded)  # room for slanted labels
        figure, axes = plt.subplots(1, len(panels), figsize=size, squeeze=False, layout="constrained")
        for axis, (title, shown) in zip(axes[0], panels.items(), strict=True):
            for series in shown:
                index = names.index(series.name)
                _draw_series(axis, series, index, 0.06 * (index - (len(names) - 1) / 2), joined)
            axis.set(title=title, xlabel=xlabel, xlim=(-0.5, len(x) - 0.5))
            axis.set_xticks(range(len(x)), [fill(label, WRAP) for label in x])
            if crowded:
                plt.setp(axis.get_xticklabels(), rotation=35, ha="right", rotation_mode="anchor", fontsize=8)
            axis.grid(axis="y", color="#e4e4e4", linewidth=0.6)
            if not any(_any_finite(series.values, series.paper) for series in shown):
                axis.set_yticks([])
                axis.text(0.5, 0.5, "no values", transform=axis.transAxes, ha="center", color="#777777")
        axes[0, 0].set_ylabel(ylabel)
        _sweep_legends(figure, names, every)
        return settled(figure)


def _draw_series(axis: Axes, series: Series, index: int, shift: float, joined: bool) -> None:
    """One series in the colour and marker of its index among all, `shift` to the right of the tick marks."""
    colour, marker = COLOURS[index], MARKERS[index]
    x = np.arange(len(series.values)) + shift
    low, high, paper = (np.asarray(v, float) for v in (series.low, series.high, series.paper))
    known = np.isfinite(low) & np.isfinite(high)
    axis.vlines(x[known], low[known], high[known], color=colour, alpha=0.4, linewidth=4)
    ours, theirs = ("-", "--") if joined else ("", "")
    axis.plot(x, paper, marker, linestyle=theirs, color=colour, markerfacecolor="white", linewidth=1, markersize=6)
    axis.plot(x, np.asarray(series.values, float), marker, linestyle=ours, color=colour, markersize=5)


def _sweep_legends(figure: Figure, names: Sequence[str], every: Sequence[Series]) -> None:
    """What colours mean above the panels, what lines mean below them; nothing that is not drawn."""
    colours = [Line2D([], [], color=COLOURS[i], marker=MARKERS[i], label=name) for i, name in enumerate(names) if name]
    if colours:
        add_legend(figure, colours, "outside upper center", min(len(colours), int(figure.get_figwidth() / 1.5)))
    lines = [Line2D([], [], color=GREY, marker="o", label="ours")]
    if any(_any_finite(series.low, series.high) for series in every):
        lines.append(Line2D([], [], color=GREY, alpha=0.4, linewidth=4, label="95 % interval"))
    if any(_any_finite(series.paper) for series in every):
        lines.append(Line2D([], [], color=GREY, marker="o", markerfacecolor="white", linestyle="--", label="paper"))
    add_legend(figure, lines, "outside lower center", len(lines))


def _any_finite(*lists: Sequence[float | None]) -> bool:
    """Whether any number is neither None nor NaN."""
    return any(np.isfinite(np.asarray(values, float)).any() for values in lists)


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
    with plt.rc_context(PLOT_STYLE):
        figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3.3), layout="constrained", sharex=True)
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
            colour = COLOURS[2 + index]
            if np.isfinite(values).any():
                label = f"ReConPatch, {name}"
                _mean_and_shade(right, auroc_epochs, values, colour, marker=MARKERS[index], label=label)
            level = reference.get(name)
            if level is not None and np.isfinite(level).any():
                right.axhline(float(level.mean()), linestyle="--", color=colour, label=f"PatchCore, {name}")
                right.axhspan(level.min(), level.max(), color=colour, alpha=0.08, linewidth=0)
        right.set_ylabel("AUROC in %")
        if right.lines:
            right.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2, frameon=False, fontsize=8)
        for axis in (left, right):
            axis.set_xlabel("epoch")
        left.xaxis.set_major_locator(MaxNLocator(integer=True))  # the panels share it
        return settled(figure)


def _mean_and_shade(axis: Axes, x: Sequence[int], values: NDArray[np.float64], colour: str, **style: Any) -> None:
    """(S, n) values of S seeds: their mean as a line, shaded from the lowest to the highest where there are several."""
    axis.plot(x, values.mean(0), color=colour, **style)
    if len(values) > 1:
        axis.fill_between(x, values.min(0), values.max(0), color=colour, alpha=0.15, linewidth=0)
