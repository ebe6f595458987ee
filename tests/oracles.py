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
    fpr, pro = np.array(curve).T
    end = np.searchsorted(fpr, limit)  # the first of several points with this rate: the curve rises at the limit
    last = np.interp(limit, fpr[end - 1 : end + 1], pro[end - 1 : end + 1])
    fpr, pro = np.append(fpr[:end], limit), np.append(pro[:end], last)
    return float(np.trapezoid(pro, fpr) / limit)
