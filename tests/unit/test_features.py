import time

import numpy as np
import pytest
import torch
from drawing import write_image, write_mask

from reconpatch.augmentation import Augmentation
from reconpatch.backbones import load_backbone
from reconpatch.errors import ReconpatchError
from reconpatch.features import drawn_augmentations, extract, read_ahead, read_masks
from reconpatch.images import image_array, mask_array
from reconpatch.patches import patch_features

RANGES = {
    **{"augment_rotation": 10, "augment_translation": 0.05, "augment_brightness": 0.1, "augment_contrast": 0.2},
    **{"augment_blur": 1.0},
}
SETTINGS = {"resize": 40, "crop": 32, "interpolation": "bilinear", "patch_size": 3, "level_dim": 16, "dim": 12}


@pytest.fixture(scope="module")
def backbone():
    return load_backbone("resnet10t", [2, 3], "random")


def test_read_ahead_keeps_the_order() -> None:
    def slow(n: int) -> int:
        time.sleep(0.01 * (n % 3))
        return n * n

    assert list(read_ahead(slow, range(20), threads=4, depth=3)) == [n * n for n in range(20)]


@pytest.mark.parametrize("batch", [1, 2, 8])
@pytest.mark.parametrize("augmented", [False, True])
def test_batches_do_not_matter(batch, augmented, backbone, tmp_path, rng) -> None:
    """Streamed features are those of one image at a time with its own augmentation, whatever the batch."""
    paths = [tmp_path / f"{i}.png" for i in range(5)]
    for path in paths:
        write_image(path, rng)
    seen = []
    out = tmp_path / "f.npy"
    some = [Augmentation(angle=30), None, Augmentation(shift=(0.3, 0)), Augmentation(blur=2), None]
    moves = some if augmented else [None] * 5
    extract(
        paths,
        backbone,
        out,
        **SETTINGS,
        batch=batch,
        threads=2,
        augmentations=moves,
        progress=lambda *p: seen.append(p),
    )
    features = np.load(out)
    assert features.shape == (5, 4, 4, 12) and features.dtype == np.float16
    for path, move, got in zip(paths, moves, features, strict=True):
        image = torch.from_numpy(image_array(path, 40, 32, "bilinear", move).copy())[None]
        with torch.inference_mode():
            want = patch_features(backbone(image), 3, 16, 12)[0].numpy()
        np.testing.assert_allclose(got, want, rtol=2e-3, atol=2e-3)
    assert seen[-1] == (5, 5)


def test_features_beyond_float16_are_refused(backbone, tmp_path, rng) -> None:
    class Loud:
        def __call__(self, images):
            return [1e6 * level for level in backbone(images)]

    write_image(tmp_path / "a.png", rng)
    with pytest.raises(ReconpatchError, match=r"a\.png.*float16"):
        extract(
            [tmp_path / "a.png"],
            Loud(),
            tmp_path / "f.npy",
            **SETTINGS,
            batch=1,
            threads=1,
            augmentations=[None],
            progress=lambda *_: None,
        )


def test_masks_of_normal_images_are_empty(tmp_path) -> None:
    write_mask(tmp_path / "m.png")
    masks = read_masks([None, tmp_path / "m.png"], 40, 32, "any", 1, [None, None])
    assert masks.shape == (2, 32, 32) and not masks[0].any() and masks[1].any()
    masks = read_masks([None, tmp_path / "m.png"], 40, 32, "any", 2, [Augmentation(angle=20), None])
    assert not masks[0].any() and masks[1].any()


@pytest.mark.parametrize("rule", ["any", "official"])
def test_masks_are_read_by_their_rule_and_move_with_their_own_image(rule, tmp_path) -> None:
    moves = [None, Augmentation(shift=(0.25, 0)), Augmentation(angle=90)]
    paths = [tmp_path / f"{n}.png" for n in range(3)]
    for path in paths:
        write_mask(path, (40, 40), (10, 8, 25, 19))
    masks = read_masks(paths, 36, 32, rule, 2, moves)
    for mask, path, move in zip(masks, paths, moves, strict=True):
        assert np.array_equal(mask, mask_array(path, 36, 32, rule, move))
    # Resized to 36 px (by 0.9) and cropped to 32: a quarter of the width is 9 px to the right.
    assert np.array_equal(masks[1][:, 9:], masks[0][:, :-9])
    assert np.array_equal(masks[2], np.rot90(masks[0]))


def test_the_official_rule_takes_the_rim_off(tmp_path) -> None:
    write_mask(tmp_path / "m.png", (57, 57), (10, 8, 41, 39))
    every, official = (read_masks([tmp_path / "m.png"], 40, 32, rule, 1, [None]) for rule in ("any", "official"))
    assert official.sum() < every.sum() and not (official & ~every).any()


def test_images_and_augmentations_must_be_as_many(backbone, tmp_path, rng) -> None:
    write_image(tmp_path / "a.png", rng)
    settings = SETTINGS | {"batch": 1, "threads": 1, "progress": lambda *_: None}
    with pytest.raises(ValueError, match="shorter"):
        extract([tmp_path / "a.png"] * 2, backbone, tmp_path / "f.npy", **settings, augmentations=[None])


def drawn(paths, seed=0, augment="drawn", **ranges):
    return drawn_augmentations(paths, {"augment": augment, "seed": seed} | RANGES | ranges)


def test_without_augmentation_there_is_none() -> None:
    assert drawn_augmentations(["a", "b"], {"augment": "none"}) == [None, None]
    assert drawn_augmentations(["a", "b"], {}) == [None, None]  # the features of such a run do not mention it


def test_an_image_is_changed_by_its_seed_and_path_alone() -> None:
    paths = [f"test/good/{n:03}.png" for n in range(20)]
    every = drawn(paths)
    assert len(set(every)) == 20
    assert drawn(paths[::-1]) == every[::-1] and drawn(paths[7:9]) == every[7:9]
    assert set(drawn(paths, seed=1)).isdisjoint(every)
    for reading in ("test", "both"):
        assert drawn(paths, augment=reading) == every


def test_every_range_bounds_its_own_change() -> None:
    found = drawn([str(n) for n in range(400)])
    values = {
        "augment_rotation": [a.angle for a in found],
        "augment_translation": [part for a in found for part in a.shift],
        "augment_brightness": [a.brightness - 1 for a in found],
        "augment_contrast": [a.contrast - 1 for a in found],
        "augment_blur": [2 * a.blur - 1 for a in found],  # from 0 to the range, which is 1
    }
    for key, drawn_values in values.items():
        assert max(drawn_values) <= RANGES[key] and min(drawn_values) >= -RANGES[key]
        assert max(drawn_values) > 0.9 * RANGES[key] and min(drawn_values) < -0.9 * RANGES[key]
    assert drawn(["a"], **dict.fromkeys(RANGES, 0)) == [Augmentation()]
