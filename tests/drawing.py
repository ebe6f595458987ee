"""Images, masks and records made for tests."""

from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image

from reconpatch.data.published import Flag
from reconpatch.records.provenance import stage_facts
from reconpatch.records.record import Record, RunFacts, StageFacts

USAGE = {"wall_s": 1.0, "start_s": 0.1, "cpu_s": 1.0, "peak_mb": 10.0}


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


def make_stage(**changes) -> StageFacts:
    """What a stage says of itself, some of it changed."""
    return StageFacts.model_validate(_stage().model_dump() | changes)


@cache
def _stage() -> StageFacts:
    return stage_facts("abc", 2, "cpu", USAGE, folder="a-1")


def make_record(**changes) -> Record:
    """A record, some fields changed, those of `data`, `weights`, `bank` and stages one by one; members are records."""
    fields = {
        **{"dataset": "mine", "category": "nut", "run": "base-1", "seed": 0, "description": {"method": "reconpatch"}},
        **{"metrics": {"image_auroc": 0.5, "aupro_30": None}, "flags": [], "masks": "24-1", "digests": {}},
    }
    nested = {
        "data": {
            **{"layout": "folder", "manifest": "m", "train": 4, "validation": 0},
            **{"test_normal": 2, "test_anomalous": 3, "masks": 3},
        },
        "weights": {"source": "file w", "sha256": "0" * 64},
        "bank": {"patches": 10, "of": 100, "grid": [6, 6]},
    }
    nested = {name: values | changes.pop(name, {}) for name, values in nested.items()}
    changes["stages"] = {
        stage: facts if isinstance(facts, StageFacts) else make_stage(**facts)
        for stage, facts in changes.get("stages", {"score": {}}).items()
    }
    changes["members"] = [
        RunFacts.model_validate(member.model_dump(include={*RunFacts.model_fields}))
        for member in changes.get("members", [])
    ]
    values = fields | nested | changes
    return Record(**(values | {"flags": [as_flag(flag) for flag in values["flags"]]}))
