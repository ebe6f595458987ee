"""Training of the representation f with its projection g and their EMA teacher (section 3.2, 4.1)."""

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from reconpatch.errors import ReconpatchError
from reconpatch.method.adamp import AdamP
from reconpatch.method.loss import ema_update, relaxed_contrastive_loss, similarity
from reconpatch.method.stored import gather
from reconpatch.rng import stream


@dataclass(frozen=True)
class Epoch:
    """What one epoch did: means over its batches."""

    epoch: int
    loss: float
    pairwise: float  # mean pairwise similarity: near 1, everything counts as similar; near 0, nothing does
    contextual: float
    learning_rate: float


def linear(rng: np.random.Generator, inputs: int, outputs: int, device: str) -> list[Tensor]:
    """A linear layer, [weight (outputs, inputs), bias (outputs)], drawn from `rng`: uniform in +-1/sqrt(inputs).

    That is torch's default initialisation.
    """
    bound = inputs**-0.5
    drawn = rng.uniform(-bound, bound, (outputs, inputs)), rng.uniform(-bound, bound, outputs)
    return [torch.from_numpy(values.astype(np.float32)).to(device) for values in drawn]


def project(layers: Sequence[Tensor], patches: Tensor) -> Tensor:
    """([weight and bias of f, of g], (N, C) patches) -> (N, D) projections g(f(p)).

    Both layers are linear, so their product is formed first: the same numbers for a fraction of the work.
    """
    f, f_bias, g, g_bias = layers
    return F.linear(patches, g @ f, g @ f_bias + g_bias)


def gradients(layers: Sequence[Tensor], patches: Tensor, dz: Tensor) -> list[Tensor]:
    """(layers, (N, C) patches, dL/dz (N, D)) -> dL of each of `layers`.

    With W = g f, as in `project`: dW = dz^T P, df = g^T dW, dg = dW f^T + db f_bias^T, and db = sum of dz.
    """
    f, f_bias, g, _ = layers
    dw, db = dz.T @ patches, dz.sum(0)
    return [g.T @ dw, g.T @ db, torch.addr(dw @ f.T, db, f_bias), db]


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
    student = [*linear(rng, inputs, dim, device), *linear(rng, dim, projection_dim, device)]
    teacher = [value.clone() for value in student]
    optimiser = AdamP(student, weight_decay)
    largest = -(-n // count)
    room = torch.empty(largest, inputs, device=device)
    pairs = torch.empty(2, largest**2, device=device)  # kept: fresh memory costs more than what is computed in it
    history: list[Epoch] = []
    kept: dict[str, Tensor] = {}
    for number in range(1, epochs + 1):
        rate = learning_rate * (1 + math.cos(math.pi * (number - 1) / epochs)) / 2
        totals = torch.zeros(3, device=device)
        for chosen in np.array_split(rng.permutation(n), count):
            chosen.sort()  # the loss does not depend on the order, the disk does
            p = room[: len(chosen)].copy_(torch.from_numpy(gather(patches, chosen)))
            weights, distances = pairs[:, : len(p) ** 2].view(2, len(p), len(p))
            z = project(teacher, p)
            weights, *means = similarity(F.normalize(z) if teacher_norm else z, sigma, k, alpha, weights)
            loss, dz = relaxed_contrastive_loss(project(student, p), weights, margin, distances)
            optimiser.step(gradients(student, p, dz), rate)
            ema_update(teacher, student, gamma)
            totals += torch.stack([loss, *means])
        loss_mean, pairwise, contextual = (totals / count).tolist()
        history.append(Epoch(number, loss_mean, pairwise, contextual, rate))
        if not np.isfinite(history[-1].loss):
            raise ReconpatchError(f"training diverged in epoch {number}: loss {history[-1].loss}; lower learning_rate")
        if number in checkpoints or number == epochs:
            kept |= {f"{number}.{name}": v.cpu().clone() for name, v in zip(("weight", "bias"), student, strict=False)}
        progress(history[-1])
    return kept, history
