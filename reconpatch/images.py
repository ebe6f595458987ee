"""Reading images and masks, and the resize and crop that both share."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from reconpatch.augmentation import Augmentation, augment_image, augment_mask
from reconpatch.errors import ReconpatchError

INTERPOLATIONS = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
    "nearest": Image.Resampling.NEAREST,
}
MASK_RULES = {"any": "nearest", "official": "bilinear"}  # which pixels are a defect -> how masks are resized
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


def load_mask(path: Path, rule: str = "any") -> Image.Image:
    """file -> 8-bit grey mask, 255 on the defect.

    "any": 255 where any channel of the file is above 0, else 0. "official": the file's own grey values, of which
    PatchCore's code counts only 255. Raises ReconpatchError for another rule and for a file that cannot be read.
    """
    if rule not in MASK_RULES:
        raise ReconpatchError(f"mask rule {rule!r}: unknown, choose one of {', '.join(MASK_RULES)}")
    if rule == "official":
        return load_image(path).convert("L")
    image = decode(path)
    values = np.asarray(image.convert("RGB") if image.mode in {"P", "LA"} else image)
    defect = values.astype(bool) if values.ndim == 2 else values[..., :3].astype(bool).any(-1)
    return Image.fromarray(np.where(defect, np.uint8(255), np.uint8(0)))


def resize_shorter(image: Image.Image, resize: int, interpolation: str) -> Image.Image:
    """(W, H) image -> image whose shorter side is `resize` px, aspect ratio kept, as torchvision's Resize on PIL."""
    width, height = image.size
    short, long = min(width, height), max(width, height)
    scaled = int(resize * long / short)
    size = (resize, scaled) if width <= height else (scaled, resize)
    return image if size == image.size else image.resize(size, INTERPOLATIONS[interpolation])


def centre_crop(image: Image.Image, crop: int) -> Image.Image:
    """(W, H) image -> (crop, crop) image around its centre, as torchvision's CenterCrop on PIL."""
    width, height = image.size
    left, top = round((width - crop) / 2), round((height - crop) / 2)
    return image.crop((left, top, left + crop, top + crop))


def resize_crop(image: Image.Image, resize: int, crop: int, interpolation: str) -> Image.Image:
    """(W, H) image -> (crop, crop) image: shorter side to `resize` px, aspect ratio kept, then the centre.

    The same numbers as torchvision's Resize and CenterCrop on PIL images, which the official PatchCore uses.
    """
    return centre_crop(resize_shorter(image, resize, interpolation), crop)


def image_array(
    path: Path, resize: int, crop: int, interpolation: str, augmentation: Augmentation | None = None
) -> NDArray[np.uint8]:
    """file -> (crop, crop, 3) uint8, augmented between resize and crop, so that real pixels fill the border."""
    image = resize_shorter(load_image(path), resize, interpolation)
    if augmentation is not None:
        image = Image.fromarray(augment_image(np.asarray(image), augmentation))
    return np.asarray(centre_crop(image, crop))


def mask_array(
    path: Path, resize: int, crop: int, rule: str = "any", augmentation: Augmentation | None = None
) -> NDArray[np.bool_]:
    """file -> (crop, crop) bool, true on the defect, augmented like its image.

    "any": every value above 0 in the file, resized by nearest neighbour, so that the mask stays a mask. "official":
    resized bilinearly like an image, after which only pixels of exactly 255 count, as in PatchCore's code: defects
    lose their rim. Raises ReconpatchError for another rule and for a file that cannot be read.
    """
    mask = np.asarray(resize_shorter(load_mask(path, rule), resize, MASK_RULES[rule])) == 255
    if augmentation is not None:
        mask = augment_mask(mask, augmentation)
    return np.asarray(centre_crop(Image.fromarray(mask), crop))


def read_masks(
    paths: Sequence[Path | None],
    resize: int,
    crop: int,
    rule: str,
    threads: int,
    augmentations: Sequence[Augmentation | None],
) -> NDArray[np.bool_]:
    """N mask files, None for a normal image -> (N, crop, crop) bool, true on the defect, moved as their images are."""

    def read(path: Path | None, augmentation: Augmentation | None) -> NDArray[np.bool_]:
        return np.zeros((crop, crop), bool) if path is None else mask_array(path, resize, crop, rule, augmentation)

    with ThreadPoolExecutor(threads) as pool:
        return np.stack(list(pool.map(read, paths, augmentations)))
