import struct
import warnings
import zlib
from contextlib import suppress
from hashlib import sha256
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from reconpatch.data.decoding import FORMATS, decode, mask_values, pixel_digest, to_rgb
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


@pytest.mark.parametrize(("width", "height"), [(1, 1), (3, 64), (5, 65), (2, 300)])
def test_the_digest_is_of_the_size_and_all_pixels(width, height, rng) -> None:
    values = rng.integers(0, 256, (height, width, 3)).astype(np.uint8)
    assert pixel_digest(Image.fromarray(values)) == sha256(b"%dx%d " % (width, height) + values.tobytes()).hexdigest()


@pytest.mark.parametrize("kind", FORMATS)
def test_cut_files_of_every_format_are_refused(kind) -> None:
    content = saved(NOISE, kind)
    assert decode(content, HERE).format == kind
    for part in (0.1, 0.5, 0.9):
        with pytest.raises(ReconpatchError, match=r"^some folder/a\.png: "):
            decode(content[: int(part * len(content))], HERE)


@settings(max_examples=80)
@given(st.sampled_from(FORMATS), st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), max_size=6))
def test_damage_gives_an_image_or_the_users_error_and_nothing_else(kind, changes) -> None:
    content = bytearray(saved(NOISE.resize((16, 12)), kind))
    for place, value in changes:
        content[place % len(content)] = value
    with suppress(ReconpatchError):
        to_rgb(decode(bytes(content), HERE).image)


@given(st.lists(st.integers(0, 65535), min_size=1, max_size=20))
def test_sixteen_bit_grey_is_rounded_to_the_nearest_of_257ths(values) -> None:
    array = np.array([values], ">u2")
    picture = decode(png(array, 16, 0), HERE).image
    assert np.asarray(to_rgb(picture))[0, :, 2].tolist() == [int(v / 257 + 0.5) for v in values]


@pytest.mark.parametrize("transparency", [0, bytes([0, 128, 255])])
def test_transparent_palettes_keep_their_colours_without_a_warning(transparency) -> None:
    """Warnings are errors in this suite. Below alpha, colours count, too."""
    values = np.full((1, 2, 4), (200, 0, 0, 0), np.uint8)  # red, wholly transparent
    assert np.asarray(to_rgb(decode(saved(Image.fromarray(values)), HERE).image)).tolist() == [[[200, 0, 0]] * 2]
    image = Image.new("P", (3, 1))
    image.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    image.putdata([0, 1, 2])
    picture = decode(saved(image, transparency=transparency), HERE)
    assert picture.image.mode == "P"
    assert np.asarray(to_rgb(picture.image)).tolist() == [[[10, 20, 30], [40, 50, 60], [70, 80, 90]]]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty"),
        (b"not an image", "none of PNG"),
        (saved(NOISE, "GIF"), "GIF; save it as png"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "HEIC"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00", "Git LFS"),
        (b"\n<!DOCTYPE html><title>404</title>", "HTML"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "none of PNG"),  # never given to its interpreter
        (png(np.zeros((4, 4), np.uint8), 8, 0, (0, 4)), "not an image"),
        (saved(Image.new("L", (1, 51))), "refused, 1x51 px"),  # scaled to a shorter side of 512 px it may take GB
        (saved(NOISE, "TIFF", save_all=True, append_images=[NOISE.rotate(90)]), "holds 2 pictures"),
        (saved(NOISE, "WEBP", save_all=True, append_images=[NOISE.rotate(90)]), "holds 2 pictures"),
    ],
)
def test_what_is_no_single_photograph_is_named(content, message) -> None:
    with pytest.raises(ReconpatchError, match=message) as caught:
        decode(content, HERE)
    assert caught.value.where == str(HERE)


@pytest.mark.parametrize("size", [(9000, 9000), (10_000, 10_000), (60_000, 60_000)])
@pytest.mark.parametrize("action", ["error", "default"])
def test_decompression_bombs_are_refused_by_their_header(size, action) -> None:
    """Above 80 megapixels by our limit, above 89 by Pillow's warning, above 179 by its error; no pixels are there."""
    with warnings.catch_warnings(record=True):
        warnings.simplefilter(action)
        with pytest.raises(ReconpatchError, match=r"bomb|refused"):
            decode(png(np.zeros((1, 1), np.uint8), 8, 0, size), HERE)


def test_what_counts_is_the_content_and_of_a_cameras_pictures_the_first() -> None:
    assert decode(saved(NOISE, "JPEG"), Path("a.png")).format == "JPEG"
    assert decode(saved(Image.new("L", (1, 50))), HERE).image.size == (1, 50)
    picture = decode(saved(NOISE, "MPO", save_all=True, append_images=[Image.new("RGB", (8, 8))]), HERE)
    assert picture.format == "MPO"
    assert np.array_equal(picture.image, decode(saved(NOISE, "JPEG"), HERE).image)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_exif_orientation_is_applied_once_and_told(kind) -> None:
    """Stored rows and columns turned back by numpy; TIFF readers turn by themselves. There is no orientation 90."""
    lossless = {"quality": 100, "lossless": True} if kind == "WEBP" else {}
    plain = np.asarray(decode(saved(NOISE, kind, **lossless), HERE).image)
    turns = [
        *(lambda a: a, lambda a: a[:, ::-1], lambda a: a[::-1, ::-1], lambda a: a[::-1]),
        *(lambda a: a.swapaxes(0, 1), lambda a: np.rot90(a, -1), lambda a: a[::-1, ::-1].swapaxes(0, 1), np.rot90),
    ]
    for orientation in (*range(1, 9), 90):
        exif = Image.Exif()
        exif[0x0112] = orientation
        picture = decode(saved(NOISE, kind, exif=exif, **lossless), HERE)
        assert picture.orientation == (orientation if orientation < 9 else 1)
        assert np.array_equal(picture.image, turns[picture.orientation - 1](plain))


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (Image.fromarray(np.array([[0.0, 0.5]], np.float32)), "floating-point"),
        (Image.fromarray(np.array([[0, 70_000]], np.int32)), "from 0 to 70000"),
        (Image.fromarray(np.array([[-1, 5]], np.int32)), "from -1 to 5"),
        (Image.new("LAB", (4, 3)), "mode LAB"),
    ],
)
def test_values_without_a_rule_are_refused(image, message) -> None:
    picture = decode(saved(image, "TIFF"), HERE)
    for convert in (to_rgb, mask_values):
        with pytest.raises(ReconpatchError, match=message):
            convert(picture.image)


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "LA", "P", "I;16"])
def test_mask_values_are_zero_white_or_between(mode) -> None:
    image = Image.fromarray(np.array([[0, 1, 128, 255]], np.uint8))
    image = Image.fromarray(np.array([[0, 1, 30_000, 65535]], np.uint16)) if mode == "I;16" else image.convert(mode)
    values = mask_values(decode(saved(image), HERE).image)
    assert values.dtype == np.uint8
    assert [0 if v == 0 else 2 if v == 255 else 1 for v in values[0]] == [0, 1, 1, 2]
    blue = Image.fromarray(np.array([[(0, 0, 1), (0, 0, 0)]], np.uint8))  # whose luminance rounds to 0
    assert mask_values(blue).tolist() == [[1, 0]]
