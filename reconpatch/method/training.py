"""Training of the representation f with its projection g and their EMA teacher (section 3.2, 4.1)."""

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from reconpatch.errors import ReconpatchError
from reconpatch.method.adamp import AdamP, Rates
from reconpatch.method.feature_files import batches, read_rows, read_slice
from reconpatch.method.loss import ema_update, relaxed_contrastive_loss, similarity
from reconpatch.rng import named_rng

# A step, the tensors that it changes -> a function that does the same.
Capture = Callable[[Callable[[], None], Sequence[Tensor]], Callable[[], None]]
SHARE_OF_MEMORY = 0.6  # of a device that patches may take; a step takes some of the rest


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


def on_device(patches: NDArray[np.float16], device: str, free: int | None = None) -> Tensor | None:
    """(N, C) float16 patches -> the same on an accelerator, or None on the CPU and where they do not fit there.

    `free` is the number of bytes of memory there, by default what the device reports.
    """
    if device == "cpu":
        return None
    free = torch.cuda.mem_get_info()[0] if free is None else free
    if patches.nbytes > SHARE_OF_MEMORY * free:
        return None
    rows = torch.empty(patches.shape, dtype=torch.float16, device=device)
    for part in batches(patches):
        rows[part].copy_(torch.from_numpy(np.array(read_slice(patches, part))))
    return rows


class Trainer:
    """The student, its teacher, the optimiser, and the memory that a step works in, which is kept: fresh memory costs
    more than what is computed in it.

    With `rows`, the (N, C) patches on a device, an epoch needs nothing of the host but its indices, and a step nothing
    at all. `capture` makes each step a function that does the same with fewer launches: see `cuda_graph`.
    """

    def __init__(
        self,
        student: Sequence[Tensor],
        settings: TrainingSettings,
        largest: int,
        patches: NDArray[np.float16],
        rows: Tensor | None = None,
        capture: Capture | None = None,
    ) -> None:
        device = student[0].device
        self.settings, self.patches, self.rows, self.capture = settings, patches, rows, capture
        self.student = list(student)
        self.teacher = [value.clone() for value in student]
        self.optimiser = AdamP(self.student, settings.weight_decay)
        self.room = torch.empty(largest, patches.shape[1], device=device)
        self.pairs = torch.empty(2, largest**2, device=device)
        self.totals = torch.zeros(3, device=device)  # of an epoch: loss, mean pairwise and contextual similarity
        self.chosen = torch.zeros(largest, dtype=torch.int64, device=device)  # rows of a batch
        self.rates = torch.zeros(len(Rates._fields), device=device)
        self.steps: dict[int, Callable[[], None]] = {}  # by the number of patches

    def epoch(self, batches: Sequence[NDArray[np.int64]], learning_rate: float) -> list[float]:
        """The rows of each batch, ascending -> means over the batches: loss, pairwise and contextual similarity."""
        self.totals.zero_()
        rates = [self.optimiser.next_rates(learning_rate) for _ in batches]
        if self.rows is None:
            for batch, each in zip(batches, rates, strict=True):
                p = self.room[: len(batch)].copy_(torch.from_numpy(read_rows(self.patches, batch)))
                self.step(p, each)
        else:
            chosen = torch.from_numpy(np.concatenate(batches)).to(self.chosen.device)
            rates_there, start = torch.tensor(rates).to(self.rates.device), 0
            for batch, each in zip(batches, rates_there, strict=True):
                self.chosen[: len(batch)].copy_(chosen[start : start + len(batch)])
                self.rates.copy_(each)
                self.step_of(len(batch))()
                start += len(batch)
        mean: list[float] = (self.totals / len(batches)).tolist()
        return mean

    def step_of(self, size: int) -> Callable[[], None]:
        """The step on the `size` patches that `chosen` names, at the rates in `rates`."""
        if size not in self.steps:
            step = partial(self.step_on_device, size)
            state = [*self.student, *self.teacher, *self.optimiser.state, self.totals]
            self.steps[size] = self.capture(step, state) if self.capture else step
        return self.steps[size]

    def step_on_device(self, size: int) -> None:
        """Take `chosen` from the rows on the device, and step."""
        if self.rows is None:
            raise RuntimeError("the patches are not on the device")
        p = self.room[:size].copy_(self.rows.index_select(0, self.chosen[:size]))
        self.step(p, Rates(*self.rates.unbind()))

    def step(self, p: Tensor, rates: Rates) -> None:
        """(B, C) patches, rates -> one step of student and teacher (eq. 1 to 8); adds to the totals."""
        settings = self.settings
        weights, distances = self.pairs[:, : len(p) ** 2].view(2, len(p), len(p))
        z = project(self.teacher, p)
        z = F.normalize(z) if settings.teacher_norm else z
        weights, *means = similarity(z, settings.sigma, settings.k, settings.alpha, weights)
        loss, dz = relaxed_contrastive_loss(project(self.student, p), weights, settings.margin, distances)
        self.optimiser.step(gradients(self.student, p, dz), rates)
        ema_update(self.teacher, self.student, settings.gamma)
        self.totals += torch.stack([loss, *means])


def train(
    patches: NDArray[np.float16],
    settings: TrainingSettings,
    *,
    checkpoints: Collection[int] = (),
    device: str = "cpu",
    capture: Capture | None = None,
    progress: Callable[[Epoch], None] = lambda epoch: None,
) -> tuple[dict[str, Tensor], Sequence[Epoch]]:
    """(N, C) float16 patches of normal images, possibly a memory map -> f, and every epoch.

    f is `{epoch}.weight` (dim, C) and `{epoch}.bias` (dim) after each epoch of `checkpoints` and after the last. Each
    epoch takes every patch once, shuffled over all images, in batches of nearly equal size. `capture` is that of
    `Trainer`, on a device that has room for the patches. `progress` is called after each epoch. Raises ReconpatchError
    if there are too few patches, or if the loss is no longer finite.
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
    trainer = Trainer(student, settings, -(-n // count), patches, on_device(patches, device), capture)
    history: list[Epoch] = []
    kept: dict[str, Tensor] = {}
    for number in range(1, settings.epochs + 1):
        rate = settings.learning_rate * (1 + math.cos(math.pi * (number - 1) / settings.epochs)) / 2
        order = np.array_split(rng.permutation(n), count)
        for chosen in order:
            chosen.sort()  # the loss does not depend on the order of a batch; reading from disk is faster in order
        loss, pairwise, contextual = trainer.epoch(order, rate)
        history.append(Epoch(number, loss, pairwise, contextual, rate))
        if not np.isfinite(loss):
            raise ReconpatchError(
                f"training diverged in epoch {number}, the loss is {loss}",
                where=f"learning_rate {settings.learning_rate:g}",
                fix="lower learning_rate",
            )
        if number in checkpoints or number == settings.epochs:
            kept |= {f"{number}.weight": f[0].cpu().clone(), f"{number}.bias": f[1].cpu().clone()}
        progress(history[-1])
    return kept, history
