"""Reading rows of an array that may be a memory map of a file larger than memory.

Whatever is touched of a memory map stays resident: soon the whole file. Above RESIDENT bytes rows are read instead.
"""

import mmap
import os
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reconpatch.errors import ReconpatchError

RESIDENT = 2**32  # bytes of a memory map that may become resident; reading a row costs more than touching one


def gather(patches: NDArray[Any], chosen: NDArray[np.int64], resident: int = RESIDENT) -> NDArray[Any]:
    """((N, C), (M,) indices from 0, best ascending) -> (M, C): these rows, the caller's own.

    Raises ReconpatchError where the file of a memory map ends too early, IndexError for an index outside 0..N - 1.
    """
    start = position(patches) if patches.nbytes > resident else None
    if start is None or not len(chosen):
        return np.asarray(patches[chosen])
    if chosen.min() < 0 or chosen.max() >= len(patches):
        raise IndexError(f"rows {chosen.min()} to {chosen.max()} wanted of {len(patches)}")
    rows = np.empty((len(chosen), patches.shape[1]), patches.dtype)
    into, size = memoryview(rows.data).cast("B"), rows[0].nbytes
    path = os.fspath(patches.filename)  # type: ignore[attr-defined]
    file = os.open(path, os.O_RDONLY)
    try:
        # One call per row: random rows are seldom neighbours.
        for i, place in enumerate((start + chosen * patches.strides[0]).tolist()):
            if os.preadv(file, [into[i * size : (i + 1) * size]], place) != size:
                raise ReconpatchError(f"{path} ends too early: remove it and run again")
    finally:
        os.close(file)
    return rows


def part(patches: NDArray[Any], rows: slice, resident: int = RESIDENT) -> NDArray[Any]:
    """((N, C), which rows) -> (M, C): these rows, to be read only. Raises what `gather` raises for a file."""
    chosen = patches[rows]
    start = position(chosen) if patches.nbytes > resident and chosen.flags.c_contiguous else None
    if start is None:
        return np.asarray(chosen)
    path = os.fspath(patches.filename)  # type: ignore[attr-defined]
    values = np.fromfile(path, chosen.dtype, chosen.size, offset=start)
    if values.size != chosen.size:
        raise ReconpatchError(f"{path} ends too early: remove it and run again")
    return values.reshape(chosen.shape)


def position(patches: NDArray[Any]) -> int | None:
    """(N, C) -> where in its file the first row is, in bytes; None unless the rows can be read from a file.

    They cannot where it is no memory map (or one whose changes stay private), rows have gaps, or the system has no
    reading at a place.
    """
    if not isinstance(patches, np.memmap) or patches.mode == "c" or not hasattr(os, "preadv"):
        return None
    owner: Any = patches
    while isinstance(owner, np.ndarray):
        owner = owner.base
    if not isinstance(owner, mmap.mmap) or patches.filename is None:
        return None
    if patches.ndim != 2 or patches.strides[1] != patches.itemsize:
        return None
    mapped_from = patches.offset - patches.offset % mmap.ALLOCATIONGRANULARITY
    return int(mapped_from + patches.ctypes.data - np.frombuffer(owner, np.uint8).ctypes.data)
