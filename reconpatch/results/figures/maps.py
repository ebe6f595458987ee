"""Figures of test images with their anomaly maps, and histograms of image scores."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from reconpatch.results.figures.common import ANOMALOUS, NORMAL, STYLE

GROUND_TRUTH, THRESHOLD = "#ff8c00", "#00c853"  # orange and green, as in the paper's Fig. 5


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


def _grid(
    examples: Sequence[Example],
    methods: Sequence[str],
    limits: Sequence[Sequence[tuple[float, float]]],
    thresholds: Sequence[Sequence[float | None]],
) -> Figure:
    """A column per example: the image, then a map per method; limits and thresholds by method, then by example."""
    with plt.rc_context(STYLE):
        rows, columns = 1 + len(methods), len(examples)
        height = 1.9 * rows + 0.6  # the rest holds titles and legend
        figure, axes = plt.subplots(rows, columns, figsize=(1.9 * columns, height), squeeze=False)
        for axis in axes.flat:
            axis.set(xticks=[], yticks=[])
            axis.spines[:].set_visible(False)
        for column, example in enumerate(examples):
            axes[0, column].imshow(example.image)
            axes[0, column].set_title(example.title, fontsize=8)
            for axis, anomaly_map, scale, cut in zip(axes[1:, column], example.maps, limits, thresholds, strict=True):
                _draw_map(axis, anomaly_map, scale[column], cut[column])
            if example.mask.any():
                for axis in axes[:, column]:
                    axis.contour(example.mask, [0.5], colors=GROUND_TRUTH, linewidths=1.2)
        for row, name in enumerate(["image", *methods]):
            axes[row, 0].set_ylabel(name)
        handles = [Line2D([], [], color=THRESHOLD, marker="*", linestyle="", label="maximum of the map")]
        if np.isfinite(np.asarray(thresholds, float)).any():  # None becomes NaN
            handles.insert(0, Line2D([], [], color=THRESHOLD, label="threshold of the best pixel F1"))
        if any(example.mask.any() for example in examples):
            handles.insert(0, Line2D([], [], color=GROUND_TRUTH, label="ground truth"))
        figure.legend(handles=handles, loc="center", bbox_to_anchor=(0.5, 0.17 / height), ncols=3, frameon=False)
        figure.subplots_adjust(0.03, 0.35 / height, 1, 1 - 0.25 / height, wspace=0.03, hspace=0.03)
        return figure


def _draw_map(axis: Axes, anomaly_map: NDArray[np.float32], scale: tuple[float, float], cut: float | None) -> None:
    """A map in the colours of `scale`, the contour at `cut` where the map crosses it, a star at the maximum."""
    axis.imshow(anomaly_map, cmap="plasma", vmin=scale[0], vmax=scale[1])
    if cut is not None and anomaly_map.min() < cut <= anomaly_map.max():
        axis.contour(anomaly_map, [cut], colors=THRESHOLD, linewidths=1.2)
    y, x = np.unravel_index(anomaly_map.argmax(), anomaly_map.shape)
    axis.plot(x, y, "*", color=THRESHOLD, markersize=8, markeredgecolor="black", markeredgewidth=0.5)


def separation(normal: NDArray[np.float32], anomalous: NDArray[np.float32]) -> float:
    """d' = (mean_a - mean_n) / sqrt((var_a + var_n) / 2): the index of the paper's Fig. 4. Invariant to scaling."""
    return float((anomalous.mean() - normal.mean()) / np.sqrt((anomalous.var() + normal.var()) / 2))


def histogram(scores: Sequence[NDArray[np.float32]], labels: NDArray[np.int64], methods: Sequence[str]) -> Figure:
    """((N,) scores per method, (N,) labels, methods' names) -> Fig. 4: a histogram of 50 bins per method, with d'.

    Scores are scaled to [0, 1].
    """
    with plt.rc_context(STYLE):
        size = (4 * len(methods), 3.0)
        figure, axes = plt.subplots(1, len(methods), figsize=size, squeeze=False, sharey=True)
        for axis, values, method in zip(axes[0], scores, methods, strict=True):
            scaled = (values - values.min()) / max(float(np.ptp(values)), 1e-12)
            for label, name, colour in ((0, "normal", NORMAL), (1, "anomalous", ANOMALOUS)):
                chosen = scaled[labels == label]
                text = f"{name} ({len(chosen)})"
                axis.hist(chosen, bins=50, range=(0, 1), color=colour, alpha=0.75, label=text)
            axis.set(xlabel="image score, scaled to [0, 1]", title=method)
            if 0 < labels.sum() < len(labels):
                axis.set_title(f"{method}: d' = {separation(values[labels == 0], values[labels == 1]):.2f}")
        axes[0, 0].set_ylabel("test images")
        figure.tight_layout(rect=(0, 0.08, 1, 1))
        handles, names = axes[0, 0].get_legend_handles_labels()
        figure.legend(handles, names, loc="lower center", ncols=2, frameon=False)
        return figure
