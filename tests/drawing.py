"""Images, masks and records made for tests."""

from pathlib import Path

import numpy as np
from PIL import Image

from reconpatch.data.published import Flag
from reconpatch.records.provenance import stage_facts
from reconpatch.records.record import Record


def write_image(path: Path, rng: np.random.Generator, size: tuple[int, int] = (48, 40), grey: bool = False) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = size[::-1] if grey else (*size[::-1], 3)
    Image.fromarray(rng.integers(0, 256, shape).astype(np.uint8)).save(path)


def write_mask(path: Path, size: tuple[int, int] = (48, 40), box: tuple[int, int, int, int] = (10, 8, 24, 20)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    mask = np.zeros(size[::-1], np.uint8)
    mask[box[1] : box[3], box[0] : box[2]] = 255
    Image.fromarray(mask).save(path)


def as_flag(text: str | Flag) -> Flag:
    """The flag whose text, in words, is this."""
    if isinstance(text, Flag):
        return text
    return Flag("remark", text.removeprefix("data: ")) if text.startswith("data: ") else Flag("altered", text)


def make_record(**changes) -> Record:
    fields = {
        **{"dataset": "mine", "category": "nut", "run": "base-1", "seed": 0, "description": {"method": "reconpatch"}},
        **{"metrics": {"image_auroc": 0.5, "aupro_30": None}, "flags": [], "data": {}, "weights": {}, "bank": {}},
        "digests": {},
        "stages": {"score": stage_facts("abc", 2, "cpu", {"wall_s": 1.0})},
    }
    values = fields | changes
    return Record(**(values | {"flags": [as_flag(flag) for flag in values["flags"]]}))
