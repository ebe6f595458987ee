"""The truth about photographs of one's own, for `evaluate`: from the names of folders, or from a file."""

import csv
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from reconpatch.errors import ReconpatchError
from reconpatch.layouts import EXTENSIONS, NORMAL, shown
from reconpatch.photographs import Photograph

LABELS = {"0": 0, "good": 0, "ok": 0, "normal": 0, "1": 1, "bad": 1, "anomalous": 1, "defect": 1, "ko": 1}
MASKS = "ground_truth"  # of a data set in MVTec AD's layout: no folder of photographs


@dataclass(frozen=True)
class Truth:
    """Label of a photograph, 1 anomalous, the kind of its defect, and the file of its mask, if it has one."""

    label: int
    kind: str
    mask: Path | None


def from_folders(
    photographs: Sequence[Photograph], normal: Collection[str] = NORMAL, masks: Path | None = None
) -> list[Truth]:
    """Photographs -> the truth of each: normal where a folder above it, below the folder given, has one of these names.

    All others are anomalous, of the kind of their folder's name. `masks` is a folder in which a photograph's mask lies
    at the same place, as <stem>.* or <stem>_mask.*. Raises ReconpatchError for photographs in no folder at all, and
    where one kind is missing entirely.
    """
    truths = []
    for each in photographs:
        folders = PurePosixPath(each.name).parts[:-1]
        if not folders:
            raise ReconpatchError(
                f"{shown(each.path)}: lies in no folder that says what it is; put normal images into a folder good and "
                "others into folders named after their defects, or give --labels FILE"
            )
        good = any(part in normal for part in folders)
        mask = None if good or masks is None else find_mask(masks, each.name)
        truths.append(Truth(int(not good), "good" if good else folders[-1], mask))
    return truths


def find_mask(masks: Path, name: str) -> Path | None:
    """Folder of masks, a photograph's name -> the mask at the same place, or below the last folder alone.

    Raises ReconpatchError where there are two.
    """
    place = PurePosixPath(name)
    for folder in (masks / place.parent, masks / place.parent.name):
        stems = (place.stem, f"{place.stem}_mask")
        found = sorted(p for p in folder.glob("*") if p.stem in stems and p.suffix.lower() in EXTENSIONS)
        if len(found) > 1:
            raise ReconpatchError(f"{shown(found[0])} and {shown(found[1].name)} are masks of one image; remove one")
        if found:
            return found[0]
    return None


def from_file(file: Path, photographs: Sequence[Photograph]) -> list[Truth]:
    """CSV file with columns image, label and perhaps mask, photographs -> the truth of each.

    `image` is the name results give a photograph, `label` one of LABELS, `mask` a path that counts from the file.
    Raises ReconpatchError naming the line that is wrong, or the photographs without one.
    """
    try:
        with open(file, newline="", encoding="utf-8-sig") as stream:
            rows = list(csv.DictReader(stream))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ReconpatchError(f"{shown(file)}: cannot be read ({error})") from None
    if not rows or not {"image", "label"} <= set(rows[0]):
        raise ReconpatchError(f"{shown(file)}: must be a CSV file whose first line is image,label or image,label,mask")
    truths: dict[str, Truth] = {}
    for line, row in enumerate(rows, 2):
        name, said = str(row["image"]).strip(), str(row["label"]).strip().lower()
        if said not in LABELS:
            raise ReconpatchError(f"{shown(file)}, line {line}: label {said!r}; give one of {', '.join(LABELS)}")
        if name in truths:
            raise ReconpatchError(f"{shown(file)}, line {line}: {shown(name)} is there twice; remove one")
        mask = file.parent / row["mask"].strip() if (row.get("mask") or "").strip() else None
        if mask is not None and not mask.is_file():
            raise ReconpatchError(f"{shown(file)}, line {line}: {shown(mask)}: no such file")
        truths[name] = Truth(LABELS[said], "good" if not LABELS[said] else "defect", mask)
    if missing := [p.name for p in photographs if p.name not in truths]:
        raise ReconpatchError(f"{shown(file)}: no line for {len(missing)} images, first {shown(missing[0])}")
    return [truths[p.name] for p in photographs]
