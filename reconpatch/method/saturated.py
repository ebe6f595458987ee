"""Saturated per-region overlap (sPRO): a defect is found once a part of it is found that is large enough.

MVTec LOCO AD defines it (Bergmann et al., IJCV 2022). A missing object may be anywhere in a large region, so only an
area as large as the object itself needs to be found there. Of a defect with saturation s, the overlap at a threshold is
min(px above it / s, 1): only the s highest scores of the defect count, each with the weight 1 / s.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reconpatch.errors import ReconpatchError

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]


@dataclass(frozen=True)
class Defects:
    """D defects of N images, each in a mask of its own; those of one image may overlap.

    image: (D,) int, the number of its image, from 0. mask: (D, H, W) bool. saturation: (D,) int, px that must be found,
    from 1 to all of its mask. Raises ReconpatchError where these do not fit.
    """

    image: NDArray[np.int64]
    mask: NDArray[np.bool_]
    saturation: NDArray[np.int64]

    def __post_init__(self) -> None:
        if self.mask.dtype != np.bool_ or self.mask.ndim != 3:  # numbers would be taken for places in the maps
            raise ReconpatchError(
                f"defects {self.mask.shape} of {self.mask.dtype}: must be boolean, (D, height, width)"
            )
        for name, numbers in (("images", self.image), ("saturations", self.saturation)):
            if numbers.shape != self.mask.shape[:1] or numbers.dtype.kind != "i":
                what = f"{name} {numbers.shape} of {numbers.dtype}"
                raise ReconpatchError(f"{what}: must be a whole number for each of the {len(self.mask)} defects")
        if (self.image < 0).any():
            raise ReconpatchError("the number of a defect's image is below 0")
        if not ((self.saturation >= 1) & (self.saturation <= self.mask.sum((1, 2)))).all():
            raise ReconpatchError("a saturation must be from 1 px to all of its defect")

    @staticmethod
    def from_tensors(tensors: Mapping[str, NDArray[Any]]) -> "Defects":
        """What the file of defects holds -> the defects."""
        return Defects(tensors["image"], tensors["mask"], tensors["saturation"])

    def check_inside(self, masks: NDArray[np.bool_]) -> None:
        """Raise ReconpatchError unless every defect lies inside the mask, of (N, H, W), of its image."""
        for image, mask in zip(self.image, self.mask, strict=True):
            if image >= len(masks) or mask.shape != masks.shape[1:]:
                raise ReconpatchError(f"a defect {mask.shape} of image {image} does not fit the masks {masks.shape}")
            if (mask & ~masks[image]).any():
                raise ReconpatchError(f"a defect of image {image} lies outside the mask of the image")

    def of_images(self, chosen: NDArray[np.bool_]) -> "Defects":
        """(N,) bool -> the defects of the chosen images, which are counted anew."""
        kept = chosen[self.image]
        return Defects((np.cumsum(chosen) - 1)[self.image[kept]], self.mask[kept], self.saturation[kept])


def counted_pixels(maps: Floats, defects: Defects) -> tuple[Floats, Doubles]:
    """((N, H, W) maps, their defects) -> the scores that count, rising, and the weight of each, which sum to 1.

    Of every defect these are its `saturation` highest scores, each with the weight 1 / (D x saturation).
    """
    scores: Sequence[Floats] = [
        np.partition(maps[image][mask], -saturation)[-saturation:]
        for image, mask, saturation in zip(defects.image, defects.mask, defects.saturation, strict=True)
    ]
    every = np.concatenate(scores)
    weights = np.repeat(1 / (len(scores) * defects.saturation), defects.saturation)
    order = np.argsort(every, kind="stable")
    return every[order], weights[order]
