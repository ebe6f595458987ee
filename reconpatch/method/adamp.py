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
        # Blocks suit a processor's cache; elsewhere the number of calls decides the time.
        self.in_blocks = all(p.device.type == "cpu" for p in parameters)

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
        if self.in_blocks:
            products = [self._direct(n, g, epsilon) for n, g in enumerate(gradients)]
        else:
            self._direct_all(gradients, epsilon)
            products = [_products(*each) for each in zip(self.parameters, gradients, self.direction, strict=True)]
        for w, direction, of_rows in zip(self.parameters, self.direction, products, strict=True):
            if w.dim() == 1:
                _subtract(w.mul_(1 - decay), direction, size)
                continue
            along, ratio = projection(of_rows, w.shape[1])
            keep = 1 - decay * ratio + size * along
            for rows in row_blocks(w):
                _subtract(w[rows].mul_(keep[rows]), direction[rows], size)

    def _direct(self, n: int, g: Tensor, epsilon: float | Tensor) -> Tensor:
        """Both means and the direction of one parameter, block by block -> its `_products`."""
        w, products = self.parameters[n], []
        for rows in row_blocks(w):
            gb, mean, square, direction = (t[rows] for t in (g, self.mean[n], self.square[n], self.direction[n]))
            mean.lerp_(gb, 1 - BETA1)
            square.mul_(BETA2).addcmul_(gb, gb, value=1 - BETA2)
            torch.lerp(mean, gb, 1 - BETA1, out=direction).div_(square.sqrt().add_(epsilon))
            products.append(_products(w[rows], gb, direction))
        return torch.cat(products, -1)

    def _direct_all(self, gradients: Sequence[Tensor], epsilon: float | Tensor) -> None:
        """Both means and the direction of all parameters, in one call an operation for all of them."""
        g = list(gradients)
        torch._foreach_lerp_(self.mean, g, 1 - BETA1)
        torch._foreach_mul_(self.square, BETA2)
        torch._foreach_addcmul_(self.square, g, g, value=1 - BETA2)
        roots = torch._foreach_sqrt(self.square)
        torch._foreach_add_(roots, epsilon)
        torch._foreach_copy_(self.direction, self.mean)
        torch._foreach_lerp_(self.direction, g, 1 - BETA1)
        torch._foreach_div_(self.direction, roots)


def _products(w: Tensor, g: Tensor, u: Tensor) -> Tensor:
    """(N, M) weights, gradients, directions -> (4, N) row products w.g, w.w, g.g, w.u; of vectors nothing."""
    if w.dim() == 1:
        return w.new_empty(0)
    return torch.stack([(a * b).sum(1) for a, b in ((w, g), (w, w), (g, g), (w, u))])


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
