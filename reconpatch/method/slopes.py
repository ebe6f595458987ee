"""Eq. 7 pair by pair: what each of the N x N pairs of patches adds to the loss, and how the loss changes with it.

Distances d are Euclidean, each row divided by its own mean mu: delta. Similar patches attract, others repel up to the
margin. With gap = max(margin mu - d, 0) and push = (1 - w) gap, a row's loss is (sum w d^2 + sum push gap) / mu^2, and
dL/d(d^2) is H = (w - (push + e) / d) / (N mu^2), where e = (sum w d^2 - sum push d) / (N mu) is what mu itself does.

On the CPU one compiled loop does a row while it is in the innermost cache; whole-matrix operations go through memory
once each. It runs on one thread: the default training has one.
"""

import numpy as np
import torch
from numba import njit
from torch import Tensor

COINCIDE = 1e-6  # distance up to which two patches coincide; such neither pull nor push each other
REASSOCIATE = {"reassoc", "contract", "nsz"}  # lets loops vectorise; NaN and infinity keep their meaning


def slopes(squared: Tensor, weights: Tensor, margin: float) -> Tensor:
    """((N, N) squared distances, (N, N) similarities) -> (N,) loss of each row; both matrices are overwritten.

    The distances by their roots, the similarities by H.
    """
    if squared.device.type != "cpu" or squared.dtype != torch.float32:
        return _whole(squared, weights, margin)
    losses = torch.empty(len(squared))
    _by_row(squared.numpy(), weights.numpy(), np.float32(margin), losses.numpy())
    return losses


def _whole(squared: Tensor, weights: Tensor, margin: float) -> Tensor:
    n = len(squared)
    attract = (weights * squared).sum(1, keepdim=True)
    d = squared.sqrt_()
    mean = d.mean(1, keepdim=True).clamp_min_(COINCIDE)
    gap = (margin * mean - d).clamp_min_(0)
    push = torch.addcmul(gap, weights, gap, value=-1)
    e = (attract - (push * d).sum(1, keepdim=True)) / (n * mean)
    losses = (attract + gap.mul_(push).sum(1, keepdim=True)) / mean**2
    weights.sub_(push.add_(e).div_(d)).mul_(1 / (n * mean**2)).masked_fill_(d <= COINCIDE, 0)
    return losses[:, 0]


@njit(fastmath=REASSOCIATE, error_model="numpy", cache=True)
def _by_row(squared, weights, margin, losses):  # type: ignore[no-untyped-def]
    n, zero, one = np.float32(squared.shape[1]), np.float32(0), np.float32(1)
    for i in range(squared.shape[0]):
        d, w = squared[i], weights[i]
        attract, total = zero, zero
        for j in range(d.shape[0]):
            attract += w[j] * d[j]
            d[j] = np.sqrt(d[j])
            total += d[j]
        mean = max(total / n, np.float32(COINCIDE))
        repel, pushed = zero, zero
        for j in range(d.shape[0]):
            gap = max(margin * mean - d[j], zero)
            push = (one - w[j]) * gap
            repel += push * gap
            pushed += push * d[j]
        losses[i] = (attract + repel) / (mean * mean)
        e = (attract - pushed) / (n * mean)
        scale = one / (n * mean * mean)
        for j in range(d.shape[0]):
            push = (one - w[j]) * max(margin * mean - d[j], zero)
            w[j] = zero if d[j] <= np.float32(COINCIDE) else (w[j] - (push + e) / d[j]) * scale
