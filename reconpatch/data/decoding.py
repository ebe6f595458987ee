"""From a file to pixels: each file is read once, only whole images are accepted, every mode has a stated rule."""

import stat
from dataclasses import dataclass
from hashlib import sha256
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from reconpatch.errors import ReconpatchError, quote

FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP")  # by content, not by suffix; no other parser is run
MAX_PIXELS = 80_000_000  # below where Pillow itself warns of a decompression bomb
MAX_RATIO = 50  # of the sides: the shorter is scaled to `resize` px, and the longer side of a strip would be huge
MAX_BYTES = 8 * MAX_PIXELS  # more than an uncompressed image of that many pixels has
SIXTEEN_BIT = frozenset({"I;16", "I;16B", "I;16L", "I;16N", "I"})  # 16-bit grey; "I" may hold 32 bits
EIGHT_BIT = frozenset({"1", "L", "P", "LA", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr"})
ROWS_AT_ONCE = 64  # hashed: the bytes of a whole image are new memory, which takes longer than hashing them
ORIENTATION = 0x0112  # of EXIF
BEGINNINGS = {  # of files that are often named as if they were images
    b"GIF8": "a GIF; save it as png",
    b"version https://git-lfs": "a pointer of Git LFS: `git lfs pull` fetches the image",
    b"<": "text of the web (HTML or XML), perhaps a failed download",
    b"%PDF": "a PDF",
    b"PK\x03\x04": "a zip archive",
}


@dataclass(frozen=True)
class Picture:
    """A decoded file: its pixels, turned as EXIF says, its format, and its EXIF orientation (1: not turned)."""

    image: Image.Image
    format: str
    orientation: int


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

    Raises ReconpatchError, naming the file, for anything else: damaged or cut files, other formats, several pictures
    in one file (of a camera's MPO the first is the photograph), no or too many pixels, strips.
    """
    try:
        with Image.open(BytesIO(content), formats=FORMATS) as image:
            short, long = sorted(image.size)
            size = f"{image.width}x{image.height} px is"
            if not 0 < short * long <= MAX_PIXELS:
                raise _refused(size, path, "scale it")
            if long > MAX_RATIO * short:
                raise _refused(size, path, "cut a part out")
            file_format, frames = image.format or "", getattr(image, "n_frames", 1)
            if frames > 1 and file_format != "MPO":
                raise ReconpatchError(
                    f"holds {frames} pictures (frames or pages)", where=path, fix="save each as a file of its own"
                )
            orientation = image.getexif().get(ORIENTATION, 1)  # read before load, which turns TIFFs by it
            image.load()
            turned = ImageOps.exif_transpose(image)
            known = isinstance(orientation, int) and 1 <= orientation <= 8
            return Picture(turned, file_format, orientation if known else 1)
    except ReconpatchError:
        raise
    except UnidentifiedImageError:
        raise ReconpatchError(f"not an image that can be read ({_guess(content)})", where=path) from None
    except Exception as error:  # Pillow's parsers raise anything on damaged files; warnings where those are errors
        reason = str(error) or type(error).__name__
        raise ReconpatchError(f"cannot be decoded ({reason})", where=path, fix="replace the file") from None


def _guess(content: bytes) -> str:
    """What a file that is no image might be, by its beginning."""
    if not content:
        return "it is empty: 0 bytes"
    if content[4:8] == b"ftyp":
        return "it holds HEIC, AVIF or a video; save it as png"
    known = (what for head, what in BEGINNINGS.items() if content.lstrip().startswith(head))
    return "it holds " + next(known, f"none of {', '.join(FORMATS)}, or its beginning is damaged")


def to_rgb(image: Image.Image) -> Image.Image:
    """image in any mode of EIGHT_BIT or SIXTEEN_BIT -> 8-bit RGB. Raises ReconpatchError for other modes.

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
    return image.convert("RGB")


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
