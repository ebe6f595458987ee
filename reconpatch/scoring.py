"""Anomaly scores: patch, image and map. Higher is more anomalous (section 3.3, eq. 9-10)."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d
from scipy.special import logsumexp

from reconpatch.errors import ReconpatchError
from reconpatch.memory import MemoryBank, Search, batches

Scores = NDArray[np.float32]


def patch_scores(
    patches: NDArray[Any], bank: MemoryBank, *, neighbours: int = 1, threads: int = 1, device: str = "cpu"
) -> tuple[Scores, Scores, str]:
    """(N, C) patch features -> ((N,) Euclidean distances to the nearest row, eq. 9; (N,) weights, eq. 10; device used).

    The weight is 1 - softmax over the b = `neighbours` rows nearest to that row, the row among them, of the patch's
    distances to them. b = 1 is plain nearest neighbour search: all weights are 1. Raises ReconpatchError for b < 1 or
    b above the size of the bank.
    """
    size = len(bank.patches)
    if not 1 <= neighbours <= size:
        raise ReconpatchError(f"neighbours {neighbours}: must be between 1 and the {size} patches of the memory bank")
    search = Search(bank.patches, threads, device)
    distances, weights = np.empty(len(patches), np.float32), np.ones(len(patches), np.float32)
    for part in batches(patches):
        r = bank.representation(patches[part])
        nearest, rows = search(r, 1)
        distances[part] = nearest[:, 0]
        if neighbours > 1:
            stars, place = np.unique(rows, return_inverse=True)
            around = search(bank.patches[stars], neighbours)[1]  # N_b of every row that is some patch's nearest
            weights[part] = reweighting(r, nearest[:, 0], bank.patches, around[place.ravel()])
    return distances, weights, search.device


def reweighting(r: Scores, nearest: Scores, bank: Scores, around: NDArray[np.int64]) -> Scores:
    """((N, D), (N,), (M, D), (N, b) rows) -> (N,) weights in [0, 1): 1 - e^s' / sum over N_b of e^D (eq. 10).

    In logarithms: e^D overflows float32 for features that are not normalised.
    """
    to_around = np.stack([np.linalg.norm(r - bank[rows], axis=1) for rows in around.T], 1)
    return np.asarray(-np.expm1(np.minimum(nearest - logsumexp(to_around, axis=1), 0)), np.float32)


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
        matrix = gaussian_filter1d(matrix, blur, axis=0, mode="reflect", truncate=4.0)
    return matrix.astype(np.float32)


def anomaly_maps(patch: Scores, size: int, blur: float) -> Scores:
    """(N, H, W) patch scores -> (N, size, size) anomaly maps: bilinear, then a Gaussian of sigma `blur` px."""
    rows, columns = (upsampling(n, size, blur) for n in patch.shape[1:])
    return np.asarray(rows @ patch @ columns.T, np.float32)


def typical_examples(scores: Scores, defects: Sequence[str], most: int = 7) -> list[int]:
    """((N,) image scores, N defect types) -> indices of up to `most` images: of each type the one of median score.

    A rule rather than a choice, so that a figure shows neither the best nor the worst. Defects come before "good".
    """
    kinds = sorted(set(defects), key=lambda d: (d == "good", d))[:most]
    by_kind = [[i for i, d in enumerate(defects) if d == kind] for kind in kinds]
    return [middle(scores, group) for group in by_kind]


def middle(scores: Scores, group: Sequence[int]) -> int:
    """((N,) scores, indices of some of them) -> the index of the median score, the upper one of two."""
    return sorted(group, key=lambda i: scores[i])[len(group) // 2]
