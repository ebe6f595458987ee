import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from reconpatch.data.geometry import ASPECTS, default_resize, view
from reconpatch.data.images import INTERPOLATIONS, resize_crop
from reconpatch.errors import ReconpatchError

SIDES = st.integers(1, 90)
SQUARES = st.tuples(st.integers(1, 40), st.integers(0, 15))  # size, by how much resize is more
RULES = st.sampled_from(ASPECTS)


def draw(width: int, height: int, seed: int = 0) -> Image.Image:
    rng = np.random.default_rng(seed)
    return Image.fromarray(rng.integers(0, 256, (height, width, 3)).astype(np.uint8))


@settings(max_examples=150)
@given(SIDES, SIDES, SQUARES, st.sampled_from(sorted(INTERPOLATIONS)))
def test_crop_gives_the_pixels_of_the_workflow(width, height, square, interpolation) -> None:
    size, resize = square[0], sum(square)
    image = draw(width, height)
    got = view(width, height, size=size, resize=resize, aspect="crop").square(image, interpolation)
    want = np.asarray(resize_crop(image, resize, size, interpolation))
    assert got.shape == (size, size, 3) and got.dtype == np.uint8
    np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize(
    ("width", "height"), [(1, 1), (1, 50), (50, 1), (641, 480), (480, 641), (225, 224), (223, 225)]
)
def test_crop_at_the_sizes_of_the_paper(width, height) -> None:
    image = draw(width, height)
    got = view(width, height, size=224, resize=256, aspect="crop").square(image, "bilinear")
    np.testing.assert_array_equal(got, np.asarray(resize_crop(image, 256, 224, "bilinear")))


@given(SIDES, SIDES, st.integers(1, 40))
def test_stretch_is_a_plain_resize(width, height, size) -> None:
    image = draw(width, height)
    seen = view(width, height, size=size, resize=size, aspect="stretch")
    np.testing.assert_array_equal(seen.square(image, "bilinear"), np.asarray(image.resize((size, size), 2)))
    assert seen.seen() == 1 and seen.content(7).all()


