"""Anomaly scores of patches and images, equations 9 and 10, and their maps (section 3.3). Higher: more anomalous.

Every image is scored on its own. Libraries of linear algebra compute a row of a matrix product in another order of
sums when the matrix has other rows, or the row has another position. With products of one image's patches the scores
of an image are the same to the last bit, whatever images are scored with it.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from reconpatch.errors import ReconpatchError
from reconpatch.method.feature_files import read_slice
from reconpatch.method.memory_bank import MemoryBank
from reconpatch.method.search import Engine, Search, search_in

Scores = NDArray[np.float32]


class Scored(NamedTuple):
    """Scores of N images on a grid of H x W patches, and what computed them."""

    image: Scores  # (N,)
    patch: Scores  # (N, H, W), from which `anomaly_maps` makes maps
    engine: Engine  # of the search


def score_features(
    features: NDArray[Any],
    bank: MemoryBank,
    *,
    neighbours: int,
    reweight_map: bool,
    squared: bool = False,
    cells: NDArray[np.bool_] | None = None,
    threads: int = 1,
    device: str = "cpu",
    search: Search | None = None,
) -> Scored:
    """(N, H, W, C) patch features, possibly a memory map -> scores of N images and their patches.

    `cells` (N, H, W) says which patches lie on an image: the others, on padding, get 0. `neighbours`, `squared` and
    errors are those of `patch_scores`, `reweight_map` that of `image_scores`. Pass a `search` in the bank that was made
    once to score many small batches; otherwise one is made on `device`.
    """
    search = search or search_in(bank.patches, threads, device)
    n, h, w, c = features.shape
    patches = features.reshape(-1, c)
    distances, weights = np.empty((n, h, w), np.float32), np.empty((n, h, w), np.float32)
    for i in range(n):
        rows = slice(i * h * w, (i + 1) * h * w)
        scores = patch_scores(read_slice(patches, rows), bank, search, neighbours, squared)
        distances[i], weights[i] = (values.reshape(h, w) for values in scores)
    if cells is not None:
        distances[~cells] = 0
    return Scored(*image_scores(distances, weights, reweight_map), search.engine)


def patch_scores(
    patches: NDArray[Any], bank: MemoryBank, search: Search, neighbours: int = 1, squared: bool = False
) -> tuple[Scores, Scores]:
    """((P, C) patch features of one image, memory bank, search in it) -> ((P,) distances, (P,) weights).

    A distance is the Euclidean one, or its square, to the nearest row of the bank (eq. 9). Weights are those of
    `reweighting` with b = `neighbours`; for b = 1 they are 1. Raises ReconpatchError for b below 1 or above the size of
    the bank, and if a feature or a distance is not finite.
    """
    size = len(bank.patches)
    if not 1 <= neighbours <= size:
        raise ReconpatchError(f"must be between 1 and the {size} patches of the bank", where=f"neighbours {neighbours}")
    r = bank.representation(patches)
    distances, nearest = search(r, 1)
    if squared:
        distances = np.square(distances)
    if (nearest < 0).any() or not np.isfinite(distances).all():  # for NaN, faiss returns the largest float
        raise ReconpatchError("some patch features, or their distances, are not finite", fix="check the weights")
    if neighbours == 1:
        return distances[:, 0], np.ones(len(patches), np.float32)
    different, which = np.unique(nearest, return_inverse=True)
    around = search(bank.patches[different], neighbours)[1]
    return distances[:, 0], reweighting(r, distances[:, 0], bank.patches, around[which.ravel()], squared)


def reweighting(r: Scores, nearest: Scores, bank: Scores, around: NDArray[np.int64], squared: bool = False) -> Scores:
    """((N, D) patches, (N,) their distances s', (M, D) bank, (N, b) rows of it) -> (N,) weights in [0, 1) (eq. 10).

    The rows are the b nearest to the row that is nearest to the patch, that row among them. The weight is
    1 - e^s' / sum of e^D over the distances D, `squared` or not as s' is, from the patch to them. It is computed from
    logarithms, since e^D overflows float32 for features that are not normalised.
    """
    to_around = np.stack([np.linalg.norm(r - bank[rows], axis=1) for rows in around.T], 1)
    if squared:
        to_around = np.square(to_around)
    return np.asarray(-np.expm1(np.minimum(nearest - np.logaddexp.reduce(to_around, axis=1), 0)), np.float32)


def image_scores(distances: Scores, weights: Scores, reweight_map: bool) -> tuple[Scores, Scores]:
    """((N, H, W) distances, (N, H, W) weights) -> ((N,) image scores, (N, H, W) patch scores for the map).

    With `reweight_map` every patch is weighted, and the image score is the largest patch score. Without it, as in
    PatchCore, the map keeps the distances, and the largest distance times its weight is the image score.
    """
    if reweight_map:
        patch = distances * weights
        return patch.reshape(len(patch), -1).max(1), patch
    flat = distances.reshape(len(distances), -1)
    top = flat.argmax(1)[:, None]
    image = np.take_along_axis(flat, top, 1) * np.take_along_axis(weights.reshape(flat.shape), top, 1)
    return image[:, 0], distances


def upsampling(inputs: int, outputs: int, blur: float) -> Scores:
    """(h, H, sigma in output px) -> (H, h) matrix U: bilinear up-sampling (half-pixel centres), then a Gaussian.

    Both are linear and separable, so a map is U @ scores @ U.T: the same numbers as interpolating and filtering the
    image (edges reflected, kernel cut at 4 sigma), in a fraction of the time.
    """
    centres = np.clip((np.arange(outputs) + 0.5) * inputs / outputs - 0.5, 0, inputs - 1)
    low = np.minimum(centres.astype(int), max(inputs - 2, 0))
    matrix = np.zeros((outputs, inputs))
    matrix[np.arange(outputs), low] += 1 - (centres - low)
    matrix[np.arange(outputs), np.minimum(low + 1, inputs - 1)] += centres - low
    if blur:
        from scipy.ndimage import gaussian_filter1d

        matrix = gaussian_filter1d(matrix, blur, axis=0, mode="reflect", truncate=4.0)
    return matrix.astype(np.float32)


def anomaly_maps(patch: Scores, size: int | tuple[int, ...], blur: float) -> Scores:
    """(N, H, W) patch scores, (height, width) of the maps, or the side of square ones -> (N, height, width) anomaly
    maps: bilinear, then a Gaussian of sigma `blur` px.
    """
    sides = (size, size) if isinstance(size, int) else size
    rows, columns = (upsampling(n, side, blur) for n, side in zip(patch.shape[1:], sides, strict=True))
    return np.asarray(rows @ patch @ columns.T, np.float32)


def content_map(padded: Scores, cells: NDArray[np.bool_], content: NDArray[np.bool_], blur: float) -> Scores:
    """((height, width) map made with scores of 0 on padding, (H, W) cells on the image, (height, width) pixels on the
    image, the map's `blur`) -> the map of the cells' scores alone, 0 on padding.

    The map is divided by the map of a score of 1 in every cell. Without that it would fade towards the padding.
    """
    share = anomaly_maps(cells[None].astype(np.float32), padded.shape, blur)[0]
    return np.asarray(np.divide(padded, share, out=np.zeros_like(padded), where=content & (share > 0)))
