"""AdamP (Heo et al., ICLR 2021) with Nesterov momentum, without autograd, in few passes over memory.

AdamP is Adam with one change. If a weight matrix is nearly orthogonal to its gradient, its length does not influence
the loss. Then the part of the step along the weights is removed, because it would only make them longer. The results
are those of timm's AdamP.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from reconpatch.method.loss import row_blocks

BETA1, BETA2, EPS = 0.9, 0.999, 1e-8
DELTA = 0.1  # a cosine below DELTA / sqrt(size) counts as orthogonal
DECAY_RATIO = 0.1  # of the weight decay, where the step was projected


class Rates(NamedTuple):
    """What differs from step to step: numbers, or 0-dimensional tensors on the device of the parameters."""

    size: float | Tensor  # of the step, with the corrections of both means
    decay: float | Tensor  # of the weights
    epsilon: float | Tensor  # added to the root of the mean square


class AdamP:
    """Optimises parameters, which are vectors or (N, M) matrices, in place."""

    def __init__(self, parameters: Sequence[Tensor], weight_decay: float) -> None:
        self.parameters, self.weight_decay, self.steps = parameters, weight_decay, 0
        self.mean = [torch.zeros_like(p) for p in parameters]  # of the gradients
        self.square = [torch.zeros_like(p) for p in parameters]  # mean of their squares
        self.direction = [torch.empty_like(p) for p in parameters]

    def next_rates(self, learning_rate: float) -> Rates:
        """The learning rate of the next step -> its rates, as numbers."""
        self.steps += 1
        bias2 = (1 - BETA2**self.steps) ** 0.5
        return Rates(
            size=learning_rate / (1 - BETA1**self.steps) * bias2,
            decay=learning_rate * self.weight_decay,
            epsilon=EPS * bias2,  # the correction of the mean square is in the size of the step
        )

    @property
    def state(self) -> list[Tensor]:
        """The tensors that a step changes besides the parameters."""
        return [*self.mean, *self.square]

    @torch.no_grad()
    def step(self, gradients: Sequence[Tensor], rates: Rates) -> None:
        """Take one step against the gradients, which have the shapes of the parameters."""
        size, decay, epsilon = rates
        state = zip(self.parameters, gradients, self.mean, self.square, self.direction, strict=True)
        for w, g, mean, square, direction in state:
            products = []
            for rows in row_blocks(w):
                wb, gb, mb, sb, db = w[rows], g[rows], mean[rows], square[rows], direction[rows]
                mb.lerp_(gb, 1 - BETA1)
                sb.mul_(BETA2).addcmul_(gb, gb, value=1 - BETA2)
                torch.lerp(mb, gb, 1 - BETA1, out=db).div_(sb.sqrt().add_(epsilon))
                if w.dim() > 1:
                    products.append(
                        torch.stack([(a * b).sum(1) for a, b in ((w[rows], gb), (wb, wb), (gb, gb), (wb, db))])
                    )
            if w.dim() == 1:
                _subtract(w.mul_(1 - decay), direction, size)
                continue
            along, ratio = projection(torch.cat(products, 1), w.shape[1])
            keep = 1 - decay * ratio + size * along
            for rows in row_blocks(w):
                _subtract(w[rows].mul_(keep[rows]), direction[rows], size)


def _subtract(weights: Tensor, direction: Tensor, size: float | Tensor) -> None:
    """weights <- weights - size * direction, in place, in one pass."""
    if isinstance(size, Tensor):
        weights.addcmul_(direction, size, value=-1)
    else:
        weights.sub_(direction, alpha=size)


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
