import numpy as np
import pytest
import torchvision.transforms as T
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from reconpatch.errors import ReconpatchError
from reconpatch.images import image_array, load_image, load_mask, mask_array, resize_crop


@given(st.integers(20, 90), st.integers(20, 90), st.integers(16, 40), st.integers(8, 16))
def test_resize_crop_is_torchvisions(width: int, height: int, resize: int, crop: int) -> None:
    image = Image.fromarray(np.random.default_rng(width).integers(0, 256, (height, width, 3)).astype(np.uint8))
    reference = T.Compose([T.Resize(resize), T.CenterCrop(crop)])(image)
    assert np.array_equal(np.asarray(resize_crop(image, resize, crop, "bilinear")), np.asarray(reference))


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "LA", "P", "1", "CMYK"])
def test_every_mode_becomes_rgb(mode, tmp_path) -> None:
    path = tmp_path / ("a.tif" if mode == "CMYK" else "a.png")
    Image.new("RGB", (8, 6), (255, 255, 255)).convert(mode).save(path)
    image = load_image(path)
    assert image.mode == "RGB" and image.size == (8, 6)
    assert np.abs(np.asarray(image).astype(int) - 255).max() <= 3


def test_sixteen_bit_grey_is_scaled_not_saturated(tmp_path) -> None:
    values = np.array([[0, 257, 25700, 65535]], np.uint16)
    Image.fromarray(values).save(tmp_path / "a.png")
    assert np.asarray(load_image(tmp_path / "a.png"))[0, :, 0].tolist() == [0, 1, 100, 255]


def test_exif_orientation_is_applied(tmp_path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    Image.new("RGB", (8, 4)).save(tmp_path / "a.jpg", exif=exif)
    assert load_image(tmp_path / "a.jpg").size == (4, 8)


def test_unreadable_files_are_named(tmp_path, rng, damage) -> None:
    whole = tmp_path / "cut.png"
    Image.fromarray(rng.integers(0, 256, (64, 64, 3)).astype(np.uint8)).save(whole)
    damage(whole)
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.png").write_text("not an image")
    for name in ("cut.png", "empty.png", "text.png", "absent.png"):
        with pytest.raises(ReconpatchError, match=name):
            load_image(tmp_path / name)


def test_decompression_bomb_is_refused(tmp_path, monkeypatch) -> None:
    Image.new("L", (64, 64)).save(tmp_path / "bomb.png")
    monkeypatch.setattr("reconpatch.images.MAX_PIXELS", 1000)
    with pytest.raises(ReconpatchError, match=r"bomb\.png: refused, 64x64 px"):
        load_image(tmp_path / "bomb.png")


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB"])
def test_masks_of_every_mode(mode, tmp_path) -> None:
    mask = np.zeros((10, 10), np.uint8)
    mask[2:5, 3:7] = 255
    Image.fromarray(mask).convert(mode).save(tmp_path / "m.png")
    assert np.array_equal(np.asarray(load_mask(tmp_path / "m.png")) > 0, mask > 0)


def test_mask_counts_any_value_above_zero(tmp_path) -> None:
    Image.fromarray(np.array([[0, 1, 128, 255]], np.uint8)).save(tmp_path / "m.png")
    assert (np.asarray(load_mask(tmp_path / "m.png")) > 0).tolist() == [[False, True, True, True]]


def test_mask_and_image_share_geometry(tmp_path) -> None:
    """A white rectangle on black and its mask fall on the same pixels after resize and crop."""
    picture = np.zeros((60, 100, 3), np.uint8)
    picture[20:40, 30:70] = 255
    Image.fromarray(picture).save(tmp_path / "i.png")
    Image.fromarray(picture[..., 0]).save(tmp_path / "m.png")
    image = image_array(tmp_path / "i.png", 45, 32, "nearest")[..., 0] > 127
    assert np.array_equal(image, mask_array(tmp_path / "m.png", 45, 32))
