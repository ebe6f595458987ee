"""Anomaly scores of patches and images. Higher is more anomalous (section 3.3, eq. 9-10)."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from reconpatch.errors import ReconpatchError
from reconpatch.method.memory_bank import MemoryBank, Search, batches
from reconpatch.method.stored import part

Scores = NDArray[np.float32]


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
        r = bank.representation(part(patches, rows))
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
