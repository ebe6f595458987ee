"""AdamP (Heo et al., ICLR 2021) with Nesterov momentum, without autograd, in few passes over memory.

AdamP is Adam with one change. If a weight matrix is nearly orthogonal to its gradient, its length does not influence
the loss. Then the part of the step along the weights is removed, because it would only make them longer. The results
are those of timm's AdamP.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from reconpatch.method.loss import row_blocks

BETA1, BETA2, EPS = 0.9, 0.999, 1e-8
DELTA = 0.1  # a cosine below DELTA / sqrt(size) counts as orthogonal
DECAY_RATIO = 0.1  # of the weight decay, where the step was projected


class AdamP:
    """Optimises parameters, which are vectors or (N, M) matrices, in place."""

    def __init__(self, parameters: Sequence[Tensor], weight_decay: float) -> None:
        self.parameters, self.weight_decay, self.steps = parameters, weight_decay, 0
        self.mean = [torch.zeros_like(p) for p in parameters]  # of the gradients
        self.square = [torch.zeros_like(p) for p in parameters]  # mean of their squares
        self.direction = [torch.empty_like(p) for p in parameters]

    @torch.no_grad()
    def step(self, gradients: Sequence[Tensor], learning_rate: float) -> None:
        """Take one step against the gradients, which have the shapes of the parameters."""
        self.steps += 1
        bias2 = (1 - BETA2**self.steps) ** 0.5
        size = learning_rate / (1 - BETA1**self.steps) * bias2
        decay = learning_rate * self.weight_decay
        state = zip(self.parameters, gradients, self.mean, self.square, self.direction, strict=True)
        for w, g, mean, square, direction in state:
            products = []
            for rows in row_blocks(w):
                wb, gb, mb, sb, db = w[rows], g[rows], mean[rows], square[rows], direction[rows]
                mb.lerp_(gb, 1 - BETA1)
                sb.mul_(BETA2).addcmul_(gb, gb, value=1 - BETA2)
                torch.lerp(mb, gb, 1 - BETA1, out=db).div_(sb.sqrt().add_(EPS * bias2))  # bias2 is in the step size
                if w.dim() > 1:
                    products.append(
                        torch.stack([(a * b).sum(1) for a, b in ((w[rows], gb), (wb, wb), (gb, gb), (wb, db))])
                    )
            if w.dim() == 1:
                w.mul_(1 - decay).sub_(direction, alpha=size)
                continue
            along, ratio = projection(torch.cat(products, 1), w.shape[1])
            keep = 1 - decay * ratio + size * along
            for rows in row_blocks(w):
                w[rows].mul_(keep[rows]).sub_(direction[rows], alpha=size)


def projection(products: Tensor, width: int) -> tuple[Tensor, Tensor]:
    """((4, N) row products w.g, w.w, g.g, w.u; M) -> ((N, 1) share a of w to remove, u - a w; factor of the decay).

    If every row is orthogonal to its gradient, each row has its own share. Otherwise, if the whole matrix is orthogonal
    to its gradient, all rows have one share. Otherwise a = 0.
    """

    def cosine(wg: Tensor, ww: Tensor, gg: Tensor) -> Tensor:
        return wg.abs() / (ww * gg).sqrt().clamp_min(EPS)

    wg, ww, gg, wu = products
    whole = products.sum(1)
    by_row = cosine(wg, ww, gg).max() < DELTA / width**0.5
    as_one = cosine(*whole[:3]) < DELTA / (width * len(wg)) ** 0.5
    share = torch.where(by_row, wu / (ww.sqrt() + EPS) ** 2, as_one * whole[3] / (whole[1].sqrt() + EPS) ** 2)
    return share[:, None], torch.where(by_row | as_one, DECAY_RATIO, 1.0)