@given(SIDES, SIDES, st.integers(1, 40))
def test_pad_repeats_the_edge_around_the_whole_photograph(width, height, size) -> None:
    """Against numpy's padding of the longer side brought to the square's."""
    image = draw(width, height)
    seen = view(width, height, size=size, resize=size, aspect="pad")
    inner = [max(1, round(size * side / max(width, height))) for side in (width, height)]
    scaled = np.asarray(image.resize(inner, Image.Resampling.BILINEAR) if tuple(inner) != image.size else image)
    missing = [size - inner[1], size - inner[0]]
    around = [(-(-m // 2), m // 2) for m in missing]
    np.testing.assert_array_equal(seen.square(image, "bilinear"), np.pad(scaled, [*around, (0, 0)], "edge"))
    assert seen.seen() == 1


def pixel_of_photograph(seen, x: float, y: float) -> tuple[float, float]:
    """A place in the square, as a share of the photograph's sides: in [0, 1) where it lies on the photograph."""
    return (x + seen.offset[0]) / seen.scaled[0], (y + seen.offset[1]) / seen.scaled[1]


@given(SIDES, SIDES, SQUARES, RULES, st.integers(1, 12))
def test_content_counts_cells_whose_centre_is_on_the_photograph(width, height, square, aspect, side) -> None:
    seen = view(width, height, size=square[0], resize=sum(square), aspect=aspect)
    got = seen.content(side)
    on = np.zeros((side, side), bool)
    for row in range(side):
        for column in range(side):
            x, y = ((place + 0.5) * seen.size / side for place in (column, row))
            on[row, column] = all(0 <= share < 1 for share in pixel_of_photograph(seen, x, y))
    thin = [not on.any(axis).any() for axis in (0, 1)]
    if not any(thin):
        np.testing.assert_array_equal(got, on)
    assert got.any() and (aspect == "pad" or got.all())


@given(st.integers(1, 50), st.integers(8, 64), st.booleans())
def test_of_a_strip_narrower_than_a_cell_the_cell_around_it_counts(ratio, size, lying) -> None:
    """Else all its scores would be 0 and it would always pass."""
    width, height = (ratio * 10, 10) if lying else (10, ratio * 10)
    seen = view(width, height, size=size, resize=size, aspect="pad")
    side = max(1, size // 8)
    cells = seen.content(side)
    short = cells.any(1) if lying else cells.any(0)
    assert short.any() and (cells.any(0) if lying else cells.any(1)).all()
    for cell in np.flatnonzero(short):  # each touches the photograph
        start, stop = (cell * size / side + seen.offset[lying], (cell + 1) * size / side + seen.offset[lying])
        assert start < seen.scaled[lying] and stop > 0


@given(SIDES, SIDES, SQUARES)
def test_seen_counts_pixels(width, height, square) -> None:
    size, resize = square[0], sum(square)
    seen = view(width, height, size=size, resize=resize, aspect="crop")
    columns, rows = seen.scaled
    kept = Image.new("L", seen.scaled, 1)
    left, top = round((columns - size) / 2), round((rows - size) / 2)
    assert seen.seen() == pytest.approx(
        np.asarray(kept.crop((left, top, left + size, top + size))).sum() / columns / rows
    )


def back_by_loop(seen, square: np.ndarray, width: int, height: int) -> np.ndarray:
    """One pixel of the photograph at a time: its centre in the square, between the centres of the four around it."""
    out = np.full((height, width), np.nan)
    for row in range(height):
        for column in range(width):
            x = (column + 0.5) * seen.scaled[0] / width - seen.offset[0]
            y = (row + 0.5) * seen.scaled[1] / height - seen.offset[1]
            if not (0 <= x < seen.size and 0 <= y < seen.size):
                continue
            own = seen.content(seen.size)
            high, wide = np.flatnonzero(own.any(1)), np.flatnonzero(own.any(0))
            i, j = (min(max(v - 0.5, at[0]), at[-1]) for v, at in ((y, high), (x, wide)))
            i0, j0 = int(i), int(j)
            i1, j1 = min(i0 + 1, seen.size - 1), min(j0 + 1, seen.size - 1)
            upper = square[i0, j0] * (1 - (j - j0)) + square[i0, j1] * (j - j0)
            lower = square[i1, j0] * (1 - (j - j0)) + square[i1, j1] * (j - j0)
            out[row, column] = upper * (1 - (i - i0)) + lower * (i - i0)
    return out


@settings(max_examples=60)
@given(st.integers(1, 40), st.integers(1, 40), st.tuples(st.integers(1, 20), st.integers(0, 8)), RULES, st.data())
def test_back_against_a_loop(width, height, square, aspect, data) -> None:
    seen = view(width, height, size=square[0], resize=sum(square), aspect=aspect)
    values = np.random.default_rng(width).random((seen.size, seen.size), np.float32)
    if data.draw(st.booleans(), "at another size"):
        other = data.draw(st.integers(1, 30)), data.draw(st.integers(1, 30))
    else:
        other = width, height
    got = seen.back(values, *other)
    want = back_by_loop(seen, values, *other)
    assert got.shape == (other[1], other[0]) and got.dtype == np.float32
    np.testing.assert_array_equal(np.isnan(got), np.isnan(want))
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)
    if aspect != "crop":
        assert not np.isnan(got).any()


@given(SIDES, SIDES, SQUARES, RULES)
def test_a_linear_map_comes_back_linear(width, height, square, aspect) -> None:
    """Where the square is at least as fine as the photograph, columns of the map are columns of the photograph."""
    seen = view(width, height, size=square[0], resize=sum(square), aspect=aspect)
    across = np.tile(np.arange(seen.size, dtype=np.float32) + 0.5, (seen.size, 1))
    got = seen.back(across)
    x = (np.arange(width) + 0.5) * seen.scaled[0] / width - seen.offset[0]
    wide = np.flatnonzero(seen.content(seen.size).any(0))  # outside their centres nothing is known
    inside = (x >= wide[0] + 0.5) & (x <= wide[-1] + 0.5)
    rows = ~np.isnan(got).all(1)
    np.testing.assert_allclose(got[rows][:, inside], np.tile(x[inside], (rows.sum(), 1)), rtol=1e-4, atol=1e-3)


@given(SIDES, SIDES, SQUARES, RULES, st.floats(0, 1), st.floats(0, 1))
def test_place_and_back_agree(width, height, square, aspect, across, down) -> None:
    """A place of the photograph, found in the square and taken back, is the same within rounding."""
    seen = view(width, height, size=square[0], resize=sum(square), aspect=aspect)
    x, y = across * width, down * height
    in_square = x * seen.scaled[0] / width - seen.offset[0], y * seen.scaled[1] / height - seen.offset[1]
    assert seen.place(*in_square) == pytest.approx((x, y), abs=1e-6)


@given(SIDES, SIDES, SQUARES, RULES, st.floats(-500, 500), st.floats(-500, 500))
def test_place_stays_on_the_photograph(width, height, square, aspect, x, y) -> None:
    column, row = view(width, height, size=square[0], resize=sum(square), aspect=aspect).place(x, y)
    assert 0 <= column <= width and 0 <= row <= height


def test_resize_has_the_ratio_of_the_paper() -> None:
    assert default_resize(224) == 256 and default_resize(320) == 366 and default_resize(480) == 512


def test_another_aspect_is_named() -> None:
    with pytest.raises(ReconpatchError, match=r"'squash'.*crop, stretch, pad"):
        view(2, 3, size=4, resize=4, aspect="squash")
