import os
import struct
import warnings
import zlib
from contextlib import suppress
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from reconpatch.data.decoding import EIGHT_BIT, FORMATS, decode, mask_values, read_file, to_rgb
from reconpatch.errors import ReconpatchError

HERE = Path("some folder/a.png")
NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (48, 64, 3)).astype(np.uint8))


def saved(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    """An image as the bytes of a file."""
    buffer = BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def png(values: np.ndarray, depth: int, colour: int, size: tuple[int, int] | None = None) -> bytes:
    """A PNG written by hand: big-endian values, bit depth and colour type; `size` may lie."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    width, height = size or values.shape[1::-1]
    rows = zlib.compress(b"".join(b"\0" + row.tobytes() for row in values))
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


@pytest.mark.parametrize("kind", FORMATS)
def test_cut_files_of_every_format_are_refused(kind) -> None:
    content = saved(NOISE, kind)
    assert decode(content, HERE).format == kind
    for part in (0.1, 0.5, 0.9):
        with pytest.raises(ReconpatchError, match=r"^some folder/a\.png: "):
            decode(content[: int(part * len(content))], HERE)


@settings(deadline=None, max_examples=150)
@given(st.sampled_from(FORMATS), st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), max_size=6))
def test_damage_gives_an_image_or_the_users_error_and_nothing_else(kind, changes) -> None:
    content = bytearray(saved(NOISE.resize((16, 12)), kind))
    for place, value in changes:
        content[place % len(content)] = value
    with suppress(ReconpatchError):
        to_rgb(decode(bytes(content), HERE).image)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "it is empty: 0 bytes"),
        (b"not an image", "it holds none of PNG, JPEG, BMP, TIFF, WEBP"),
        (saved(NOISE, "GIF"), "it holds a GIF; save it as png"),
        (saved(NOISE, "AVIF"), "it holds HEIC, AVIF or a video"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "it holds HEIC, AVIF or a video"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00", "a pointer of Git LFS"),
        (b"\n<!DOCTYPE html><title>404</title>", "HTML"),
        (b"%PDF-1.7", "a PDF"),
        (saved(NOISE, "PPM"), "it holds none of"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "it holds none of"),  # never given to its interpreter
    ],
)
def test_what_is_no_image_is_named(content, message) -> None:
    with pytest.raises(ReconpatchError, match=message):
        decode(content, HERE)


@pytest.mark.parametrize(("kind", "wrong"), [("PNG", "a.jpg"), ("JPEG", "a.png"), ("BMP", "a.PNG")])
def test_the_content_counts_not_the_suffix(kind, wrong) -> None:
    assert decode(saved(NOISE, kind), Path(wrong)).format == kind


@pytest.mark.parametrize("size", [(0, 4), (4, 0), (0, 0)])
def test_images_without_pixels_are_refused(size) -> None:
    with pytest.raises(ReconpatchError, match=r"a\.png"):
        decode(png(np.zeros((4, 4), np.uint8), 8, 0, size), HERE)
    header = struct.pack("<IiiHHIIiiII", 40, *size, 1, 24, 0, 0, 0, 0, 0, 0)
    with pytest.raises(ReconpatchError, match=r"a\.bmp"):
        decode(b"BM" + struct.pack("<IHHI", 54, 0, 0, 54) + header, Path("a.bmp"))


@pytest.mark.parametrize(
    ("size", "message"),
    [((9000, 9000), "refused, 9000x9000 px"), ((10_000, 10_000), "10000"), ((60_000, 60_000), "decompression bomb")],
)
@pytest.mark.parametrize("action", ["error", "default"])
def test_decompression_bombs_are_refused_by_their_header(size, message, action) -> None:
    """Above 80 megapixels ours, above 89 Pillow's warning, above 179 its error; none of the pixels is there."""
    bomb = png(np.zeros((1, 1), np.uint8), 8, 0, size)
    with warnings.catch_warnings(record=True):
        warnings.simplefilter(action)
        with pytest.raises(ReconpatchError, match=message):
            decode(bomb, HERE)


def test_several_pictures_in_a_file_are_refused() -> None:
    others = {"save_all": True, "append_images": [NOISE.rotate(90), NOISE.rotate(180)]}
    for kind in ("TIFF", "WEBP", "PNG"):
        with pytest.raises(ReconpatchError, match=r"holds 3 pictures .*save each as a file of its own"):
            decode(saved(NOISE, kind, **others), HERE)


def test_of_a_cameras_pictures_the_first_is_the_photograph() -> None:
    thumbnail = Image.new("RGB", (8, 8))
    picture = decode(saved(NOISE, "MPO", save_all=True, append_images=[thumbnail]), HERE)
    assert picture.format == "MPO" and picture.image.size == NOISE.size
    assert np.array_equal(picture.image, decode(saved(NOISE, "JPEG"), HERE).image)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_exif_orientation_is_applied_once_and_told(kind, orientation) -> None:
    """Stored rows and columns turned back by numpy; TIFF readers turn by themselves."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    lossless = {"quality": 100, "lossless": True} if kind == "WEBP" else {}
    content = saved(NOISE, kind, exif=exif, **lossless)
    plain = np.asarray(decode(saved(NOISE, kind, **lossless), HERE).image)
    turns = [
        *(lambda a: a, lambda a: a[:, ::-1], lambda a: a[::-1, ::-1], lambda a: a[::-1]),
        *(lambda a: a.swapaxes(0, 1), lambda a: np.rot90(a, -1), lambda a: a[::-1, ::-1].swapaxes(0, 1), np.rot90),
    ]
    picture = decode(content, HERE)
    assert picture.orientation == orientation
    assert np.array_equal(picture.image, turns[orientation - 1](plain))


def test_orientations_that_do_not_exist_turn_nothing() -> None:
    exif = Image.Exif()
    exif[0x0112] = 90
    picture = decode(saved(NOISE, exif=exif), HERE)
    assert picture.orientation == 1 and np.array_equal(picture.image, NOISE)


def corrupt_exif() -> bytes:
    exif = Image.Exif()
    exif[0x010E] = "a description that is longer than what is left of it"
    content = saved(NOISE, "JPEG", exif=exif)
    place = content.index(b"Exif")
    size = struct.unpack(">H", content[place - 2 : place])[0]
    return content[: place - 2] + struct.pack(">H", 26) + content[place : place + 24] + content[place + size - 2 :]


def test_warnings_are_raised_as_the_users_error_where_they_are_errors() -> None:
    content = corrupt_exif()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert decode(content, HERE).image.size == NOISE.size
    assert any("EXIF" in str(warning.message) for warning in caught)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ReconpatchError, match=r"a\.png: cannot be decoded \(.*EXIF"):
            decode(content, HERE)


def test_sixteen_bit_colours_keep_their_high_byte() -> None:
    """Each within 1 of the rule for grey, x / 257."""
    values = np.random.default_rng(1).integers(0, 65536, (5, 7, 3)).astype(">u2")
    rgb = np.asarray(to_rgb(decode(png(values, 16, 2), HERE).image))
    assert np.array_equal(rgb, values // 256)
    assert np.abs(rgb - values / 257).max() <= 1


@given(st.lists(st.integers(0, 65535), min_size=1, max_size=20))
def test_sixteen_bit_grey_is_rounded_to_the_nearest_of_257ths(values) -> None:
    array = np.array([values], ">u2")
    picture = decode(png(array, 16, 0), HERE).image
    assert np.asarray(to_rgb(picture))[0, :, 2].tolist() == [int(v / 257 + 0.5) for v in values]


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.array([[0.0, 0.5]], np.float32), "floating-point images have no stated range"),
        (np.array([[0, 70_000]], np.int32), "grey values from 0 to 70000: save with 8 or 16 bits"),
        (np.array([[-1, 5]], np.int32), "grey values from -1 to 5"),
    ],
)
def test_values_without_a_stated_range_are_refused(array, message) -> None:
    picture = decode(saved(Image.fromarray(array), "TIFF"), HERE)
    for convert in (to_rgb, mask_values):
        with pytest.raises(ReconpatchError, match=message):
            convert(picture.image)


def test_modes_without_a_rule_are_refused() -> None:
    lab = decode(saved(Image.new("LAB", (4, 3)), "TIFF"), HERE).image
    with pytest.raises(ReconpatchError, match="colours in mode LAB have no rule here"):
        to_rgb(lab)


@pytest.mark.parametrize("mode", sorted(EIGHT_BIT))
def test_every_mode_with_a_rule_keeps_black_and_white(mode) -> None:
    for grey in (0, 255):
        image = Image.new("RGB", (3, 2), (grey,) * 3)
        image = image.convert("P").convert("PA") if mode == "PA" else image.convert(mode)
        assert (np.asarray(to_rgb(image)) == grey).all()
        assert (mask_values(image) == grey).all()


def test_alpha_is_dropped_and_colours_below_it_count() -> None:
    values = np.zeros((2, 3, 4), np.uint8)
    values[..., 0] = 200  # red, wholly transparent
    assert (np.asarray(to_rgb(decode(saved(Image.fromarray(values)), HERE).image)) == (200, 0, 0)).all()
    grey = Image.merge("LA", (Image.new("L", (3, 2), 90), Image.new("L", (3, 2), 0)))
    assert (np.asarray(to_rgb(decode(saved(grey), HERE).image)) == 90).all()


@pytest.mark.parametrize("transparency", [0, bytes([0, 128, 255])])
def test_transparent_palettes_keep_their_colours_without_a_warning(transparency) -> None:
    """Warnings are errors in this suite."""
    image = Image.new("P", (3, 1))
    image.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    image.putdata([0, 1, 2])
    picture = decode(saved(image, transparency=transparency), HERE)
    assert picture.image.mode == "P"
    assert np.asarray(to_rgb(picture.image)).tolist() == [[[10, 20, 30], [40, 50, 60], [70, 80, 90]]]


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "LA", "P", "I;16"])
def test_mask_values_are_zero_white_or_between(mode) -> None:
    image = Image.fromarray(np.array([[0, 1, 128, 255]], np.uint8))
    image = Image.fromarray(np.array([[0, 1, 30_000, 65535]], np.uint16)) if mode == "I;16" else image.convert(mode)
    values = mask_values(decode(saved(image), HERE).image)
    assert values.dtype == np.uint8
    assert [0 if v == 0 else 2 if v == 255 else 1 for v in values[0]] == [0, 1, 1, 2]


def test_a_mask_in_a_dark_colour_is_above_zero() -> None:
    image = Image.new("RGB", (2, 1))
    image.putpixel((0, 0), (0, 0, 1))  # its luminance rounds to 0
    assert mask_values(image).tolist() == [[1, 0]]


def test_what_cannot_be_read_is_named(tmp_path, monkeypatch) -> None:
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "link.png").symlink_to("moved/away.png")
    (tmp_path / "round.png").symlink_to("round.png")
    os.mkfifo(tmp_path / "pipe.png")  # reading it would wait for ever
    (tmp_path / "large.png").write_bytes(b"x" * 100)
    monkeypatch.setattr("reconpatch.data.decoding.MAX_BYTES", 99)
    for name, message in (
        ("folder.png", "a folder, not an image file"),
        ("link.png", "broken link to moved/away.png"),
        ("round.png", "cannot be read"),
        ("pipe.png", "a device or pipe"),
        ("large.png", "refused, 100 bytes"),
        ("absent.png", "no such file"),
    ):
        with pytest.raises(ReconpatchError, match=f"{name}: {message}"):
            read_file(tmp_path / name)


def test_files_one_may_not_read_are_named(tmp_path, monkeypatch) -> None:
    (tmp_path / "a.png").write_bytes(saved(NOISE))

    def denied(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_bytes", denied)
    with pytest.raises(ReconpatchError, match=r"a\.png: cannot be read \(Permission denied\)"):
        read_file(tmp_path / "a.png")


def test_odd_names_do_not_break_messages(tmp_path) -> None:
    for name, told in (("two\nlines.png", r"two\\nlines\.png"), (os.fsdecode(b"\xff.png"), r"\\udcff\.png")):
        with pytest.raises(ReconpatchError, match=told) as caught:
            read_file(tmp_path / name)
        str(caught.value).encode()
        assert "\n" not in str(caught.value)
    (tmp_path / "ä b\n.png").write_bytes(saved(NOISE))
    assert read_file(tmp_path / "ä b\n.png") == saved(NOISE)


@pytest.mark.parametrize("size", [(1, 51), (51, 1), (100, 5001), (70_000, 1)])
def test_strips_are_refused(size) -> None:
    """Scaled to a shorter side of 512 px, one of 1 x 70,000 px takes 15 GB."""
    with pytest.raises(
        ReconpatchError, match=rf"^some folder/a\.png: refused, {size[0]}x{size[1]} px is no photograph"
    ):
        decode(saved(Image.new("L", size)), HERE)


@pytest.mark.parametrize("size", [(1, 50), (50, 1), (100, 5000)])
def test_long_pictures_up_to_a_limit_are_not(size) -> None:
    assert decode(saved(Image.new("L", size)), HERE).image.size == size
