"""The embedded sample: real photographs of textures that scikit-image ships, with defects drawn into the test crops.

Training crops come from the upper part of a photograph, test crops from the lower part, so no test pixel is ever seen
in training. Every image is derived from (seed, category) alone. The layout is MVTec AD's.
"""

from pathlib import Path

import numpy as np
import scipy  # its parts are loaded where an image is drawn: the plan needs numbers of images alone
import skimage
from numpy.typing import NDArray
from PIL import Image
from skimage import data as photographs

from reconpatch.data.layouts import SAMPLE
from reconpatch.errors import ReconpatchError
from reconpatch.rng import named_rng

SIDE = 160  # px of a crop; the photographs are 512 px square
TRAIN_ROWS = 320  # rows of the photograph above this belong to training, the rest to the test
COUNTS = {"train": 48, "good": 20, "defect": 6}  # images: training, normal test, of each defect type

Grey = NDArray[np.uint8]
Region = NDArray[np.bool_]


def _crop(photograph: Grey, rng: np.random.Generator) -> Grey:
    """(H, W) -> (SIDE, SIDE) at a random place, mirrored left to right half of the time."""
    y = rng.integers(photograph.shape[0] - SIDE + 1)
    x = rng.integers(photograph.shape[1] - SIDE + 1)
    crop = photograph[y : y + SIDE, x : x + SIDE]
    return np.ascontiguousarray(crop[:, ::-1] if rng.random() < 0.5 else crop)


def _blob(rng: np.random.Generator, low: float, high: float) -> Region:
    """A smooth connected region whose area is that of a square with side low..high of the image's."""
    field = scipy.ndimage.gaussian_filter(rng.standard_normal((SIDE, SIDE)), 8)
    y, x = np.mgrid[:SIDE, :SIDE] - rng.integers(SIDE // 5, SIDE - SIDE // 5, size=(2, 1, 1))
    side = SIDE * rng.uniform(low, high)
    height = field / field.std() - 6 * np.hypot(y, x) / side  # a cone with a rough flank
    region = height >= np.partition(height.ravel(), -int(side**2))[-int(side**2)]
    labels, _ = scipy.ndimage.label(region)
    return np.asarray(labels == np.bincount(labels[region]).argmax())


def _cut_paste(image: Grey, source: Grey, rng: np.random.Generator) -> tuple[Grey, Region]:
    """A rectangle of the same texture from elsewhere, turned by 90 degrees."""
    h, w = rng.integers(SIDE // 10, SIDE // 3, size=2)
    y, x = rng.integers(SIDE - h), rng.integers(SIDE - w)
    region = np.zeros(image.shape, bool)
    region[y : y + h, x : x + w] = True
    changed = image.copy()
    changed[region] = np.rot90(_crop(source, rng))[:h, :w].ravel()
    return changed, region


def _scratch(image: Grey, source: Grey, rng: np.random.Generator) -> tuple[Grey, Region]:
    """A thin bent line, brighter or darker than its surroundings."""
    region = np.zeros(image.shape, bool)
    point, angle = rng.integers(SIDE // 5, SIDE - SIDE // 5, size=2).astype(float), rng.uniform(0, 2 * np.pi)
    for _ in range(rng.integers(3, 7)):
        angle += rng.normal(0, 0.3)
        end = np.clip(point + rng.uniform(8, 20) * np.array([np.sin(angle), np.cos(angle)]), 2, SIDE - 3)
        region[skimage.draw.line(*point.astype(int), *end.astype(int))] = True  # type: ignore[no-untyped-call]
        point = end
    region = scipy.ndimage.binary_dilation(region, iterations=int(rng.integers(0, 2)) or 1)
    return _shift(image, region, rng.choice([-1, 1]) * rng.uniform(35, 70)), region


def _stain(image: Grey, source: Grey, rng: np.random.Generator) -> tuple[Grey, Region]:
    """A blob that is darker or lighter, fading towards its edge."""
    region = _blob(rng, 0.1, 0.35)
    depth = scipy.ndimage.distance_transform_edt(region)
    return _shift(image, region, rng.choice([-1, 1]) * rng.uniform(35, 60) * np.minimum(1, depth / 4)), region


def _blur(image: Grey, source: Grey, rng: np.random.Generator) -> tuple[Grey, Region]:
    """A blob that is out of focus."""
    region = _blob(rng, 0.15, 0.35)
    return np.where(region, scipy.ndimage.gaussian_filter(image, rng.uniform(1.5, 3)), image), region


def _missing(image: Grey, source: Grey, rng: np.random.Generator) -> tuple[Grey, Region]:
    """A blob without texture: its mean grey and camera noise."""
    region = _blob(rng, 0.1, 0.3)
    plain = image[region].mean() + rng.normal(0, 3, image.shape)
    return np.where(region, np.clip(plain, 0, 255), image).astype(np.uint8), region


def _shift(image: Grey, region: Region, by: float | NDArray[np.float64]) -> Grey:
    return np.where(region, np.clip(image + by, 0, 255), image).astype(np.uint8)


DEFECTS = {"blur": _blur, "cut_paste": _cut_paste, "missing": _missing, "scratch": _scratch, "stain": _stain}


def write_sample(folder: Path, category: str, seed: int) -> None:
    """Write one category in MVTec AD's layout below `folder`. The same seed gives the same bytes.

    Raises ReconpatchError for a category that is not in the sample.
    """
    if category not in SAMPLE:
        raise ReconpatchError("unknown", where=f"sample category {category!r}", fix=f"choose from {', '.join(SAMPLE)}")
    photograph: Grey = getattr(photographs, category)()
    upper, lower = photograph[:TRAIN_ROWS], photograph[TRAIN_ROWS:]
    rng = named_rng(seed, f"sample/{category}")

    def save(image: Grey, name: str) -> None:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)

    for i in range(COUNTS["train"]):
        save(_crop(upper, rng), f"train/good/{i:03}.png")
    for i in range(COUNTS["good"]):
        save(_crop(lower, rng), f"test/good/{i:03}.png")
    for defect_type, draw in DEFECTS.items():
        for i in range(COUNTS["defect"]):
            image, region = draw(_crop(lower, rng), lower, rng)
            save(image, f"test/{defect_type}/{i:03}.png")
            save(np.where(region, np.uint8(255), np.uint8(0)), f"ground_truth/{defect_type}/{i:03}_mask.png")
