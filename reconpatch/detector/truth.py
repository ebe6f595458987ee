"""The truth about your own photographs, for `evaluate`: from the names of folders, or from a CSV file."""

import csv
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from reconpatch.data.layouts import EXTENSIONS, NORMAL, hidden, is_folder, stem_of
from reconpatch.detector.photographs import Photograph, csv_safe
from reconpatch.errors import ReconpatchError, quote

GOOD_LABELS = NORMAL | {"0"}  # labels of normal images in a file, in lower case
MASKS = "ground_truth"  # folder of the masks in MVTec AD's layout
MaskFiles = dict[Path, dict[str, list[Path]]]  # folder of masks -> stem -> its files


@dataclass(frozen=True)
class Truth:
    """What is true of one photograph."""

    label: int  # 0 normal, 1 anomalous
    defect_type: str  # "good" for a normal image
    mask: Path | None  # file of its mask


def truth_from_folders(
    photographs: Sequence[Photograph], normal: Collection[str] = NORMAL, masks: Path | None = None
) -> list[Truth]:
    """N photographs -> N truths.

    A photograph is normal if any folder in its name is in `normal`. Otherwise it is anomalous, and the last folder in
    its name is its type of defect. `masks` is a folder with the same folders in it, where the mask of an image is
    called <stem>.* or <stem>_mask.*. Raises ReconpatchError for a photograph without a folder in its name, and if
    `masks` is no folder or holds no mask of any photograph.
    """
    if masks is not None and not masks.is_dir():
        raise ReconpatchError("no such folder of masks", where=masks)
    truths: list[Truth] = []
    files: MaskFiles = {}
    for photograph in photographs:
        folders = PurePosixPath(photograph.name).parts[:-1]
        if not folders:
            raise ReconpatchError(
                "lies in no folder that says what it is",
                where=photograph.path,
                fix="put normal images into a folder good and others into folders named after their defects, or give "
                "--labels FILE",
            )
        mask = None if masks is None else find_mask(masks, photograph.name, files)
        if any(folder in normal for folder in folders):
            truths.append(Truth(0, "good", mask))  # a mask that marks something will be refused
        else:
            truths.append(Truth(1, folders[-1], mask))
    anomalous = [name.name for name, truth in zip(photographs, truths, strict=True) if truth.label]
    if masks is not None and anomalous and not any(truth.mask for truth in truths):
        raise ReconpatchError(
            "holds no mask of any image",
            where=masks,
            fix=f"the mask of {quote(anomalous[0])} must lie in the same folders",
        )
    return truths


def surplus_masks(photographs: Sequence[Photograph], truths: Sequence[Truth]) -> list[Path]:
    """N photographs, N truths -> masks that lie beside masks of these photographs, but are masks of none of them."""
    used = {truth.mask for truth in truths if truth.mask is not None}
    known = used | {photograph.path for photograph in photographs}
    beside = (_images_by_stem(folder).values() for folder in {mask.parent for mask in used})
    return sorted(path for folder in beside for paths in folder for path in paths if path not in known)


def find_mask(masks: Path, name: str, files: MaskFiles) -> Path | None:
    """Folder of masks, a photograph's name, the folders read so far -> the file of its mask, None if there is none.

    The mask lies in the folders of the photograph's name, or in the last of these folders alone. Each folder is read
    once and added to `files`. Raises ReconpatchError if there are two masks.
    """
    path = PurePosixPath(name)
    stem = stem_of(path)
    for folder in (masks / path.parent, masks / path.parent.name):
        if folder not in files:
            files[folder] = _images_by_stem(folder)
        candidates = sorted(files[folder].get(stem, []) + files[folder].get(f"{stem}_mask", []))
        if len(candidates) > 1:
            raise ReconpatchError(
                f"and {quote(candidates[1].name)} are masks of one image", where=candidates[0], fix="remove one"
            )
        if candidates:
            return candidates[0]
    return None


def _images_by_stem(folder: Path) -> dict[str, list[Path]]:
    """Folder -> the images in it by stem, without hidden ones; empty if there is no such folder."""
    files: dict[str, list[Path]] = {}
    for path in folder.iterdir() if is_folder(folder) else ():
        if path.suffix.lower() in EXTENSIONS and not hidden(path.name):
            files.setdefault(stem_of(path), []).append(path)
    return files


def truth_from_file(file: Path, photographs: Sequence[Photograph]) -> list[Truth]:
    """CSV file, N photographs -> N truths.

    The columns are `image` (the name exactly as in scores.csv), `label` (one of GOOD_LABELS in any case, or else the
    type of the defect) and, if you like, `mask` (a path from the file's folder). Raises ReconpatchError that names the
    wrong line, or the first image without a line, or the first line without an image.
    """
    truths: dict[str, Truth] = {}
    for number, row in _rows(file):
        where = f"{quote(file)}, line {number}"
        name, label = str(row["image"]), (row["label"] or "").strip()
        if not label:
            raise ReconpatchError("no label", where=where, fix="give good, or the type of the defect")
        if name in truths:
            raise ReconpatchError(f"{quote(name)} has two lines", where=where, fix="remove one")
        mask_name = (row.get("mask") or "").strip()
        mask = file.parent / mask_name if mask_name else None
        if mask is not None and not mask.is_file():
            raise ReconpatchError(f"{quote(mask)}: no such file", where=where)
        normal = label.lower() in GOOD_LABELS
        truths[name] = Truth(int(not normal), "good" if normal else label, mask)
    names = [csv_safe(photograph.name) for photograph in photographs]
    if missing := [name for name in names if name not in truths]:
        raise ReconpatchError(f"no line for {len(missing)} images, first {quote(missing[0])}", where=file)
    if surplus := truths.keys() - set(names):
        raise ReconpatchError(
            f"{len(surplus)} lines of no image that was given, first {quote(min(surplus))}", where=file
        )
    return [truths[name] for name in names]


def _rows(file: Path) -> list[tuple[int, dict[str, str | None]]]:
    """CSV file -> its rows, each with the number of its last line; names may hold line breaks."""
    try:
        with open(file, newline="", encoding="utf-8-sig") as stream:
            reader = csv.DictReader(stream)
            columns = set(reader.fieldnames or ())
            rows: list[tuple[int, dict[str, str | None]]] = [(reader.line_num, dict(row)) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ReconpatchError(f"cannot be read ({error})", where=file) from None
    if not {"image", "label"} <= columns:
        raise ReconpatchError("must be a CSV file whose first line is image,label or image,label,mask", where=file)
    return rows
