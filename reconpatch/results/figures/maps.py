"""Figures of test images with their anomaly maps, and histograms of image scores."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from reconpatch.results.figures.common import (
    ANOMALOUS,
    COLOURS,
    GREY,
    LINES,
    NORMAL,
    ONE_COLUMN,
    TWO_COLUMNS,
    add_legend,
    in_print_style,
    panel_grid,
    series_index,
)

GROUND_TRUTH, THRESHOLD = "#ff8c00", "#00e676"  # orange and green, as in the paper's Fig. 5
# They differ by their dashes, too, and have a dark edge, since both lie on photographs and on maps of any colour.
_CONTOUR: dict[str, Any] = {"linewidths": 0.9, "path_effects": [withStroke(linewidth=1.8, foreground="black")]}
TRUTH_LINE = _CONTOUR | {"colors": GROUND_TRUTH, "linestyles": "-"}
THRESHOLD_LINE = _CONTOUR | {"colors": THRESHOLD, "linestyles": "--"}
MAXIMUM: dict[str, Any] = {"marker": "*", "color": THRESHOLD, "markersize": 6, "markeredgecolor": "black"}
MAXIMUM["markeredgewidth"] = 0.5
PLAIN: dict[str, Any] = {"color": NORMAL}
# Hatched, so that it is told apart in grey and does not hide what is behind it.
DEFECTIVE: dict[str, Any] = {"facecolor": "none", "edgecolor": ANOMALOUS, "hatch": "//////", "linewidth": 0.8}
TYPES_SHOWN = 12  # types of defects with a histogram of their own
COLUMNS, NARROW = 7, 3  # images in a row: at most; in a figure of one column's width, and at least


def typical_images(scores: NDArray[np.float32], defect_types: Sequence[str], most: int = 7) -> list[int]:
    """((N,) image scores, N defect types) -> indices of up to `most` images: of each type the one of median score.

    A rule rather than a choice, so that a figure shows neither the best nor the worst. Defects come before "good".
    """
    types = sorted(set(defect_types), key=lambda name: (name == "good", name))[:most]
    by_type = [[i for i, name in enumerate(defect_types) if name == chosen] for chosen in types]
    return [median_image(scores, group) for group in by_type]


def median_image(scores: NDArray[np.float32], group: Sequence[int]) -> int:
    """((N,) scores, indices of some of them) -> the index of the median score, the upper one of two."""
    return sorted(group, key=lambda i: scores[i])[len(group) // 2]


@dataclass(frozen=True)
class Example:
    """One test image with a map per method, all on the cropped grid."""

    title: str
    image: NDArray[np.uint8]  # (S, S, 3)
    mask: NDArray[np.bool_]  # (S, S)
    maps: Sequence[NDArray[np.float32]]  # (S, S) per method


def qualitative(examples: Sequence[Example], methods: Sequence[str], thresholds: Sequence[float | None]) -> Figure:
    """(examples with a map per method, methods' names, a threshold per method) -> Fig. 5.

    Images with the contour of the ground truth, below them the maps with the same contour, the contour of the
    threshold, and a star at the maximum. Maps of a method share one colour scale.
    """
    limits = [
        (min(e.maps[m].min() for e in examples), max(e.maps[m].max() for e in examples)) for m, _ in enumerate(methods)
    ]
    return _grid(
        examples, methods, [[pair] * len(examples) for pair in limits], [[t] * len(examples) for t in thresholds]
    )


def gallery(examples: Sequence[Example], method: str, thresholds: Sequence[float | None]) -> Figure:
    """(examples of one map each, one threshold per example in the map's units, None to draw none) -> Fig. 5.

    Each example is a column and shows another category. In contrast to `qualitative`, every map is scaled to [0, 1] by
    its own minimum and maximum, because categories share neither a memory bank nor a threshold.
    """
    return _grid(examples, [method], [[(e.maps[0].min(), e.maps[0].max()) for e in examples]], [thresholds])


@in_print_style
def _grid(
    examples: Sequence[Example],
    methods: Sequence[str],
    limits: Sequence[Sequence[tuple[float, float]]],
    thresholds: Sequence[Sequence[float | None]],
) -> Figure:
    """A column per example: the image, then a map per method; limits and thresholds by method, then by example."""
    blocks = -(-len(examples) // COLUMNS)
    columns, rows = max(NARROW, -(-len(examples) // blocks)), blocks * (1 + len(methods))
    width = ONE_COLUMN if columns == NARROW else TWO_COLUMNS
    spaces = {"wspace": 0.02, "hspace": 0.02}
    figure, axes = plt.subplots(rows, columns, figsize=(width, rows), squeeze=False, gridspec_kw=spaces)
    if isinstance(engine := figure.get_layout_engine(), ConstrainedLayoutEngine):
        engine.set(w_pad=0.01, h_pad=0.01)
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
        axis.spines[:].set_visible(False)
    for number, example in enumerate(examples):
        first, column = number // columns * (1 + len(methods)), number % columns
        cells = axes[first : first + 1 + len(methods), column]
        cells[0].imshow(example.image)
        cells[0].set_title(example.title, fontsize=7)
        for axis, anomaly_map, scale, cut in zip(cells[1:], example.maps, limits, thresholds, strict=True):
            _draw_map(axis, anomaly_map, scale[number], cut[number])
        for axis in cells:
            axis.set_box_aspect(example.image.shape[0] / example.image.shape[1])
            if example.mask.any():
                axis.contour(example.mask, [0.5], **TRUTH_LINE)
    for axis in axes.flat:
        if not axis.has_data():
            axis.remove()  # where there are fewer examples than columns
    low = examples[0].image.shape[0] < 0.8 * examples[0].image.shape[1]  # too low for a method's name along them
    for row, name in enumerate(["image", *methods] * blocks):
        axes[row, 0].set_ylabel(name, fontsize=7, **({"rotation": 0, "ha": "right", "va": "center"} if low else {}))
    handles = [Line2D([], [], label="maximum of the map", linestyle="", **MAXIMUM)]
    if np.isfinite(np.asarray(thresholds, float)).any():  # None becomes NaN
        handles.insert(0, _line("threshold of the best pixel F1", THRESHOLD_LINE))
    if any(example.mask.any() for example in examples):
        handles.insert(0, _line("ground truth", TRUTH_LINE))
    add_legend(figure, handles)
    return figure


def _line(label: str, style: Mapping[str, Any]) -> Line2D:
    """What a legend shows of a contour."""
    one = {"color": style["colors"], "linestyle": style["linestyles"], "linewidth": style["linewidths"]}
    return Line2D([], [], label=label, path_effects=style["path_effects"], **one)


def _draw_map(axis: Axes, anomaly_map: NDArray[np.float32], scale: tuple[float, float], cut: float | None) -> None:
    """A map in the colours of `scale`, the contour at `cut` where the map crosses it, a star at the maximum."""
    axis.imshow(anomaly_map, cmap="plasma", vmin=scale[0], vmax=scale[1])
    if cut is not None and anomaly_map.min() < cut <= anomaly_map.max():
        axis.contour(anomaly_map, [cut], **THRESHOLD_LINE)
    y, x = np.unravel_index(anomaly_map.argmax(), anomaly_map.shape)
    axis.plot(x, y, linestyle="", **MAXIMUM)


def separation(normal: NDArray[np.float32], anomalous: NDArray[np.float32]) -> float:
    """d' = (mean_a - mean_n) / sqrt((var_a + var_n) / 2): the index of the paper's Fig. 4. Invariant to scaling."""
    return float((anomalous.mean() - normal.mean()) / np.sqrt((anomalous.var() + normal.var()) / 2))


@in_print_style
def histogram(scores: Sequence[NDArray[np.float32]], labels: NDArray[np.int64], methods: Sequence[str]) -> Figure:
    """((N,) scores per method, (N,) labels, methods' names) -> Fig. 4: a histogram of 50 bins per method, with d'.

    Scores are scaled to [0, 1].
    """
    figure, axes = panel_grid(len(methods), 1.5, sharey=True)
    for axis, values, method in zip(axes, scores, methods, strict=True):
        scaled = (values - values.min()) / max(float(np.ptp(values)), 1e-12)
        for label, name, style in ((0, "normal", PLAIN), (1, "anomalous", DEFECTIVE)):
            chosen = scaled[labels == label]
            text = f"{name} ({len(chosen)})"
            axis.hist(chosen, bins=50, range=(0, 1), histtype="stepfilled", label=text, **style)
        axis.set(xlabel="image score, scaled to [0, 1]", title=method)
        if 0 < labels.sum() < len(labels):
            axis.set_title(f"{method}: d' = {separation(values[labels == 0], values[labels == 1]):.2f}")
    axes[0].set_ylabel("test images")
    axes[0].yaxis.set_major_locator(MaxNLocator(integer=True))
    add_legend(figure, axes[0].get_legend_handles_labels()[0])
    return figure


@in_print_style
def histograms_by_type(scores: NDArray[np.float32], types: Sequence[str], threshold: float | None) -> Figure:
    """((N,) scores, N types of defects, "good" of normal images, threshold of image scores) -> a histogram of each type
    over one axis, normal images first, then the types with most images; a dashed line at the threshold.

    Beyond TYPES_SHOWN panels the types with fewest images are drawn together.
    """
    count = Counter(types)
    order = sorted(count, key=lambda name: (name != "good", -count[name], name))
    apart = order if len(order) <= TYPES_SHOWN else order[: TYPES_SHOWN - 1]
    panels = {name: np.array([each == name for each in types]) for name in apart}
    if rest := order[len(apart) :]:
        panels[f"{len(rest)} other types"] = np.array([each in rest for each in types])
    ends = [float(scores.min()), float(scores.max()), *([] if threshold is None else [threshold])]
    low, high = min(ends), max(ends)
    bins = np.linspace(low, high if high > low else low + 1, 41)
    figure, axes = panel_grid(len(panels), 0.55, 1, sharex=True)
    for axis, (name, chosen) in zip(axes, panels.items(), strict=True):
        axis.hist(scores[chosen], bins=bins.tolist(), histtype="stepfilled", **(PLAIN if name == "good" else DEFECTIVE))
        axis.set_title(f"{name} ({int(chosen.sum())})", fontsize=7, pad=2)
        axis.yaxis.set_major_locator(MaxNLocator(2, integer=True))
        if threshold is not None:
            axis.axvline(threshold, color="black", linestyle="--", linewidth=0.8)
    axes[-1].set_xlabel("image score" + ("" if threshold is None else "; dashed: threshold"))
    axes[len(axes) // 2].set_ylabel("images")
    return figure


@in_print_style
def curves(
    scores: Sequence[NDArray[np.float32]], labels: NDArray[np.int64], methods: Sequence[str], per_row: int = 2
) -> Figure:
    """((N,) scores per method, (N,) labels, methods' names, panels in a row) -> ROC and precision-recall curves of
    image scores.

    Grey: what scores without any information give. Without images of both kinds there are no curves, and the figure
    says so. Raises ReconpatchError for more methods than colours.
    """
    from sklearn.metrics import precision_recall_curve, roc_curve  # heavy, and only this figure needs it

    index = series_index(methods, "choose fewer runs under `figures`")
    figure, (roc, recall) = panel_grid(2, 1.0, per_row)
    roc.set(xlabel="false positive rate", ylabel="true positive rate", title="ROC")
    recall.set(xlabel="recall", ylabel="precision", title="precision and recall")
    both = 0 < labels.sum() < len(labels)
    for axis in (roc, recall):
        axis.set(box_aspect=0.75, xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
        axis.grid()
        if not both:
            axis.text(0.5, 0.5, "needs normal and\nanomalous images", ha="center", va="center", color=GREY)
    handles = []
    for (name, number), values in zip(index.items(), scores, strict=True):
        style: dict[str, Any] = {"color": COLOURS[number], "linestyle": LINES[number]}
        handles.append(Line2D([], [], label=name, **style))
        if both:
            roc.plot(*roc_curve(labels, values, drop_intermediate=False)[:2], **style)
            precision, found, _ = precision_recall_curve(labels, values)
            recall.plot(found, precision, drawstyle="steps-post", **style)
    if both:
        roc.plot([0, 1], [0, 1], color=GREY, linewidth=0.6)
        recall.axhline(labels.mean(), color=GREY, linewidth=0.6)
    add_legend(figure, handles)
    return figure
