"""Random changes of pose and light that the robustness study applies to images and masks (section 4, Table 4).

The paper names rotation, translation, brightness, contrast and Gaussian blur, but not their ranges.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reconpatch.errors import ReconpatchError
from reconpatch.rng import named_rng

GREY = (0.299, 0.587, 0.114)  # luma of ITU-R BT.601, as Pillow's and torchvision's contrast use
# Beyond its borders the image is mirrored at its outermost pixels: a black corner would look like a defect.
OUTSIDE = "mirror"


@dataclass(frozen=True)
class Augmentation:
    """One drawn change of an image. The default changes nothing.

    angle: degrees, counter-clockwise about the image's centre; shift: (dx, dy) to the right and down, after the
    rotation, as shares of the image's width and height; brightness, contrast: factors; blur: sigma in px.
    """

    angle: float = 0.0
    shift: tuple[float, float] = (0.0, 0.0)
    brightness: float = 1.0
    contrast: float = 1.0
    blur: float = 0.0


def draw(
    rng: np.random.Generator,
    *,
    rotation: float,
    translation: float,
    brightness: float,
    contrast: float,
    blur: float,
) -> Augmentation:
    """generator and ranges -> Augmentation, everything uniform.

    The angle lies in +-`rotation` degrees, the shifts in +-`translation` (shares of the sides), the factors in
    1 +- `brightness` and 1 +- `contrast`, the blur's sigma in [0, `blur`] px. Six numbers are drawn in the same order
    whatever the ranges are, so that setting one range to 0 leaves the others' draws as they were. Raises
    ReconpatchError for a range that is negative or not finite, and for one of brightness or contrast above 1.
    """
    limits = {
        "rotation": (rotation, 180),
        "translation": (translation, 1),
        "brightness": (brightness, 1),
        "contrast": (contrast, 1),
        "blur": (blur, np.finfo(np.float64).max),
    }
    for name, (value, most) in limits.items():
        if not 0 <= value <= most:
            upper = "finite and not negative" if name == "blur" else f"between 0 and {most}"
            raise ReconpatchError(f"must be {upper}", where=f"augmentation {name} {value}")
    angle, dx, dy, light, spread = (float(u) for u in rng.uniform(-1, 1, 5))
    sigma = float(rng.uniform(0, 1))
    return Augmentation(
        angle * rotation,
        (dx * translation, dy * translation),
        1 + light * brightness,
        1 + spread * contrast,
        sigma * blur,
    )


def drawn_augmentations(paths: Sequence[str], run: Mapping[str, Any]) -> list[Augmentation | None]:
    """(N paths within their category, fields of a run) -> each image's augmentation, None where the run has none.

    Each is drawn from the seed and the image's own path, so it does not depend on the other images.
    """
    if run.get("augment", "none") == "none":
        return [None] * len(paths)
    names = ("rotation", "translation", "brightness", "contrast", "blur")
    ranges = {name: run[f"augment_{name}"] for name in names}
    return [draw(named_rng(run["seed"], f"augmentation/{path}"), **ranges) for path in paths]


def augment_image(image: NDArray[np.uint8], change: Augmentation) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 -> (H, W, 3) uint8: rotated and shifted (bilinear), contrast, brightness, blur, in this order.

    Contrast scales the distance to the image's mean grey; both factors clip to [0, 255], as torchvision's do.
    """
    from scipy.ndimage import gaussian_filter  # here for the reason that `_move` gives

    moved = np.stack([_move(image[..., c], change, np.float64, order=1) for c in range(3)], -1)
    grey = float((moved @ np.array(GREY)).mean())
    # Written so that a factor of 1 gives back exactly the same numbers.
    contrasted = np.clip(moved * change.contrast + grey * (1 - change.contrast), 0, 255)
    lit = np.clip(contrasted * change.brightness, 0, 255)
    blurred = gaussian_filter(lit, (change.blur, change.blur, 0), mode=OUTSIDE)
    return np.asarray(np.rint(blurred), np.uint8)


def augment_mask(mask: NDArray[np.bool_], change: Augmentation) -> NDArray[np.bool_]:
    """(H, W) bool -> (H, W) bool: rotated and shifted like its image, nearest neighbour; light changes nothing."""
    return np.asarray(_move(mask.astype(np.uint8), change, np.uint8, order=0), bool)


def _move(plane: NDArray[np.uint8], change: Augmentation, dtype: type, order: int) -> NDArray[np.float64 | np.uint8]:
    """(H, W) -> (H, W): every output pixel has the value where the inverse of shift and rotation puts it."""
    # Loading scipy costs more than reading images. Every job that reads images would pay for it, and few augment them.
    from scipy.ndimage import affine_transform

    cos, sin = np.cos(np.deg2rad(change.angle)), np.sin(np.deg2rad(change.angle))
    back = np.array([[cos, sin], [-sin, cos]])  # of (row, column), rows pointing down
    size = np.array(plane.shape)
    centre = (size - 1) / 2
    offset = centre - back @ (centre + size * np.array(change.shift[::-1]))
    return np.asarray(affine_transform(plane, back, offset, output=dtype, order=order, mode=OUTSIDE))
