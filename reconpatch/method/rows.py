"""Work on the rows of a matrix that threads share: fixed blocks, so that the bytes do not depend on the threads."""

from collections.abc import Callable
from concurrent.futures import Executor

BLOCK_ROWS = 256  # rows of a block


def by_rows(work: Callable[[int, int], object], n: int, pool: Executor | None = None) -> None:
    """Call work(first, last) for every block of 0..n: on the threads of `pool`, or one block after the other."""
    starts = range(0, n, BLOCK_ROWS)
    ends = [min(n, start + BLOCK_ROWS) for start in starts]
    for _ in (pool.map if pool and len(starts) > 1 else map)(work, starts, ends):
        pass
