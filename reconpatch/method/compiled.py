"""Loops over arrays that are compiled at their first call."""

from collections.abc import Callable
from typing import Any, TypeVar, cast

from numba import njit

F = TypeVar("F", bound=Callable[..., Any])
REASSOCIATE = {"reassoc", "contract", "nsz"}  # lets loops vectorise; NaN and infinity keep their meaning


def compiled(loop: F) -> F:
    """A function of arrays and numbers -> the same, compiled. Other threads run at the same time.

    The compiled code is kept until the file of the function changes. So constants of other files must be arguments, and
    after a change in this file the caches must be removed (`__pycache__`).
    """
    return cast("F", njit(nogil=True, fastmath=REASSOCIATE, cache=True, error_model="numpy")(loop))
