"""Training of the representation f with its projection g and their EMA teacher (section 3.2, 4.1)."""

import copy
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from timm.optim.adamp import AdamP
from torch import Tensor, nn

from reconpatch.errors import ReconpatchError
from reconpatch.randomness import stream
from reconpatch.recon import ema_update, relaxed_contrastive_loss, similarity


@dataclass(frozen=True)
class Epoch:
    """What one epoch did: means over its batches."""

    epoch: int
    loss: float
    pairwise: float  # mean pairwise similarity: near 1, everything counts as similar; near 0, nothing does
    contextual: float
    learning_rate: float


def linear(rng: np.random.Generator, inputs: int, outputs: int) -> nn.Linear:
    """A linear layer with torch's default initialisation, uniform in +-1/sqrt(inputs), drawn from `rng`."""
    bound = inputs**-0.5
    layer: nn.Linear = nn.utils.skip_init(nn.Linear, inputs, outputs)  # type: ignore[no-untyped-call]
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(rng.uniform(-bound, bound, (outputs, inputs))))
        layer.bias.copy_(torch.from_numpy(rng.uniform(-bound, bound, outputs)))
    return layer


def project(f: nn.Linear, g: nn.Linear, patches: Tensor) -> Tensor:
    """(N, C) patches -> (N, D) projections g(f(p)).

    Both layers are linear, so their product is formed first: the same numbers for a fraction of the work.
    """
    return F.linear(patches, g.weight @ f.weight, g.weight @ f.bias + g.bias)


def train(
    patches: NDArray[np.float16],
    *,
    dim: int,
    projection_dim: int,
    epochs: int,
    batch: int,
    learning_rate: float,
    weight_decay: float,
    alpha: float,
    k: int,
    sigma: float,
    margin: float,
    gamma: float,
    teacher_norm: bool,
    seed: int,
    checkpoints: Collection[int],
    device: str,
    progress: Callable[[Epoch], None],
) -> tuple[dict[str, Tensor], Sequence[Epoch]]:
    """(N, C) float16 patches of normal images, possibly a memory map -> f, and every epoch.

    f is `{epoch}.weight` (dim, C) and `{epoch}.bias` (dim) after each epoch of `checkpoints` and after the last. Every
    patch is seen once an epoch, shuffled over all images, in batches of nearly equal size. `progress` is called after
    each epoch. Raises ReconpatchError for too few patches, or when the loss is no longer finite.
    """
    n, inputs = patches.shape
    count = max(1, round(n / batch))
    if n // count < k:
        raise ReconpatchError(f"{n} training patches in batches of {batch} cannot have k = {k} neighbours: add images")
    rng = stream(seed, "training")
    f = linear(rng, inputs, dim).to(device)
    g = linear(rng, dim, projection_dim).to(device)
    teacher_f, teacher_g = copy.deepcopy(f).requires_grad_(False), copy.deepcopy(g).requires_grad_(False)
    student = [*f.parameters(), *g.parameters()]
    teacher = [*teacher_f.parameters(), *teacher_g.parameters()]
    settings: dict[str, Any] = {"lr": learning_rate, "weight_decay": weight_decay, "nesterov": True}
    optimiser: torch.optim.Optimizer = AdamP(student, **settings)  # type: ignore[no-untyped-call]
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, T_max=epochs)
    history: list[Epoch] = []
    kept: dict[str, Tensor] = {}
    for number in range(1, epochs + 1):
        totals = torch.zeros(3)
        batches = np.array_split(rng.permutation(n), count)
        for chosen in batches:
            chosen.sort()  # the loss does not depend on the order, the disk does
            p = torch.from_numpy(patches[chosen]).to(device).float()
            with torch.no_grad():
                z = project(teacher_f, teacher_g, p)
                weights, *means = similarity(F.normalize(z) if teacher_norm else z, sigma, k, alpha)
            z = project(f, g, p)
            loss, gradient = relaxed_contrastive_loss(z, weights, margin)
            optimiser.zero_grad()
            torch.autograd.backward(z, gradient)
            optimiser.step()
            ema_update(teacher, student, gamma)
            totals += torch.stack([loss, *means]).cpu()
        loss_mean, pairwise, contextual = (totals / len(batches)).tolist()
        history.append(Epoch(number, loss_mean, pairwise, contextual, float(schedule.get_last_lr()[0])))
        if not np.isfinite(history[-1].loss):
            raise ReconpatchError(f"training diverged in epoch {number}: loss {history[-1].loss}; lower learning_rate")
        schedule.step()
        if number in checkpoints or number == epochs:
            kept |= {f"{number}.{name}": value.detach().cpu().clone() for name, value in f.state_dict().items()}
        progress(history[-1])
    return kept, history
