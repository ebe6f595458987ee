"""Files of patch features: writes their header, and reads rows of files that may be larger than the memory.

Every page of a memory map that is read stays in memory, so after a while the whole file is in memory. Rows of an array
of more than RESIDENT bytes are therefore read from its file.
"""

import mmap
import os
from typing import Any, BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from reconpatch.errors import ReconpatchError

CHUNK = 65536  # patches that are read and represented at a time
PAIRS = 2**26  # distances that a search on a GPU computes at a time: 256 MB
RESIDENT = 2**32  # bytes of a memory map that may stay in memory: reading a row from a file takes longer


def write_header(file: BinaryIO, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    """Begin an .npy file of an array of this shape and type; the caller writes its values after it, in C order."""
    described = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, described)


def batches(patches: NDArray[Any], rows: int = CHUNK) -> list[slice]:
    """Slices over the rows of an array, `rows` each, that bound the memory of working on one."""
    return [slice(i, i + rows) for i in range(0, len(patches), rows)]


def read_rows(patches: NDArray[Any], chosen: NDArray[np.int64], resident: int = RESIDENT) -> NDArray[Any]:
    """((N, C), (M,) indices from 0, fastest in ascending order) -> (M, C): a copy of these rows.

    Raises ReconpatchError if the file of a memory map ends too early, IndexError for an index outside 0..N - 1.
    """
    start = file_offset(patches) if patches.nbytes > resident else None
    if start is None or not len(chosen):
        return np.asarray(patches[chosen])
    if chosen.min() < 0 or chosen.max() >= len(patches):
        raise IndexError(f"rows {chosen.min()} to {chosen.max()} wanted of {len(patches)}")
    rows = np.empty((len(chosen), patches.shape[1]), patches.dtype)
    into, size = memoryview(rows.data).cast("B"), rows[0].nbytes
    path = str(cast("np.memmap[Any, Any]", patches).filename)
    file = os.open(path, os.O_RDONLY)
    try:
        # One call per row: random rows are seldom neighbours.
        for i, offset in enumerate((start + chosen * patches.strides[0]).tolist()):
            if os.preadv(file, [into[i * size : (i + 1) * size]], offset) != size:
                raise _ends_early(path)
    finally:
        os.close(file)
    return rows


def read_slice(patches: NDArray[Any], rows: slice, resident: int = RESIDENT) -> NDArray[Any]:
    """((N, C), slice of M rows) -> (M, C): these rows, not to be written to. Raises as `read_rows` does."""
    chosen = patches[rows]
    start = file_offset(chosen) if patches.nbytes > resident and chosen.flags.c_contiguous else None
    if start is None:
        return np.asarray(chosen)
    path = str(cast("np.memmap[Any, Any]", patches).filename)
    values = np.fromfile(path, chosen.dtype, chosen.size, offset=start)
    if values.size != chosen.size:
        raise _ends_early(path)
    return values.reshape(chosen.shape)


def file_offset(patches: NDArray[Any]) -> int | None:
    """(N, C) -> the offset in bytes of the first row in its file; None if the rows cannot be read from a file.

    They cannot if the array is no memory map (or one whose changes stay private), if rows have gaps, or if the system
    cannot read at an offset.
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


def _ends_early(path: str) -> ReconpatchError:
    return ReconpatchError("the file ends too early", where=path, fix="remove it and run the same command again")
