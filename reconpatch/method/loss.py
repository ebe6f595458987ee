"""The equations of ReConPatch's training, 1 to 8, in the order of the paper (section 3).

| equation | function |
|---|---|
| 1, pairwise similarity | `pairwise_similarity` |
| 2, contextual similarity | `contextual_similarity` |
| 3, reciprocal neighbours | `reciprocal_neighbours` |
| 4, query expansion | `expanded_context` |
| 5, the symmetric contextual similarity | `add_symmetric_` |
| 6, the similarity used in the loss | `similarity` |
| 7, the relaxed contrastive loss | `relaxed_contrastive_loss` |
| 8, the teacher's update | `ema_update` |

Z is a batch of N projected patches of width D. The similarities come from the projections of the teacher, which is a
moving average (EMA) of the student, and carry no gradient. The projections of the student enter the loss.

These functions take whole matrices of N x N pairs, as suits an accelerator. On the processor `fused_loss.py` does the
same row by row.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

LOWEST = -80.0  # exponent: below about -87 float32 numbers are subnormal, and every operation on them is slow
PAIRS = 2**16  # pairs whose median is taken, about
COINCIDE = 1e-6  # patches at most this far apart coincide: they neither attract nor repel each other


def squared_distances(z: Tensor, out: Tensor | None = None) -> Tensor:
    """(N, D) -> (N, N) squared Euclidean distances, exactly 0 on the diagonal; written into `out` if it is given."""
    z = z - z.mean(0)  # does not change the distances and makes the rounding errors smaller
    norms = (z * z).sum(1, keepdim=True)
    one = torch.ones_like(norms)
    left, right = torch.cat([-2 * z, norms, one], 1), torch.cat([z, one, norms], 1)
    return torch.mm(left, right.T, out=out).clamp_min_(0).fill_diagonal_(0)  # |a|^2 - 2ab + |b|^2 in one product


def median_of_pairs(distances: Tensor) -> Tensor:
    """(N, N) squared distances -> the median of those between different patches, a scalar on the same device.

    Of more than PAIRS pairs it is the exact median of a fixed part, those with j - i = d or i - j = N + 1 - d for
    d = 1, 1 + stride, 1 + 2 stride, ... up to N. For each d they are N - 1 pairs, which take every patch but one first
    and every patch but one second. The stride is N (N - 1) / PAIRS, rounded down and made odd. Of an even number of
    pairs it is the lower of the two in the middle. No value is read by the host.
    """
    n, device = len(distances), distances.device
    stride = max(1, n * (n - 1) // PAIRS) | 1
    first = torch.arange(n - 1, device=device)[:, None]
    second = first + torch.arange(1, n + 1, stride, device=device)  # j, or j + N in the row below
    return distances[first + second // n, second % n].median()


def bandwidth(distances: Tensor, sigma: float, unit: str) -> float | Tensor:
    """(N, N) squared distances, sigma, its unit -> the bandwidth of equation 1: sigma itself where the unit is "one".

    Where it is "median", sigma times `median_of_pairs`; if that is 0, only patches that coincide are similar.
    """
    if unit == "one":
        return sigma
    return (sigma * median_of_pairs(distances)).clamp_min(torch.finfo(distances.dtype).tiny)


def pairwise_similarity(distances: Tensor, sigma: float | Tensor) -> Tensor:
    """(..., N) squared distances, overwritten -> (..., N) in (0, 1]: a Gaussian kernel of bandwidth sigma (eq. 1)."""
    return distances.mul_(-1 / sigma).clamp_min_(LOWEST).exp_()


def nearest(distances: Tensor, k: int) -> Tensor:
    """(N, N) squared distances -> (N, k) indices, nearest first: N_k.

    A patch is its own nearest neighbour, even where other patches coincide with it.
    """
    distances.fill_diagonal_(torch.inf)
    others = distances.topk(k - 1, dim=1, largest=False, sorted=True).indices
    distances.fill_diagonal_(0)
    return torch.cat([torch.arange(len(distances), device=distances.device)[:, None], others], 1)


def contextual_similarity(neighbours: Tensor) -> Tensor:
    """(N, k) neighbour lists -> (N, k) values in [0, 1]: row i at the columns `neighbours[i]` (eq. 2).

    The value is the share of the k neighbours that two patches have in common. It is 0 in all other columns: the
    second patch must be a neighbour of the first. O(N k^3).
    """
    k = neighbours.shape[1]
    common = (neighbours[:, :, None, None] == neighbours[neighbours][:, None]).any(-1).sum(1)
    return common.float() / k


def reciprocal_neighbours(neighbours: Tensor) -> Tensor:
    """(N, k) neighbour lists -> (N, k/2) 1 or 0: which of the k/2 nearest have the patch among theirs, too (eq. 3).

    k/2 is rounded down and at least 1. The patch itself, which is first in its list, always counts.
    """
    half = neighbours[:, : max(1, neighbours.shape[1] // 2)]
    itself = torch.arange(len(neighbours), device=neighbours.device)[:, None, None]
    return (half[half] == itself).any(-1).float()


def expanded_context(neighbours: Tensor) -> tuple[Tensor, Tensor]:
    """(N, k) neighbour lists -> (columns, values), each (N, k/2 * k): the values that are not 0, by row (eq. 4).

    Row i is the mean of the rows of the contextual similarity over the reciprocal neighbours of i (query expansion).
    A column may occur twice in a row; its values add up.
    """
    n = len(neighbours)
    context, reciprocal = contextual_similarity(neighbours), reciprocal_neighbours(neighbours)
    half = neighbours[:, : reciprocal.shape[1]]
    weight = reciprocal / reciprocal.sum(1, keepdim=True)
    return neighbours[half].reshape(n, -1), (context[half] * weight[:, :, None]).reshape(n, -1)


def add_symmetric_(weights: Tensor, columns: Tensor, values: Tensor, share: float) -> None:
    """((N, N), changed in place; columns and values from `expanded_context`): adds `share` times their matrix, averaged
    with its transpose (eq. 5).
    """
    n = len(weights)
    own = torch.arange(n, device=weights.device)[:, None].expand_as(columns)
    half = values.mul(share / 2).to(weights.dtype).view(-1)
    pairs = torch.cat([(own * n + columns).view(-1), (columns * n + own).view(-1)])
    weights.view(-1).index_add_(0, pairs, torch.cat([half, half]))


def similarity(
    z: Tensor, sigma: float, k: int, alpha: float, out: Tensor | None = None, sigma_unit: str = "one"
) -> tuple[Tensor, Tensor, Tensor]:
    """(N, D) teacher projections -> ((N, N) similarities in [0, 1]; mean pairwise; mean contextual similarity) (eq. 6).

    The similarity is alpha times the pairwise plus 1 - alpha times the contextual one. The means show whether all
    pairs, or none, count as similar. The similarities are written into `out` if it is given. `sigma_unit` is as in
    `bandwidth`.
    """
    weights = squared_distances(z, out)
    columns, values = expanded_context(nearest(weights, k))
    pairwise_similarity(weights, bandwidth(weights, sigma, sigma_unit))
    mean = weights.mean()
    add_symmetric_(weights.mul_(alpha), columns, values, 1 - alpha)
    return weights, mean, values.sum() / weights.numel()


@torch.no_grad()
def relaxed_contrastive_loss(
    z: Tensor, weights: Tensor, margin: float, out: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """((N, D) student projections, (N, N) similarities w, overwritten) -> (loss, its gradient (N, D)) (eq. 7).

    Similar patches attract each other, others repel each other up to the margin. Distances d are Euclidean, and each
    row of them is divided by its mean mu. With gap = max(margin mu - d, 0) and push = (1 - w) gap, the loss of a row is
    (sum w d^2 + sum push gap) / mu^2.

    The gradient is derived by hand, which takes a fraction of the passes over memory that autograd takes. With
    e = (sum w d^2 - sum push d) / (N mu), the derivative by mu, H = dL/d(d^2) = (w - (push + e) / d) / (N mu^2), 0 for
    pairs that coincide. With S = H + H^T, dL/dz = 2 (rowsum(S) z - S z). `out` is memory for the (N, N) distances.
    """
    n, squared = len(z), squared_distances(z, out)
    attract = (weights * squared).sum(1, keepdim=True)
    d = squared.sqrt_()
    mean = d.mean(1, keepdim=True).clamp_min_(COINCIDE)
    gap = (margin * mean - d).clamp_min_(0)
    push = torch.addcmul(gap, weights, gap, value=-1)
    e = (attract - (push * d).sum(1, keepdim=True)) / (n * mean)
    losses = (attract + gap.mul_(push).sum(1, keepdim=True)) / mean**2
    h = weights.sub_(push.add_(e).div_(d)).mul_(1 / (n * mean**2)).masked_fill_(d <= COINCIDE, 0)
    s = h + h.T
    return losses.mean(), 2 * (s.sum(1, keepdim=True) * z - s @ z)


@torch.no_grad()
def ema_update(teacher: Sequence[Tensor], student: Sequence[Tensor], gamma: float) -> None:
    """teacher <- gamma * teacher + (1 - gamma) * student, in place (eq. 8)."""
    torch._foreach_lerp_(list(teacher), list(student), 1 - gamma)
