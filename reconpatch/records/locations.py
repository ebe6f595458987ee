"""Where a record's run and the files behind it lie in a folder of results, found from its settings alone."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from reconpatch.experiments.run import ORIGINS, digest

RANGES = [key for key in ORIGINS if key.startswith("augment_")]
FEATURES = [
    key for key, origin in ORIGINS.items() if "features" in origin.stages and key not in (*RANGES, "augment", "seed")
]
TRAINING = [key for key, origin in ORIGINS.items() if "training" in origin.stages]
SCORE = ["mask_rule", *(key for key, origin in ORIGINS.items() if "score" in origin.stages)]

KINDS = ("runs", "ensembles")
RUN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+=,-]*")  # names of runs and ensembles
RECORD = "record.json"


def is_place(record: Path) -> bool:
    """Whether a path ends as a record's in a folder of results: <kind>/<data set>/<category>/<run>/record.json."""
    return len(record.parts) > 5 and record.name == RECORD and record.parents[3].name in KINDS


def stage_names(description: Mapping[str, Any]) -> dict[str, str]:
    """Description of a run, as its record has it -> names of the features, masks, training and bank it uses.

    Where only its test images are augmented, also those of the "training features", which its bank is made from.

    They are `plan.stage_name` of the run, which a record does not hold whole. Raises KeyError when a setting lacks.
    """
    d = description
    trained_on_drawn = d.get("augment") == "both"
    drawn = {key: d[key] for key in (*RANGES, "seed")} | {"augment": "drawn"} if "augment" in d else {}
    own = {"augment": "both"} | {key: d[key] for key in (*RANGES, "seed")} if trained_on_drawn else {}
    seed = {"seed": d["seed"]} if d["weights"] == "random" else {}
    features = {key: d[key] for key in FEATURES}
    side = {key: value for key, value in d.items() if key not in (*SCORE, "augment", *RANGES)}
    parts = {
        "features": (d["backbone"], features | seed | drawn),
        "masks": (d["crop"], {key: d[key] for key in ("resize", "crop", "mask_rule")} | drawn),
        "bank": (f"{d['method']}_dim={d['dim']}", side | own),
    }
    if d.get("augment") == "test":
        parts["training features"] = (d["backbone"], features | seed)
    if d["method"] == "reconpatch":
        parts["training"] = (f"dim={d['dim']}", features | {key: d[key] for key in TRAINING} | own)
    return {
        name: f"{re.sub(r'[^A-Za-z0-9._+=,]', '_', str(label))}-{digest(key)}" for name, (label, key) in parts.items()
    }
