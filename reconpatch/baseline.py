"""The paper's settings for those who have the package alone: the baseline of configs/default.yaml, kept as JSON.

`reconpatch schemas` writes the file; sources stand beside the values in configs/default.yaml.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from reconpatch.config import Run, vary
from reconpatch.geometry import default_resize

FILE = Path(__file__).with_suffix(".json")


def baseline() -> dict[str, Any]:
    """Every parameter of a run with the value the tables' baseline has."""
    content: dict[str, Any] = json.loads(FILE.read_text(encoding="utf-8"))
    return content


def product_run(
    size: int, resize: int | None, aspect: str, weight_file: object, changes: Mapping[str, Any], where: str
) -> Run:
    """px of the square and of the shorter side before the crop, rule for the aspect, file of weights if there is one,
    other keys of a run -> Run.

    Raises ReconpatchError naming `where`, the key and the fix.
    """
    shorter = (resize or default_resize(size)) if aspect == "crop" else size
    given = {"weights": "file"} if weight_file is not None else {}
    return vary(Run.model_validate(baseline()), given | dict(changes) | {"crop": size, "resize": shorter}, where)
