"""Reading images and masks, and the resize and crop that both share."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from reconpatch.data.augmentation import Augmentation, augment_image, augment_mask
from reconpatch.data.decoding import decode, mask_values, read_file, to_rgb
from reconpatch.data.layouts import shown
from reconpatch.errors import ReconpatchError

INTERPOLATIONS = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
    "nearest": Image.Resampling.NEAREST,
}
MASK_RULES = {"any": "nearest", "official": "bilinear"}  # which pixels are a defect -> how masks are resized


def load_image(path: Path) -> Image.Image:
    """file -> 8-bit RGB image; raises ReconpatchError naming the file."""
    image = decode(read_file(path), path).image
    try:
        return to_rgb(image)
    except ReconpatchError as error:
        raise ReconpatchError(f"{shown(path)}: {error}") from None


def load_mask(path: Path, rule: str = "any") -> Image.Image:
    """file -> 8-bit grey mask, 255 on the defect.

    "any": 255 where any channel of the file is above 0, else 0. "official": the file's own grey values, of which
    PatchCore's code counts only 255. Raises ReconpatchError for another rule and for a file that cannot be read.
    """
    if rule not in MASK_RULES:
        raise ReconpatchError(f"mask rule {rule!r}: unknown, choose one of {', '.join(MASK_RULES)}")
    if rule == "official":
        return load_image(path).convert("L")
    image = decode(read_file(path), path).image
    try:
        return Image.fromarray(np.where(mask_values(image) > 0, np.uint8(255), np.uint8(0)))
    except ReconpatchError as error:
        raise ReconpatchError(f"{shown(path)}: {error}") from None


def scaled_shorter(width: int, height: int, resize: int) -> tuple[int, int]:
    """px of an image -> its (width, height) once the shorter side is `resize` px."""
    long = int(resize * max(width, height) / min(width, height))
    return (resize, long) if width <= height else (long, resize)


def resize_shorter(image: Image.Image, resize: int, interpolation: str) -> Image.Image:
    """(W, H) image -> image whose shorter side is `resize` px, aspect ratio kept, as torchvision's Resize on PIL."""
    size = scaled_shorter(*image.size, resize)
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
