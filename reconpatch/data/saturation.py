"""How much of a defect must be found, as MVTec LOCO AD says for every kind of defect (defects_config.json).

A missing object may be anywhere in a large region: once a part of it is found, more of it does not count. The masks of
this data set hold numbers of kinds of defect, one in each file.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from reconpatch.data.decoding import Picture, mask_values
from reconpatch.errors import ReconpatchError, quote

KEYS = ("defect_name", "pixel_value", "saturation_threshold", "relative_saturation")


@dataclass(frozen=True)
class Saturation:
    """The area of one kind of defect that must be found: a share of the defect where it is relative, else px."""

    threshold: float
    relative: bool

    def px(self, marked: int) -> int:
        """px of a defect -> how many of them must be found: at least one, at most all."""
        return min(max(int(self.threshold * marked) if self.relative else int(self.threshold), 1), marked)


def read_saturations(file: Path, problems: list[str]) -> dict[int, Saturation] | None:
    """File of a category -> value in its masks -> what must be found; None where something is wrong with it, which is
    added to `problems`.
    """
    if not file.is_file():
        problems.append(f"{quote(file)}: no such file; restore the published one")
        return None
    try:
        entries = json.loads(file.read_text(encoding="utf-8"))
        found = {
            _value(e["pixel_value"]): _saturation(e["saturation_threshold"], e["relative_saturation"]) for e in entries
        }
        if len(found) < len(entries):
            raise ValueError("a pixel_value is there twice")
    except (OSError, ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
        problems.append(f"{quote(file)}: must be a list of {', '.join(KEYS)} ({error!r}); restore the published file")
        return None
    return found


def _value(value: object) -> int:
    """Raises ValueError for what cannot mark a defect in a mask."""
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 255:
        raise ValueError(f"pixel_value {value!r}")
    return value


def _saturation(threshold: object, relative: object) -> Saturation:
    """Raises ValueError for a relative threshold outside (0, 1] and for others that are no positive whole number."""
    if isinstance(threshold, bool) or not isinstance(threshold, (int, float)) or not isinstance(relative, bool):
        raise ValueError(f"saturation_threshold {threshold!r}, relative_saturation {relative!r}")
    if not (0 < threshold <= 1 if relative else threshold >= 1 and float(threshold).is_integer()):
        raise ValueError(f"saturation_threshold {threshold!r} with relative_saturation {relative}")
    return Saturation(float(threshold), relative)


def saturated_px(saturations: Mapping[int, Saturation], picture: Picture, marked: int) -> int:
    """Saturations of a category, picture of a mask, px it marks -> how many of them must be found.

    Raises ReconpatchError, without a place, for a mask with several values or one without an entry.
    """
    values = np.unique(mask_values(picture.image))
    values = values[values > 0]
    if len(values) > 1:
        what = f"holds the values {', '.join(map(str, values[:4]))}; a mask of one defect has one"
        raise ReconpatchError(what, fix="restore the published file")
    value = int(values[0])
    if value not in saturations:
        known = ", ".join(map(str, sorted(saturations)))
        raise ReconpatchError(f"value {value} is no pixel_value of the category's defects ({known})")
    return saturations[value].px(marked)
