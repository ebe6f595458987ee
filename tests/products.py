"""Photographs of a made-up product, and a detector for them that is fitted in a second."""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from reconpatch.detector.estimator import ReConPatch

SIZE = 32
SETTINGS: dict[str, Any] = {"level_dim": 32, "feature_dim": 32, "coreset_dim": 8, "batch": 64, "projection_dim": 8}


def detector(**changes: Any) -> ReConPatch:
    """A small untrained network, two epochs, not yet fitted."""
    small = {"backbone": "resnet10t", "weights": "random", "size": SIZE, "dim": 16, "coreset": 0.1, "epochs": 2}
    small |= {"device": "cpu", "threads": 1, "settings": SETTINGS}
    return ReConPatch(**(small | changes))


def product(seed: int, defect: bool = False, size: tuple[int, int] = (52, 40)) -> Image.Image:
    """Soft stripes with noise; a defect is a bright square right of the middle."""
    rng, (width, height) = np.random.default_rng(seed), size
    stripes = 90 + 40 * np.sin(np.arange(width) / 3 + rng.uniform(0, 0.5))
    values = np.tile(stripes, (height, 1))[..., None] + rng.normal(0, 6, (height, width, 3))
    if defect:
        values[height // 2 : height // 2 + 8, width // 2 : width // 2 + 8] = 250
    return Image.fromarray(np.clip(values, 0, 255).astype(np.uint8))


def write_products(folder: Path, count: int, start: int = 0, defect: bool = False, **options: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for n in range(start, start + count):
        product(n, defect, **options).save(folder / f"{n:03}.png")
    return folder
