"""From an image file to the square a network sees, for images and masks, and from an anomaly map back to the image.

Three rules for images that are not square: `crop` (the paper's: the shorter side is brought to `resize` px, then the
centre is cut out), `stretch` (the whole image squeezed to a square), `pad` (the whole image, its longer side brought to
the square's, the rest filled by repeating the edge).
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from reconpatch.data.augmentation import Augmentation, augment_image, augment_mask
from reconpatch.data.decoding import decode, mask_values, read_file, to_rgb
from reconpatch.errors import ReconpatchError

T = TypeVar("T", bound=np.generic)
INTERPOLATIONS = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
    "nearest": Image.Resampling.NEAREST,
}
MASK_RULES = {"any": "nearest", "official": "bilinear"}  # which pixels are a defect -> how masks are resized
ASPECTS = ("crop", "stretch", "pad")
PUBLISHED_RESIZES = {480: 512}  # size -> resize, where it is not in the ratio of PatchCore's 224 to 256; [PNI]


def default_resize(size: int) -> int:
    """px of the square -> px of the shorter side before the crop, in the ratio of the paper's 256 to 224."""
    return PUBLISHED_RESIZES.get(size, round(size * 256 / 224))


@dataclass(frozen=True)
class View:
    """How one image is seen: scaled to `scaled` px, then cut at `offset` px, which is negative where it is padded."""

    width: int  # px of the image
    height: int
    size: int  # px of the square
    scaled: tuple[int, int]  # (width, height)
    offset: tuple[int, int]  # px from the left and upper edge of the scaled image to the square's

    def square(self, image: Image.Image, interpolation: str) -> NDArray[np.uint8]:
        """(height, width) image, 8-bit RGB or grey -> (size, size, 3) or (size, size) uint8."""
        return self.cut(np.asarray(self.scale(image, interpolation)))

    def scale(self, image: Image.Image, interpolation: str) -> Image.Image:
        """(height, width) image -> the same at `scaled` px. Where `aspect` is `crop`, as torchvision's Resize."""
        return image if image.size == self.scaled else image.resize(self.scaled, INTERPOLATIONS[interpolation])

    def cut(self, scaled: NDArray[T]) -> NDArray[T]:
        """(scaled height, scaled width, ...) array -> (size, size, ...). For `crop`, as torchvision's CenterCrop."""
        (left, top), (width, height) = self.offset, self.scaled
        inner = scaled[max(top, 0) : top + self.size, max(left, 0) : left + self.size]
        rows = max(-top, 0), max(top + self.size - height, 0)
        columns = max(-left, 0), max(left + self.size - width, 0)
        if not any(rows + columns):  # np.pad takes 0.2 ms even then
            return np.ascontiguousarray(inner)
        return np.pad(inner, [rows, columns, *[(0, 0)] * (scaled.ndim - 2)], mode="edge")

    def content(self, side: int) -> NDArray[np.bool_]:
        """Cells along a side of a grid over the square -> (side, side) bool, true where a cell's centre is on the
        image and not on its padding. Of an image narrower than a cell, the cell that holds its middle is true.
        """
        centres = (np.arange(side) + 0.5) * self.size / side
        columns, rows = (
            (centres + shift >= 0) & (centres + shift < length)
            for shift, length in zip(self.offset, self.scaled, strict=True)
        )
        for on, shift, length in zip((columns, rows), self.offset, self.scaled, strict=True):
            if not on.any():
                on[int((length / 2 - shift) * side / self.size)] = True
        return np.asarray(rows[:, None] & columns)

    def seen(self) -> float:
        """Share of the image's area that lies in the square."""
        sides = zip(self.offset, self.scaled, strict=True)
        return float(np.prod([min(length, shift + self.size) - max(shift, 0) for shift, length in sides])) / (
            self.scaled[0] * self.scaled[1]
        )

    def enlargement(self) -> float:
        """How many times longer the scaled image is than the image, of its two sides the one of which this is less."""
        return min(self.scaled[0] / self.width, self.scaled[1] / self.height)

    def back(self, square: NDArray[np.float32], width: int = 0, height: int = 0) -> NDArray[np.float32]:
        """(size, size) map -> (height, width) map of the image, bilinear, NaN outside the square.

        Without `width` and `height` it has those of the image.
        """
        width, height = width or self.width, height or self.height
        centres = [  # of the map's pixels, in px of the square
            (np.arange(count) + 0.5) * length / count - shift
            for count, length, shift in zip((width, height), self.scaled, self.offset, strict=True)
        ]
        (columns, wide), (rows, high) = (  # between the centres of the image's own pixels, not of its padding
            (
                np.clip(c - 0.5, max(0, -shift), min(self.size, length - shift) - 1),
                (c >= 0) & (c < self.size),
            )
            for c, length, shift in zip(centres, self.scaled, self.offset, strict=True)
        )
        whole = _interpolate(_interpolate(square, rows).T, columns).T
        whole[~(high[:, None] & wide)] = np.nan
        return whole

    def point(self, x: float, y: float) -> tuple[float, float]:
        """A point of the square, px from its left and upper edge -> the same point of the image, kept inside it."""
        xy = zip((x, y), self.offset, self.scaled, (self.width, self.height), strict=True)
        column, row = (min(max((v + shift) * full / length, 0.0), float(full)) for v, shift, length, full in xy)
        return column, row


