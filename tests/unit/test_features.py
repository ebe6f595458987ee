import time

import numpy as np
import pytest
import torch
from drawing import write_image, write_mask

from reconpatch.backbones import load_backbone
from reconpatch.errors import ReconpatchError
from reconpatch.features import extract, read_ahead, read_masks
from reconpatch.images import image_array
from reconpatch.patches import patch_features

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
def test_batches_do_not_matter(batch, backbone, tmp_path, rng) -> None:
    """Streamed features are those of one image at a time, whatever the batch."""
    paths = [tmp_path / f"{i}.png" for i in range(5)]
    for path in paths:
        write_image(path, rng)
    seen = []
    out = tmp_path / "f.npy"
    extract(paths, backbone, out, **SETTINGS, batch=batch, threads=2, progress=lambda *p: seen.append(p))
    features = np.load(out)
    assert features.shape == (5, 4, 4, 12) and features.dtype == np.float16
    for path, got in zip(paths, features, strict=True):
        image = torch.from_numpy(image_array(path, 40, 32, "bilinear").copy())[None]
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
            [tmp_path / "a.png"], Loud(), tmp_path / "f.npy", **SETTINGS, batch=1, threads=1, progress=lambda *_: None
        )


def test_masks_of_normal_images_are_empty(tmp_path) -> None:
    write_mask(tmp_path / "m.png")
    masks = read_masks([None, tmp_path / "m.png"], 40, 32, 1)
    assert masks.shape == (2, 32, 32) and not masks[0].any() and masks[1].any()
