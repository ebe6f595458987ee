"""Layouts of data sets: which file is what, in sorted order. Nothing is opened here; `indexing` does that.

A category is a folder: <train>/*  <test>/<kind>/*  <masks>/<kind>/<stem of the image>[_mask].*, where LAYOUTS says what
the three are called and a kind is "good" (or another name of NORMAL) or any defect.

Images are the files with a suffix of EXTENSIONS, in either case. Names that begin with a dot are no part of the data,
nor is __MACOSX: archives made on a Mac hold a `._000.png` beside every `000.png`. Other files are ignored, but for
images of other formats: those are problems, since they would be missed.
"""

import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Literal

NORMAL = frozenset({"good", "ok", "normal"})
MASK_FOLDERS = frozenset({"groundtruth", "groundtruths", "gt", "mask", "masks"})  # other names people give
EXTENSIONS = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"})
OTHER_FORMATS = frozenset(
    {".gif", ".heic", ".heif", ".avif", ".jp2", ".j2k", ".jxl", ".jfif", ".ppm", ".pgm", ".pbm", ".pnm", ".tga", ".dng"}
)


LayoutName = Literal["mvtec_ad", "btad", "folder", "sample"]  # what `layout` of a data set may be


@dataclass(frozen=True)
class Layout:
    """How the folders of a category are called, relative to its own, with forward slashes."""

    train: str = "train/good"  # normal images; where it has a folder `good`, they are in there
    test: str = "test"  # a folder for every kind
    masks: str = "ground_truth"  # the same folders
    all_masked: bool = True  # every defective image has a mask; else all of a category have one, or none
    single: bool = False  # the root may be a category itself


LAYOUTS: dict[str, Layout] = {
    "mvtec_ad": Layout(),
    "btad": Layout(train="train/ok"),
    "folder": Layout(train="train", all_masked=False, single=True),
    "sample": Layout(),
}


@dataclass(frozen=True)
class Item:
    """One image of a category; paths are relative to the category's folder, with forward slashes.

    What is below `mask` is read from the files by `indexing`.
    """

    path: str
    split: str  # train or test
    label: int  # 1 is anomalous
    defect: str  # "good" for normal images
    mask: str | None  # normal images may have one, which is empty
    sha256: str = ""
    mask_sha256: str = ""
    bytes: int = 0
    mask_bytes: int = 0
    width: int = 0  # px, after the turn EXIF asks for
    height: int = 0
    mode: str = ""  # Pillow's, of the file
    format: str = ""  # what the file holds, whatever its suffix
    orientation: int = 1  # EXIF's; 1 is upright
    mask_orientation: int = 1
    mask_pixels: int = 0  # above 0
    mask_between: int = 0  # above 0 and not white
    warning: str = ""  # what Pillow said of the image or its mask


def shown(path: Path | str) -> str:
    """A name fit for messages: newlines, control characters and undecodable bytes escaped."""
    name = str(path)
    return name if name.isprintable() else name.encode("unicode_escape").decode()


def hidden(name: str) -> bool:
    """Whether a name is no part of the data."""
    return name.startswith(".") or name == "__MACOSX"


def _entries(folder: Path, problems: list[str]) -> list[Path]:
    """What is in a folder and not hidden, sorted; nothing where there is no folder."""
    try:
        return sorted(p for p in folder.iterdir() if not hidden(p.name))
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        problems.append(f"{shown(folder)}: cannot be listed ({error.strerror})")
        return []


def top(place: str) -> str:
    """The first folder of a place in a layout: "train" of "train/good"."""
    return place.split("/")[0]


def is_folder(path: Path) -> bool:
    """Whether there is a folder that may be entered."""
    try:
        return path.is_dir()
    except OSError:
        return False


def _folders(folder: Path, problems: list[str]) -> list[Path]:
    return [p for p in _entries(folder, problems) if is_folder(p)]


def _images(folder: Path, problems: list[str]) -> list[Path]:
    entries = _entries(folder, problems)
    problems.extend(
        f"{shown(p)}: images in this format are not read; save it as png, or move it elsewhere"
        for p in entries
        if p.suffix.lower() in OTHER_FORMATS
    )
    return [p for p in entries if p.suffix.lower() in EXTENSIONS]