def _interpolate(rows: NDArray[np.float32], at: NDArray[np.float64]) -> NDArray[np.float32]:
    """((H, W), (M,) positions between the rows' centres) -> (M, W), linear."""
    low = np.minimum(at.astype(int), max(len(rows) - 2, 0))
    share = (at - low).astype(np.float32)[:, None]
    return np.asarray(rows[low] * (1 - share) + rows[np.minimum(low + 1, len(rows) - 1)] * share, np.float32)


def view(width: int, height: int, *, size: int, resize: int, aspect: str = "crop") -> View:
    """px of an image, of the square, of the shorter side before a crop, one of ASPECTS -> View.

    Raises ReconpatchError for another aspect.
    """
    if aspect == "crop":
        long = int(resize * max(width, height) / min(width, height))
        scaled = (resize, long) if width <= height else (long, resize)
        return View(width, height, size, scaled, (round((scaled[0] - size) / 2), round((scaled[1] - size) / 2)))
    if aspect == "stretch":
        return View(width, height, size, (size, size), (0, 0))
    if aspect == "pad":
        longest = max(width, height)
        scaled = (max(1, round(size * width / longest)), max(1, round(size * height / longest)))
        return View(width, height, size, scaled, ((scaled[0] - size) // 2, (scaled[1] - size) // 2))
    raise ReconpatchError("unknown", where=f"aspect {aspect!r}", fix=f"choose one of {', '.join(ASPECTS)}")


def load_image(path: Path) -> Image.Image:
    """file -> 8-bit RGB image. Raises ReconpatchError naming the file."""
    image = decode(read_file(path), path).image
    try:
        return to_rgb(image)
    except ReconpatchError as error:
        raise error.at(path) from None


def load_mask(path: Path, rule: str = "any") -> Image.Image:
    """file -> 8-bit grey mask, 255 on the defect.

    "any": 255 where any channel of the file is above 0, else 0. "official": the file's own grey values, of which
    PatchCore's code counts only 255. Raises ReconpatchError for another rule and for a file that cannot be read.
    """
    if rule not in MASK_RULES:
        raise ReconpatchError("unknown", where=f"mask rule {rule!r}", fix=f"choose one of {', '.join(MASK_RULES)}")
    if rule == "official":
        return load_image(path).convert("L")
    image = decode(read_file(path), path).image
    try:
        return Image.fromarray(np.where(mask_values(image) > 0, np.uint8(255), np.uint8(0)))
    except ReconpatchError as error:
        raise error.at(path) from None


def image_array(
    path: Path, resize: int, crop: int, interpolation: str, augmentation: Augmentation | None = None
) -> NDArray[np.uint8]:
    """file -> (crop, crop, 3) uint8, augmented between resize and crop, so that real pixels fill the border."""
    image = load_image(path)
    seen = view(*image.size, size=crop, resize=resize)
    scaled = np.asarray(seen.scale(image, interpolation))
    return seen.cut(scaled if augmentation is None else augment_image(scaled, augmentation))


def mask_array(
    path: Path, resize: int, crop: int, rule: str = "any", augmentation: Augmentation | None = None
) -> NDArray[np.bool_]:
    """file -> (crop, crop) bool, true on the defect, augmented like its image.

    "any": every value above 0 in the file, resized by nearest neighbour, so that the mask stays a mask. "official":
    resized bilinearly like an image, after which only pixels of exactly 255 count, as in PatchCore's code: defects
    lose their rim. Raises ReconpatchError for another rule and for a file that cannot be read.
    """
    mask = load_mask(path, rule)
    seen = view(*mask.size, size=crop, resize=resize)
    scaled = np.asarray(seen.scale(mask, MASK_RULES[rule])) == 255
    return seen.cut(scaled if augmentation is None else augment_mask(scaled, augmentation))


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
