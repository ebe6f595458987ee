"""Reading images and masks, and the resize and crop that both share."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from reconpatch.errors import ReconpatchError

EXTENSIONS = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"})
INTERPOLATIONS = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
    "nearest": Image.Resampling.NEAREST,
}
MAX_PIXELS = 80_000_000  # below where Pillow itself warns of a decompression bomb
SIXTEEN_BIT = frozenset({"I;16", "I;16B", "I;16L", "I"})  # PIL opens 16-bit grey PNGs in one of these


def decode(path: Path) -> Image.Image:
    """file -> fully decoded image in its own mode, turned as its EXIF orientation says.

    Raises ReconpatchError, naming the file, for anything that is not a whole image.
    """
    try:
        with Image.open(path) as image:
            if image.width * image.height > MAX_PIXELS:
                raise ReconpatchError(f"{path}: refused, {image.width}x{image.height} px is no photograph of a product")
            image.load()
            return ImageOps.exif_transpose(image)
    except FileNotFoundError:
        raise ReconpatchError(f"{path}: no such file") from None
    except UnidentifiedImageError:
        raise ReconpatchError(f"{path}: not an image that can be read (empty, damaged or another format)") from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:  # Pillow's, for damaged files
        raise ReconpatchError(f"{path}: cannot be decoded ({error}); replace the file") from None


def to_rgb(image: Image.Image) -> Image.Image:
    """image in any mode -> 8-bit RGB.

    16-bit grey is scaled by 1/257, because Pillow's own conversion saturates at 255; alpha is dropped.
    """
    if image.mode in SIXTEEN_BIT:
        values = np.clip(np.asarray(image, np.int64), 0, 65535)
        image = Image.fromarray(((values + 128) // 257).astype(np.uint8))
    elif image.mode == "F":
        raise ReconpatchError("floating-point images have no stated range: save them with 8 or 16 bits")
    return image.convert("RGB")


def load_image(path: Path) -> Image.Image:
    """file -> 8-bit RGB image; raises ReconpatchError naming the file."""
    image = decode(path)
    try:
        return to_rgb(image)
    except ReconpatchError as error:
        raise ReconpatchError(f"{path}: {error}") from None


def load_mask(path: Path) -> Image.Image:
    """file -> 8-bit mask, 255 where any channel of the file is above 0: the defect."""
    image = decode(path)
    values = np.asarray(image.convert("RGB") if image.mode in {"P", "LA"} else image)
    defect = values.astype(bool) if values.ndim == 2 else values[..., :3].astype(bool).any(-1)
    return Image.fromarray(np.where(defect, np.uint8(255), np.uint8(0)))


def resize_crop(image: Image.Image, resize: int, crop: int, interpolation: str) -> Image.Image:
    """(W, H) image -> (crop, crop) image: shorter side to `resize` px, aspect ratio kept, then the centre.

    The same numbers as torchvision's Resize and CenterCrop on PIL images, which the official PatchCore uses.
    """
    width, height = image.size
    short, long = min(width, height), max(width, height)
    scaled = int(resize * long / short)
    size = (resize, scaled) if width <= height else (scaled, resize)
    if size != image.size:
        image = image.resize(size, INTERPOLATIONS[interpolation])
    left, top = round((size[0] - crop) / 2), round((size[1] - crop) / 2)
    return image.crop((left, top, left + crop, top + crop))


def image_array(path: Path, resize: int, crop: int, interpolation: str) -> NDArray[np.uint8]:
    """file -> (crop, crop, 3) uint8."""
    return np.asarray(resize_crop(load_image(path), resize, crop, interpolation))


def mask_array(path: Path, resize: int, crop: int) -> NDArray[np.bool_]:
    """file -> (crop, crop) bool, true on the defect: nearest neighbour, so that the mask stays a mask."""
    return np.asarray(resize_crop(load_mask(path), resize, crop, "nearest")) > 0
