"""Figures of patch representations, laid out in the plane by UMAP."""

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from reconpatch.errors import ReconpatchError
from reconpatch.results.figures.common import ANOMALOUS, MARKERS, NORMAL, add_legend, in_print_style, panel_grid

# Red, green, blue and purple, as in the paper's Fig. 3, of unequal lightness.
POSITIONS = ("#c8102e", "#009e73", "#1f4fc0", "#b36ae2")
GREYISH = "#949494"  # of many points behind those that matter


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


@in_print_style
def scatter(layouts: Sequence[NDArray[np.float32]], groups: NDArray[np.str_], methods: Sequence[str]) -> Figure:
    """((N, 2) layout per method, (N,) name of every point's group, methods' names) -> one panel per method.

    The rarest group is on top.
    """
    styles = {"memory bank": (GREYISH, "o"), "normal patch": (NORMAL, "s"), "patch in a defect": (ANOMALOUS, "^")}
    shown = {name: style for name, style in styles.items() if name in groups}
    figure, axes = panel_grid(len(methods), 1.0)
    for axis, layout, method in zip(axes, layouts, methods, strict=True):
        for name, (colour, marker) in shown.items():
            x, y = layout[groups == name].T
            axis.scatter(x, y, s=4, marker=marker, color=colour, linewidths=0)
        axis.set(xticks=[], yticks=[], title=method, box_aspect=1 if len(methods) > 2 else 0.75)
    add_legend(figure, [_marker(c, m, f"{name} ({(groups == name).sum()})") for name, (c, m) in shown.items()])
    return figure


def _marker(colour: str, marker: str, label: str) -> Line2D:
    """What a legend shows of points of one kind."""
    return Line2D([], [], color=colour, marker=marker, linestyle="", label=label)


@in_print_style
def positions(
    layouts: Sequence[NDArray[np.float32]],
    which: NDArray[np.int64],
    names: Sequence[str],
    image: NDArray[np.uint8],
    places: Sequence[tuple[int, int]],
    grid: tuple[int, int],
) -> Figure:
    """Fig. 3: where patches of the same few positions of all training images lie, one panel per model.

    ((N P, 2) layout per model, (N P,) index into `places` of each point, a title per layout, (S, S, 3) training image,
    P places (x, y) = (column, row) on the patch grid of (H, W) cells). The first panel is the image, with a box the
    size of a cell at every place. Raises ReconpatchError for more places than colours.
    """
    if len(places) > len(POSITIONS):
        raise ReconpatchError(f"{len(places)} patch positions: at most {len(POSITIONS)} can be drawn", fix="name fewer")
    figure, (first, *rest) = panel_grid(1 + len(layouts), 1.0, per_row=5 if len(layouts) > 2 else 3)
    first.imshow(image)
    first.set(xticks=[], yticks=[], title="training image", box_aspect=1)
    first.spines[:].set_visible(False)
    height, width = image.shape[0] / grid[0], image.shape[1] / grid[1]
    for (x, y), colour in zip(places, POSITIONS, strict=False):
        corner = (x * width - 0.5, y * height - 0.5)  # imshow puts pixel centres at whole numbers
        first.add_patch(Rectangle(corner, width, height, fill=False, edgecolor=colour, linewidth=1.4))
    for axis, layout, name in zip(rest, layouts, names, strict=True):
        for index in range(len(places)):
            (u, v), colour, marker = layout[which == index].T, POSITIONS[index], MARKERS[index]
            axis.scatter(u, v, s=6, marker=marker, color=colour, linewidths=0)
        axis.set(xticks=[], yticks=[], title=name, box_aspect=1)
    handles = [_marker(c, m, f"({x}, {y})") for (x, y), c, m in zip(places, POSITIONS, MARKERS, strict=False)]
    add_legend(figure, handles, f"patch position (x, y) on the grid of {grid[1]} x {grid[0]}")
    return figure
