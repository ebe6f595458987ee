"""What timm says of networks, remembered in a file: asking costs seconds."""

import importlib.metadata
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from reconpatch.errors import ReconpatchError
from reconpatch.experiments.costs import Network
from reconpatch.experiments.place import SUITE
from reconpatch.files import write_text

CACHE = Path(".snakemake/reconpatch/backbones.json")
SHIPPED = SUITE / "workflow/backbones.json"
Count = Annotated[int, Field(gt=0)]


class Answer(BaseModel):
    """What timm says of some levels of a network, and of images that passed through it."""

    model_config = ConfigDict(extra="forbid", strict=True)

    parameters: Count  # up to the last level
    channels: Annotated[list[Count], Field(min_length=1)]  # of each level
    grids: dict[str, Count]  # px of an image -> patches along its side


ANSWERS = TypeAdapter(dict[str, Answer])  # by network, levels and version of timm


class Networks:
    """(backbone, levels, px of an image) -> Network. What timm says is kept in the file `cache` for later processes.

    `shipped` is such a file that comes with the repository. Answers count for the version of timm that gave them.
    `setting` is what the user calls the px of an image, for messages.
    """

    def __init__(self, cache: Path | None = None, shipped: Path | None = None, setting: str = "crop") -> None:
        self.cache, self.setting = cache, setting
        self.known: dict[str, Answer] = {}
        for file in (shipped, cache):
            for key, answer in (_answers(file) if file is not None else {}).items():
                before = self.known.get(key)
                self.known[key] = answer if before is None else _joined(before, answer)

    def __call__(self, backbone: str, levels: Sequence[int], side: int) -> Network:
        """Raises ReconpatchError if timm has no such network, or that has no such level or takes no such images."""
        key = f"{backbone} {tuple(levels)} timm {_timm_version()}"
        answer = self.known.get(key)
        if answer is None or str(side) not in answer.grids:
            from reconpatch.method.levels import check_levels, count_parameters, patch_grid

            channels = [level["channels"] for level in check_levels(backbone, levels)]
            grids = {str(side): patch_grid(backbone, levels, side, self.setting)}
            new = Answer(parameters=count_parameters(backbone, levels), channels=channels, grids=grids)
            self.known[key] = answer = new if answer is None else _joined(answer, new)
            if self.cache is not None:
                self.cache.parent.mkdir(parents=True, exist_ok=True)
                write_text(self.cache, ANSWERS.dump_json(self.known, indent=1).decode() + "\n")
        return Network(answer.grids[str(side)], answer.parameters, tuple(answer.channels))

    def grid(self, backbone: str, levels: Sequence[int], frame: tuple[int, int]) -> tuple[int, int]:
        """A network, (width, height) of its input -> (rows, columns) of its patches.

        Either follows from a square of that side. Raises ReconpatchError if the network takes no such images.
        """
        width, height = frame
        try:
            columns, rows = (self(backbone, levels, side).grid for side in frame)
        except ReconpatchError:
            if width == height:
                raise
            raise ReconpatchError(
                f"takes no images of {width} x {height} px, only some squares",
                where=f"backbone {backbone!r}",
                fix="choose aspect stretch, pad or crop, or another network",
            ) from None
        return rows, columns

    def channels(self, backbone: str, levels: Sequence[int], side: int) -> tuple[int, ...]:
        """The channels of each level of a network; raises as a call does."""
        return self(backbone, levels, side).channels


@cache
def _timm_version() -> str:
    return importlib.metadata.version("timm")


def _joined(one: Answer, other: Answer) -> Answer:
    """Two answers about one network -> the second, with the sizes of both."""
    return other.model_copy(update={"grids": one.grids | other.grids})


def known_networks() -> Networks:
    """Networks with the answers that come with the suite and those that were asked for in the present folder."""
    return Networks(CACHE, SHIPPED)


def _answers(file: Path) -> dict[str, Answer]:
    """What timm said before; nothing where the file is missing, damaged, or of another version of this package."""
    try:
        return ANSWERS.validate_json(file.read_bytes())
    except (OSError, ValidationError):
        return {}
