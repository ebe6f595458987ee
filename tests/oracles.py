"""Readable forms that tests compare fast ones with."""

import torch.nn.functional as F
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
