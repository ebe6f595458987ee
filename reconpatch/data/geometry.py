"""From a photograph of any shape to the square a network sees, and from its anomaly map back to the photograph.

Three rules for photographs that are not square: `crop` (the paper's: the shorter side to `resize` px, then the centre;
what lies outside is not looked at), `stretch` (all of it, squeezed to a square), `pad` (all of it, the longer side to
the square's, the rest filled by repeating the edge).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from reconpatch.data.images import INTERPOLATIONS, scaled_shorter
from reconpatch.errors import ReconpatchError

ASPECTS = ("crop", "stretch", "pad")
UNSCALED = {480: 512}  # size -> resize, where the tables' is not the 256 to 224 of PatchCore; [PNI]


def default_resize(size: int) -> int:
    """px of the square -> px of the shorter side before the crop, in the ratio of the paper's 256 to 224."""
    return UNSCALED.get(size, round(size * 256 / 224))


@dataclass(frozen=True)
class View:
    """How one photograph is seen: scaled to `scaled` px, then shifted by `offset` px, negative where it is padded."""

    width: int  # px of the photograph
    height: int
    size: int  # px of the square
    scaled: tuple[int, int]
    offset: tuple[int, int]

    def square(self, image: Image.Image, interpolation: str) -> NDArray[np.uint8]:
        """The photograph, 8-bit RGB or grey -> (size, size, 3) or (size, size) uint8."""
        scaled = image if image.size == self.scaled else image.resize(self.scaled, INTERPOLATIONS[interpolation])
        columns, rows = (
            np.clip(np.arange(self.size) + shift, 0, length - 1)
            for shift, length in zip(self.offset, self.scaled, strict=True)
        )
        return np.asarray(scaled)[rows[:, None], columns]

    def content(self, side: int) -> NDArray[np.bool_]:
        """Cells along a side of a grid over the square -> (side, side) bool, true where a cell's centre is on the
        photograph and not on its padding; of a photograph narrower than a cell, the cell its middle is in.
        """
        centres = (np.arange(side) + 0.5) * self.size / side
        columns, rows = (
            ((centres + shift >= 0) & (centres + shift < length))
            | (np.arange(side) == int((length / 2 - shift) * side / self.size))
            for shift, length in zip(self.offset, self.scaled, strict=True)
        )
        return np.asarray(rows[:, None] & columns)

    def seen(self) -> float:
        """Share of the photograph's area that lies in the square."""
        sides = zip(self.offset, self.scaled, strict=True)
        return float(np.prod([min(length, shift + self.size) - max(shift, 0) for shift, length in sides])) / (
            self.scaled[0] * self.scaled[1]
        )

    def back(self, square: NDArray[np.float32], width: int = 0, height: int = 0) -> NDArray[np.float32]:
        """(size, size) map -> (height, width) map of the photograph at that size, its own if none is given, bilinear;
        NaN where it was not looked at.
        """
        width, height = width or self.width, height or self.height
        places = [
            (np.arange(count) + 0.5) * length / count - shift
            for count, length, shift in zip((width, height), self.scaled, self.offset, strict=True)
        ]
        (columns, wide), (rows, high) = (  # between centres of the photograph's own pixels, not those of its padding
            (
                np.clip(p - 0.5, max(0, -shift), min(self.size, length - shift) - 1),
                (p >= 0) & (p < self.size),
            )
            for p, length, shift in zip(places, self.scaled, self.offset, strict=True)
        )
        whole = _interpolate(_interpolate(square, rows).T, columns).T
        whole[~(high[:, None] & wide)] = np.nan
        return whole

    def place(self, x: float, y: float) -> tuple[float, float]:
        """Place in the square, px from its left and upper edge -> the same of the photograph, kept inside it."""
        xy = zip((x, y), self.offset, self.scaled, (self.width, self.height), strict=True)
        column, row = (min(max((v + shift) * full / length, 0.0), float(full)) for v, shift, length, full in xy)
        return column, row


def _interpolate(rows: NDArray[np.float32], at: NDArray[np.float64]) -> NDArray[np.float32]:
    """((H, W), (M,) positions between the rows' centres) -> (M, W), linear."""
    low = np.minimum(at.astype(int), max(len(rows) - 2, 0))
    share = (at - low).astype(np.float32)[:, None]
    return np.asarray(rows[low] * (1 - share) + rows[np.minimum(low + 1, len(rows) - 1)] * share, np.float32)


def view(width: int, height: int, *, size: int, resize: int, aspect: str) -> View:
    """px of a photograph, of the square, of the shorter side before a crop, one of ASPECTS -> View.

    `crop` gives the pixels of `images.resize_crop`. Raises ReconpatchError for another aspect.
    """
    if aspect == "crop":
        scaled = scaled_shorter(width, height, resize)
        return View(width, height, size, scaled, (round((scaled[0] - size) / 2), round((scaled[1] - size) / 2)))
    if aspect == "stretch":
        return View(width, height, size, (size, size), (0, 0))
    if aspect == "pad":
        longest = max(width, height)
        scaled = (max(1, round(size * width / longest)), max(1, round(size * height / longest)))
        return View(width, height, size, scaled, ((scaled[0] - size) // 2, (scaled[1] - size) // 2))
    raise ReconpatchError(f"aspect {aspect!r}: unknown, choose one of {', '.join(ASPECTS)}")
