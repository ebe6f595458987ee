"""From an image file to the frame a network sees, for images and masks, and from an anomaly map back to the image.

Four rules for images that are not square. Three make a square of them: `crop` (the paper's: the shorter side is brought
to `resize` px, then the centre is cut out), `stretch` (the whole image squeezed to a square), `pad` (the whole image,
its longer side brought to the square's, the rest filled by repeating the edge). `keep` shows the whole image as a
rectangle: its shorter side is brought to the size, its longer side in proportion.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from reconpatch.data.augmentation import Augmentation, augment_image, augment_mask
from reconpatch.data.decoding import decode, mask_values, read_file, to_rgb
from reconpatch.data.layouts import Item
from reconpatch.errors import ReconpatchError

T = TypeVar("T", bound=np.generic)
INTERPOLATIONS = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
    "nearest": Image.Resampling.NEAREST,
}
MaskRule = Literal["any", "official"]
Aspect = Literal["crop", "stretch", "pad", "keep"]
MASK_RULES = {"any": "nearest", "official": "bilinear"}  # which pixels are a defect -> how masks are resized
ASPECTS: tuple[str, ...] = get_args(Aspect)
STEP = 32  # px: `keep` makes a longer side that is longer than the shorter by a multiple of this
LONGEST = 10  # times the shorter side: `keep` takes no longer images, whose maps and activations grow with it
PUBLISHED_RESIZES = {480: 512}  # size -> resize, where it is not in the ratio of PatchCore's 224 to 256; [PNI]


def default_resize(size: int) -> int:
    """px of the square -> px of the shorter side before the crop, in the ratio of the paper's 256 to 224."""
    return PUBLISHED_RESIZES.get(size, round(size * 256 / 224))


@dataclass(frozen=True)
class View:
    """How one image is seen: scaled to `scaled` px, then cut at `offset` px, which is negative where it is padded."""

    width: int  # px of the image
    height: int
    frame: tuple[int, int]  # (width, height) in px of what the network sees; a square unless the aspect is `keep`
    scaled: tuple[int, int]  # (width, height)
    offset: tuple[int, int]  # px from the left and upper edge of the scaled image to the frame's

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width) of the frame, and so of an anomaly map."""
        return self.frame[1], self.frame[0]

    def framed(self, image: Image.Image, interpolation: str) -> NDArray[np.uint8]:
        """(height, width) image, 8-bit RGB or grey -> its frame, (*shape, 3) or `shape` uint8."""
        return self.cut(np.asarray(self.scale(image, interpolation)))

    def scale(self, image: Image.Image, interpolation: str) -> Image.Image:
        """(height, width) image -> the same at `scaled` px. Where `aspect` is `crop`, as torchvision's Resize."""
        return image if image.size == self.scaled else image.resize(self.scaled, INTERPOLATIONS[interpolation])

    def cut(self, scaled: NDArray[T]) -> NDArray[T]:
        """(scaled height, scaled width, ...) array -> (*shape, ...). For `crop`, as torchvision's CenterCrop."""
        (left, top), (width, height), (wide, high) = self.offset, self.scaled, self.frame
        inner = scaled[max(top, 0) : top + high, max(left, 0) : left + wide]
        rows = max(-top, 0), max(top + high - height, 0)
        columns = max(-left, 0), max(left + wide - width, 0)
        if not any(rows + columns):  # np.pad takes 0.2 ms even then
            return np.ascontiguousarray(inner)
        return np.pad(inner, [rows, columns, *[(0, 0)] * (scaled.ndim - 2)], mode="edge")

    def content(self, grid: tuple[int, ...]) -> NDArray[np.bool_]:
        """(rows, columns) of a grid over the frame -> that many bool, true where a cell's centre is on the image and
        not on its padding. Of an image narrower than a cell, the cell that holds its middle is true.
        """
        rows, columns = (self._content(cells, axis) for cells, axis in zip(grid, (1, 0), strict=True))
        return np.asarray(rows[:, None] & columns)

    def _content(self, cells: int, axis: int) -> NDArray[np.bool_]:
        """Cells along the frame's width, axis 0, or height, 1 -> (cells,) bool, whether they are on the image."""
        side, shift, length = self.frame[axis], self.offset[axis], self.scaled[axis]
        centres = (np.arange(cells) + 0.5) * side / cells + shift
        on = np.asarray((centres >= 0) & (centres < length))
        if not on.any():
            on[int((length / 2 - shift) * cells / side)] = True
        return on

    def seen(self) -> float:
        """Share of the image's area that lies in the frame."""
        sides = zip(self.offset, self.scaled, self.frame, strict=True)
        return float(np.prod([min(length, shift + side) - max(shift, 0) for shift, length, side in sides])) / (
            self.scaled[0] * self.scaled[1]
        )

    def enlargement(self) -> float:
        """How many times longer the scaled image is than the image, of its two sides the one of which this is less."""
        return min(self.scaled[0] / self.width, self.scaled[1] / self.height)

    def back(self, framed: NDArray[np.float32], width: int = 0, height: int = 0) -> NDArray[np.float32]:
        """Map of the frame -> (height, width) map of the image, bilinear, NaN outside the frame.

        Without `width` and `height` it has those of the image.
        """
        width, height = width or self.width, height or self.height
        centres = [  # of the map's pixels, in px of the frame
            (np.arange(count) + 0.5) * length / count - shift
            for count, length, shift in zip((width, height), self.scaled, self.offset, strict=True)
        ]
        (columns, wide), (rows, high) = (  # between the centres of the image's own pixels, not of its padding
            (
                np.clip(c - 0.5, max(0, -shift), min(side, length - shift) - 1),
                (c >= 0) & (c < side),
            )
            for c, length, shift, side in zip(centres, self.scaled, self.offset, self.frame, strict=True)
        )
        whole = _interpolate(_interpolate(framed, rows).T, columns).T
        whole[~(high[:, None] & wide)] = np.nan
        return whole

    def point(self, x: float, y: float) -> tuple[float, float]:
        """A point of the frame, px from its left and upper edge -> the same point of the image, kept inside it."""
        xy = zip((x, y), self.offset, self.scaled, (self.width, self.height), strict=True)
        column, row = (min(max((v + shift) * full / length, 0.0), float(full)) for v, shift, length, full in xy)
        return column, row