def stem_of(path: PurePath) -> str:
    """What pairs images with masks. Macs write `ü` as two characters, other systems as one."""
    return unicodedata.normalize("NFC", path.stem)


def _masks(folder: Path, taken: set[Path], problems: list[str]) -> dict[str, Path]:
    """Masks of one defect's folder by the stem of their image. Stems repeat between folders, so one folder a time."""
    found: dict[str, Path] = {}
    images = _images(folder, problems)
    taken.update(images)
    for p in images:
        stem = stem_of(p).removesuffix("_mask")
        if stem in found:
            problems.append(f"{shown(p)}: {shown(found[stem].name)} is a mask of the same image; remove one")
        else:
            found[stem] = p
    return found


def list_items(layout: str, folder: Path, problems: list[str]) -> Iterator[Item]:
    """layout, a category's folder -> its images in sorted order; what does not fit is added to `problems`."""
    names, taken = LAYOUTS[layout], set[Path]()  # images and masks that have a place in the layout

    def item(path: Path, split: str, label: int, defect: str, mask: Path | None = None) -> Item:
        taken.add(path)
        relative = None if mask is None else mask.relative_to(folder).as_posix()
        return Item(path.relative_to(folder).as_posix(), split, label, defect, relative)

    train, test, truth = (folder / place for place in (names.train, names.test, names.masks))
    if is_folder(train / "good"):
        train = train / "good"
    for p in _images(train, problems):
        yield item(p, "train", 0, "good")
    for sub in _folders(test, problems):
        if sub.name not in NORMAL and sub.name.casefold() in NORMAL:
            problems.append(f"{shown(sub)}: would count as defective; if its images are normal, call it good")
        if not sub.name.isprintable():
            problems.append(f"{shown(sub)}: rename it, the name of a defect is shown in figures")
        normal, masks, images = sub.name in NORMAL, _masks(truth / sub.name, taken, problems), _images(sub, problems)
        if images and not masks and not normal and names.all_masked:
            problems.append(
                f"{shown(truth / sub.name)}: no masks of the {len(images)} images in {shown(sub)}; add them"
            )
        twins = {stem for stem, count in Counter(map(stem_of, images)).items() if count > 1}
        for p in images:
            mask = masks.get(stem_of(p))
            if mask is not None and stem_of(p) in twins:
                problems.append(
                    f"{shown(p)}: another image differs only in suffix, so that its mask is unclear; rename"
                )
            elif masks and mask is None and not normal and names.all_masked:
                problems.append(f"{shown(p)}: no mask in {shown(truth / sub.name)}; add it")
            yield item(p, "test", int(not normal), "good" if normal else sub.name, mask)
        left = sorted(set(masks).difference(map(stem_of, images)))
        kind = "normal" if normal else "defective"
        problems.extend(
            f"{shown(masks[stem])}: mask without a {kind} image in {shown(sub)}; remove it" for stem in left
        )
    for sub in _folders(truth, problems):
        if not is_folder(test / sub.name):
            problems.append(
                f"{shown(sub)}: masks for a folder {shown(test / sub.name)} that is not there; are the names the same?"
            )
            taken.update(_images(sub, problems))
    problems.extend(_misplaced(folder, names, taken))


def _misplaced(folder: Path, names: Layout, taken: set[Path]) -> Iterator[str]:
    """Images below the three folders that no rule of the layout takes in, by folder; mask folders of other names."""
    for part in dict.fromkeys(top(place) for place in (names.train, names.test, names.masks)):
        for place, folders, files in os.walk(folder / part):
            folders[:] = sorted(name for name in folders if not hidden(name))
            images = (Path(place, name) for name in sorted(files) if not hidden(name))
            left = [p for p in images if p.suffix.lower() in EXTENSIONS and p not in taken]
            if left:
                first = shown(left[0].name)
                yield f"{shown(place)}: {len(left)} image(s) here have no place in the layout, as {first}; move them"
    if not is_folder(folder / names.masks):
        for other in _folders(folder, []):
            if re.sub("[^a-z]", "", other.name.lower()) in MASK_FOLDERS:
                yield f"{shown(other)}: if these are the masks, call the folder {names.masks}; else move it elsewhere"
