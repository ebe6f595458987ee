"""The equations of ReConPatch (section 3): similarities between patches and the relaxed contrastive loss.

Z is a batch of N projected patches of width D. Teacher (EMA) projections give the similarities, which carry no
gradient; the student's projections enter the loss.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def squared_distances(z: Tensor) -> Tensor:
    """(N, D) -> (N, N) squared Euclidean distances, exactly 0 on the diagonal."""
    norms = (z * z).sum(1)
    distances = torch.addmm(norms[:, None] + norms, z, z.T, alpha=-2).clamp_min(0)
    return distances.masked_fill(torch.eye(len(z), dtype=torch.bool, device=z.device), 0)


def pairwise_similarity(distances: Tensor, sigma: float) -> Tensor:
    """(N, N) squared distances -> (N, N) in (0, 1]: a Gaussian kernel of bandwidth sigma (eq. 1)."""
    return torch.exp(distances / -sigma)


def nearest(distances: Tensor, k: int) -> Tensor:
    """(N, N) squared distances -> (N, k) indices, nearest first, beginning with the patch itself.

    A patch is its own nearest neighbour even when others coincide with it.
    """
    return torch.cat([torch.arange(len(distances), device=distances.device)[:, None], _others(distances, k - 1)], 1)


def _others(distances: Tensor, k: int) -> Tensor:
    itself = torch.eye(len(distances), dtype=torch.bool, device=distances.device)
    return distances.masked_fill(itself, torch.inf).topk(k, dim=1, largest=False, sorted=True).indices


def contextual_similarity(distances: Tensor, k: int) -> Tensor:
    """(N, N) squared distances -> (N, N) in [0, 1]: how much two patches share neighbours (eq. 2-5).

    Eq. 2: the share of common neighbours among the k nearest, 0 unless j is among those of i. Eq. 3-4: averaged over
    the reciprocal k/2 neighbours of i (query expansion). Eq. 5: symmetrised. Worked out from the (N, k) neighbour
    lists alone, O(N k^3), because each row of eq. 2 has only k entries that are not 0.
    """
    n = len(distances)
    neighbours = nearest(distances, k)  # N_k(i)
    common = (neighbours[:, :, None, None] == neighbours[neighbours][:, None]).any(-1).sum(1)
    shared = common.to(distances.dtype) / k  # (N, k): eq. 2 at j = neighbours[i, .]
    half = neighbours[:, : max(1, k // 2)]
    own = torch.arange(n, device=distances.device)[:, None, None]
    reciprocal = (half[half] == own).any(-1)  # (N, k/2): R_{k/2}(i) within half; always holds i itself (eq. 3)
    weight = reciprocal.to(distances.dtype) / reciprocal.sum(1, keepdim=True)
    expanded = torch.zeros_like(distances)
    expanded.scatter_add_(1, neighbours[half].reshape(n, -1), (shared[half] * weight[:, :, None]).reshape(n, -1))  # eq. 4
    return (expanded + expanded.T) / 2


def similarity(z: Tensor, sigma: float, k: int, alpha: float) -> Tensor:
    """(N, D) teacher projections -> (N, N) in [0, 1]: alpha pairwise + (1 - alpha) contextual (eq. 6)."""
    distances = squared_distances(z)
    return alpha * pairwise_similarity(distances, sigma) + (1 - alpha) * contextual_similarity(distances, k)


def relaxed_contrastive_loss(z: Tensor, weights: Tensor, margin: float) -> Tensor:
    """((N, D) student projections, (N, N) similarities) -> scalar (eq. 7).

    Distances are Euclidean, each row divided by its own mean; similar patches attract, others repel up to the margin.
    """
    distances = squared_distances(z).clamp_min(1e-12).sqrt()  # clamped: the root has no gradient at 0
    relative = distances / distances.mean(1, keepdim=True)
    attract = weights * relative**2
    repel = (1 - weights) * F.relu(margin - relative) ** 2
    return (attract + repel).sum() / len(z)


@torch.no_grad()
def ema_update(teacher: Sequence[Tensor], student: Sequence[Tensor], gamma: float) -> None:
    """teacher <- gamma * teacher + (1 - gamma) * student, in place (eq. 8)."""
    torch._foreach_lerp_(list(teacher), list(student), 1 - gamma)
