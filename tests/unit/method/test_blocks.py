import torch
from hypothesis import given
from hypothesis import strategies as st

from reconpatch.method.loss import row_blocks


@given(st.integers(1, 50), st.integers(1, 50), st.integers(1, 3000))
def test_blocks_cover_all_rows_once_and_are_small(n, m, elements) -> None:
    parts = list(row_blocks(torch.empty(n, m), elements))
    assert [i for part in parts for i in range(part.start, part.stop)] == list(range(n))
    assert all(part.stop - part.start == 1 or (part.stop - part.start) * m <= elements for part in parts)


def test_an_accelerator_gets_all_rows_at_once() -> None:
    assert list(row_blocks(torch.empty(7, 5, device="meta"), 5)) == [slice(0, 7)]


def test_a_vector_is_cut_too() -> None:
    assert list(row_blocks(torch.empty(7), 3)) == [slice(0, 3), slice(3, 6), slice(6, 7)]
