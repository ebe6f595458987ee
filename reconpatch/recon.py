"""The equations of ReConPatch (section 3): similarities between patches and the relaxed contrastive loss.

Z is a batch of N projected patches of width D. Teacher (EMA) projections give the similarities, which carry no
gradient; the student's projections enter the loss.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

TINY = 1e-12  # squared distance below which two patches coincide


def squared_distances(z: Tensor) -> Tensor:
    """(N, D) -> (N, N) squared Euclidean distances, exactly 0 on the diagonal."""
    z = z - z.mean(0)  # distances stay, rounding errors shrink
    norms = (z * z).sum(1, keepdim=True)
    one = torch.ones_like(norms)
    distances = torch.cat([-2 * z, norms, one], 1) @ torch.cat([z, one, norms], 1).T  # |a|^2 - 2ab + |b|^2 in one go
    return distances.clamp_min_(0).fill_diagonal_(0)


def pairwise_similarity(distances: Tensor, sigma: float) -> Tensor:
    """(N, N) squared distances -> (N, N) in (0, 1]: a Gaussian kernel of bandwidth sigma (eq. 1)."""
    return torch.exp(distances / -sigma)


def nearest(distances: Tensor, k: int) -> Tensor:
    """(N, N) squared distances -> (N, k) indices, nearest first, beginning with the patch itself: N_k.

    A patch is its own nearest neighbour even where others coincide with it.
    """
    distances.fill_diagonal_(torch.inf)
    others = distances.topk(k - 1, dim=1, largest=False, sorted=True).indices
    distances.fill_diagonal_(0)
    return torch.cat([torch.arange(len(distances), device=distances.device)[:, None], others], 1)


def expanded_context(neighbours: Tensor) -> tuple[Tensor, Tensor]:
    """(N, k) neighbour lists -> (columns, values), each (N, k/2 * k): the entries of eq. 4 that are not 0, by row.

    Eq. 2: the share of common neighbours of two patches, 0 unless the second is a neighbour of the first. Eq. 3: the
    reciprocal k/2 neighbours, which always hold the patch itself. Eq. 4: eq. 2 averaged over them (query expansion).
    A column may occur twice in a row; its values add up. O(N k^3), as each row of eq. 2 has only k entries.
    """
    n, k = neighbours.shape
    common = (neighbours[:, :, None, None] == neighbours[neighbours][:, None]).any(-1).sum(1)
    shared = common.float() / k  # (N, k): eq. 2 at the columns `neighbours`
    half = neighbours[:, : max(1, k // 2)]
    itself = torch.arange(n, device=neighbours.device)[:, None, None]
    reciprocal = (half[half] == itself).any(-1).float()  # (N, k/2): which of `half` are in R (eq. 3)
    weight = reciprocal / reciprocal.sum(1, keepdim=True)
    return neighbours[half].reshape(n, -1), (shared[half] * weight[:, :, None]).reshape(n, -1)


def similarity(z: Tensor, sigma: float, k: int, alpha: float) -> tuple[Tensor, Tensor, Tensor]:
    """(N, D) teacher projections -> ((N, N) similarities in [0, 1], eq. 6; mean pairwise; mean contextual).

    alpha of the pairwise (eq. 1) and 1 - alpha of the contextual similarity, which is eq. 4 averaged with its
    transpose (eq. 5). The means tell whether everything, or nothing, counts as similar.
    """
    distances = squared_distances(z)
    columns, values = expanded_context(nearest(distances, k))
    weights = pairwise_similarity(distances, sigma)
    mean_pairwise, mean_contextual = weights.mean(), values.sum() / weights.numel()
    weights.mul_(alpha).scatter_add_(1, columns, values * ((1 - alpha) / 2))
    rows = torch.arange(len(z), device=z.device)[:, None].expand_as(columns)
    weights.view(-1).index_add_(0, (columns * len(z) + rows).view(-1), values.view(-1) * ((1 - alpha) / 2))
    return weights, mean_pairwise, mean_contextual


@torch.no_grad()
def relaxed_contrastive_loss(z: Tensor, weights: Tensor, margin: float) -> tuple[Tensor, Tensor]:
    """((N, D) student projections, (N, N) similarities) -> (loss, its gradient (N, D)) (eq. 7).

    Distances are Euclidean, each row divided by its own mean: delta. Similar patches attract, others repel up to the
    margin. The gradient is worked out by hand, in a third of autograd's passes: with G = dL/d delta and mu a row's
    mean distance, dL/d(d^2) is H = (G - mean_row(G delta)) / (2 delta mu^2), and dL/dz = 2 (rowsum(S) z - S z) with
    S = H + H^T.
    """
    n = len(z)
    relative = squared_distances(z).clamp_min_(TINY).sqrt_()
    coincide = relative <= TINY**0.5 * (1 + 1e-6)
    mean = relative.mean(1, keepdim=True)
    relative.div_(mean)
    gap = (margin - relative).clamp_min_(0)
    pull, push = weights * relative, (1 - weights).mul_(gap)
    loss = (torch.dot(pull.view(-1), relative.view(-1)) + torch.dot(push.view(-1), gap.view(-1))) / n
    slope = pull.sub_(push).mul_(2 / n)  # G
    slope.sub_(torch.linalg.vecdot(slope, relative)[:, None] / n).div_(relative).div_(2 * mean**2)
    slope.masked_fill_(coincide, 0)
    s = slope + slope.T
    return loss, 2 * (s.sum(1, keepdim=True) * z - s @ z)


@torch.no_grad()
def ema_update(teacher: Sequence[Tensor], student: Sequence[Tensor], gamma: float) -> None:
    """teacher <- gamma * teacher + (1 - gamma) * student, in place (eq. 8)."""
    torch._foreach_lerp_(list(teacher), list(student), 1 - gamma)
