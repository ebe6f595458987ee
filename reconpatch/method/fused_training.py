"""A step of the training on the processor: what `training.Trainer` does, in compiled loops and few matrix products.

The bytes do not depend on the number of threads.
"""

from collections.abc import Sequence
from concurrent.futures import Executor
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from reconpatch.method.adamp import Rates, directions_of_rows, move_rows, projection, rates_of
from reconpatch.method.feature_files import read_rows
from reconpatch.method.fused_loss import pitch, relaxed_contrastive_loss, similarity
from reconpatch.method.rows import by_rows
from reconpatch.method.training_settings import TrainingSettings

Floats = NDArray[np.float32]
SHORTEST = 1e-12  # length by which a projection is divided at least
UNWARNED: dict[str, Any] = {"over": "ignore", "divide": "ignore", "invalid": "ignore"}  # the loss shows a divergence


class Parameter:
    """A weight matrix (N, M), or a bias as its one row: of the student and of the teacher, and what a step needs."""

    def __init__(self, values: Tensor) -> None:
        self.student: Floats = values.numpy().reshape(-1, values.shape[-1])
        self.projected = values.dim() > 1  # whether AdamP may take the part along the weights out of a step
        self.teacher, n = self.student.copy(), len(self.student)
        self.gradient, self.direction = np.empty_like(self.student), np.empty_like(self.student)
        self.mean, self.square = np.zeros_like(self.student), np.zeros_like(self.student)
        self.products: Floats = np.empty((4, n), np.float32)

    def move(self, rates: Rates, gamma: float, pool: Executor | None) -> None:
        """The student takes a step of AdamP against the gradient, and the teacher follows it (eq. 8)."""
        size, decay, epsilon = (float(rate) for rate in rates)
        n, width = self.student.shape
        own = self.student, self.gradient, self.mean, self.square
        directions = (self.direction, self.products)
        by_rows(lambda a, b: directions_of_rows(*own, np.float32(epsilon), a, b, *directions), n, pool)
        along, ratio = projection(self.products, width, np) if self.projected else (np.zeros(n), 1.0)
        keep = (1 - decay * ratio + size * along).astype(np.float32)
        moved = self.student, self.teacher, self.direction, keep, np.float32(size), np.float32(1 - gamma)
        by_rows(lambda a, b: move_rows(*moved, a, b), n, pool)


class FusedTrainer:
    """The student, its teacher and the optimiser, and the memory that a step works in, which is kept.

    `student` is weight and bias of f and of g, whose memory is changed. `pool` are the threads.
    """

    def __init__(
        self,
        student: Sequence[Tensor],
        settings: TrainingSettings,
        largest: int,
        patches: NDArray[np.float16],
        pool: Executor | None = None,
    ) -> None:
        self.settings, self.patches, self.pool, self.steps = settings, patches, pool, 0
        self.parameters = [Parameter(values) for values in student]
        self.learnt = self.parameters[:: 1 if settings.bias else 2]  # without biases, every other
        dim, width = settings.projection_dim, patches.shape[1]
        self.room = np.empty((largest, width), np.float32)  # the batch
        self.layers = np.empty((2, dim, width), np.float32)  # g f of the teacher and of the student
        self.z = np.empty((largest, 2 * dim), np.float32)  # the projections of both
        self.pairs = np.empty((2, largest, pitch(largest)), np.float32)

    def epoch(self, batches: Sequence[NDArray[np.int64]], learning_rate: float) -> list[float]:
        """The rows of each batch, ascending -> means over the batches: loss, pairwise and contextual similarity."""
        totals = np.zeros(3)
        for batch in batches:
            p = self.room[: len(batch)]
            torch.from_numpy(p).copy_(torch.from_numpy(read_rows(self.patches, batch)))
            self.steps += 1
            with np.errstate(**UNWARNED):
                totals += self.step(p, rates_of(self.steps, learning_rate, self.settings.weight_decay))
        return [float(total) for total in totals / len(batches)]

    def step(self, p: Floats, rates: Rates) -> tuple[float, float, float]:
        """One step of student and teacher on (N, C) patches (eq. 1 to 8) -> loss, mean pairwise and mean contextual
        similarity.
        """
        at = self.settings
        weights, distances = (pairs[: len(p)] for pairs in self.pairs)
        teacher, student = self.project(p)
        means = similarity(teacher, at.sigma, at.k, at.alpha, weights, at.sigma_unit, self.pool)
        loss, dz = relaxed_contrastive_loss(student, weights, at.margin, distances, self.pool)
        self.find_gradients(p, dz)
        for parameter in self.learnt:
            parameter.move(rates, at.gamma, self.pool)
        return loss, *means

    def project(self, p: Floats) -> tuple[Floats, Floats]:
        """(N, C) patches -> (N, D) projections g(f(p)) of the teacher and of the student, without their means.

        The products of both layers are formed first, as in `training.project`, and applied at once. The means change no
        distance; without them, rounding errors are smaller.
        """
        dim, z = self.settings.projection_dim, self.z[: len(p)]
        shifts = []
        for layer, who in zip(self.layers, ("teacher", "student"), strict=True):
            f, f_bias, g, g_bias = (getattr(parameter, who) for parameter in self.parameters)
            self._multiply(g, f, layer)
            shifts.append(f_bias[0] @ g.T + g_bias[0])
        both = self.layers.reshape(2 * dim, -1)
        by_rows(lambda first, last: np.matmul(p[first:last], both.T, out=z[first:last]), len(p), self.pool)
        z += np.concatenate(shifts)
        if self.settings.teacher_norm:
            z[:, :dim] /= np.maximum(np.linalg.norm(z[:, :dim], axis=1, keepdims=True), SHORTEST)
        z -= z.mean(0)
        return z[:, :dim], z[:, dim:]

    def find_gradients(self, p: Floats, dz: Floats) -> None:
        """((N, C) patches, dL/dz (N, D)) -> the gradients of all parameters, as `training.gradients` has them."""
        f, f_bias, g, g_bias = self.parameters
        dw = self.layers[0]  # no longer needed
        self._multiply(dz.T, p, dw)
        g_bias.gradient[0] = dz.sum(0)
        self._multiply(g.student.T, dw, f.gradient)
        f_bias.gradient[0] = g_bias.gradient[0] @ g.student
        self._multiply(dw, f.student.T, g.gradient)
        g.gradient += np.outer(g_bias.gradient[0], f_bias.student[0])

    def _multiply(self, a: Floats, b: Floats, out: Floats) -> None:
        """((N, K), (K, M)) -> their product in `out` (N, M), by blocks of its columns."""
        columns = b.shape[1]
        by_rows(lambda first, last: np.matmul(a, b[:, first:last], out=out[:, first:last]), columns, self.pool)
