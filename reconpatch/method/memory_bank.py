"""The memory bank: what represents a patch, and the coreset of represented training patches."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.numpy import save_file

from reconpatch.errors import ReconpatchError
from reconpatch.method.feature_files import batches, read_rows, read_slice
from reconpatch.method.initialisation import first_layer
from reconpatch.rng import named_rng


@dataclass(frozen=True)
class Representation:
    """patch (C) -> representation (D): the linear f of ReConPatch, or PatchCore's pooling of neighbouring channels."""

    dim: int
    weight: NDArray[np.float32] | None = None  # (D, C); None pools
    bias: NDArray[np.float32] | None = None

    @staticmethod
    def untrained(
        patches: NDArray[Any], dim: int, seed: int, init: str = "uniform", bias: bool = True
    ) -> "Representation":
        """(N, C) patches, D, seed -> f as the training with this seed begins, the control of what training brings.

        `init`, `bias` and errors are those of `first_layer`.
        """
        return Representation(dim, *first_layer(named_rng(seed, "training"), patches, dim, init, bias))

    def __call__(self, patches: NDArray[Any]) -> NDArray[np.float32]:
        """(N, C) -> (N, D) float32. Raises ReconpatchError when C cannot be pooled to D evenly."""
        patches = patches.astype(np.float32)
        if self.weight is not None and self.bias is not None:
            r = patches @ self.weight.T
            r += self.bias
            return np.asarray(r, np.float32)
        n, c = patches.shape
        if c % self.dim:
            raise ReconpatchError(f"{c} channels cannot be pooled evenly to {self.dim}: extract features of that width")
        width = c // self.dim
        while width % 2 == 0:  # pairs first: numpy averages a short last axis one value at a time
            patches, width = patches[:, ::2] + patches[:, 1::2], width // 2
        if width > 1:
            patches = patches.reshape(n, self.dim, width).sum(2)
        return patches if c == self.dim else np.asarray(patches / np.float32(c // self.dim))


def coreset_size(n: int, ratio: float) -> int:
    """(patches, ratio in (0, 1]) -> patches kept: rounded down as the official PatchCore does, but at least 1.

    Raises ReconpatchError for a ratio outside (0, 1].
    """
    if not 0 < ratio <= 1:
        raise ReconpatchError(f"coreset ratio {ratio}: must be above 0 and at most 1")
    return max(1, int(n * ratio))


@dataclass(frozen=True)
class MemoryBank:
    """Coreset (M, D) in the order picked, with the representation that made it. The first n rows are a coreset too."""

    patches: NDArray[np.float32]
    order: NDArray[np.int64]  # (M,) which training patch each row is
    representation: Representation
    training_patches: int

    def first(self, n: int) -> "MemoryBank":
        """The coreset of size n. Raises ReconpatchError when the bank is smaller."""
        if n > len(self.patches):
            raise ReconpatchError(f"memory bank of {len(self.patches)} patches cannot give {n}")
        return MemoryBank(self.patches[:n], self.order[:n], self.representation, self.training_patches)

    def save(self, file: Path) -> None:
        """Write safetensors: the bank, f if there is one, and a JSON header."""
        tensors: dict[str, NDArray[Any]] = {"memory_bank": self.patches, "order": self.order}
        if self.representation.weight is not None and self.representation.bias is not None:
            tensors |= {"f.weight": self.representation.weight, "f.bias": self.representation.bias}
        header = {"dim": self.representation.dim, "training_patches": self.training_patches}
        save_file(tensors, file, metadata={"reconpatch": json.dumps(header)})

    @staticmethod
    def load(file: Path) -> "MemoryBank":
        """Read what `save` wrote. Raises ReconpatchError naming the file when it is something else."""
        try:
            with safe_open(file, "numpy") as content:
                header = json.loads(content.metadata()["reconpatch"])
                tensors = {k: content.get_tensor(k) for k in content.keys()}  # noqa: SIM118, no mapping
            f = Representation(header["dim"], tensors.get("f.weight"), tensors.get("f.bias"))
            bank = MemoryBank(tensors["memory_bank"], tensors["order"], f, header["training_patches"])
            bank._check()
            return bank
        except Exception as error:  # safetensors raises classes of its own
            raise ReconpatchError(f"{file}: not a memory bank ({type(error).__name__}: {error})") from None

    def _check(self) -> None:
        """Raise ValueError where the parts do not belong together or hold what `build_bank` cannot have made."""
        f, size = self.representation, self.order.size
        if type(f.dim) is not int or type(self.training_patches) is not int or not 1 <= size <= self.training_patches:
            raise ValueError(f"{size} rows of {self.training_patches} patches, {f.dim} values each")
        if self.order.shape != (size,) or self.order.dtype != np.int64:
            raise ValueError(f"order is {self.order.dtype} {self.order.shape}, not int64 ({size},)")
        if not ((self.order >= 0) & (self.order < self.training_patches)).all():
            raise ValueError(f"order holds rows outside the {self.training_patches} training patches")
        parts: dict[str, tuple[NDArray[Any] | None, tuple[int, ...]]] = {"memory_bank": (self.patches, (size, f.dim))}
        if f.weight is not None or f.bias is not None:
            inputs = 0 if f.weight is None else f.weight.shape[-1]
            parts |= {"f.weight": (f.weight, (f.dim, inputs)), "f.bias": (f.bias, (f.dim,))}
        for name, (values, shape) in parts.items():
            if values is None or values.shape != shape or values.dtype != np.float32 or not np.isfinite(values).all():
                what = "missing" if values is None else f"{values.dtype} {values.shape}"
                raise ValueError(f"{name} is {what}, not finite float32 {shape}")


def build_bank(
    patches: NDArray[Any],
    representation: Representation,
    *,
    ratio: float,
    coreset_dim: int,
    seed: int,
    among: NDArray[np.int64] | None = None,
    threads: int = 1,
    device: str = "cpu",
    progress: Callable[[int, int], None] | None = None,
) -> MemoryBank:
    """(N, C) patches of normal images, possibly a memory map -> memory bank of N * ratio rows.

    `among` (n,) are the rows that the bank is made of, ascending, by default all; it has n * ratio rows then. Greedy
    k-centre runs on a random projection of the representations and starts from a random patch. Both are drawn from the
    seed. Only the projected patches, (n, coreset_dim) float32, are in memory as a whole. `device` selects the coreset.
    """
    # numba, which scoring does without
    from reconpatch.method.coreset import greedy_order, greedy_order_on_device, random_projection

    n = len(patches) if among is None else len(among)
    wanted = coreset_size(n, ratio)
    matrix = random_projection(representation.dim, coreset_dim, seed)
    projected = np.empty((n, min(representation.dim, coreset_dim)), np.float32)
    for rows in batches(projected):
        r = representation(read_slice(patches, rows) if among is None else read_rows(patches, among[rows]))
        projected[rows] = r if matrix is None else r @ matrix
    first = int(named_rng(seed, "coreset/first").integers(n))
    if device == "cpu":
        order = greedy_order(projected, wanted, first, threads, progress)
    else:
        order = greedy_order_on_device(projected, wanted, first, device, progress)
    del projected
    order = order if among is None else among[order]
    kept = np.empty((wanted, representation.dim), np.float32)
    by_index = np.argsort(order)  # read in the order of the file, stored in the order picked
    for rows in batches(by_index):
        kept[by_index[rows]] = representation(read_rows(patches, order[by_index[rows]]))
    return MemoryBank(kept, order, representation, len(patches))
