"""Which patches each step of a training takes: groups of patches, all together or of one image each, in batches."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def count_batches(patches: int, batch: float) -> int:
    """Patches of a group, wanted size -> number of its batches, of nearly equal size, about the wanted one."""
    return max(1, round(patches / batch))


def batch_sizes(groups: Sequence[int], batch: int) -> tuple[int, int]:
    """Patches of each group, wanted size -> (smallest, largest) size of a batch."""
    counts = [count_batches(patches, batch) for patches in groups]
    sizes = list(zip(groups, counts, strict=True))
    return min(patches // count for patches, count in sizes), max(-(-patches // count) for patches, count in sizes)


def draw_batches(rng: np.random.Generator, groups: Sequence[int], batch: int) -> list[NDArray[np.int64]]:
    """Generator, patches of each group, wanted size -> the rows of every batch of an epoch, each ascending.

    The rows of a group follow those of the group before it. Groups come in random order, and the patches of a group are
    shuffled and split. The loss does not depend on the order of a batch; reading from disk is faster in order.
    """
    starts = np.cumsum([0, *groups])
    order: list[NDArray[np.int64]] = []
    for group in rng.permutation(len(groups)):
        rows = starts[group] + rng.permutation(groups[group])
        order += np.array_split(rows, count_batches(groups[group], batch))
    return [np.sort(rows) for rows in order]
