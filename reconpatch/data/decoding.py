"""From a file to pixels: each file is read once, only whole images are accepted, every mode has a stated rule."""

import re
import stat
import struct
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps, TiffImagePlugin, TiffTags, UnidentifiedImageError
from PIL.TiffImagePlugin import (
    BITSPERSAMPLE,
    COMPRESSION,
    EXTRASAMPLES,
    FILLORDER,
    IMAGELENGTH,
    IMAGEWIDTH,
    PHOTOMETRIC_INTERPRETATION,
    PLANAR_CONFIGURATION,
    SAMPLEFORMAT,
    SAMPLESPERPIXEL,
    YCBCRSUBSAMPLING,
)

from reconpatch.data.layouts import FORMAT_SUFFIXES
from reconpatch.errors import ReconpatchError, quote

try:
    from imagecodecs import png_decode
except ImportError:  # a machine without it, as for benchmarks/gpu, decodes with Pillow alone: the same pixels, later
    png_decode = None  # type: ignore[assignment]

# By content, not by suffix; no other parser is run. Pillow opens an MPO as the JPEG that it begins with.
FORMATS = tuple(name for name in FORMAT_SUFFIXES if name != "MPO")
MAX_PIXELS = 80_000_000  # below where Pillow itself warns of a decompression bomb
MAX_RATIO = 50  # of the sides: the shorter is scaled to `resize` px, and the longer side of a strip would be huge
MAX_BYTES = 8 * MAX_PIXELS  # more than an uncompressed image of that many pixels has
SIXTEEN_BIT = frozenset({"I;16", "I;16B", "I;16L", "I;16N", "I"})  # 16-bit grey; "I" may hold 32 bits
EIGHT_BIT = frozenset({"1", "L", "P", "LA", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr"})
ROWS_AT_ONCE = 64  # hashed: the bytes of a whole image are new memory, which takes longer than hashing them
PLAIN_PNG = frozenset({b"\x08\0\0\0\0", b"\x08\2\0\0\0"})  # 8 bits of grey or RGB, rows in order
# Chunks ahead of a PNG's pixels that change nothing. Not: transparency, EXIF (also in texts), frames, and colour
# profiles, of some of which libpng warns on the terminal.
PLAIN_CHUNKS = frozenset(b"IHDR pHYs gAMA cHRM sRGB sBIT bKGD tIME IDAT".split())
UNSPECIFIED = 0  # value of EXTRASAMPLES: neither colour nor alpha
USUAL = {  # tag of TIFF -> the values that need no word
    COMPRESSION: frozenset(TiffImagePlugin.COMPRESSION_INFO),
    PHOTOMETRIC_INTERPRETATION: {1, 2},
    PLANAR_CONFIGURATION: {1},
    FILLORDER: {1},
}
SAMPLE_FORMATS = {2: "signed ", 3: "floating-point ", 5: "complex ", 6: "complex "}
PLAIN = "save it as 8- or 16-bit RGB or grey, for example as png"
BEGINNINGS = {  # of files that are often named as if they were images
    b"GIF8": "a GIF; save it as png",
    b"version https://git-lfs": "a pointer of Git LFS: `git lfs pull` fetches the image",
    b"<": "text of the web (HTML or XML), perhaps a failed download",
    b"%PDF": "a PDF",
    b"\0\0\0\x0cjP  ": "a JPEG 2000; save it as png",
    b"\xff\x4f\xff\x51": "a JPEG 2000; save it as png",
    b"\0\0\0\x0cJXL ": "a JPEG XL; save it as png",
    b"PK\x03\x04": "a zip archive",
}


@dataclass(frozen=True)
class Picture:
    """A decoded file: its pixels, turned as EXIF says, its format, and its EXIF orientation (1: not turned)."""

    image: Image.Image
    format: str  # "" for an image that was in memory
    orientation: int = 1
    deep: bool = False  # the file has more than 8 bits per value, whatever the mode of the image says
    extra_bands: bool = False  # the file has more bands than colours and alpha


def read_file(path: Path) -> bytes:
    """file -> its bytes. Raises ReconpatchError naming the file if it cannot be read or is larger than any image.

    Folders, devices and pipes are refused unopened: reading one might never end.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            kind = "a folder" if stat.S_ISDIR(status.st_mode) else "a device or pipe"
            raise ReconpatchError(f"{kind}, not an image file", where=path, fix="move or rename it")
        if status.st_size > MAX_BYTES:
            raise _refused(f"{status.st_size} bytes are", path, "scale it")
        return path.read_bytes()
    except FileNotFoundError:
        what = f"broken link to {quote(path.readlink())}" if path.is_symlink() else "no such file"
        raise ReconpatchError(what, where=path) from None
    except OSError as error:
        raise ReconpatchError(f"cannot be read ({error.strerror or error})", where=path) from None


def _refused(size: str, path: Path, fix: str) -> ReconpatchError:
    return ReconpatchError(f"refused, {size} no photograph of a product", where=path, fix=fix)


def decode(content: bytes, path: Path) -> Picture:
    """bytes of a file, its name for messages -> the whole image in its own mode, turned as its EXIF orientation says.

    Raises ReconpatchError, naming the file, for anything else: damaged or cut files, other formats, kinds of TIFF whose
    pixels Pillow does not give, several pictures in one file (of a camera's MPO the first is the photograph), no or too
    many pixels, strips.
    """
    if content.startswith(b"MM\0+"):  # Pillow takes its header for that of another file
        raise ReconpatchError("a big-endian BigTIFF: a kind that is not read", where=path, fix=PLAIN)
    try:
        with Image.open(BytesIO(content), formats=FORMATS) as image:
            short, long = sorted(image.size)
            size = f"{image.width}x{image.height} px is"
            if not 0 < short * long <= MAX_PIXELS:
                raise _refused(size, path, "scale it")
            if long > MAX_RATIO * short:
                raise _refused(size, path, "cut a part out")
            frames = getattr(image, "n_frames", 1)
            if frames > 1 and image.format != "MPO":
                raise ReconpatchError(
                    f"holds {frames} pictures (frames or pages)", where=path, fix="save each as a file of its own"
                )
            return _plain_png(content) or load_picture(image)
    except ReconpatchError as error:
        raise error.at(path) from None
    except UnidentifiedImageError:
        raise _unidentified(content).at(path) from None
    except Exception as error:  # Pillow's parsers raise anything on damaged files; warnings where those are errors
        reason = str(error) or type(error).__name__
        rare = "if other programs show it, save it there as png, else " if _begins_as("TIFF", content) else ""
        raise ReconpatchError(f"cannot be decoded ({reason})", where=path, fix=f"{rare}replace the file") from None


def _plain_png(content: bytes) -> Picture | None:
    """Bytes of a file -> the picture as Pillow gives it, in two thirds of its time, if it is a whole PNG of the usual
    kinds; else None.
    """
    if png_decode is None or not _begins_as("PNG", content) or content[24:29] not in PLAIN_PNG:
        return None
    place, kind = 8, b""
    try:
        while kind != b"IEND":
            before, (length, kind) = kind, struct.unpack_from(">I4s", content, place)
            if kind not in ({b"IDAT", b"IEND"} if before == b"IDAT" else PLAIN_CHUNKS):
                return None
            place += length + 12
        return Picture(Image.fromarray(png_decode(content)), "PNG")
    except Exception:  # damaged: Pillow says what is wrong
        return None


def load_picture(image: Image.Image) -> Picture:
    """An image as Pillow opened or made it -> its picture.

    Raises ReconpatchError, without a place, for kinds of TIFF whose pixels Pillow does not give, and whatever Pillow
    raises where the pixels of a file are damaged.
    """
    tags: Mapping[int, Any] | None = getattr(image, "tag_v2", None)
    # Pillow gives 32 bits as it gives 16. Of floating-point values `to_rgb` says what is wrong.
    if tags is not None and (_misread(tags) or (image.mode == "I" and 32 in tags.get(BITSPERSAMPLE, ()))):
        raise _not_read(tags)
    orientation = image.getexif().get(ExifTags.Base.Orientation, 1)  # read before load, which turns TIFFs by it
    raw_modes = str(getattr(image, "tile", ""))  # Pillow's names of the values in the file, as RGB;16B
    deep = image.mode in SIXTEEN_BIT or re.search(";16[BLN]", raw_modes) is not None
    try:
        image.load()
    except ValueError as error:
        if tags is not None and "raw mode" in str(error):  # Pillow has no decoder for such values
            raise _not_read(tags) from None
        raise
    turned = image if orientation == 1 else ImageOps.exif_transpose(image)
    extra = False
    if tags is not None:
        turned, extra = _as_tags_say(turned, tags), UNSPECIFIED in tags.get(EXTRASAMPLES, ())
    known = isinstance(orientation, int) and 1 <= orientation <= 8
    return Picture(turned, image.format or "", orientation if known else 1, deep, extra)


def _misread(tags: Mapping[int, Any]) -> bool:
    """Tags of a TIFF -> whether Pillow would give other pixels than they describe, without an error.

    Pillow reads uncompressed files itself, everything else with libtiff, which knows all tags. If an uncompressed file
    holds its channels one after another (also: its only channel), Pillow ignores depth, polarity and order of the bits
    of each. It ignores that colours have fewer pixels than brightness, too.
    """
    if tags.get(COMPRESSION, 1) != 1:
        return False
    bits, photometric = set(tags.get(BITSPERSAMPLE, (1,))), tags.get(PHOTOMETRIC_INTERPRETATION, 0)
    if photometric == 6 and tags.get(YCBCRSUBSAMPLING, (1, 1)) != (1, 1):
        return True
    plain = tags.get(FILLORDER, 1) == 1 and ((bits == {8} and photometric != 0) or (bits == {1} and photometric == 1))
    return tags.get(PLANAR_CONFIGURATION, 1) == 2 and not plain


def _as_tags_say(image: Image.Image, tags: Mapping[int, Any]) -> Image.Image:
    """A TIFF as Pillow decodes it, its tags -> the image that they describe.

    Pillow leaves 12-bit grey as it is in 16 bits, does not invert 16-bit grey whose 0 is white, and takes signed bytes
    for unsigned ones. Raises ReconpatchError for values below 0.
    """
    if image.mode == "L" and 2 in tags.get(SAMPLEFORMAT, ()) and np.asarray(image).max() > 127:
        raise ReconpatchError("grey values below 0", fix="save it with 8 or 16 bits, unsigned")
    if image.mode != "I;16":
        return image
    if tags.get(BITSPERSAMPLE) == (12,):
        image = Image.fromarray(((np.asarray(image, np.uint32) * 65535 + 2047) // 4095).astype(np.uint16))
    if tags.get(PHOTOMETRIC_INTERPRETATION, 0) == 0:
        image = Image.fromarray(65535 - np.asarray(image))
    return image


def _not_read(tags: Mapping[int, Any]) -> ReconpatchError:
    """Tags of a TIFF that is valid, but of a kind that is not read -> the error that says which kind it is."""
    channels, depths = tags.get(SAMPLESPERPIXEL, 1), sorted(set(tags.get(BITSPERSAMPLE, (1,))))
    values = SAMPLE_FORMATS.get(max(tags.get(SAMPLEFORMAT, (1,))), "")
    unusual = [
        f"{TiffTags.lookup(tag).name} {tags[tag]}"
        for tag, usual in USUAL.items()
        if tag in tags and tags[tag] not in usual
    ]
    kind = f"a TIFF of {channels} channel{'s' if channels > 1 else ''} of {' and '.join(map(str, depths))} {values}bits"
    return ReconpatchError(f"{', '.join([kind, *unusual])}: a kind that is not read", fix=PLAIN)


def _begins_as(file_format: str, content: bytes) -> bool:
    """Whether the first bytes are those of a format, by Pillow's test."""
    accepts = Image.OPEN[file_format][1]
    return accepts is not None and bool(accepts(content[:16]))


def _unidentified(content: bytes) -> ReconpatchError:
    """Bytes in which Pillow finds no image -> the error that says why, without a place."""
    if _begins_as("TIFF", content):
        with suppress(Exception):  # of damaged tags
            return _not_read(_tiff_tags(content))
    for file_format in FORMATS:
        if _begins_as(file_format, content):
            try:
                Image.OPEN[file_format][0](BytesIO(content), "")
            except Exception as error:
                what = f"not an image that can be read (it begins as {file_format}: {error or type(error).__name__})"
                return ReconpatchError(what, fix="replace the file; if other programs show it, save it there as png")
    return ReconpatchError(f"not an image that can be read ({_guess(content)})")


def _tiff_tags(content: bytes) -> Mapping[int, Any]:
    """Bytes of a TIFF -> the tags of its first picture. Raises anything if they are damaged or give no size."""
    stream = BytesIO(content)
    header = stream.read(16 if content.startswith(b"II+") else 8)  # a BigTIFF has a longer one
    tags = TiffImagePlugin.ImageFileDirectory_v2(header)
    stream.seek(tags.next)
    tags.load(stream)
    if not tags[IMAGEWIDTH] * tags[IMAGELENGTH]:
        raise ValueError("no pixels")
    return tags


def _guess(content: bytes) -> str:
    """What a file that is no image might be, by its beginning."""
    if not content:
        return "it is empty: 0 bytes"
    if content[4:8] == b"ftyp":
        return "it holds HEIC, AVIF or a video; save it as png"
    known = (what for head, what in BEGINNINGS.items() if content.lstrip().startswith(head))
    return "it holds " + next(known, f"none of {', '.join(FORMATS)}, or its beginning is damaged")


def to_rgb(image: Image.Image) -> Image.Image:
    """image in any mode of EIGHT_BIT or SIXTEEN_BIT -> 8-bit RGB, the image itself if it is that already. Raises
    ReconpatchError for other modes.

    16-bit grey is scaled by 1/257, because Pillow's own conversion saturates at 255; of 16-bit colours Pillow keeps the
    high byte, at most 1 from that. Alpha is dropped: the colours below it count. Colour profiles are not applied.
    """
    if image.mode in SIXTEEN_BIT:
        values = np.asarray(image, np.int64)
        if values.min() < 0 or values.max() > 65535:
            raise ReconpatchError(f"grey values from {values.min()} to {values.max()}", fix="save with 8 or 16 bits")
        image = Image.fromarray(((values + 128) // 257).astype(np.uint8))
    elif image.mode == "F":
        raise ReconpatchError("floating-point images have no stated range", fix="save them with 8 or 16 bits")
    elif image.mode not in EIGHT_BIT:
        raise ReconpatchError(f"colours in mode {image.mode} have no rule here", fix="save the image as RGB")
    elif image.mode in ("P", "PA") and "transparency" in image.info:
        image = image.convert("RGBA")  # otherwise Pillow warns of what it drops
    return image if image.mode == "RGB" else image.convert("RGB")


def pixel_digest(image: Image.Image) -> str:
    """(W, H) image, 8-bit RGB -> SHA-256 of its size and pixels, the same for all copies however they are saved."""
    digest = sha256(f"{image.width}x{image.height} ".encode())  # 2x8 and 4x4 px may have the same bytes
    for top in range(0, image.height, ROWS_AT_ONCE):
        bottom = min(top + ROWS_AT_ONCE, image.height)
        digest.update(image.crop((0, top, image.width, bottom)).tobytes())
    return digest.hexdigest()


def mask_values(image: Image.Image) -> NDArray[np.uint8]:
    """(W, H) mask in any mode -> (H, W) uint8 grey: 0 where every channel is 0, 255 where white, else at least 1.

    Raises ReconpatchError for modes without a rule.
    """
    if image.mode in ("1", "L"):
        return np.asarray(image.convert("L"))
    rgb = to_rgb(image)
    above = np.asarray(image if image.mode in SIXTEEN_BIT else rgb).astype(bool)  # 1 of 65535 is above 0, too
    least = (above if above.ndim == 2 else above.any(-1)).astype(np.uint8)
    return np.maximum(np.asarray(rgb.convert("L"), np.uint8), least)
