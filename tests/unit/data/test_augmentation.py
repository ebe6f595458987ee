import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import torchvision.transforms.v2.functional as TF
from hypothesis import given, settings
from hypothesis import strategies as st

from reconpatch.data.augmentation import Augmentation, augment_image, augment_mask, draw, drawn_augmentations
from reconpatch.errors import ReconpatchError

RANGES = {"rotation": 10.0, "translation": 0.05, "brightness": 0.2, "contrast": 0.3, "blur": 1.5}


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8)


def mirrored(position: float, size: int) -> float:
    """Fold a coordinate back between the first and the last pixel."""
    while not 0 <= position <= size - 1:
        position = -position if position < 0 else 2 * (size - 1) - position
    return position


def source(row: int, column: int, shape: tuple[int, int], a: Augmentation) -> tuple[float, float]:
    """Undo the shift, then turn clockwise about the centre (the y axis points down)."""
    height, width = shape
    x = column - (width - 1) / 2 - a.shift[0] * width
    y = row - (height - 1) / 2 - a.shift[1] * height
    t = math.radians(a.angle)
    x, y = x * math.cos(t) - y * math.sin(t), x * math.sin(t) + y * math.cos(t)
    return mirrored(y + (height - 1) / 2, height), mirrored(x + (width - 1) / 2, width)


def bilinear(plane: np.ndarray, y: float, x: float) -> float:
    total = 0.0
    for row, column in np.ndindex(*plane.shape):
        total += max(0, 1 - abs(row - y)) * max(0, 1 - abs(column - x)) * float(plane[row, column])
    return total


@pytest.mark.parametrize("angle", [0.0, 17.0, -123.4])
@pytest.mark.parametrize("shift", [(0.0, 0.0), (0.31, -0.17), (-1.3, 0.9)])
def test_geometry_against_loops(angle, shift) -> None:
    image, a = noise(7, 9), Augmentation(angle, shift)
    mask = image[..., 0] > 127
    got, moved = augment_image(image, a), augment_mask(mask, a)
    assert got.dtype == np.uint8 and moved.dtype == bool
    for row, column in np.ndindex(7, 9):
        y, x = source(row, column, (7, 9), a)
        for channel in range(3):
            assert abs(bilinear(image[..., channel], y, x) - got[row, column, channel]) <= 0.5 + 1e-6
        assert moved[row, column] == mask[round(y), round(x)]


@pytest.mark.parametrize(("contrast", "brightness"), [(0.6, 1.0), (1.7, 1.0), (1.0, 0.5), (1.0, 1.8), (1.8, 0.6)])
def test_light_against_torchvision(contrast, brightness) -> None:
    image = noise(24, 20)
    image[:10, :, 0] //= 4  # channels of different means
    tensor = torch.from_numpy(image).permute(2, 0, 1).float() / 255
    reference = TF.adjust_brightness(TF.adjust_contrast(tensor, contrast), brightness).permute(1, 2, 0).numpy() * 255
    got = augment_image(image, Augmentation(contrast=contrast, brightness=brightness))
    assert np.abs(got - reference).max() <= 0.6  # half a grey level; torchvision's grey weights add up to 0.9999


@pytest.mark.parametrize("sigma", [0.3, 1.0, 2.2])
def test_blur_against_torchvision(sigma) -> None:
    image = noise(24, 30)
    size = 2 * int(4 * sigma + 0.5) + 1
    reference = TF.gaussian_blur(torch.from_numpy(image).permute(2, 0, 1).double(), [size, size], [sigma, sigma])
    got = augment_image(image, Augmentation(blur=sigma))
    assert np.abs(got - reference.permute(1, 2, 0).numpy()).max() <= 0.5 + 1e-3


@settings(max_examples=30)
@given(st.integers(1, 30), st.integers(1, 30), st.integers(0, 10**6))
def test_ranges_of_zero_change_nothing(height, width, seed) -> None:
    image = noise(height, width, seed)
    a = draw(np.random.default_rng(seed), rotation=0, translation=0, brightness=0, contrast=0, blur=0)
    assert a == Augmentation()
    assert np.array_equal(augment_image(image, a), image)
    assert np.array_equal(augment_mask(image[..., 0] > 127, a), image[..., 0] > 127)


def test_draws_fill_their_ranges_evenly() -> None:
    rng = np.random.default_rng(0)
    draws = [draw(rng, **RANGES) for _ in range(4000)]
    values = np.array([[d.angle, *d.shift, d.brightness, d.contrast, d.blur] for d in draws])
    low = np.array([-10, -0.05, -0.05, 0.8, 0.7, 0])
    high = np.array([10, 0.05, 0.05, 1.2, 1.3, 1.5])
    share = np.sort((values - low) / (high - low), axis=0)
    even = (np.arange(4000) + 0.5)[:, None] / 4000
    assert share.min() >= 0 and share.max() <= 1
    assert np.abs(share - even).max() < 0.04  # Kolmogorov-Smirnov: above 0.031 once in a thousand
    assert np.abs(np.corrcoef(values.T) - np.eye(6)).max() < 0.07


NOTHING = {"rotation": {"angle": 0}, "translation": {"shift": (0, 0)}}
NOTHING |= {"brightness": {"brightness": 1}, "contrast": {"contrast": 1}, "blur": {"blur": 0}}


@pytest.mark.parametrize("name", NOTHING)
def test_one_range_of_zero_leaves_the_other_draws(name) -> None:
    one, two = np.random.default_rng(5), np.random.default_rng(5)
    for _ in range(3):  # the next image's draws stay the same as well
        assert draw(one, **{**RANGES, name: 0}) == replace(draw(two, **RANGES), **NOTHING[name])
    with pytest.raises(ReconpatchError) as caught:
        draw(one, **{**RANGES, name: math.nan})
    assert caught.value.where == f"augmentation {name} nan"


def drawn(paths: list[str], seed: int = 0, augment: str = "drawn") -> list[Augmentation | None]:
    ranges = {f"augment_{name}": value for name, value in RANGES.items()}
    return drawn_augmentations(paths, {"augment": augment, "seed": seed} | ranges)


def test_an_image_is_changed_by_its_seed_and_path_alone() -> None:
    paths = [f"test/good/{n:03}.png" for n in range(20)]
    every = drawn(paths)
    assert len(set(every)) == 20
    assert drawn(paths[::-1]) == every[::-1] and drawn(paths[7:9]) == every[7:9] == drawn(paths[7:9], augment="both")
    assert set(drawn(paths, seed=1)).isdisjoint(every)
    assert drawn_augmentations(["a", "b"], {"augment": "none"}) == [None, None]
    assert drawn_augmentations(["a", "b"], {}) == [None, None]  # the features of such a run do not mention it
