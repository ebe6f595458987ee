"""The equations of ReConPatch (section 3): similarities between patches and the relaxed contrastive loss.

Z is a batch of N projected patches of width D. Teacher (EMA) projections give the similarities, which carry no
gradient; the student's projections enter the loss. What is done to each of the N x N pairs is done in place and by
blocks of rows, so that memory is touched once and not once per operation.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from reconpatch.method.blocks import row_blocks
from reconpatch.method.slopes import slopes

LOWEST = -80.0  # exponent: below about -87 float32 numbers are subnormal, and every operation on them is slow
TILE = 256  # rows and columns added to their transposed counterpart at a time


def squared_distances(z: Tensor, out: Tensor | None = None) -> Tensor:
    """(N, D) -> (N, N) squared Euclidean distances, exactly 0 on the diagonal; in `out` where one is given."""
    z = z - z.mean(0)  # distances stay, rounding errors shrink
    norms = (z * z).sum(1, keepdim=True)
    one = torch.ones_like(norms)
    left, right = torch.cat([-2 * z, norms, one], 1), torch.cat([z, one, norms], 1)
    return torch.mm(left, right.T, out=out).clamp_min_(0).fill_diagonal_(0)  # |a|^2 - 2ab + |b|^2 in one go


def pairwise_similarity(distances: Tensor, sigma: float) -> Tensor:
    """(..., N) squared distances, overwritten -> (..., N) in (0, 1]: a Gaussian kernel of bandwidth sigma (eq. 1)."""
    return distances.mul_(-1 / sigma).clamp_min_(LOWEST).exp_()


def nearest(distances: Tensor, k: int, first: int = 0) -> Tensor:
    """(B, N) squared distances of patches first..first + B to all -> (B, k) indices, nearest first: N_k.

    A patch is its own nearest neighbour even where others coincide with it.
    """
    itself = distances.diagonal(first)
    itself.fill_(torch.inf)
    others = distances.topk(k - 1, dim=1, largest=False, sorted=True).indices
    itself.fill_(0)
    return torch.cat([torch.arange(first, first + len(distances), device=distances.device)[:, None], others], 1)


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


def similarity(
    z: Tensor, sigma: float, k: int, alpha: float, out: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """(N, D) teacher projections -> ((N, N) similarities in [0, 1], eq. 6; mean pairwise; mean contextual).

    alpha of the pairwise (eq. 1) and 1 - alpha of the contextual similarity, which is eq. 4 averaged with its
    transpose (eq. 5). The means tell whether everything, or nothing, counts as similar. The similarities are in `out`
    where one is given.
    """
    weights = squared_distances(z, out)
    neighbours, pairwise = [], z.new_zeros(())
    for rows in row_blocks(weights):
        block = weights[rows]
        neighbours.append(nearest(block, k, rows.start))
        pairwise += pairwise_similarity(block, sigma).sum()
        block.mul_(alpha)
    columns, values = expanded_context(torch.cat(neighbours))
    own = torch.arange(len(z), device=z.device)[:, None].expand_as(columns)
    half = values.mul((1 - alpha) / 2).to(z.dtype)
    weights.scatter_add_(1, columns, half)
    weights.view(-1).index_add_(0, (columns * len(z) + own).view(-1), half.view(-1))
    return weights, pairwise / weights.numel(), values.sum() / weights.numel()


@torch.no_grad()
def relaxed_contrastive_loss(
    z: Tensor, weights: Tensor, margin: float, out: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """((N, D) student projections, (N, N) similarities, overwritten) -> (loss, its gradient (N, D)) (eq. 7).

    The gradient is worked out by hand, in a fraction of autograd's passes: with H = dL/d(d^2) for every pair (`slopes`)
    and S = H + H^T, dL/dz = 2 (rowsum(S) z - S z). `out` is room for the (N, N) distances.
    """
    loss = slopes(squared_distances(z, out), weights, margin).mean()
    s = add_transposed_(weights)
    return loss, 2 * (s.sum(1, keepdim=True) * z - s @ z)


def add_transposed_(matrix: Tensor, tile: int = TILE) -> Tensor:
    """(N, N) -> matrix + matrix^T, in place; by tiles, as reading a column is reading all of memory."""
    n = len(matrix)
    tile = tile if matrix.device.type == "cpu" else n
    for i in range(0, n, tile):
        rows = slice(i, i + tile)
        matrix[rows, rows] += matrix[rows, rows].T.clone(memory_format=torch.contiguous_format)
        for j in range(i + tile, n, tile):
            columns = slice(j, j + tile)
            matrix[columns, rows] += matrix[rows, columns].T.contiguous()
            matrix[rows, columns] = matrix[columns, rows].T
    return matrix


@torch.no_grad()
def ema_update(teacher: Sequence[Tensor], student: Sequence[Tensor], gamma: float) -> None:
    """teacher <- gamma * teacher + (1 - gamma) * student, in place (eq. 8)."""
    torch._foreach_lerp_(list(teacher), list(student), 1 - gamma)
