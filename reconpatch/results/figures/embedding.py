"""Figures of patch representations, laid out in the plane by UMAP."""

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from reconpatch.errors import ReconpatchError
from reconpatch.results.figures.common import ANOMALOUS, MARKERS, NORMAL, PLOT_STYLE, STYLE, add_legend, settled

# Red, green, blue and purple, as in the paper's Fig. 3, of unequal lightness.
POSITIONS = ("#c8102e", "#3cb44b", "#1f4fc0", "#b36ae2")


def embed(points: NDArray[Any], seed: int) -> NDArray[np.float32]:
    """(N, D) points -> (N, 2) layout by UMAP, reproducible on one machine.

    Computes all distances, so it is for some thousand points. UMAP's own search finds the same neighbours, but every
    process would compile it first, which takes longer than all the rest.
    """
    from umap import UMAP, umap_

    for name in ("smooth_knn_dist", "compute_membership_strengths"):
        if compiled := getattr(umap_, name, None):
            compiled.enable_caching()  # once for all processes, as numba does for what asks for it
    count = min(15, len(points) - 1)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="precomputed_knn")  # that further points could not be placed
        known = (*nearest(points, count), None)
        layout = UMAP(count, random_state=seed, n_jobs=1, precomputed_knn=known).fit_transform(points)
    return np.asarray(layout, np.float32)


def nearest(points: NDArray[Any], count: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """(N, D) -> ((N, count) rows of the nearest points, each point first among its own, (N, count) distances)."""
    from scipy.spatial.distance import cdist  # heavy, and only layouts need it

    distances = cdist(points, points).astype(np.float32)
    np.fill_diagonal(distances, -1)  # before any other point at the same place
    rows = np.argsort(distances, axis=1, kind="stable")[:, :count]
    return rows, np.maximum(np.take_along_axis(distances, rows, axis=1), 0)


def scatter(layouts: Sequence[NDArray[np.float32]], groups: NDArray[np.str_], methods: Sequence[str]) -> Figure:
    """((N, 2) layout per method, (N,) name of every point's group, methods' names) -> one panel per method.

    The rarest group is on top.
    """
    colours = {"memory bank": "#c8c8c8", "normal patch": NORMAL, "patch in a defect": ANOMALOUS}
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(1, len(methods), figsize=(4.2 * len(methods), 4), squeeze=False)
        for axis, layout, method in zip(axes[0], layouts, methods, strict=True):
            for name in (name for name in colours if name in groups):
                chosen, colour = layout[groups == name], colours[name]
                axis.scatter(*chosen.T, s=5, color=colour, label=f"{name} ({len(chosen)})", linewidths=0)
            axis.set(xticks=[], yticks=[], title=method)
        axes[0, 0].legend(frameon=False, markerscale=3, fontsize=8)
        figure.tight_layout()
        return figure


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
        raise ReconpatchError(f"{len(places)} patch positions: at most {len(POSITIONS)} can be drawn", fix="name fewer")
    with plt.rc_context(PLOT_STYLE):
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
            for index in range(len(places)):
                points, colour, marker = layout[which == index], POSITIONS[index], MARKERS[index]
                axis.scatter(*points.T, s=9, marker=marker, color=colour, alpha=0.7, linewidths=0)
            axis.set(xticks=[], yticks=[], title=name)
            axis.set_box_aspect(1)
        title = f"patch position (x, y) on the grid of {grid[1]} x {grid[0]}"
        add_legend(figure, handles, "outside lower center", len(places), title)
        return settled(figure)
