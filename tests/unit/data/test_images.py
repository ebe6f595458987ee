import numpy as np
import pytest
import torchvision.transforms as T
from drawing import write_mask
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from PIL import Image

from reconpatch.data.augmentation import Augmentation, augment_image
from reconpatch.data.images import (
    ASPECTS,
    INTERPOLATIONS,
    LONGEST,
    image_array,
    mask_array,
    read_masks,
    view,
)
from reconpatch.data.layouts import Item, Mask
from reconpatch.errors import ReconpatchError

SIDES = st.integers(1, 90)
SQUARES = st.tuples(st.integers(1, 40), st.integers(0, 15))  # size, by how much resize is more
RULES = st.sampled_from(ASPECTS)


def seen_in(width: int, height: int, square: tuple[int, int], aspect: str):
    """As `view`, without the images that are too long for `keep`."""
    assume(aspect != "keep" or max(width, height) <= LONGEST * min(width, height))
    return view(width, height, size=square[0], resize=sum(square), aspect=aspect)


def draw(width: int, height: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(width).integers(0, 256, (height, width, 3)).astype(np.uint8))


@settings(max_examples=60)
@given(SIDES, SIDES, SQUARES | st.just((224, 32)), st.sampled_from(sorted(INTERPOLATIONS)))
def test_crop_is_torchvisions_resize_and_centre_crop(width, height, square, interpolation) -> None:
    size, resize = square[0], sum(square)
    image = draw(width, height)
    got = view(width, height, size=size, resize=resize).framed(image, interpolation)
    mode = T.InterpolationMode[interpolation.upper()]
    reference = T.Compose([T.Resize(resize, mode), T.CenterCrop(size)])(image)
    assert got.shape == (size, size, 3) and got.dtype == np.uint8
    np.testing.assert_array_equal(got, np.asarray(reference))


@settings(max_examples=40)
@given(SIDES, SIDES, st.integers(1, 40))
def test_stretch_is_a_plain_resize(width, height, size) -> None:
    image = draw(width, height)
    seen = view(width, height, size=size, resize=size, aspect="stretch")
    np.testing.assert_array_equal(seen.framed(image, "bilinear"), np.asarray(image.resize((size, size), 2)))
    assert seen.seen() == 1 and seen.content((7, 7)).all()


@settings(max_examples=40)
@given(SIDES, SIDES, st.integers(17, 60))
def test_keep_is_a_plain_resize_to_nearly_the_shape_of_the_image(width, height, size) -> None:
    """The shorter side has the size, the longer one a multiple of 32 px more; it is at most 16 px too long or short."""
    image = draw(width, height)
    seen = seen_in(width, height, (size, 0), "keep")
    short, long = sorted(seen.frame)
    assert short == size and (long - size) % 32 == 0 and (width - height) * (seen.frame[0] - seen.frame[1]) >= 0
    assert abs(long - size * max(width, height) / min(width, height)) <= 16
    np.testing.assert_array_equal(seen.framed(image, "bilinear"), np.asarray(image.resize(seen.frame, 2)))
    assert seen.seen() == 1 and seen.content((5, 9)).all()


@given(SIDES, st.integers(1, 40))
def test_all_but_crop_see_a_square_alike(side, size) -> None:
    image = draw(side, side)
    views = [view(side, side, size=size, aspect=aspect) for aspect in ("keep", "stretch", "pad")]
    one, *others = (seen.framed(image, "bilinear").tobytes() for seen in views)
    assert one == others[0] == others[1] and len(set(views)) == 1


def test_images_too_long_to_keep_their_shape_are_refused() -> None:
    assert view(100, 10, size=32, aspect="keep").frame == (320, 32)
    for width, height in [(101, 10), (10, 101), (5000, 100)]:
        with pytest.raises(ReconpatchError, match=f"{width} x {height} px, more than 10 times.*stretch"):
            view(width, height, size=32, aspect="keep")


