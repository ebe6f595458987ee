from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from oracles import spro_by_thresholds
from scipy import ndimage

from reconpatch.errors import ReconpatchError
from reconpatch.method.metrics import Ranking, aupro, pixel_metrics
from reconpatch.method.saturated import Defects, counted_pixels

SIDE = 12
Drawn = list[tuple[int, np.ndarray, int]]  # of every defect its image, its mask and the px that must be found


def draw_defects(rng: np.random.Generator, images: Sequence[int], saturation: str) -> Drawn:
    """Zero to three rectangles for each of the images, the first of which has one; they overlap at times."""
    drawn: Drawn = []
    for n in images:
        for _ in range(rng.integers(0 if drawn else 1, 4)):
            mask, (row, column) = np.zeros((SIDE, SIDE), bool), rng.integers(0, SIDE - 2, 2)
            mask[row : row + rng.integers(1, 7), column : column + rng.integers(1, 7)] = True
            area = int(mask.sum())
            drawn.append((n, mask, {"one": 1, "part": int(rng.integers(1, area + 1)), "whole": area}[saturation]))
    return drawn


def draw_maps(rng: np.random.Generator, drawn: Drawn, images: int, levels: int | None) -> np.ndarray:
    """Noise, higher on the defects; of a few levels it is full of ties, of none it has no ties."""
    maps = rng.random((images, SIDE, SIDE))
    for n, mask, _ in drawn:
        maps[n] += rng.random() * mask
    return (maps if levels is None else np.floor(maps * levels)).astype(np.float32)


def as_defects(drawn: Drawn) -> Defects:
    image, mask, saturation = zip(*drawn, strict=True)
    return Defects(np.array(image), np.stack(mask), np.array(saturation))


def union(drawn: Drawn, images: int) -> np.ndarray:
    masks = np.zeros((images, SIDE, SIDE), bool)
    for n, mask, _ in drawn:
        masks[n] |= mask
    return masks


@settings(max_examples=60)
@given(
    seed=st.integers(0, 10**6),
    levels=st.sampled_from([1, 2, 5, 20, None]),
    saturation=st.sampled_from(["one", "part", "whole"]),
    images=st.lists(st.integers(0, 3), min_size=1, unique=True),  # in any order; without 3, the last one is normal
)
def test_spro_against_every_threshold(seed, levels, saturation, images) -> None:
    rng = np.random.default_rng(seed)
    drawn = draw_defects(rng, images, saturation)
    maps, masks, defects = draw_maps(rng, drawn, 4, levels), union(drawn, 4), as_defects(drawn)
    found = pixel_metrics(maps, masks, defects=defects)
    assert found["spro_05"] == pytest.approx(spro_by_thresholds(maps, drawn, 0.05), abs=1e-9)
    for limit in (0.01, 0.3, 1.0):
        ranking = Ranking(np.sort(maps[~masks]), *counted_pixels(maps, defects))
        assert aupro(ranking, limit) == pytest.approx(spro_by_thresholds(maps, drawn, limit), abs=1e-9)


@settings(max_examples=20)
@given(st.integers(0, 10**6), st.sampled_from([2, 5, None]))
def test_spro_of_whole_regions_is_aupro(seed, levels) -> None:
    rng = np.random.default_rng(seed)
    drawn: Drawn = []
    for n in range(3):
        labels, count = ndimage.label(rng.random((SIDE, SIDE)) < 0.2, structure=np.ones((3, 3)))
        drawn += [(n, labels == r, int((labels == r).sum())) for r in range(1, count + 1)]
    found = pixel_metrics(draw_maps(rng, drawn, 4, levels), union(drawn, 4), defects=as_defects(drawn))
    assert found["spro_05"] == pytest.approx(found["aupro_05"], abs=1e-12)


