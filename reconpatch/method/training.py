"""Training of the representation f with its projection g and their EMA teacher (section 3.2, 4.1)."""

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from reconpatch.errors import ReconpatchError
from reconpatch.method.adamp import AdamP
from reconpatch.method.feature_files import read_rows
from reconpatch.method.loss import ema_update, relaxed_contrastive_loss, similarity
from reconpatch.rng import named_rng


@dataclass(frozen=True)
class Epoch:
    """What one epoch did: means over its batches."""

    epoch: int
    loss: float
    pairwise: float  # mean pairwise similarity: near 1, everything counts as similar; near 0, nothing does
    contextual: float
    learning_rate: float


@dataclass(frozen=True)
class TrainingSettings:
    """What decides a training besides its patches. The names and symbols are those of the paper."""

    dim: int  # of the representation f
    projection_dim: int  # of the projection g
    epochs: int
    batch: int  # patches a batch, about
    learning_rate: float  # of the first epoch; falls to 0 along a cosine
    weight_decay: float
    alpha: float  # share of the pairwise similarity
    k: int  # nearest neighbours of a patch
    sigma: float  # bandwidth of the pairwise similarity
    margin: float  # distance up to which patches repel each other, in mean distances
    gamma: float  # share of the teacher that each update keeps
    teacher_norm: bool  # whether the teacher's projections are scaled to length 1
    seed: int

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> "TrainingSettings":
        """Values by name, among them those of a training -> TrainingSettings."""
        return cls(**{field.name: values[field.name] for field in fields(cls)})


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
    settings: TrainingSettings,
    *,
    checkpoints: Collection[int] = (),
    device: str = "cpu",
    progress: Callable[[Epoch], None] = lambda epoch: None,
) -> tuple[dict[str, Tensor], Sequence[Epoch]]:
    """(N, C) float16 patches of normal images, possibly a memory map -> f, and every epoch.

    f is `{epoch}.weight` (dim, C) and `{epoch}.bias` (dim) after each epoch of `checkpoints` and after the last. Each
    epoch takes every patch once, shuffled over all images, in batches of nearly equal size. `progress` is called after
    each epoch. Raises ReconpatchError if there are too few patches, or if the loss is no longer finite.
    """
    n, inputs = patches.shape
    count = max(1, round(n / settings.batch))
    if n // count < settings.k:
        raise ReconpatchError(
            f"{n} training patches in batches of {settings.batch} cannot have {settings.k} neighbours each",
            where=f"k {settings.k}",
            fix="add images, or lower k",
        )
    rng = named_rng(settings.seed, "training")
    f = linear(rng, inputs, settings.dim, device)
    student = [*f, *linear(rng, settings.dim, settings.projection_dim, device)]
    teacher = [value.clone() for value in student]
    optimiser = AdamP(student, settings.weight_decay)
    largest = -(-n // count)
    room = torch.empty(largest, inputs, device=device)
    pairs = torch.empty(2, largest**2, device=device)  # kept: fresh memory costs more than what is computed in it
    history: list[Epoch] = []
    kept: dict[str, Tensor] = {}
    for number in range(1, settings.epochs + 1):
        rate = settings.learning_rate * (1 + math.cos(math.pi * (number - 1) / settings.epochs)) / 2
        totals = torch.zeros(3, device=device)
        for chosen in np.array_split(rng.permutation(n), count):
            chosen.sort()  # the loss does not depend on the order of a batch; reading from disk is faster in order
            p = room[: len(chosen)].copy_(torch.from_numpy(read_rows(patches, chosen)))
            weights, distances = pairs[:, : len(p) ** 2].view(2, len(p), len(p))
            z = project(teacher, p)
            z = F.normalize(z) if settings.teacher_norm else z
            weights, *means = similarity(z, settings.sigma, settings.k, settings.alpha, weights)
            loss, dz = relaxed_contrastive_loss(project(student, p), weights, settings.margin, distances)
            optimiser.step(gradients(student, p, dz), rate)
            ema_update(teacher, student, settings.gamma)
            totals += torch.stack([loss, *means])
        loss_mean, pairwise, contextual = (totals / count).tolist()
        history.append(Epoch(number, loss_mean, pairwise, contextual, rate))
        if not np.isfinite(loss_mean):
            raise ReconpatchError(
                f"training diverged in epoch {number}, the loss is {loss_mean}",
                where=f"learning_rate {settings.learning_rate:g}",
                fix="lower learning_rate",
            )
        if number in checkpoints or number == settings.epochs:
            kept |= {f"{number}.weight": f[0].cpu().clone(), f"{number}.bias": f[1].cpu().clone()}
        progress(history[-1])
    return kept, history
