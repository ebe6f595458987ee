"""Training of the representation f with its projection g and their EMA teacher (section 3.2, 4.1)."""

import math
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from reconpatch.errors import ReconpatchError
from reconpatch.method.adamp import AdamP, Rates
from reconpatch.method.batching import batch_sizes, draw_batches
from reconpatch.method.cuda_graph import Step
from reconpatch.method.feature_files import batches, read_rows, read_slice
from reconpatch.method.fused_training import UNWARNED, FusedTrainer
from reconpatch.method.initialisation import draw_layer, first_layer
from reconpatch.method.loss import ema_update, relaxed_contrastive_loss, similarity
from reconpatch.method.training_settings import TrainingSettings
from reconpatch.rng import named_rng
from reconpatch.runtime import one_blas_thread

Capture = Callable[[Step, Sequence[Tensor]], tuple[Step | None, str]]  # as cuda_graph.captured
SHARE_OF_MEMORY = 0.6  # of what is free on a device that patches may take; a step takes some of the rest


@dataclass(frozen=True)
class Epoch:
    """What one epoch did: means over its batches."""

    epoch: int
    loss: float
    pairwise: float  # mean pairwise similarity: near 1, everything counts as similar; near 0, nothing does
    contextual: float
    learning_rate: float


def linear(rng: np.random.Generator, inputs: int, outputs: int, device: str, bias: bool = True) -> list[Tensor]:
    """A linear layer as `draw_layer` draws it, [weight (outputs, inputs), bias (outputs)], on a device."""
    return [torch.from_numpy(values).to(device) for values in draw_layer(rng, inputs, outputs, bias)]


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
    """The student, its teacher, the optimiser, and the memory that a step works in, on an accelerator, which waits for
    nothing of the host; `FusedTrainer` is that of the processor.

    `rows` are the patches on the device; without them each batch is read from `patches` and uploaded. `capture` turns a
    step into one that does the same with fewer launches, as `cuda_graph.captured` does, or says why not, and `note` is
    told.
    """

    def __init__(
        self,
        student: Sequence[Tensor],
        settings: TrainingSettings,
        largest: int,
        patches: NDArray[np.float16],
        rows: Tensor | None = None,
        capture: Capture | None = None,
        note: Callable[[str], None] = lambda text: None,
    ) -> None:
        device = student[0].device
        self.settings, self.patches, self.rows = settings, patches, rows
        self.capture, self.note = capture, note
        self.student = list(student)
        self.teacher = [value.clone() for value in student]
        self.learnt = slice(None, None, 1 if settings.bias else 2)  # of the student; without biases, every other
        self.optimiser = AdamP(self.student[self.learnt], settings.weight_decay)
        self.room = torch.empty(largest, patches.shape[1], device=device)  # the batch
        self.rates = torch.zeros(len(Rates._fields), device=device)  # of the step
        self.pairs = torch.empty(2, largest**2, device=device)
        self.totals = torch.zeros(3, device=device)  # of an epoch: loss, mean pairwise and contextual similarity
        self.steps: dict[int, Step] = {}  # by the number of patches

    def epoch(self, batches: Sequence[NDArray[np.int64]], learning_rate: float) -> list[float]:
        """The rows of each batch, ascending -> means over the batches: loss, pairwise and contextual similarity."""
        self.totals.zero_()
        device, start = self.room.device, 0
        chosen = None if self.rows is None else torch.from_numpy(np.concatenate(batches)).to(device)
        rates = torch.tensor([self.optimiser.next_rates(learning_rate) for _ in batches]).to(device)
        for batch, each in zip(batches, rates, strict=True):
            if self.rows is None or chosen is None:
                values = torch.from_numpy(read_rows(self.patches, batch)).to(device)
            else:
                values = self.rows.index_select(0, chosen[start : start + len(batch)])
            self.room[: len(batch)].copy_(values)
            self.rates.copy_(each)
            self.step_of(len(batch))()
            start += len(batch)
        mean: list[float] = (self.totals / len(batches)).tolist()
        return mean

    def step_of(self, size: int) -> Step:
        """The step on the first `size` patches in `room`, at the rates in `rates`."""
        if size not in self.steps:
            step = partial(self.step, size, Rates(*self.rates.unbind()))
            replay = None
            if self.capture:
                state = [*self.student, *self.teacher, *self.optimiser.state, self.totals]
                replay, problem = self.capture(step, state)
                if replay is None:
                    self.note(f"{problem}; the training goes on without one")
                    self.capture = None  # a refused recording may leave the next one no chance
            self.steps[size] = replay or step
        return self.steps[size]

    def step(self, size: int, rates: Rates) -> None:
        """One step of student and teacher on the first `size` patches in `room` (eq. 1 to 8); adds to the totals."""
        settings, p = self.settings, self.room[:size]
        weights, distances = self.pairs[:, : size**2].view(2, size, size)
        z = project(self.teacher, p)
        z = F.normalize(z) if settings.teacher_norm else z
        weights, *means = similarity(z, settings.sigma, settings.k, settings.alpha, weights, settings.sigma_unit)
        loss, dz = relaxed_contrastive_loss(project(self.student, p), weights, settings.margin, distances)
        self.optimiser.step(gradients(self.student, p, dz)[self.learnt], rates)
        ema_update(self.teacher, self.student, settings.gamma)
        self.totals += torch.stack([loss, *means])