def test_a_defect_is_found_once_as_much_of_it_is_as_must_be() -> None:
    """The one high score lies in both defects. It is all that must be found of the first and half of the second."""
    maps, masks, alone = (np.zeros((2, 10, 10), dtype) for dtype in (np.float32, bool, bool))
    alone[0, 0, :4], alone[1, 0, 3:5] = True, True
    masks[1] = alone.any(0)
    maps[1, 0, 3] = 1
    found = pixel_metrics(maps, masks, defects=Defects(np.array([1, 1]), alone, np.array([1, 2])))
    # All other pixels are tied: from what is found without false positives the curve rises evenly to (1, 1).
    assert found["spro_05"] == pytest.approx(3 / 4 + (1 / 4) * 0.025)
    assert found["aupro_05"] == pytest.approx(1 / 5 + (4 / 5) * 0.025)


@settings(max_examples=30)
@given(st.integers(0, 10**6), st.lists(st.booleans(), min_size=4, max_size=4))
def test_defects_of_some_images_are_those_read_without_the_others(seed, chosen) -> None:
    rng = np.random.default_rng(seed)
    drawn = draw_defects(rng, [2, 0, 3], "part")
    maps, masks = draw_maps(rng, drawn, 4, 5), union(drawn, 4)
    kept = [n for n in range(4) if chosen[n]]
    subset = as_defects(drawn).of_images(np.array(chosen))
    alone = [(kept.index(n), mask, saturation) for n, mask, saturation in drawn if n in kept]
    assert list(zip(subset.image, subset.saturation, strict=True)) == [(n, s) for n, _, s in alone]
    assert subset.mask.shape[1:] == (SIDE, SIDE)
    assert all(np.array_equal(mask, each) for mask, (_, each, _) in zip(subset.mask, alone, strict=True))
    assume(alone)
    expected = spro_by_thresholds(maps[kept], alone, 0.05)
    assert pixel_metrics(maps[kept], masks[kept], defects=subset)["spro_05"] == pytest.approx(expected, abs=1e-9)


def test_no_defects_have_no_counted_image() -> None:
    none = Defects(np.zeros(0, np.int64), np.zeros((0, SIDE, SIDE), bool), np.zeros(0, np.int64))
    assert not len(none.of_images(np.array([True, False])).image)


def test_tensors_are_read_by_their_names() -> None:
    image, mask, saturation = np.array([1, 0]), np.ones((2, 3, 3), bool), np.array([9, 1])
    read = Defects.from_tensors({"saturation": saturation, "image": image, "mask": mask})
    assert read.image is image and read.mask is mask and read.saturation is saturation


@pytest.mark.parametrize(
    "wrong",
    [
        {"image": np.array([0])},
        {"image": np.array([[0], [0]])},
        {"image": np.array([0, -1])},
        {"image": np.array([0.0, 1.0])},
        {"mask": np.ones((2, 9), bool)},
        {"mask": np.ones((3, 3, 3), bool)},
        {"mask": np.ones((2, 3, 3), np.uint8)},
        {"saturation": np.array([1])},
        {"saturation": np.array([1, 0])},
        {"saturation": np.array([10, 1])},
        {"saturation": np.array([1.5, 1.0])},
    ],
)
def test_defects_that_do_not_fit_are_refused(wrong) -> None:
    right = {"image": np.array([0, 1]), "mask": np.ones((2, 3, 3), bool), "saturation": np.array([1, 9])}
    assert len(Defects(**right).image) == 2
    with pytest.raises(ReconpatchError):
        Defects(**{**right, **wrong})


@pytest.mark.parametrize(
    ("image", "mask", "message"),
    [
        (0, np.eye(3, dtype=bool), "outside"),  # image 0 is normal
        (1, np.ones((3, 3), bool), "outside"),
        (2, np.eye(3, dtype=bool), "fit"),
        (1, np.ones((1, 1), bool), "fit"),  # it would be taken for a mask of every pixel
    ],
)
def test_defects_of_other_masks_are_refused(image, mask, message) -> None:
    masks = np.stack([np.zeros((3, 3), bool), np.eye(3, dtype=bool)])
    maps = np.arange(18, dtype=np.float32).reshape(2, 3, 3)
    with pytest.raises(ReconpatchError, match=message):
        pixel_metrics(maps, masks, defects=Defects(np.array([image]), mask[None], np.array([1])))
