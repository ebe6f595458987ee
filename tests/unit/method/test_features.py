import numpy as np
import pytest
import torch
from drawing import write_image

from reconpatch.data.augmentation import Augmentation
from reconpatch.data.images import image_array
from reconpatch.errors import ReconpatchError
from reconpatch.method.backbones import load_backbone
from reconpatch.method.features import larger_batch, write_features
from reconpatch.method.patches import patch_features

SETTINGS = {"patch_size": 3, "level_dim": 16, "dim": 12}


@pytest.fixture(scope="module")
def backbone():
    return load_backbone("resnet10t", [2, 3], "random")


@pytest.mark.parametrize("batch", [1, 2, 8])
def test_batches_do_not_matter(batch, backbone, tmp_path, rng) -> None:
    """Streamed features are those of one image at a time with its own augmentation, whatever the batch."""
    paths = [tmp_path / f"{i}.png" for i in range(5)]
    for path in paths:
        write_image(path, rng)
    seen = []
    out = tmp_path / "f.npy"
    moves = [Augmentation(angle=30), None, Augmentation(shift=(0.3, 0)), Augmentation(blur=2), None]
    write_features(
        list(zip(paths, moves, strict=True)),
        lambda item: image_array(item[0], 40, 32, "bilinear", item[1]),
        backbone,
        out,
        **SETTINGS,
        batch=batch,
        threads=2,
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
        device = "cpu"

        def __call__(self, images):
            return [1e6 * level for level in backbone(images)]

    write_image(tmp_path / "a.png", rng)
    with pytest.raises(ReconpatchError, match=r"a\.png.*float16"):
        write_features(
            [tmp_path / "a.png"],
            lambda path: image_array(path, 40, 32, "bilinear"),
            Loud(),
            tmp_path / "f.npy",
            **SETTINGS,
            batch=1,
            threads=1,
        )


def test_a_gpu_takes_batches_that_leave_half_of_its_memory_free() -> None:
    gib = 2**30
    assert larger_batch(8, used=gib, free=8 * gib) == 32  # 1/8 GiB an image
    assert larger_batch(8, used=gib, free=70 * gib) == 64
    assert larger_batch(8, used=6 * gib, free=8 * gib) == 8
