"""The truth about your own photographs, for `evaluate`: from the names of folders, or from a CSV file."""

import csv
import os
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from reconpatch.data.decoding import decode, read_file
from reconpatch.data.layouts import EXTENSIONS, NORMAL, hidden, is_folder, mask_names, pair_masks, stem_of
from reconpatch.data.pictures import mask_greys
from reconpatch.detector.photographs import Photograph, csv_safe
from reconpatch.errors import ReconpatchError, listed, quote

GOOD_LABELS = NORMAL | {"0", "false"}  # labels of normal images in a file, in lower case
LEAST_GREY = {"any": 1, "half": 128}  # name of a rule -> the grey value from which on a mask marks a defect
OTHER_WORDS = {"pass", "passed", "accept", "accepted", "no defect", "io", "i.o."}  # that often mean a normal image
NO_LABELS = {"", "nan", "<na>", "na", "n/a", "nat", "none", "null"}  # a missing value in tables, in lower case


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

    A photograph is normal if any folder in its name is in `normal`, in any case. Otherwise it is anomalous, and the
    last folder in its name is its type of defect. `masks` is a folder with the same folders in it, where masks are
    called as `layouts.pair_masks` says. Raises ReconpatchError for a photograph without a folder in its name, if
    `masks` is no folder or holds no mask of any photograph, and if it is unclear whose a mask is.
    """
    if masks is not None and not masks.is_dir():
        raise ReconpatchError("no such folder of masks", where=masks)
    truths: list[Truth] = []
    names = {name.casefold() for name in normal}
    for photograph in photographs:
        folders = PurePosixPath(photograph.name).parts[:-1]
        if not folders:
            raise ReconpatchError(
                "lies in no folder that says what it is",
                where=photograph.path,
                fix="put normal images into a folder good and others into folders named after their defects, or give "
                "--labels FILE",
            )
        normal_one = any(folder.casefold() in names for folder in folders)
        truths.append(Truth(0, "good", None) if normal_one else Truth(1, folders[-1], None))
    if masks is None:
        return truths
    anomalous = [photograph for photograph, truth in zip(photographs, truths, strict=True) if truth.label]
    found = find_masks(masks, photographs)  # a mask of a normal image is refused later if it marks anything
    if anomalous and not any(photograph.name in found for photograph in anomalous):
        first = PurePosixPath(anomalous[0].name)
        raise ReconpatchError(
            "holds no mask of any image",
            where=masks,
            fix=f"the mask of {quote(first)} must lie in its folder {quote(first.parent)} and be called "
            f"{mask_names(first)}",
        )
    return [
        replace(truth, mask=found.get(photograph.name)) for photograph, truth in zip(photographs, truths, strict=True)
    ]


def surplus_masks(photographs: Sequence[Photograph], truths: Sequence[Truth]) -> list[Path]:
    """N photographs, N truths -> masks that lie beside masks of these photographs, but are masks of none of them."""
    used = {truth.mask for truth in truths if truth.mask is not None}
    known = {os.path.realpath(path) for path in (*used, *(photograph.path for photograph in photographs))}
    beside = (path for folder in {mask.parent for mask in used} for path in _images_in(folder))
    return sorted(path for path in beside if os.path.realpath(path) not in known)


def find_masks(masks: Path, photographs: Sequence[Photograph]) -> dict[str, Path]:
    """Folder of masks, N photographs -> name of a photograph -> its mask; those without a mask are left out.

    A mask lies in the folders of the photograph's name, or in the last of these folders alone. Raises ReconpatchError
    if a photograph has two masks, or if two photographs have one.
    """
    own = {os.path.realpath(photograph.path) for photograph in photographs}  # `masks` may be the images' folder
    by_folder: dict[PurePosixPath, dict[str, list[Photograph]]] = {}  # folder in the name -> stem -> photographs
    for photograph in photographs:
        name = PurePosixPath(photograph.name)
        by_folder.setdefault(name.parent, {}).setdefault(stem_of(name), []).append(photograph)
    found: dict[str, Path] = {}
    for parent, by_stem in by_folder.items():
        for folder in dict.fromkeys((masks / parent, masks / parent.name)):
            files = [path for path in _images_in(folder) if os.path.realpath(path) not in own]
            for stem, of_stem in pair_masks(by_stem, files).items():
                mask, *others = of_stem
                photograph, *twins = by_stem.pop(stem)
                if others:
                    raise ReconpatchError(
                        f"and {quote(others[0].name)} are masks of one image by their names, {quote(photograph.name)}",
                        where=mask,
                        fix="rename one, or move it elsewhere",
                    )
                if twins:
                    raise ReconpatchError(
                        f"may be the mask of {quote(photograph.name)} and of {quote(twins[0].name)}, which differ only "
                        "in suffix",
                        where=mask,
                        fix="rename one of the images and its mask",
                    )
                found[photograph.name] = mask
    names_of: dict[Path, list[str]] = {}
    for named, mask in found.items():
        names_of.setdefault(mask, []).append(named)
    for mask, names in names_of.items():
        if len(names) > 1:
            folders = " and ".join(quote(PurePosixPath(name).parent) for name in names[:2])
            raise ReconpatchError(
                f"may be the mask of {quote(names[0])} and of {quote(names[1])}",
                where=mask,
                fix=f"put the mask of each image into the folder of its name: {folders} in {quote(masks)}",
            )
    return found


def _images_in(folder: Path) -> list[Path]:
    """The images in a folder, without hidden ones; none if there is no such folder."""
    entries = folder.iterdir() if is_folder(folder) else ()
    return [path for path in entries if path.suffix.lower() in EXTENSIONS and not hidden(path.name)]


def marked(mask: Path, least: int = LEAST_GREY["any"]) -> NDArray[np.bool_]:
    """File of a mask, the grey value from which on it marks a defect -> (height, width) bool, true on the defect.

    Raises ReconpatchError naming the file if it cannot be read.
    """
    picture = decode(read_file(mask), mask)
    try:
        return np.asarray(mask_greys(picture) >= least)
    except ReconpatchError as error:
        raise error.at(mask) from None


def photographs_from_file(file: Path, *, must_exist: bool) -> list[Photograph]:
    """CSV file with a column `image`, paths from the file's folder -> the photographs that it lists, in its order.

    Raises ReconpatchError that lists the images that do not exist, if they must.
    """
    photographs = [Photograph(name, file.parent / name) for name in (str(row["image"]) for _, row in _rows(file))]
    if not photographs:
        raise ReconpatchError("lists no images", where=file)
    if must_exist and (missing := [quote(each.name) for each in photographs if not each.path.is_file()]):
        raise ReconpatchError(
            f"{len(missing)} of {len(photographs)} images do not exist, as paths from the folder of the file: "
            f"{', '.join(listed(missing, 10))}",
            where=file,
            fix="correct the paths; or give the folders of the images, too, and write each image as in scores.csv",
        )
    return photographs


def truth_from_file(file: Path, photographs: Sequence[Photograph]) -> list[Truth]:
    """CSV file, N photographs -> N truths.

    The columns are `image` (the name exactly as in scores.csv), `label` (as `good_labels` reads it) and, if you like,
    `mask` (a path from the file's folder). Raises ReconpatchError that names the wrong line, or the first image without
    a line, or the first line without an image, or labels that can be read in two ways.
    """
    truths: dict[str, Truth] = {}
    rows = _rows(file)
    good = good_labels([row["label"] or "" for _, row in rows], file)
    for number, row in rows:
        where = f"{quote(file)}, line {number}"
        name, label = str(row["image"]), (row["label"] or "").strip()
        if label.lower() in NO_LABELS:
            raise ReconpatchError(
                f"no label ({label or 'empty'})", where=where, fix="give good, or the type of the defect"
            )
        if name in truths:
            raise ReconpatchError(f"{quote(name)} has two lines", where=where, fix="remove one")
        mask_name = (row.get("mask") or "").strip()
        mask = file.parent / mask_name if mask_name else None
        if mask is not None and not mask.is_file():
            raise ReconpatchError(f"{quote(mask)}: no such file", where=where)
        normal = _plain(label) in good
        truths[name] = Truth(int(not normal), "good" if normal else _whole(label), mask)
    names = [csv_safe(photograph.name) for photograph in photographs]
    if missing := [name for name in names if name not in truths]:
        raise ReconpatchError(f"no line for {len(missing)} images, first {quote(missing[0])}", where=file)
    if surplus := truths.keys() - set(names):
        raise ReconpatchError(
            f"{len(surplus)} lines of no image that was given, first {quote(min(surplus))}", where=file
        )
    return [truths[name] for name in names]


def doubtful_types(truths: Sequence[Truth], normal: Collection[str]) -> Iterator[str]:
    """N truths, names of what is normal -> a remark on each type of defect whose name is like one of these."""
    for defect_type in sorted({truth.defect_type for truth in truths if truth.label}):
        word = defect_type.casefold()
        meant = "good" if word in OTHER_WORDS else next(iter(get_close_matches(word, normal, 1, 0.75)), None)
        if meant is not None:
            yield f"{quote(defect_type)} counts as a type of defect; if it means {meant}, call it so"


def good_labels(labels: Sequence[str], file: Path) -> Collection[str]:
    """N labels, the file they are from -> those of normal images, as `_plain` writes them.

    In any case, these are GOOD_LABELS, and all others are types of defects. But where all labels are 1 and -1, they are
    those of scikit-learn, which `ReConPatch.predict` gives, and 1 is normal. Raises ReconpatchError for -1 beside 0, or
    beside 1 and others: what they mean is not clear.
    """
    different = {_plain(label) for label in labels}
    if different == {"1", "-1"}:
        return {"1"}
    if "-1" in different and different & {"0", "1", "false", "true"}:
        raise ReconpatchError(
            f"labels {', '.join(sorted(map(quote, different)))}: is 1 normal, as beside -1, or anomalous, as beside 0?",
            where=file,
            fix="give good, or the type of the defect",
        )
    return GOOD_LABELS


def _plain(label: str) -> str:
    """Label -> the same in lower case, as `_whole` writes it."""
    return _whole(label).lower()


def _whole(label: str) -> str:
    """Label -> the same; a whole number without decimals, which pandas gives to a column with gaps."""
    return re.sub(r"^(-?\d+)\.0+$", r"\1", label.strip())


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
        raise ReconpatchError(
            "must be a CSV file whose first line is image,label or image,label,mask",
            where=file,
            fix="write commas in the place of semicolons" if any(";" in column for column in columns) else "",
        )
    return rows
