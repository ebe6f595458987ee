"""Work on the rows of a matrix that threads share: fixed blocks, so that the bytes do not depend on the threads."""

from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any, TypeVar, cast

from numba import njit

F = TypeVar("F", bound=Callable[..., Any])
BLOCK = 256  # rows of a block
REASSOCIATE = {"reassoc", "contract", "nsz"}  # lets loops vectorise; NaN and infinity keep their meaning


def compiled(loop: F) -> F:
    """A loop over rows -> the same, compiled. Other threads run at the same time."""
    return cast("F", njit(nogil=True, fastmath=REASSOCIATE, cache=True, error_model="numpy")(loop))


def by_rows(work: Callable[[int, int], object], n: int, pool: Executor | None = None) -> None:
    """Call work(first, last) for every block of 0..n: on the threads of `pool`, or one block after the other."""
    starts = range(0, n, BLOCK)
    ends = [min(n, start + BLOCK) for start in starts]
    for _ in (pool.map if pool and len(starts) > 1 else map)(work, starts, ends):
        pass
