"""Building the memory bank: represent every training patch, select the coreset, keep its representations."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reconpatch.method.coreset import greedy_order, random_projection
from reconpatch.method.memory_bank import MemoryBank, Representation, batches, coreset_size
from reconpatch.method.stored import gather, part
from reconpatch.rng import stream


def build_bank(
    patches: NDArray[Any],
    representation: Representation,
    *,
    ratio: float,
    coreset_dim: int,
    seed: int,
    threads: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> MemoryBank:
    """(N, C) patches of normal images, possibly a memory map -> memory bank of N * ratio rows.

    Greedy k-centre runs on a random projection of the representations, from a random first patch; both come from the
    seed. Only the projected patches, (N, coreset_dim) float32, are held at once.
    """
    wanted = coreset_size(len(patches), ratio)
    matrix = random_projection(representation.dim, coreset_dim, seed)
    projected = np.empty((len(patches), min(representation.dim, coreset_dim)), np.float32)
    for rows in batches(patches):
        r = representation(part(patches, rows))
        projected[rows] = r if matrix is None else r @ matrix
    first = int(stream(seed, "coreset/first").integers(len(patches)))
    order = greedy_order(projected, wanted, first, threads, progress)
    del projected
    kept = np.empty((wanted, representation.dim), np.float32)
    by_place = np.argsort(order)  # read in the order of the file, stored in the order picked
    for rows in batches(by_place):
        kept[by_place[rows]] = representation(gather(patches, order[by_place[rows]]))
    return MemoryBank(kept, order, representation, len(patches))