def _interpolate(rows: NDArray[np.float32], at: NDArray[np.float64]) -> NDArray[np.float32]:
    """((H, W), (M,) positions between the rows' centres) -> (M, W), linear."""
    low = np.minimum(at.astype(int), max(len(rows) - 2, 0))
    share = (at - low).astype(np.float32)[:, None]
    return np.asarray(rows[low] * (1 - share) + rows[np.minimum(low + 1, len(rows) - 1)] * share, np.float32)


def view(width: int, height: int, *, size: int, resize: int | None = None, aspect: str = "crop") -> View:
    """px of an image, of the frame's shorter side, of the image's shorter side before a crop, one of ASPECTS -> View.

    `keep` rounds the longer side to the shorter plus a multiple of STEP px, so that networks, whose strides are powers
    of two up to 32, have whole cells everywhere. This changes the image's shape by at most STEP / 2 px of the longer
    side: 7 % at 224 px, less where the image is longer or the size larger. A square stays one.

    Only `crop` uses `resize`, by default `default_resize`. Raises ReconpatchError for another aspect, and where `keep`
    would see an image that is longer than LONGEST times its shorter side.
    """
    if aspect == "crop":
        resize = resize or default_resize(size)
        long = int(resize * max(width, height) / min(width, height))
        scaled = (resize, long) if width <= height else (long, resize)
        offset = round((scaled[0] - size) / 2), round((scaled[1] - size) / 2)
        return View(width, height, (size, size), scaled, offset)
    if aspect == "stretch":
        return View(width, height, (size, size), (size, size), (0, 0))
    if aspect == "pad":
        longest = max(width, height)
        scaled = (max(1, round(size * width / longest)), max(1, round(size * height / longest)))
        return View(width, height, (size, size), scaled, ((scaled[0] - size) // 2, (scaled[1] - size) // 2))
    if aspect == "keep":
        short, longest = sorted((width, height))
        if longest > LONGEST * short:
            raise ReconpatchError(
                f"{width} x {height} px, more than {LONGEST} times as long as wide: too long for aspect keep",
                fix="cut the image into parts, leave it out, or choose aspect stretch",
            )
        long = size + STEP * int(size * (longest - short) / (short * STEP) + 0.5)
        frame = (size, long) if width <= height else (long, size)
        return View(width, height, frame, frame, (0, 0))
    raise ReconpatchError("unknown", where=f"aspect {aspect!r}", fix=f"choose one of {', '.join(ASPECTS)}")


def load_image(path: Path) -> Image.Image:
    """file -> 8-bit RGB image. Raises ReconpatchError naming the file."""
    image = decode(read_file(path), path).image
    try:
        return to_rgb(image)
    except ReconpatchError as error:
        raise error.at(path) from None


def load_mask(path: Path, rule: str = "any", classes: bool = False) -> Image.Image:
    """file, whether its values are numbers of kinds of defect -> 8-bit grey mask, 255 on the defect.

    "any": 255 where any channel of the file is above 0, else 0. "official": the file's own grey values, of which
    PatchCore's code counts only 255; but numbers of kinds become 255, as its users make such masks. Raises
    ReconpatchError for another rule and for a file that cannot be read.
    """
    if rule not in MASK_RULES:
        raise ReconpatchError("unknown", where=f"mask rule {rule!r}", fix=f"choose one of {', '.join(MASK_RULES)}")
    if rule == "official" and not classes:
        return load_image(path).convert("L")
    image = decode(read_file(path), path).image
    try:
        return Image.fromarray(np.where(mask_values(image) > 0, np.uint8(255), np.uint8(0)))
    except ReconpatchError as error:
        raise error.at(path) from None


def image_array(
    path: Path,
    resize: int | None,
    crop: int,
    interpolation: str,
    augmentation: Augmentation | None = None,
    aspect: str = "crop",
) -> NDArray[np.uint8]:
    """file -> (H, W, 3) uint8, what a network sees of it, augmented between resize and crop, so that real pixels fill
    the border. It is (crop, crop, 3) unless `aspect` is `keep`.
    """
    image = load_image(path)
    seen = view_of(path, image, resize, crop, aspect)
    scaled = np.asarray(seen.scale(image, interpolation))
    return seen.cut(scaled if augmentation is None else augment_image(scaled, augmentation))


def view_of(path: Path, image: Image.Image, resize: int | None, crop: int, aspect: str) -> View:
    """file, what is in it, how it is to be seen -> View. Raises as `view` does, naming the file."""
    try:
        return view(*image.size, size=crop, resize=resize, aspect=aspect)
    except ReconpatchError as error:
        raise error.at(path) from None


def mask_array(
    path: Path,
    resize: int | None,
    crop: int,
    rule: str = "any",
    augmentation: Augmentation | None = None,
    aspect: str = "crop",
    classes: bool = False,
) -> NDArray[np.bool_]:
    """file -> (H, W) bool, true on the defect, seen and augmented like its image.

    "any": every value above 0 in the file, resized by nearest neighbour, so that the mask stays a mask. "official":
    resized bilinearly like an image, after which only pixels of exactly 255 count, as in PatchCore's code: defects
    lose their rim. Raises ReconpatchError for another rule and for a file that cannot be read.
    """
    mask = load_mask(path, rule, classes)
    seen = view_of(path, mask, resize, crop, aspect)
    scaled = np.asarray(seen.scale(mask, MASK_RULES[rule])) == 255
    return seen.cut(scaled if augmentation is None else augment_mask(scaled, augmentation))


def read_masks(
    items: Sequence[Item],
    folder: Path,
    shape: tuple[int, int],
    resize: int | None,
    crop: int,
    rule: str,
    threads: int,
    augmentations: Sequence[Augmentation | None],
    aspect: str = "crop",
) -> tuple[NDArray[np.bool_], dict[str, NDArray[Any]]]:
    """N images, their folder, (H, W) of the frame of all images -> (N, H, W) bool, true on any defect, and the D
    defects of which the data set says how much must be found; all moved as their images are.

    Of the defects these are `image`, (D,) the number of its image; `mask`, (D, H, W) bool; and `saturation`, (D,) px
    that must be found, which shrink with the image. Defects of which nothing is left in the frame are left out.
    """

    def read(item: Item, augmentation: Augmentation | None) -> list[NDArray[np.bool_]]:
        return [
            mask_array(folder / mask.path, resize, crop, rule, augmentation, aspect, mask.classes)
            for mask in item.masks
        ]

    masks = np.zeros((len(items), *shape), bool)
    image: list[int] = []
    alone: list[NDArray[np.bool_]] = []
    saturation: list[int] = []
    with ThreadPoolExecutor(threads) as pool:
        for n, (item, of_image) in enumerate(zip(items, pool.map(read, items, augmentations), strict=True)):
            for mask, seen in zip(item.masks, of_image, strict=True):
                masks[n] |= seen
                if mask.saturation and seen.any():
                    width, height = view(item.width, item.height, size=crop, resize=resize, aspect=aspect).scaled
                    share = width * height / (item.width * item.height)
                    image.append(n)
                    alone.append(seen)
                    saturation.append(min(max(round(mask.saturation * share), 1), int(seen.sum())))
    stacked = np.stack(alone) if alone else np.zeros((0, *shape), bool)
    return masks, {
        "image": np.array(image, np.int64),
        "mask": stacked,
        "saturation": np.array(saturation, np.int64),
    }