def train(
    patches: NDArray[np.float16],
    settings: TrainingSettings,
    *,
    images: Sequence[int] = (),
    checkpoints: Collection[int] = (),
    device: str = "cpu",
    threads: int = 1,
    capture: Capture | None = None,
    note: Callable[[str], None] = lambda text: None,
    progress: Callable[[Epoch], None] = lambda epoch: None,
) -> tuple[dict[str, Tensor], Sequence[Epoch]]:
    """(N, C) float16 patches of normal images, possibly a memory map -> f, and every epoch.

    f is `{epoch}.weight` (dim, C) and `{epoch}.bias` (dim) after each epoch of `checkpoints` and after the last. Each
    epoch takes every patch once, in the batches of `draw_batches`. `images` are the numbers of patches of each image,
    in order, which batches of one image need. `threads` compute on the CPU; their number changes no byte. `capture` and
    `note` are those of `Trainer`, on other devices. `progress` is called after each epoch. Raises ReconpatchError if
    there are too few patches, if f cannot begin as `init` says, or if the loss is no longer finite.
    """
    n, of_image = len(patches), settings.batches == "image"
    groups = images if of_image else [n]
    if sum(groups) != n:
        raise ValueError(f"{n} patches, but images of {sum(groups)}")
    smallest, largest = batch_sizes(groups, settings.batch)
    if smallest < settings.k:
        of = " of one image" if of_image else ""
        raise ReconpatchError(
            f"{n} training patches in batches of {settings.batch}{of} cannot have {settings.k} neighbours each",
            where=f"k {settings.k}",
            fix="lower k, or set batches: all" if of_image else "add images, or lower k",
        )
    rng = named_rng(settings.seed, "training")
    first = first_layer(rng, patches, settings.dim, settings.init, settings.bias)
    f = [torch.from_numpy(values).to(device) for values in first]
    student = [*f, *linear(rng, settings.dim, settings.projection_dim, device, settings.bias)]
    with ExitStack() as stack:
        trainer: Trainer | FusedTrainer
        if device == "cpu":
            stack.enter_context(one_blas_thread())
            quiet = partial(np.seterr, **UNWARNED)
            pool = stack.enter_context(ThreadPoolExecutor(threads, initializer=quiet)) if threads > 1 else None
            trainer = FusedTrainer(student, settings, largest, patches, pool)
        else:
            trainer = Trainer(student, settings, largest, patches, on_device(patches, device), capture, note)
        history: list[Epoch] = []
        kept: dict[str, Tensor] = {}
        for number in range(1, settings.epochs + 1):
            rate = settings.learning_rate * (1 + math.cos(math.pi * (number - 1) / settings.epochs)) / 2
            loss, pairwise, contextual = trainer.epoch(draw_batches(rng, groups, settings.batch), rate)
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