@settings(max_examples=40)
@given(SIDES, SIDES, st.integers(1, 40))
def test_pad_repeats_the_edge_around_the_whole_image(width, height, size) -> None:
    """Against numpy's padding of the longer side brought to the square's."""
    image = draw(width, height)
    seen = view(width, height, size=size, resize=size, aspect="pad")
    inner = [max(1, round(size * side / max(width, height))) for side in (width, height)]
    scaled = np.asarray(image.resize(inner, Image.Resampling.BILINEAR) if tuple(inner) != image.size else image)
    around = [(-(-missing // 2), missing // 2) for missing in (size - inner[1], size - inner[0])]
    np.testing.assert_array_equal(seen.framed(image, "bilinear"), np.pad(scaled, [*around, (0, 0)], "edge"))
    assert seen.seen() == 1


@settings(max_examples=40)
@given(SIDES, SIDES, SQUARES, RULES, st.integers(1, 12))
@example(width=1, height=7, square=(16, 0), aspect="pad", side=8)  # the middle of the image lies between two cells
def test_content_counts_cells_whose_centre_is_on_the_image(width, height, square, aspect, side) -> None:
    seen = seen_in(width, height, square, aspect)
    got = seen.content((side, side + 1))
    on = np.zeros((side, side + 1), bool)
    for row in range(side):
        for column in range(side + 1):
            x, y = (column + 0.5) * seen.frame[0] / (side + 1), (row + 0.5) * seen.frame[1] / side
            inside = 0 <= x + seen.offset[0] < seen.scaled[0], 0 <= y + seen.offset[1] < seen.scaled[1]
            on[row, column] = all(inside)
    if on.any(0).any() and on.any(1).any():
        np.testing.assert_array_equal(got, on)
    assert got.any() and (aspect == "pad" or got.all())


def back_by_loop(seen, square: np.ndarray, width: int, height: int) -> np.ndarray:
    """One pixel of the image at a time: its centre in the square, between the centres of the four around it."""
    out = np.full((height, width), np.nan)
    for row in range(height):
        for column in range(width):
            x = (column + 0.5) * seen.scaled[0] / width - seen.offset[0]
            y = (row + 0.5) * seen.scaled[1] / height - seen.offset[1]
            if not (0 <= x < seen.frame[0] and 0 <= y < seen.frame[1]):
                continue
            own = seen.content(seen.shape)
            high, wide = np.flatnonzero(own.any(1)), np.flatnonzero(own.any(0))
            i, j = (min(max(v - 0.5, at[0]), at[-1]) for v, at in ((y, high), (x, wide)))
            i0, j0 = int(i), int(j)
            i1, j1 = min(i0 + 1, seen.shape[0] - 1), min(j0 + 1, seen.shape[1] - 1)
            upper = square[i0, j0] * (1 - (j - j0)) + square[i0, j1] * (j - j0)
            lower = square[i1, j0] * (1 - (j - j0)) + square[i1, j1] * (j - j0)
            out[row, column] = upper * (1 - (i - i0)) + lower * (i - i0)
    return out


@settings(max_examples=30)
@given(st.integers(1, 40), st.integers(1, 40), st.tuples(st.integers(1, 20), st.integers(0, 8)), RULES, st.data())
def test_back_against_a_loop(width, height, square, aspect, data) -> None:
    seen = seen_in(width, height, square, aspect)
    values = np.random.default_rng(width).random(seen.shape, np.float32)
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


@settings(max_examples=40)
@given(SIDES, SIDES, SQUARES, RULES, st.floats(0, 1), st.floats(0, 1))
def test_a_point_found_in_the_square_is_taken_back(width, height, square, aspect, across, down) -> None:
    seen = seen_in(width, height, square, aspect)
    x, y = across * width, down * height
    in_square = x * seen.scaled[0] / width - seen.offset[0], y * seen.scaled[1] / height - seen.offset[1]
    assert seen.point(*in_square) == pytest.approx((x, y), abs=1e-6)
    column, row = seen.point(1000 * across - 500, 1000 * down - 500)
    assert 0 <= column <= width and 0 <= row <= height


@settings(max_examples=30)
@given(st.integers(20, 70), st.integers(20, 70), st.integers(16, 40), st.integers(8, 16))
def test_official_masks_are_the_official_codes(tmp_path_factory, width, height, resize, crop) -> None:
    """Resize, CenterCrop, ToTensor on the PIL image, then `astype(int)`: only 1.0 stays 1."""
    rng = np.random.default_rng(width)
    values = rng.choice([0, 1, 128, 254, 255], (height // 6 + 1, width // 6 + 1)).astype(np.uint8)
    image = Image.fromarray(values.repeat(6, 0).repeat(6, 1))
    path = tmp_path_factory.mktemp("mask") / "m.png"
    image.save(path)
    official = T.Compose([T.Resize(resize), T.CenterCrop(crop), T.ToTensor()])(image)[0].numpy().astype(int)
    got = mask_array(path, resize, crop, "official")
    assert np.array_equal(got, official == 1) and not (got & ~mask_array(path, resize, crop)).any()


def test_augmentation_comes_between_resize_and_crop(tmp_path, rng) -> None:
    """So a shift shows real pixels from beyond the crop."""
    picture = Image.fromarray(rng.integers(0, 256, (50, 70, 3)).astype(np.uint8))
    picture.save(tmp_path / "i.png")
    change = Augmentation(8, (0.03, 0.02), 1.1, 0.9, 0.7)
    resized = augment_image(np.asarray(T.Resize(36)(picture)), change)
    expected = np.asarray(T.CenterCrop(32)(Image.fromarray(resized)))
    assert np.array_equal(image_array(tmp_path / "i.png", 36, 32, "bilinear", change), expected)
    unchanged = image_array(tmp_path / "i.png", 36, 32, "bilinear", Augmentation())
    assert np.array_equal(unchanged, image_array(tmp_path / "i.png", 36, 32, "bilinear"))


@pytest.mark.parametrize("rule", ["any", "official"])
def test_masks_are_read_by_their_rule_and_move_with_their_own_image(rule, tmp_path) -> None:
    moves = [None, Augmentation(shift=(0.25, 0)), Augmentation(angle=90), Augmentation(angle=20)]
    paths = [tmp_path / f"{n}.png" for n in range(3)]
    for path in paths:
        write_mask(path, (40, 40), (10, 8, 25, 19))
    items = [Item("i", "test", 1, "cut", (Mask(path.name),)) for path in paths] + [Item("i", "test", 0, "good")]
    masks, defects = read_masks(items, tmp_path, (32, 32), 36, 32, rule, 2, moves)
    assert masks.shape == (4, 32, 32) and masks[0].any() and not masks[3].any()
    assert {name: len(array) for name, array in defects.items()} == {"image": 0, "mask": 0, "saturation": 0}
    for mask, path, move in zip(masks[:3], paths, moves[:3], strict=True):
        assert np.array_equal(mask, mask_array(path, 36, 32, rule, move))
    # Resized to 36 px (by 0.9) and cropped to 32: a quarter of the width is 9 px to the right.
    assert np.array_equal(masks[1][:, 9:], masks[0][:, :-9])
    assert np.array_equal(masks[2], np.rot90(masks[0]))


def test_masks_keep_the_shape_of_their_images(tmp_path) -> None:
    """A mark of 10 px at the right end of 100x50 px lies in the last tenth of 64 px."""
    write_mask(tmp_path / "m.png", (100, 50), (90, 0, 100, 50))
    item = Item("i", "test", 1, "cut", (Mask("m.png"),))
    (mask,), _ = read_masks([item], tmp_path, (32, 64), None, 32, "any", 1, [None], "keep")
    assert mask.shape == (32, 64) and not mask[:, :57].any() and mask[:, 58:].all()


@pytest.mark.parametrize(("aspect", "times"), [("crop", 4), ("pad", 2), ("stretch", 2), ("keep", 3.92)])
def test_how_far_an_image_is_enlarged(aspect, times) -> None:
    """Of 100x50 px: `crop` brings the 50 to 200 px, `pad` the 100; `stretch` brings both there; `keep` brings the
    50 to 200 px and the 100 to 392, 6 times 32 px more.
    """
    assert view(100, 50, size=200, resize=200, aspect=aspect).enlargement() == times
