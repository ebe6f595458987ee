"""Figures of ablations, training and patch positions. Drawing only; AUROC comes in percent, NaN where missing."""

from collections.abc import Mapping, Sequence
from textwrap import fill
from typing import Literal

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from reconpatch.errors import ReconpatchError
from reconpatch.results.figures.maps import STYLE as COMMON
from reconpatch.results.series import Series

STYLE = COMMON | {"axes.formatter.useoffset": False, "axes.axisbelow": True}  # ticks read 99.2, not 0.2 plus 99
# Okabe and Ito's colours, which colour-blind readers can tell apart; the markers differ too.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000")
MARKERS = "osD^vP*"
GREY = "#555555"
WRAP = 24  # characters in a line of an x label
# Red, green, blue and purple, as in the paper's Fig. 3, of unequal lightness.
POSITIONS = ("#c8102e", "#3cb44b", "#1f4fc0", "#b36ae2")

Edge = Literal["outside upper center", "outside lower center"]


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
        raise ReconpatchError(f"{len(names)} series in one figure: at most {len(COLOURS)}; split the experiment")
    width = min(max(3.4, 0.6 * len(x) + 1.2), 10)
    longest = min(max((len(label) for label in x), default=0), WRAP)
    crowded = longest * len(x) > 12 * width  # about 12 characters fit in an inch
    with plt.rc_context(STYLE):
        size = (width * len(panels), 3.6 + 0.05 * longest * crowded)  # room for slanted labels
        figure, axes = plt.subplots(1, len(panels), figsize=size, squeeze=False, layout="constrained")
        for axis, (title, shown) in zip(axes[0], panels.items(), strict=True):
            for series in shown:
                place = names.index(series.name)
                _draw_series(axis, series, place, 0.06 * (place - (len(names) - 1) / 2), joined)
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
        return _settled(figure)


def _draw_series(axis: Axes, series: Series, place: int, shift: float, joined: bool) -> None:
    """One series in the colour and marker of its place, `shift` to the right of the tick marks."""
    colour, marker = COLOURS[place], MARKERS[place]
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
        _legend(figure, colours, "outside upper center", min(len(colours), int(figure.get_figwidth() / 1.5)))
    lines = [Line2D([], [], color=GREY, marker="o", label="ours")]
    if any(_any_finite(series.low, series.high) for series in every):
        lines.append(Line2D([], [], color=GREY, alpha=0.4, linewidth=4, label="95 % interval"))
    if any(_any_finite(series.paper) for series in every):
        lines.append(Line2D([], [], color=GREY, marker="o", markerfacecolor="white", linestyle="--", label="paper"))
    _legend(figure, lines, "outside lower center", len(lines))


def _any_finite(*lists: Sequence[float | None]) -> bool:
    """Whether any number is neither None nor NaN."""
    return any(np.isfinite(np.asarray(values, float)).any() for values in lists)


def _legend(figure: Figure, handles: Sequence[Line2D], place: Edge, columns: int, title: str | None = None) -> None:
    """A legend at an edge of the figure, for which the layout makes room."""
    figure.legend(handles=handles, loc=place, ncols=columns, title=title, frameon=False, fontsize=8, handlelength=3)


def _settled(figure: Figure) -> Figure:
    """The figure with its layout done and its legends pinned: else saving with a footnote moves them on top of it."""
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    for legend in figure.legends:
        legend.set_bbox_to_anchor((0, 0, 1, 1), transform=figure.transFigure)
    return figure


def curve(
    epochs: Sequence[int],
    loss: Sequence[float],
    pairwise: Sequence[float],
    auroc_epochs: Sequence[int],
    image_auroc: Sequence[float],
    pixel_auroc: Sequence[float],
    reference: tuple[float, float] | None,
) -> Figure:
    """((E,) epochs, losses, mean pairwise similarities; (C,) checkpoints, image and pixel AUROC) -> two panels.

    `reference` is PatchCore's image and pixel AUROC, drawn as dashed lines.
    """
    with plt.rc_context(STYLE):
        figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3.3), layout="constrained", sharex=True)
        similarity = left.twinx()
        marker = "." if len(epochs) <= 20 else ""  # many points would hide the dashes
        for axis, values, label, colour, style in (
            (left, loss, "training loss (solid)", COLOURS[0], "-"),
            (similarity, pairwise, "mean pairwise similarity (dashed)", COLOURS[1], "--"),
        ):
            axis.plot(epochs, values, marker=marker, linestyle=style, color=colour)
            axis.set_ylabel(label, color=colour)
            axis.tick_params(axis="y", colors=colour)
            if not _any_finite(values):
                axis.set_yticks([])
        similarity.spines["right"].set_visible(True)
        for place, (name, values) in enumerate((("image", image_auroc), ("pixel", pixel_auroc))):
            colour = COLOURS[2 + place]
            if _any_finite(values):
                right.plot(auroc_epochs, values, MARKERS[place], ls="-", color=colour, label=f"ReConPatch, {name}")
            if reference is not None and np.isfinite(reference[place]):
                right.axhline(reference[place], linestyle="--", color=colour, label=f"PatchCore, {name}")
        right.set_ylabel("AUROC in %")
        if right.lines:
            right.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2, frameon=False, fontsize=8)
        for axis in (left, right):
            axis.set_xlabel("epoch")
        left.xaxis.set_major_locator(MaxNLocator(integer=True))  # the panels share it
        return _settled(figure)


def positions(
    layouts: Sequence[NDArray[np.float32]],
    which: NDArray[np.int64],
    names: Sequence[str],
    image: NDArray[np.uint8],
    places: Sequence[tuple[int, int]],
    grid: tuple[int, int],
) -> Figure:
    """Fig. 3: where patches of the same few positions of all training images lie, one panel per model.

    ((N*P, 2) layout per model, (N*P,) index into `places` of each point, a title per layout, (S, S, 3) training image,
    P places (x, y) = (column, row) on the patch grid of (H, W) cells). The first panel is the image, with a box the
    size of a cell at every place. Raises ReconpatchError for more places than colours.
    """
    if len(places) > len(POSITIONS):
        raise ReconpatchError(f"{len(places)} patch positions: at most {len(POSITIONS)} can be drawn; name fewer")
    with plt.rc_context(STYLE):
        panels = 1 + len(layouts)
        figure, axes = plt.subplots(1, panels, figsize=(2.6 * panels, 3.3), layout="compressed")
        first, *rest = np.atleast_1d(axes)
        first.imshow(image)
        first.set(xticks=[], yticks=[], title="training image")
        first.spines[:].set_visible(False)
        height, width = image.shape[0] / grid[0], image.shape[1] / grid[1]
        handles = []
        for (x, y), colour, marker in zip(places, POSITIONS, MARKERS, strict=False):
            corner = (x * width - 0.5, y * height - 0.5)  # imshow puts pixel centres at whole numbers
            first.add_patch(Rectangle(corner, width, height, fill=False, edgecolor=colour, linewidth=1.8))
            handles.append(Line2D([], [], color=colour, marker=marker, linestyle="", label=f"({x}, {y})"))
        for axis, layout, name in zip(rest, layouts, names, strict=True):
            for place in range(len(places)):
                points, colour, marker = layout[which == place], POSITIONS[place], MARKERS[place]
                axis.scatter(*points.T, s=9, marker=marker, color=colour, alpha=0.7, linewidths=0)
            axis.set(xticks=[], yticks=[], title=name)
            axis.set_box_aspect(1)
        title = f"patch position (x, y) on the grid of {grid[1]} x {grid[0]}"
        _legend(figure, handles, "outside lower center", len(places), title)
        return _settled(figure)
