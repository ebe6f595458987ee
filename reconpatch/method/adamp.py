"""AdamP (Heo et al., ICLR 2021) with Nesterov momentum, without autograd, in few passes over memory.

AdamP is Adam with one change. If a weight matrix is nearly orthogonal to its gradient, its length does not influence
the loss. Then the part of the step along the weights is removed, because it would only make them longer. The results
are those of timm's AdamP.

`AdamP` takes all parameters at once, in operations of PyTorch. `directions_of_rows` and `move_rows` are the same by
rows, compiled, for the processor.
"""

from collections.abc import Sequence
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from reconpatch.method.compiled import compiled

Floats = NDArray[np.float32]
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

    def next_rates(self, learning_rate: float) -> Rates:
        """The learning rate of the next step -> its rates, as numbers."""
        self.steps += 1
        return rates_of(self.steps, learning_rate, self.weight_decay)

    @property
    def state(self) -> list[Tensor]:
        """The tensors that a step changes besides the parameters."""
        return [*self.mean, *self.square]

    @torch.no_grad()
    def step(self, gradients: Sequence[Tensor], rates: Rates) -> None:
        """Take one step against the gradients, which have the shapes of the parameters."""
        size, decay, epsilon = rates
        for w, g, direction in zip(self.parameters, gradients, self._directions(gradients, epsilon), strict=True):
            if w.dim() == 1:
                keep: float | Tensor = 1 - decay
            else:
                pairs = (w, g), (w, w), (g, g), (w, direction)
                along, ratio = projection(torch.stack([(a * b).sum(1) for a, b in pairs]), w.shape[1])
                keep = 1 - decay * ratio + size * along[:, None]
            w.mul_(keep).sub_(direction.mul_(size))

    def _directions(self, gradients: Sequence[Tensor], epsilon: float | Tensor) -> list[Tensor]:
        """Updates both means -> the directions of all parameters, in one call an operation for all of them."""
        g = list(gradients)
        torch._foreach_lerp_(self.mean, g, 1 - BETA1)
        torch._foreach_mul_(self.square, BETA2)
        torch._foreach_addcmul_(self.square, g, g, value=1 - BETA2)
        roots = torch._foreach_sqrt(self.square)
        torch._foreach_add_(roots, epsilon)
        directions = torch._foreach_lerp(self.mean, g, 1 - BETA1)
        torch._foreach_div_(directions, roots)
        return list(directions)


def rates_of(step: int, learning_rate: float, weight_decay: float) -> Rates:
    """Number of the step, from 1 -> its rates, as numbers."""
    bias2 = (1 - BETA2**step) ** 0.5
    return Rates(
        size=learning_rate / (1 - BETA1**step) * bias2,
        decay=learning_rate * weight_decay,
        epsilon=EPS * bias2,  # the correction of the mean square is in the size of the step
    )


def projection(products: Any, width: int, xp: ModuleType = torch) -> tuple[Any, Any]:
    """((4, N) row products w.g, w.w, g.g, w.u; M) -> ((N,) share a of w to remove, u - a w; factor of the decay).

    u is the direction of the step. If every row is orthogonal to its gradient, each row has its own share. Otherwise,
    if the whole matrix is orthogonal to its gradient, all rows have one share. Otherwise a = 0. Both are arrays of
    `xp`, PyTorch or NumPy, as the products are.
    """

    def cosine(wg: Any, ww: Any, gg: Any) -> Any:
        return abs(wg) / xp.clip((ww * gg) ** 0.5, EPS, None)

    wg, ww, gg, wu = products
    whole = products.sum(1)
    by_row = cosine(wg, ww, gg).max() < DELTA / width**0.5
    as_one = cosine(*whole[:3]) < DELTA / (width * len(wg)) ** 0.5
    share = xp.where(by_row, wu / (ww**0.5 + EPS) ** 2, as_one * whole[3] / (whole[1] ** 0.5 + EPS) ** 2)
    return share, xp.where(by_row | as_one, DECAY_RATIO, 1.0)


@compiled
def directions_of_rows(
    w: Floats,
    g: Floats,
    mean: Floats,
    square: Floats,
    epsilon: np.float32,
    first: int,
    last: int,
    direction: Floats,
    products: Floats,
) -> None:
    """(N, M) weights, gradients, both means, which are updated -> directions (N, M) of rows first..last, and their
    products (4, N) as `projection` takes them.
    """
    new, new_square = np.float32(1 - BETA1), np.float32(1 - BETA2)
    for i in range(first, last):
        wi, gi, mi, si, ui = w[i], g[i], mean[i], square[i], direction[i]
        wg = ww = gg = wu = np.float32(0)
        for j in range(wi.shape[0]):
            mi[j] += new * (gi[j] - mi[j])
            si[j] += new_square * (gi[j] * gi[j] - si[j])
            u = (mi[j] + new * (gi[j] - mi[j])) / (np.sqrt(si[j]) + epsilon)
            ui[j] = u
            wg += wi[j] * gi[j]
            ww += wi[j] * wi[j]
            gg += gi[j] * gi[j]
            wu += wi[j] * u
        products[0, i], products[1, i], products[2, i], products[3, i] = wg, ww, gg, wu


@compiled
def move_rows(
    w: Floats,
    teacher: Floats,
    direction: Floats,
    keep: Floats,
    size: np.float32,
    new: np.float32,
    first: int,
    last: int,
) -> None:
    """Rows first..last of the (N, M) weights <- keep (N,) times them - size * direction; the teacher's move the share
    `new` of the way to them (eq. 8 with 1 - gamma).
    """
    for i in range(first, last):
        wi, ti, ui, ki = w[i], teacher[i], direction[i], keep[i]
        for j in range(wi.shape[0]):
            value = ki * wi[j] - size * ui[j]
            wi[j] = value
            ti[j] += new * (value - ti[j])
