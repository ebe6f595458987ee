"""Blocks of rows small enough that several passes over one stay in the processor's cache."""

from collections.abc import Iterator

from torch import Tensor

ELEMENTS = 2**17  # of a block: three float32 blocks of this size fit into 2 MB


def row_blocks(matrix: Tensor, elements: int = ELEMENTS) -> Iterator[slice]:
    """(N, M) -> slices of rows that cover 0..N in order, each of about `elements` values and at least one row.

    An accelerator gets all rows at once: there a pass is bound by the number of calls.
    """
    n = len(matrix)
    rows = max(1, elements // max(1, matrix[0].numel())) if matrix.device.type == "cpu" else n
    for start in range(0, n, rows):
        yield slice(start, min(n, start + rows))
