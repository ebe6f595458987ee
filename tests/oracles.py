"""Readable forms that tests compare fast ones with."""

import numpy as np
import torch.nn.functional as F
from scipy import ndimage
from torch import Tensor

from reconpatch.method.loss import squared_distances


def relaxed_contrastive_loss(z: Tensor, weights: Tensor, margin: float) -> Tensor:
    """((N, D) student projections, (N, N) similarities) -> scalar, differentiable (eq. 7).

    Distances are Euclidean, each row divided by its own mean; similar patches attract, others repel up to the margin.
    """
    distances = squared_distances(z).clamp_min(1e-12).sqrt()  # clamped: the root has no gradient at 0
    relative = distances / distances.mean(1, keepdim=True)
    attract = weights * relative**2
    repel = (1 - weights) * F.relu(margin - relative) ** 2
    return (attract + repel).sum() / len(z)


def aupro_by_thresholds(
    maps: np.ndarray, masks: np.ndarray, counted: np.ndarray | None = None, limit: float = 0.3
) -> float:
    """Every threshold in turn: mean share found of each 8-connected region, against the false positive rate of the
    pixels that are counted, all by default; the area up to `limit`, divided by it.
    """
    counted = np.ones_like(masks) if counted is None else counted
    regions = []
    for n, mask in enumerate(masks):
        labels, count = ndimage.label(mask, structure=np.ones((3, 3)))
        regions += [(n, labels == r) for r in range(1, count + 1)]
    curve = [(0.0, 0.0)]
    for threshold in np.unique(maps[counted])[::-1]:
        found = maps >= threshold
        curve.append((found[counted & ~masks].mean(), float(np.mean([found[n][r].mean() for n, r in regions]))))
    return area_up_to(curve, limit)


def spro_by_thresholds(maps: np.ndarray, defects: list[tuple[int, np.ndarray, int]], limit: float) -> float:
    """(N, H, W) maps, of every defect its image, its (H, W) mask and the px of it that must be found -> every threshold
    in turn: the mean over the defects of min(px found / px that must be found, 1), against the false positive rate of
    the pixels of all images outside all defects; the area up to `limit`, divided by it.
    """
    normal = np.ones(maps.shape, bool)
    for n, mask, _ in defects:
        normal[n] &= ~mask
    curve = [(0.0, 0.0)]
    for threshold in np.unique(maps)[::-1]:
        found = maps >= threshold
        shares = [min(int((found[n] & mask).sum()) / saturation, 1.0) for n, mask, saturation in defects]
        curve.append((found[normal].mean(), float(np.mean(shares))))
    return area_up_to(curve, limit)


def area_up_to(curve: list[tuple[float, float]], limit: float) -> float:
    """Points (false positive rate, share found) from (0, 0) on -> mean height up to the limit, by trapezoids."""
    fpr, found = np.array(curve).T
    end = np.searchsorted(fpr, limit)  # the first of several points with this rate: the curve rises at the limit
    last = np.interp(limit, fpr[end - 1 : end + 1], found[end - 1 : end + 1])
    fpr, found = np.append(fpr[:end], limit), np.append(found[:end], last)
    return float(np.trapezoid(found, fpr) / limit)


def f1_by_counting(maps: np.ndarray, masks: np.ndarray, threshold: float) -> float:
    """F1 of the pixels above the threshold, counted one by one."""
    true = false = missed = 0
    for score, defective in zip(maps.ravel().tolist(), masks.ravel().tolist(), strict=True):
        true += score > threshold and defective
        false += score > threshold and not defective
        missed += score <= threshold and defective
    return 2 * true / (2 * true + false + missed)


def mean_and_three_sd(maps: list[np.ndarray]) -> float:
    """Mean of all pixels of all maps and three times their standard deviation."""
    pixels = np.concatenate([each.ravel() for each in maps]).astype(np.float64)
    return float(np.mean(pixels) + 3 * np.std(pixels))
