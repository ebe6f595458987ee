"""The truth about photographs of one's own, for `evaluate`: from the names of folders, or from a file."""

import csv
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from reconpatch.data.layouts import EXTENSIONS, NORMAL, hidden, is_folder, stem_of
from reconpatch.detector.photographs import Photograph, cell
from reconpatch.errors import ReconpatchError, quote

GOOD = NORMAL | {"0"}  # labels of a file, in either case
Listed = dict[Path, dict[str, list[Path]]]  # folder of masks -> stem -> its files
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
    where `masks` is no folder or holds none of them.
    """
    if masks is not None and not masks.is_dir():
        raise ReconpatchError(f"{quote(masks)}: no such folder of masks")
    truths: list[Truth] = []
    listed: Listed = {}
    for each in photographs:
        folders = PurePosixPath(each.name).parts[:-1]
        if not folders:
            raise ReconpatchError(
                f"{quote(each.path)}: lies in no folder that says what it is; put normal images into a folder good and "
                "others into folders named after their defects, or give --labels FILE"
            )
        good = any(part in normal for part in folders)
        mask = None if good or masks is None else find_mask(masks, each.name, listed)
        truths.append(Truth(int(not good), "good" if good else folders[-1], mask))
    if masks is not None and any(t.label for t in truths) and not any(t.mask for t in truths):
        name = quote(next(p.name for p, t in zip(photographs, truths, strict=True) if t.label))
        raise ReconpatchError(f"{quote(masks)}: holds no mask of any image, as one at the place of {name}")
    return truths


def find_mask(masks: Path, name: str, listed: Listed) -> Path | None:
    """Folder of masks, a photograph's name, folders read so far -> the mask at the same place, or below the last folder
    alone.

    A folder is read once and then stands in `listed`. Raises ReconpatchError where there are two masks.
    """
    place = PurePosixPath(name)
    stem = stem_of(place)
    for folder in (masks / place.parent, masks / place.parent.name):
        if folder not in listed:
            listed[folder] = _by_stem(folder)
        found = sorted(listed[folder].get(stem, []) + listed[folder].get(f"{stem}_mask", []))
        if len(found) > 1:
            raise ReconpatchError(f"{quote(found[0])} and {quote(found[1].name)} are masks of one image; remove one")
        if found:
            return found[0]
    return None


def _by_stem(folder: Path) -> dict[str, list[Path]]:
    """The images in a folder, hidden ones left out, by stem; nothing where there is no folder."""
    found: dict[str, list[Path]] = {}
    for path in folder.iterdir() if is_folder(folder) else ():
        if path.suffix.lower() in EXTENSIONS and not hidden(path.name):
            found.setdefault(stem_of(path), []).append(path)
    return found


def from_file(file: Path, photographs: Sequence[Photograph]) -> list[Truth]:
    """CSV file with columns image, label and perhaps mask, photographs -> the truth of each.

    `image` is the name results give a photograph, to the letter; `label` one of GOOD, or else the kind of its defect;
    `mask` a path that counts from the file. Raises ReconpatchError naming the line that is wrong, or what of lines and
    photographs lacks its counterpart.
    """
    try:
        with open(file, newline="", encoding="utf-8-sig") as stream:
            reader = csv.DictReader(stream)
            columns = set(reader.fieldnames or ())
            rows = [(reader.line_num, row) for row in reader]  # blank lines and line breaks in names count
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ReconpatchError(f"{quote(file)}: cannot be read ({error})") from None
    if not {"image", "label"} <= columns:
        raise ReconpatchError(f"{quote(file)}: must be a CSV file whose first line is image,label or image,label,mask")
    truths: dict[str, Truth] = {}
    for line, row in rows:
        name, said = str(row["image"]), str(row["label"] or "").strip()
        if not said:
            raise ReconpatchError(f"{quote(file)}, line {line}: no label; give good, or what kind of defect it is")
        if name in truths:
            raise ReconpatchError(f"{quote(file)}, line {line}: {quote(name)} is there twice; remove one")
        mask = file.parent / row["mask"].strip() if (row.get("mask") or "").strip() else None
        if mask is not None and not mask.is_file():
            raise ReconpatchError(f"{quote(file)}, line {line}: {quote(mask)}: no such file")
        label = int(said.lower() not in GOOD)
        truths[name] = Truth(label, said if label else "good", mask)
    if missing := [p.name for p in photographs if cell(p.name) not in truths]:
        raise ReconpatchError(f"{quote(file)}: no line for {len(missing)} images, first {quote(missing[0])}")
    if surplus := set(truths) - {cell(p.name) for p in photographs}:
        raise ReconpatchError(f"{quote(file)}: {len(surplus)} lines of no image given, first {quote(min(surplus))}")
    return [truths[cell(p.name)] for p in photographs]
