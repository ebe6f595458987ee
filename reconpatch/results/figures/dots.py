"""Figures of values by row, as dots with intervals: of settings that are no scale, of effects, of gains."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from reconpatch.results.figures.common import (
    COLOURS,
    GREY,
    MARKERS,
    add_legend,
    in_print_style,
    panel_grid,
    series_index,
    wrapped,
)
from reconpatch.results.figures.fonts import make_legible

LABELS = 0.27  # share of the figure's width that the names of rows may take
LINE, BETWEEN, BESIDE = 0.125, 0.09, 0.085  # inches: a line of a name, between rows, between series of a row
LEAST = 0.8  # inches that panels are high


@dataclass(frozen=True)
class Dot:
    """One value, in percent or points, with the ends of its 95 % interval; NaN: missing."""

    series: str
    row: str
    value: float
    low: float
    high: float
    paper: float | None = None  # the published one, None where there is none
    significant: bool = False


@in_print_style
def dots(
    panels: Mapping[str, Sequence[Dot]],
    rows: Sequence[str],
    xlabel: str,
    ylabel: str = "",
    *,
    zero: bool = False,
    apart: int = 0,
) -> Figure:
    """(dots by panel title, names of all rows from top to bottom, axis labels) -> panels side by side.

    Filled markers are ours, with the interval as a bar, and a black edge where they are significant; hollow ones are
    published. `zero` draws a line at 0, `apart` is the number of last rows that stand below a line. The same series
    has the same colour and marker in all panels. Raises ReconpatchError for more series than colours.
    """
    every = [dot for shown in panels.values() for dot in shown]
    index = series_index((dot.series for dot in every), "choose fewer under `figures`, or split the experiment")
    figure, axes = panel_grid(len(panels), 1.0, per_row=max(1, len(panels)), sharey=True)
    axes[0].set_yticks(range(len(rows)), rows)
    make_legible(figure)
    names = [wrapped(label, LABELS * figure.bbox.width) for label in axes[0].get_yticklabels()]
    step = max(LINE * max((name.count("\n") + 1 for name in names), default=1), BESIDE * len(index)) + BETWEEN
    place = {row: n + (0.6 if n >= len(rows) - apart else 0.0) for n, row in enumerate(rows)}
    last = max(place.values(), default=0.0)
    figure.set_figheight(max(LEAST, step * (last + 1)))
    axes[0].set_yticks(list(place.values()), names)
    axes[0].set_ylim(last + 0.5, -0.5)
    axes[0].set_ylabel(ylabel)
    order = {name: n for n, name in enumerate(index)}
    if not panels:
        say_empty(axes[0])
    for axis, (title, shown) in zip(axes, panels.items(), strict=False):
        if zero:
            axis.axvline(0, color=GREY, linewidth=0.8)
        if 0 < apart < len(rows):
            axis.axhline(len(rows) - apart - 0.2, color=GREY, linewidth=0.5)
        for dot in shown:
            number = index[dot.series]
            y = place[dot.row] + (order[dot.series] - (len(index) - 1) / 2) * BESIDE / step
            style: dict[str, Any] = {"marker": MARKERS[number], "linestyle": "", "color": COLOURS[number]}
            if np.isfinite([dot.low, dot.high]).all():
                axis.hlines(y, dot.low, dot.high, color=COLOURS[number], linewidth=1.2)
            if dot.paper is not None and np.isfinite(dot.paper):
                axis.plot(dot.paper, y, markerfacecolor="white", markersize=7, **style)
            axis.plot(dot.value, y, markeredgecolor="black" if dot.significant else COLOURS[number], **style)
        axis.set(title=title, xlabel=xlabel)
        axis.tick_params(axis="y", length=0)
        axis.grid(axis="x")
        axis.locator_params(axis="x", nbins=5)
        if not any(np.isfinite(_numbers(dot)).any() for dot in shown):
            say_empty(axis)
    series_legend(
        figure,
        index,
        interval=any(np.isfinite(dot.low) for dot in every),
        paper=any(dot.paper is not None and np.isfinite(dot.paper) for dot in every),
        significant=any(dot.significant for dot in every),
    )
    return figure


def series_legend(
    figure: Figure,
    index: Mapping[str, int],
    *,
    interval: bool,
    paper: bool,
    significant: bool = False,
    joined: bool = False,
) -> None:
    """What colours and markers mean, and which of interval, published values and significance are drawn."""
    style: dict[str, Any] = {"color": GREY, "marker": "o", "linestyle": "-" if joined else ""}
    handles: list[Artist] = [
        Line2D([], [], label=name, **(style | {"color": COLOURS[i], "marker": MARKERS[i]})) for name, i in index.items()
    ]
    if interval:
        handles.append(Line2D([], [], color=GREY, linewidth=1.2, label="95 % interval"))
    if significant:
        handles.append(Line2D([], [], label="significant", **(style | {"markeredgecolor": "black"})))
    if paper:
        style |= {"markerfacecolor": "white", "linestyle": "--" if joined else ""}
        handles.append(Line2D([], [], label="published", **style))
    add_legend(figure, handles)


def _numbers(dot: Dot) -> list[float]:
    return [dot.value, np.nan if dot.paper is None else dot.paper]


def say_empty(axis: Axes) -> None:
    """Say in a panel that it has no values, and drop ticks that would mean nothing."""
    axis.set_xticks([])
    axis.text(0.5, 0.5, "no values", transform=axis.transAxes, ha="center", va="center", color=GREY)
