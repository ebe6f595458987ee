"""What a user looks at: the anomaly map over the photograph, and the mask of what is above the map's threshold."""

from dataclasses import dataclass

import numpy as np
from matplotlib import colormaps
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from reconpatch.detector.detector import Detection

LONGEST, SHORTEST = 1280, 480  # px of an overlay's longer side
BAR, WIDEST_TEXT = 22, 360  # px of the line of text above it
OPACITY = 0.65  # of the map where it is at its strongest
LINE, UNSEEN = (255, 255, 255), 0.35  # colour around what is above the threshold; brightness of what is not looked at


@dataclass(frozen=True)
class Scale:
    """What colours mean: nothing at `low`, full at `high`, a line at `threshold`, in the units of the maps."""

    low: float
    high: float
    threshold: float | None


def map_scale(level: float, threshold: float | None, highest: float) -> Scale:
    """Usual value of good images' maps, the maps' threshold if there is one, highest value of this map -> Scale.

    The threshold is half-way up the colours, so that all images of a model are coloured alike; without one, each by
    its own maximum.
    """
    if threshold is None or threshold <= level:
        return Scale(level, max(highest, level + 1e-6), threshold)
    return Scale(level, 2 * threshold - level, threshold)


def overlay(photograph: Image.Image, detection: Detection, scale: Scale, text: str) -> Image.Image:
    """8-bit RGB photograph, its Detection -> the map over it, SHORTEST to LONGEST px, below a line of text.

    What is not looked at is dark; a white line goes round what is above the threshold.
    """
    longest = max(photograph.size)
    scale_to = min(max(longest, SHORTEST), LONGEST) / longest
    size = (max(1, round(photograph.width * scale_to)), max(1, round(photograph.height * scale_to)))
    small = np.asarray(photograph.resize(size, Image.Resampling.LANCZOS), np.float32)
    values = detection.view.back(detection.map, *size)
    unseen = np.isnan(values)
    strength = np.clip((np.nan_to_num(values) - scale.low) / (scale.high - scale.low), 0, 1)[..., None]
    colours = colormaps["inferno"](strength[..., 0])[..., :3] * 255
    alpha = OPACITY * np.minimum(1, 2 * strength)  # from the threshold on, colour alone tells
    mixed = np.where(unseen[..., None], UNSEEN * small, (1 - alpha) * small + alpha * colours)
    if scale.threshold is not None:
        mixed[_outline(np.nan_to_num(values, nan=-np.inf) > scale.threshold)] = LINE
    canvas = Image.new("RGB", (max(size[0], WIDEST_TEXT), size[1] + BAR), (24, 24, 24))
    canvas.paste(Image.fromarray(mixed.astype(np.uint8)), (0, BAR))
    ImageDraw.Draw(canvas).text((6, 3), text, (235, 235, 235), ImageFont.load_default(14))
    return canvas


def _outline(region: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """(H, W) -> its outer edge, wider on large pictures."""
    width = max(1, round(max(region.shape) / 500))
    return np.asarray(ndimage.binary_dilation(region, np.ones((3, 3)), width) & ~region)


def defect_mask(detection: Detection, threshold: float) -> Image.Image:
    """Detection, threshold of the maps -> mask of the photograph's own size: 255 above it, 0 elsewhere and unseen."""
    values = np.nan_to_num(detection.view.back(detection.map), nan=-np.inf)
    return Image.fromarray(np.where(values > threshold, np.uint8(255), np.uint8(0)))
