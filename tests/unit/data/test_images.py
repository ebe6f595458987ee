import numpy as np
import pytest
import torchvision.transforms as T
from drawing import write_mask
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from reconpatch.data.augmentation import Augmentation, augment_image
from reconpatch.data.images import image_array, load_image, load_mask, mask_array, read_masks, resize_crop
from reconpatch.errors import ReconpatchError


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
    monkeypatch.setattr("reconpatch.data.decoding.MAX_PIXELS", 1000)
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


@settings(deadline=None)
@given(st.integers(20, 70), st.integers(20, 70), st.integers(16, 40), st.integers(8, 16))
def test_official_masks_are_the_official_codes(tmp_path_factory, width, height, resize, crop) -> None:
    """Resize, CenterCrop, ToTensor on the PIL image, then `astype(int)`: only 1.0 stays 1."""
    rng = np.random.default_rng(width)
    values = rng.choice([0, 1, 128, 254, 255], (height // 6 + 1, width // 6 + 1)).astype(np.uint8)
    image = Image.fromarray(values.repeat(6, 0).repeat(6, 1))
    path = tmp_path_factory.mktemp("mask") / "m.png"
    image.save(path)
    official = T.Compose([T.Resize(resize), T.CenterCrop(crop), T.ToTensor()])(image)[0].numpy().astype(int)
    assert np.array_equal(mask_array(path, resize, crop, "official"), official == 1)


def test_official_masks_lose_their_rim(tmp_path) -> None:
    mask = np.zeros((64, 64), np.uint8)
    mask[10:40, 20:50] = 255
    Image.fromarray(mask).save(tmp_path / "m.png")
    kept, official = (mask_array(tmp_path / "m.png", 48, 32, rule) for rule in ("any", "official"))
    assert official.any() and kept[official].all() and official.sum() < kept.sum()


@pytest.mark.parametrize("mode", ["1", "P", "RGB", "RGBA"])
def test_official_masks_of_every_mode(mode, tmp_path) -> None:
    mask = np.zeros((16, 16), np.uint8)
    mask[2:9, 3:7] = 255
    Image.fromarray(mask).convert(mode).save(tmp_path / "m.png")
    assert np.array_equal(mask_array(tmp_path / "m.png", 16, 16, "official"), mask > 0)


def test_unknown_mask_rule_is_named(tmp_path) -> None:
    Image.new("L", (8, 8)).save(tmp_path / "m.png")
    with pytest.raises(ReconpatchError, match="'all': unknown, choose one of any, official"):
        mask_array(tmp_path / "m.png", 8, 8, "all")


def test_real_pixels_fill_the_border_of_an_augmented_crop(tmp_path, rng) -> None:
    """A shift within the cropped margin shows the pixels beyond the crop, in image and mask."""
    picture = rng.integers(0, 256, (40, 40, 3)).astype(np.uint8)
    Image.fromarray(picture).save(tmp_path / "i.png")
    Image.fromarray(np.where(picture[..., 0] > 127, np.uint8(255), np.uint8(0))).save(tmp_path / "m.png")
    a = Augmentation(shift=(0.1, -0.05))  # 4 px to the right, 2 up
    image = image_array(tmp_path / "i.png", 40, 24, "bilinear", a)
    expected = picture[8 + 2 : 32 + 2, 8 - 4 : 32 - 4]
    assert np.array_equal(image, expected)
    for rule in ("any", "official"):
        assert np.array_equal(mask_array(tmp_path / "m.png", 40, 24, rule, a), expected[..., 0] > 127)


def test_augmentation_comes_after_the_resize(tmp_path, rng) -> None:
    picture = Image.fromarray(rng.integers(0, 256, (50, 70, 3)).astype(np.uint8))
    picture.save(tmp_path / "i.png")
    a = Augmentation(8, (0.03, 0.02), 1.1, 0.9, 0.7)
    resized = augment_image(np.asarray(T.Resize(36)(picture)), a)
    expected = np.asarray(T.CenterCrop(32)(Image.fromarray(resized)))
    assert np.array_equal(image_array(tmp_path / "i.png", 36, 32, "bilinear", a), expected)
    unchanged = image_array(tmp_path / "i.png", 36, 32, "bilinear", Augmentation())
    assert np.array_equal(unchanged, image_array(tmp_path / "i.png", 36, 32, "bilinear"))


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
