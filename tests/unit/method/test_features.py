import numpy as np
import pytest
import torch
from drawing import write_image
from hypothesis import given
from hypothesis import strategies as st

from reconpatch.data.augmentation import Augmentation
from reconpatch.data.images import image_array
from reconpatch.errors import ReconpatchError
from reconpatch.method.backbones import load_backbone
from reconpatch.method.features import passes, stream_features, write_features
from reconpatch.method.patches import patch_features

SETTINGS = {"patch_size": 3, "level_dim": 16, "dim": 12}


@pytest.fixture(scope="module")
def backbone():
    return load_backbone("resnet10t", [2, 3], "random")


@pytest.mark.parametrize(("batch", "in_flight"), [(1, None), (2, None), (8, None), (1, 1), (2, 1), (2, 9)])
def test_batches_do_not_matter(batch, in_flight, backbone, tmp_path, rng) -> None:
    """Streamed features are those of one image at a time with its own augmentation, whatever the batch, and however
    many batches are on their way.
    """
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
        in_flight=in_flight,
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


@pytest.mark.parametrize(("batch", "pixels"), [(1, None), (3, 32 * 32), (7, 2 * 32 * 64), (7, None)])
def test_images_of_several_shapes_have_their_own_features_in_order(batch, pixels, backbone, rng) -> None:
    """Those of one image at a time, whatever goes through the network together."""
    shapes = [(32, 32), (32, 64), (32, 32), (64, 32), (32, 64), (32, 64), (32, 96)]
    images = [rng.integers(0, 256, (*shape, 3)).astype(np.uint8) for shape in shapes]
    options = {"batch": batch, "pixels": pixels, "threads": 1}
    found = list(stream_features(images, lambda image: image, backbone, **SETTINGS, **options))
    assert len(found) == len(images)
    for image, got in zip(images, found, strict=True):
        with torch.inference_mode():
            want = patch_features(backbone(torch.from_numpy(image)[None]), 3, 16, 12)[0].numpy()
        assert got.shape == (image.shape[0] // 8, image.shape[1] // 8, 12)
        np.testing.assert_allclose(got, want, rtol=2e-3, atol=2e-3)


@given(st.lists(st.tuples(st.integers(1, 3), st.integers(1, 3)), max_size=12), st.integers(1, 20))
def test_a_pass_has_one_shape_and_no_more_pixels_than_allowed(shapes, pixels) -> None:
    found = passes([np.zeros((*shape, 3), np.uint8) for shape in shapes], pixels)
    assert sorted(n for numbers in found for n in numbers) == list(range(len(shapes)))
    for numbers in found:
        assert len({shapes[n] for n in numbers}) == 1
        assert len(numbers) == 1 or sum(int(np.prod(shapes[n])) for n in numbers) <= pixels


def test_features_beyond_float16_are_refused(backbone, tmp_path, rng) -> None:
    class Loud:
        device = "cpu"

        def __call__(self, images):
            return [1e6 * level for level in backbone(images)]

    for name in "abc":
        write_image(tmp_path / f"{name}.png", rng)
    with pytest.raises(ReconpatchError, match=r"a\.png.*float16"):
        write_features(
            [tmp_path / f"{name}.png" for name in "abc"],
            lambda path: image_array(path, 40, 32, "bilinear"),
            Loud(),
            tmp_path / "f.npy",
            **SETTINGS,
            batch=1,
            in_flight=1,
            threads=1,
        )
