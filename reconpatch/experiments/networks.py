"""What timm says of networks, remembered in a file: asking costs seconds."""

import importlib.metadata
import json
from collections.abc import Sequence
from pathlib import Path

from reconpatch.experiments.costs import Network
from reconpatch.files import write_text


class Networks:
    """(backbone, levels) -> Network. What timm says is kept in the file `cache` for later processes.

    `shipped` is such a file that comes with the repository. Answers count for the version of timm that gave them.
    """

    def __init__(self, cache: Path | None = None, shipped: Path | None = None) -> None:
        self.cache = cache
        self.known: dict[str, Network] = {}
        for file in (cache, shipped):
            self.known |= _answers(file) if file is not None else {}

    def __call__(self, backbone: str, levels: Sequence[int]) -> Network:
        """Raises ReconpatchError if timm has no such network, or that has no such level."""
        key = f"{backbone} {tuple(levels)} timm {importlib.metadata.version('timm')}"
        if key not in self.known:
            from reconpatch.method.levels import check_levels, count_parameters

            used = check_levels(backbone, levels)
            channels = tuple(int(level["channels"]) for level in used)
            self.known[key] = Network(int(used[0]["stride"]), count_parameters(backbone, levels), channels)
            if self.cache is not None:
                self.cache.parent.mkdir(parents=True, exist_ok=True)
                write_text(self.cache, json.dumps(self.known, indent=1) + "\n")
        return self.known[key]

    def channels(self, backbone: str, levels: Sequence[int]) -> tuple[int, ...]:
        """The channels of each level of a network; raises as a call does."""
        return self(backbone, levels).channels


def _answers(file: Path) -> dict[str, Network]:
    """What timm said before; nothing where the file is missing, damaged, or of an older version of this package."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    answers = content.items() if isinstance(content, dict) else ()
    return {key: Network(answer[0], answer[1], tuple(answer[2])) for key, answer in answers if _is_network(answer)}


def _is_network(answer: object) -> bool:
    """Whether an answer is a stride, a number of parameters and the channels of levels."""
    if not isinstance(answer, list) or len(answer) != 3 or not isinstance(answer[2], list) or not answer[2]:
        return False
    return all(type(n) is int and n > 0 for n in (*answer[:2], *answer[2]))
