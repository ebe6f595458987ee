"""From a decoded picture to its facts: how it is stored, what its pixels give cause to remark on, what a mask marks."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from reconpatch.data.decoding import Picture, mask_values
from reconpatch.data.remarks import (
    EXTRA_BANDS,
    FEW_BITS,
    FEW_VALUES,
    INVERTED,
    MASK_ALPHA,
    MASK_JPEG,
    ONE_COLOUR,
    TRANSPARENT,
    ImageFacts,
    MaskFacts,
)

PROBED = 64  # px: a sample of so many rows and columns nearly always shows that an image uses its range


def image_facts(name: str, picture: Picture, rgb: Image.Image) -> ImageFacts:
    """Name of an image, its picture, the same as 8-bit RGB -> its facts, without digests."""
    notes = [EXTRA_BANDS] if picture.extra_bands else []
    if _has_alpha(picture.image):
        own = "A" in picture.image.getbands()  # else the palette has it
        alpha = (picture.image if own else picture.image.convert("RGBA")).getchannel("A")
        notes += [TRANSPARENT] if 0 in alpha.getextrema() else []
    notes += _range_notes(rgb, picture.deep)
    mode, (width, height) = picture.image.mode, rgb.size
    return ImageFacts(name, "", "", width, height, mode, picture.format, picture.orientation, tuple(notes))


def _has_alpha(image: Image.Image) -> bool:
    return "A" in image.getbands() or (image.mode == "P" and "transparency" in image.info)


def _range_notes(rgb: Image.Image, deep: bool) -> list[str]:
    """8-bit RGB image, whether its file has more than 8 bits per value -> notes on the range of its values.

    All pixels are looked at only if a sample of them has a small range, too.
    """
    sample = rgb.resize((min(PROBED, rgb.width), min(PROBED, rgb.height)), Image.Resampling.NEAREST)
    notes: list[str] = []
    for pixels in (sample, rgb):
        values = np.asarray(pixels).reshape(-1, 3)
        low, high = values.min(0), values.max(0)
        top, widest = int(high.max()), int((high - low).max())  # of the three colours
        if deep and 0 < top <= 64:  # 14 bits in 16
            notes = [FEW_BITS]
        elif widest < 32:
            notes = [FEW_VALUES if widest else ONE_COLOUR]
        else:
            return []
    return notes


def mask_greys(picture: Picture) -> NDArray[np.uint8]:
    """Picture of a mask -> (H, W) grey values: 0 where every channel is 0, 255 where white, else at least 1.

    A mask whose values are 0 and 1, as programs write them that count in classes, is read as black and white. Raises
    ReconpatchError, without a place, for modes without a rule.
    """
    values = mask_values(picture.image)
    if values.max() == 1 and np.asarray(picture.image).max() == 1:
        return values * np.uint8(255)
    return values


def mask_facts(name: str, picture: Picture, least: int = 1) -> MaskFacts:
    """Name of a mask, its picture, the grey value from which on a pixel is marked -> its facts. Raises what
    `mask_greys` raises.
    """
    greys = mask_greys(picture)
    values = greys >= least
    marked, (height, width) = int(np.count_nonzero(values)), values.shape
    notes = [EXTRA_BANDS] if picture.extra_bands else []
    notes += [MASK_ALPHA] if _has_alpha(picture.image) else []
    border = all(edge.all() for edge in (values[0], values[-1], values[:, 0], values[:, -1]))
    if values.size > marked and (marked > values.size / 2 or border):
        notes.append(INVERTED)
    between = int(np.count_nonzero(greys)) - int(np.count_nonzero(greys == 255))
    notes += [MASK_JPEG] if between and picture.format in ("JPEG", "MPO") else []
    return MaskFacts(name, width, height, picture.orientation, marked, between, tuple(notes))
