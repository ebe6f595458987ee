"""Photographs of a made-up product, and small detectors for them that are fitted in a second."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from reconpatch.detector.estimator import ReConPatch
from reconpatch.detector.fit import Fitted, fit_detector
from reconpatch.detector.photographs import Source, find_photographs
from reconpatch.detector.settings import FitOptions, checked, detector_run
from reconpatch.experiments.run import Run

SIZE = 32
SETTINGS: dict[str, Any] = {"level_dim": 32, "feature_dim": 32, "coreset_dim": 8, "batch": 64, "projection_dim": 8}
SMALL: dict[str, Any] = {"backbone": "resnet10t", "weights": "random", "dim": 16, "coreset": 0.1, "epochs": 2}


def detector(**changes: Any) -> ReConPatch:
    """A small untrained network, two epochs, not yet fitted."""
    small = SMALL | {"hold_out": 0.2, "size": SIZE, "aspect": "crop", "device": "cpu", "threads": 1}
    small |= {"settings": SETTINGS}
    return ReConPatch(**(small | changes))


def small_run(aspect: str = "crop", **changes: Any) -> Run:
    return detector_run(SETTINGS | SMALL | changes, FitOptions(size=SIZE, aspect=aspect))


def fit(
    images: Path | Sequence[Source], calibration: Sequence[Source] = (), run: Run | None = None, **options: Any
) -> Fitted:
    """A folder, or sources -> what `fit_detector` makes of them."""
    sources = find_photographs([images])[0] if isinstance(images, Path) else images
    given = (
        {"aspect": "crop", "device": "cpu", "threads": 1}
        | ({} if calibration or "folds" in options else {"hold_out": 0.25})
        | {"coreset": 1.0}
        | options
    )
    chosen = checked(FitOptions, given)
    return fit_detector(sources, run or small_run(chosen.aspect), chosen, calibration)


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


@pytest.fixture(scope="session")
def good(tmp_path_factory) -> Path:
    """A folder of 24 photographs of good products."""
    return write_products(tmp_path_factory.mktemp("good"), 24)


@pytest.fixture(scope="session")
def model(good) -> ReConPatch:
    """Fitted to these; five are held out."""
    return detector(false_alarm_rate=0.2).fit(good)


@pytest.fixture(scope="session")
def saved(model, tmp_path_factory) -> Path:
    """The folder of this model."""
    folder = tmp_path_factory.mktemp("saved") / "model"
    model.save(folder)
    return folder


@pytest.fixture(scope="session")
def blind(good) -> ReConPatch:
    """Fitted to these without holding any out: it has no threshold."""
    return detector(hold_out=0).fit(good)


@pytest.fixture(scope="session")
def padded(tmp_path_factory) -> Fitted:
    """Fitted to 8 photographs that are padded to squares, none held out."""
    return fit(write_products(tmp_path_factory.mktemp("padded"), 8), aspect="pad", hold_out=0)
