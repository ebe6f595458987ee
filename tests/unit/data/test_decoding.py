import itertools
import struct
import warnings
import zlib
from contextlib import suppress
from hashlib import sha256
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms, ImageOps, PngImagePlugin
from tiffs import tiff

from reconpatch.data.decoding import FORMATS, decode, mask_values, pixel_digest, to_rgb
from reconpatch.errors import ReconpatchError

HERE = Path("some folder/a.png")
NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (48, 64, 3)).astype(np.uint8))


def saved(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    """An image as the bytes of a file."""
    buffer = BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    """A part of a PNG."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(values: np.ndarray, depth: int, colour: int, size: tuple[int, int] | None = None) -> bytes:
    """A PNG written by hand: big-endian values, bit depth and colour type; `size` may lie."""
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


def as_pillow_reads(content: bytes) -> tuple[str, tuple[int, int], bytes] | None:
    """A PNG as Pillow alone reads it: mode, size and pixels; None if it refuses."""
    try:
        with Image.open(BytesIO(content), formats=["PNG"]) as image:
            turned = ImageOps.exif_transpose(image)
    except Exception:
        return None
    return turned.mode, turned.size, turned.tobytes()


def as_read_here(content: bytes) -> tuple[str, tuple[int, int], bytes] | None:
    """The same by `decode`."""
    try:
        image = decode(content, HERE).image
    except ReconpatchError:
        return None
    return image.mode, image.size, image.tobytes()


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "LA", "P", "1", "I;16"])
def test_pngs_have_the_pixels_that_pillow_reads(mode, rng) -> None:
    grey = Image.fromarray(rng.integers(0, 65536, (48, 64)).astype(np.uint16))
    image = grey if mode == "I;16" else NOISE.convert(mode)
    turned = Image.Exif()
    turned[0x0112] = 6
    text, profile = PngImagePlugin.PngInfo(), ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    text.add_text("Software", "a camera's")
    kinds = [{}, {"exif": turned}, {"pnginfo": text}, {"dpi": (72, 72)}, {"icc_profile": profile}]
    if mode not in ("RGBA", "LA"):
        kinds.append({"transparency": (1, 2, 3) if mode == "RGB" else 0})
    for options in kinds:
        content = saved(image, **options)
        for extra in (b"", chunk(b"gAMA", b"\0\0\xb1\x8f"), chunk(b"eXIf", turned.tobytes()), b"\0" * 20):
            for whole in (content[:33] + extra + content[33:], content[:-12] + extra + content[-12:], content + extra):
                assert as_read_here(whole) == as_pillow_reads(whole)
    deep = png(rng.integers(0, 65536, (4, 5, 3)).astype(">u2"), 16, 2)
    assert as_read_here(deep) == as_pillow_reads(deep) is not None


@settings(max_examples=150)
@example("RGB", [], False, 0, 2, 15)
@given(
    st.sampled_from(["RGB", "L"]),
    st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), max_size=2),
    st.booleans(),
    st.integers(-300, 300),
    st.integers(1, 2),
    st.integers(0, 40),
)
def test_damage_to_pngs_is_judged_as_pillow_judges_it(mode, changes, compressed, longer, times, lost) -> None:
    """Before or after compression, under a right checksum: without one, libpng would notice by that. Then the pixels
    may stand there twice, and the file lack its last bytes.
    """
    image = NOISE.convert(mode).resize((16, 12))
    rows = bytearray(b"".join(b"\1" + row.tobytes() for row in np.asarray(image)))
    data = bytearray(zlib.compress(rows)) if compressed else rows
    for place, value in changes:
        data[place % len(data)] = value
    data = data + bytes(longer) if longer > 0 else data[: len(data) + min(longer, 0)]
    content = png(np.asarray(image), 8, 2 if mode == "RGB" else 0)
    pixels = chunk(b"IDAT", bytes(data) if compressed else zlib.compress(data))
    content = content[:33] + times * pixels + content[-12:]
    content = content[: len(content) - lost]
    assert as_read_here(content) == as_pillow_reads(content)


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
        (saved(NOISE, "JPEG2000"), "JPEG 2000; save it as png"),
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
        (Image.new("LAB", (4, 3)), "mode LAB"),
    ],
)
def test_values_without_a_rule_are_refused(image, message) -> None:
    picture = decode(saved(image, "TIFF"), HERE)
    for convert in (to_rgb, mask_values):
        with pytest.raises(ReconpatchError, match=message):
            convert(picture.image)


@pytest.mark.parametrize("values", [[0, 70_000], [-1, 5]])
def test_values_in_memory_that_are_no_16_bits_are_refused(values) -> None:
    image = Image.fromarray(np.array([values], np.int32))
    for convert in (to_rgb, mask_values):
        with pytest.raises(ReconpatchError, match=f"from {values[0]} to {values[1]}"):
            convert(image)


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "LA", "P", "I;16"])
def test_mask_values_are_zero_white_or_between(mode) -> None:
    image = Image.fromarray(np.array([[0, 1, 128, 255]], np.uint8))
    image = Image.fromarray(np.array([[0, 1, 30_000, 65535]], np.uint16)) if mode == "I;16" else image.convert(mode)
    values = mask_values(decode(saved(image), HERE).image)
    assert values.dtype == np.uint8
    assert [0 if v == 0 else 2 if v == 255 else 1 for v in values[0]] == [0, 1, 1, 2]
    blue = Image.fromarray(np.array([[(0, 0, 1), (0, 0, 0)]], np.uint8))  # whose luminance rounds to 0
    assert mask_values(blue).tolist() == [[1, 0]]


def rgb_of(values: np.ndarray, bits: int, photometric: int | None) -> np.ndarray:
    """What the values of a TIFF mean: (H, W, channels) -> (H, W, 3) floats from 0, black, to 255. Grey but for
    photometric 2.

    Without a tag, readers take 0 for white.
    """
    scaled = values * (255 / (2**bits - 1))
    if photometric in (0, None):
        scaled = 255 - scaled
    return scaled[..., :3] if photometric == 2 else np.repeat(scaled[..., :1], 3, axis=2)


TIFF_KINDS = [  # bits, channels, photometric, what the channels beyond colours are
    *((bits, 1, photometric, ()) for bits in (1, 2, 4, 8, 12, 16) for photometric in (0, 1, None)),
    *((bits, 3, 2, ()) for bits in (8, 16)),
    *((bits, 4, 2, (extra,)) for bits in (8, 16) for extra in (0, 2)),
    *((bits, 2, 1, (2,)) for bits in (8, 16)),
    (8, 5, 2, (0, 0)),
    (8, 5, 1, (0, 0, 0, 0)),
    (32, 3, 2, ()),
    (64, 1, 1, ()),
]
READ_AT_LEAST = {  # uncompressed, channels interleaved, little-endian
    *((bits, 1, photometric) for bits in (1, 2, 4, 8, 16) for photometric in (0, 1, None)),
    *((bits, channels, 2) for bits in (8, 16) for channels in (3, 4)),
    *((12, 1, 1), (8, 2, 1), (8, 5, 2)),
}


@pytest.mark.parametrize(("bits", "channels", "photometric", "extra"), TIFF_KINDS)
def test_a_tiff_has_the_pixels_its_tags_describe_or_is_refused_as_a_kind(bits, channels, photometric, extra, rng):
    """Against the values that were written, for every way to store them."""
    values = rng.integers(0, 2**bits, (13, 21, channels), dtype=np.uint64)
    values[..., 3:] = 2**bits - 1  # opaque
    want = rgb_of(values, bits, photometric)
    ways = itertools.product((False, True), repeat=4)
    for planar, deflate, big_endian, reversed_bits in ways:
        options = {"planar": planar, "deflate": deflate, "big_endian": big_endian, "reversed_bits": reversed_bits}
        for rows in (None, 5):
            content = tiff(values, bits, photometric, extra=extra, rows_per_strip=rows, **options)
            try:
                picture = decode(content, HERE)
                got = np.asarray(to_rgb(picture.image))
            except ReconpatchError as error:
                assert f"{channels} channel" in error.what and f"{bits} bits" in error.what, (options, str(error))
                assert "RGB or grey" in error.fix
                assert any(options.values()) or (bits, channels, photometric) not in READ_AT_LEAST
            else:
                assert np.abs(got - want).max() <= 1, options
                assert picture.extra_bands == (0 in extra)
                assert picture.deep == (bits > 8)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (tiff(np.zeros((4, 4, 1), np.float16), 16, sample_format=3), "16 floating-point bits"),
        (tiff(np.zeros((4, 4, 3), np.float32), 32, 2, sample_format=3), "3 channels of 32 floating-point bits"),
        (tiff(np.full((4, 4, 1), 200), 32), "1 channel of 32 bits"),  # also where the values have 16
        (tiff(np.full((4, 4, 1), 70_000), 32), "1 channel of 32 bits"),
        (tiff(np.full((4, 4, 1), 200), 32, sample_format=2), "1 channel of 32 signed bits"),
        (tiff(np.full((4, 4, 1), 200), sample_format=2), "below 0"),
        (tiff(np.zeros((4, 4, 3), int), photometric=6, more={530: (2, 2)}), "PhotometricInterpretation 6"),
        (tiff(np.zeros((4, 4, 1), int), photometric=32803), "PhotometricInterpretation 32803"),  # a raw sensor's
        (tiff(np.zeros((4, 4, 1), int), more={259: (34712,)}), "Compression 34712"),  # JPEG 2000
        (saved(NOISE, "JPEG").replace(b"\xff\xc0\x00\x11\x08", b"\xff\xc0\x00\x11\x0c"), "begins as JPEG: .*12-bit"),
        (png(np.zeros((4, 4), np.uint8), 8, 0, (4, 0)), "begins as PNG"),
        (b"MM\0+\0\x08\0\0" + bytes(60), "big-endian BigTIFF"),
    ],
)
def test_valid_kinds_that_are_not_read_are_not_called_damaged(content, message) -> None:
    """The message says which kind it is. What is damaged is not taken for such a kind."""
    with pytest.raises(ReconpatchError, match=message) as caught:
        decode(content, HERE)
    assert caught.value.where == str(HERE) and caught.value.fix


def test_every_compression_predictor_and_orientation_gives_the_pixels_written() -> None:
    """By Pillow, whose writer uses libtiff."""
    grey = Image.fromarray(np.random.default_rng(1).integers(0, 65536, (48, 64)).astype(np.uint16))
    for image in (NOISE, NOISE.convert("L"), NOISE.convert("RGBA"), NOISE.convert("P"), NOISE.convert("CMYK"), grey):
        for compression in ("raw", "packbits", "tiff_lzw", "tiff_adobe_deflate"):
            for orientation in (1, 6):
                tags = {0x0112: orientation} | ({317: 2} if compression == "tiff_lzw" and image.mode != "P" else {})
                content = saved(image, "TIFF", compression=compression, tiffinfo=tags)
                want = np.asarray(to_rgb(image))
                got = np.asarray(to_rgb(decode(content, HERE).image))
                assert np.array_equal(got, want if orientation == 1 else np.rot90(want, -1)), (image.mode, compression)
