import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy import ndimage

from reconpatch.data.images import ASPECTS, view
from reconpatch.detector.detector import Detection
from reconpatch.detector.overlays import (
    BAR,
    LINE,
    LONGEST,
    SHORTEST,
    UNSEEN,
    WIDEST_TEXT,
    Scale,
    defect_mask,
    map_scale,
    overlay,
)


def drawn(width: int, height: int) -> Image.Image:
    """A photograph that holds no pure white, the colour of lines."""
    rng = np.random.default_rng(width)
    return Image.fromarray(rng.integers(0, 200, (height, width, 3)).astype(np.uint8))


def detection(width: int, height: int, aspect: str, size: int = 24, seed: int = 0, resize: int = 28) -> Detection:
    """A smooth map between 0 and 1."""
    values = ndimage.gaussian_filter(np.random.default_rng(seed).standard_normal((size, size)), 3)
    values = ((values - values.min()) / np.ptp(values)).astype(np.float32)
    seen = view(width, height, size=size, resize=resize if aspect == "crop" else size, aspect=aspect)
    return Detection(0, 1.0, values, seen)


def picture(image: Image.Image) -> np.ndarray:
    """Without the line of text above it."""
    return np.asarray(image)[BAR:].astype(int)


def test_scale_puts_the_threshold_half_way() -> None:
    assert map_scale(1.0, 3.0, 100.0) == Scale(1.0, 5.0, 3.0)
    assert map_scale(1.0, None, 4.0) == Scale(1.0, 4.0, None)
    assert map_scale(1.0, 0.5, 4.0) == Scale(1.0, 4.0, 0.5)
    for highest in (1.0, 0.0):
        scale = map_scale(1.0, None, highest)
        assert scale.high > scale.low  # nothing is divided by zero


@pytest.mark.parametrize("size", [(640, 480), (480, 640), (500, 500)])
def test_pixels_without_anomaly_keep_their_colours_and_unseen_ones_are_dark(size) -> None:
    photograph, found = drawn(*size), detection(*size, "crop")
    got = picture(overlay(photograph, found, Scale(2.0, 3.0, 2.5), "nothing"))
    unseen = np.isnan(found.view.back(found.map))
    assert unseen.any() and not unseen.all()
    pixels = np.asarray(photograph).astype(int)
    np.testing.assert_array_equal(got[~unseen], pixels[~unseen])
    np.testing.assert_allclose(got[unseen], UNSEEN * pixels[unseen], atol=1)


@settings(max_examples=20)
@given(st.sampled_from(ASPECTS), st.integers(480, 560), st.integers(100, 560), st.integers(0, 99))
def test_the_line_goes_round_what_is_above_the_threshold(aspect, width, height, seed) -> None:
    """Every line pixel touches the region from outside, every pixel that touches it from outside is on the line."""
    found = detection(width, height, aspect, seed=seed)
    threshold = float(np.quantile(found.map, 0.8))
    got = picture(overlay(drawn(width, height), found, Scale(0.0, 2 * threshold, threshold), ""))
    region = np.nan_to_num(found.view.back(found.map), nan=-1) > threshold
    line = (got == LINE).all(-1)
    touching = np.zeros_like(region)
    for dy in (-1, 0, 1):
        for dx in (-1, 0, 1):
            rows, columns = np.nonzero(region)
            rows, columns = rows + dy, columns + dx
            inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
            touching[rows[inside], columns[inside]] = True
    np.testing.assert_array_equal(line, touching & ~region)


def test_stronger_is_more_coloured() -> None:
    """Of one grey photograph: the distance from its colour grows with the map up to the threshold, then stays a mix."""
    found = detection(500, 500, "stretch")
    grey = Image.new("RGB", (500, 500), (128, 128, 128))
    got = picture(overlay(grey, found, Scale(0.0, 2.0, None), ""))
    values = found.view.back(found.map)
    order = np.argsort(values, axis=None)
    share = np.minimum(1, values.ravel()[order])  # opacity is full from half of the scale on
    changed = np.abs(got - 128).sum(-1).ravel()[order]
    assert changed[share < 0.01].max() <= 6
    assert changed[share > 0.9].min() > 60


def test_no_larger_than_a_screen_and_never_narrower_than_its_text() -> None:
    large = overlay(drawn(2600, 1300), detection(2600, 1300, "pad"), Scale(0, 1, 0.5), "x")
    assert large.size == (LONGEST, LONGEST // 2 + BAR)
    small = overlay(drawn(3, 150), detection(3, 150, "pad"), Scale(0, 1, 0.5), "x")
    assert small.size == (WIDEST_TEXT, SHORTEST + BAR)
    assert overlay(drawn(1, 1), detection(1, 1, "crop"), Scale(0, 1, None), "x").size == (SHORTEST, SHORTEST + BAR)


@settings(max_examples=20)
@given(st.sampled_from(ASPECTS), st.integers(1, 80), st.integers(1, 80), st.floats(-0.1, 1.1))
def test_masks_have_the_photographs_size_and_hold_what_is_above(aspect, width, height, threshold) -> None:
    found = detection(width, height, aspect)
    mask = defect_mask(found, threshold)
    assert mask.size == (width, height) and mask.mode == "L"
    values = found.view.back(found.map)
    got = np.asarray(mask)
    assert set(np.unique(got)) <= {0, 255}
    for place in np.ndindex(height, width):
        assert (got[place] == 255) == (not np.isnan(values[place]) and values[place] > threshold)
