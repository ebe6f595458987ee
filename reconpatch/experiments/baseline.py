"""The paper's settings for those who have the package alone: the baseline of configs/default.yaml, kept as JSON.

`reconpatch schemas` writes the file; sources stand beside the values in configs/default.yaml.
"""

import json
from pathlib import Path
from typing import Any

FILE = Path(__file__).with_suffix(".json")


def baseline() -> dict[str, Any]:
    """Every parameter of a run with the value the tables' baseline has."""
    content: dict[str, Any] = json.loads(FILE.read_text(encoding="utf-8"))
    return content
