import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconpatch.errors import ReconpatchError
from reconpatch.method.feature_files import file_offset, read_rows, read_slice


@pytest.fixture
def patches(rng) -> np.ndarray:
    return rng.standard_normal((40, 6)).astype(np.float16)


@pytest.fixture
def mapped(patches, tmp_path) -> np.ndarray:
    np.save(tmp_path / "p.npy", patches)
    return np.load(tmp_path / "p.npy", mmap_mode="r")


VIEWS = [
    lambda p: p,
    lambda p: p[7:31],
    lambda p: p[3::2],
    lambda p: p[:, ::2],
    lambda p: p.reshape(8, 30)[1:, 6:24],
    lambda p: p.T,
    lambda p: p[5:5],
]


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("resident", [0, 2**30])
def test_rows_are_those_of_the_array(view, resident, patches, mapped, rng) -> None:
    """Of an array and of a memory map, read or mapped, contiguous or not."""
    expected = view(patches)
    for source in (expected, view(mapped)):
        for chosen in (np.sort(rng.permutation(len(expected))[:9]), rng.permutation(len(expected)), np.arange(0)):
            got = read_rows(source, chosen, resident)
            assert type(got) is np.ndarray and got.dtype == np.float16 and got.flags.writeable
            assert np.array_equal(got, expected[chosen])
        for rows in (slice(0, 5), slice(3, 4), slice(4, 100), slice(0), slice(1, None, 2), slice(None)):
            got = read_slice(source, rows, resident)
            assert type(got) is np.ndarray and got.dtype == np.float16 and np.array_equal(got, expected[rows])


def test_what_is_read_from_its_file_and_what_is_not(patches, mapped, tmp_path) -> None:
    start = file_offset(mapped)
    assert start is not None and (tmp_path / "p.npy").read_bytes()[start:] == patches.tobytes()
    assert file_offset(mapped[2:]) == start + 2 * 6 * 2
    assert (
        file_offset(mapped[:, ::2]) is None and file_offset(patches) is None and file_offset(np.asarray(mapped)) is None
    )
    assert file_offset(np.load(tmp_path / "p.npy", mmap_mode="c")) is None  # changes never reach the file


@given(st.integers(0, 100_000))
def test_a_map_that_starts_far_into_its_file(tmp_path_factory, offset) -> None:
    """The system maps whole pages, so the map starts before the array does."""
    path = tmp_path_factory.mktemp("far") / "raw"
    path.write_bytes(bytes(offset) + np.arange(12, dtype=np.float32).tobytes())
    values = np.memmap(path, np.float32, "r", offset, (4, 3))
    assert file_offset(values) == offset
    assert read_rows(values, np.array([1, 3]), 0).tolist() == [[3, 4, 5], [9, 10, 11]]


def test_rows_that_are_not_there(mapped, tmp_path) -> None:
    for chosen in ([-1], [40]):
        with pytest.raises(IndexError):
            read_rows(mapped, np.array(chosen), 0)
    size = (tmp_path / "p.npy").stat().st_size
    with open(tmp_path / "p.npy", "r+b") as file:
        file.truncate(size - 20)
    with pytest.raises(ReconpatchError, match="ends too early") as error:
        read_rows(mapped, np.array([0, 39]), 0)
    assert error.value.where == str(tmp_path / "p.npy")
