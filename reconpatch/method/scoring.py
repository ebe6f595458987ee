"""Anomaly scores of patches and images, equations 9 and 10, and their maps (section 3.3). Higher: more anomalous."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from reconpatch.errors import ReconpatchError
from reconpatch.method.feature_files import read_slice
from reconpatch.method.memory_bank import MemoryBank, Search, batches

Scores = NDArray[np.float32]


class Scored(NamedTuple):
    """Scores of N images on a grid of H x W patches, and what computed them."""

    image: Scores  # (N,)
    patch: Scores  # (N, H, W), which `anomaly_maps` makes maps of
    device: str  # cpu or cuda


def score_features(
    features: NDArray[Any],
    bank: MemoryBank,
    *,
    neighbours: int,
    reweight_map: bool,
    cells: NDArray[np.bool_] | None = None,
    threads: int = 1,
    device: str = "cpu",
    search: Search | None = None,
) -> Scored:
    """(N, H, W, C) patch features, possibly a memory map -> scores of images and patches.

    The arguments are those of `patch_scores` and `image_scores`. `cells` (N, H, W) says which patches lie on an image:
    the others, on padding, get 0.
    """
    grid = features.shape[:3]
    distances, weights, used = patch_scores(
        features.reshape(-1, features.shape[-1]),
        bank,
        neighbours=neighbours,
        threads=threads,
        device=device,
        search=search,
    )
    distances = distances.reshape(grid)
    if cells is not None:
        distances = np.where(cells, distances, np.float32(0))
    return Scored(*image_scores(distances, weights.reshape(grid), reweight_map), used)


def patch_scores(
    patches: NDArray[Any],
    bank: MemoryBank,
    *,
    neighbours: int = 1,
    threads: int = 1,
    device: str = "cpu",
    search: Search | None = None,
) -> tuple[Scores, Scores, str]:
    """(N, C) patch features -> ((N,) Euclidean distances to the nearest row, eq. 9; (N,) weights, eq. 10; device used).

    The weight is 1 - softmax over the b = `neighbours` rows nearest to that row, the row among them, of the patch's
    distances to them. b = 1 is plain nearest neighbour search: all weights are 1. Who scores many small batches gives
    the bank's `search`, made once. Raises ReconpatchError for b < 1, b above the size of the bank, and features that
    are not finite.
    """
    size = len(bank.patches)
    if not 1 <= neighbours <= size:
        raise ReconpatchError(f"neighbours {neighbours}: must be between 1 and the {size} patches of the memory bank")
    search = search or Search(bank.patches, threads, device)
    distances, weights = np.empty(len(patches), np.float32), np.ones(len(patches), np.float32)
    for rows in batches(patches):
        r = bank.representation(read_slice(patches, rows))
        nearest, places = search(r, 1)
        if (places < 0).any() or not np.isfinite(nearest).all():  # faiss gives a NaN the largest float as its distance
            raise ReconpatchError("some patch features, or their distances, are not finite: check the weights")
        distances[rows] = nearest[:, 0]
        if neighbours > 1:
            stars, place = np.unique(places, return_inverse=True)
            around = search(bank.patches[stars], neighbours)[1]  # N_b of every row that is some patch's nearest
            weights[rows] = reweighting(r, nearest[:, 0], bank.patches, around[place.ravel()])
    return distances, weights, search.device


def reweighting(r: Scores, nearest: Scores, bank: Scores, around: NDArray[np.int64]) -> Scores:
    """((N, D), (N,), (M, D), (N, b) rows) -> (N,) weights in [0, 1): 1 - e^s' / sum over N_b of e^D (eq. 10).

    In logarithms: e^D overflows float32 for features that are not normalised.
    """
    to_around = np.stack([np.linalg.norm(r - bank[rows], axis=1) for rows in around.T], 1)
    return np.asarray(-np.expm1(np.minimum(nearest - np.logaddexp.reduce(to_around, axis=1), 0)), np.float32)


def image_scores(distances: Scores, weights: Scores, reweight_map: bool) -> tuple[Scores, Scores]:
    """((N, H, W) distances, (N, H, W) weights) -> ((N,) image scores, (N, H, W) patch scores for the map).

    Eq. 10 read per patch (`reweight_map`): every patch is weighted and the image score is the maximum. Read as in
    PatchCore: the map keeps the distances and the largest alone is weighted, for the image score.
    """
    if reweight_map:
        patch = distances * weights
        return patch.reshape(len(patch), -1).max(1), patch
    flat = distances.reshape(len(distances), -1)
    top = flat.argmax(1)[:, None]
    image = np.take_along_axis(flat, top, 1) * np.take_along_axis(weights.reshape(flat.shape), top, 1)
    return image[:, 0], distances


def upsampling(inputs: int, outputs: int, blur: float) -> Scores:
    """(h -> H, sigma in output px) -> (H, h) matrix: bilinear up-sampling (half-pixel centres), then a Gaussian.

    Both are linear and separable, so a map is U @ scores @ U.T: the same numbers as interpolating and filtering the
    image (reflected edges, kernel cut at 4 sigma), for a fraction of the time.
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


def anomaly_maps(patch: Scores, size: int, blur: float) -> Scores:
    """(N, H, W) patch scores -> (N, size, size) anomaly maps: bilinear, then a Gaussian of sigma `blur` px."""
    rows, columns = (upsampling(n, size, blur) for n in patch.shape[1:])
    return np.asarray(rows @ patch @ columns.T, np.float32)


def content_map(padded: Scores, cells: NDArray[np.bool_], content: NDArray[np.bool_], blur: float) -> Scores:
    """((size, size) map made with scores of 0 on padding, (H, W) cells that are none, (size, size) pixels that are
    none, the map's `blur`) -> the map of the cells' scores alone, 0 on padding.

    Divided by what a score of 1 everywhere would give: without that a map fades towards padding.
    """
    share = anomaly_maps(cells[None].astype(np.float32), len(padded), blur)[0]
    return np.asarray(np.divide(padded, share, out=np.zeros_like(padded), where=content & (share > 0)))
