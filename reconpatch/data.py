"""Data sets: which image is what, in sorted order. No image is opened here; `indexing` does that.

Layouts (one folder a category):
    mvtec_ad  train/good/*  test/good/*  test/<defect>/*  ground_truth/<defect>/<stem>_mask.*   (the sample, too)
    btad      train/ok/*    test/ok/*    test/ko/*        ground_truth/ko/<stem>.*
    folder    train/[good/]*  test/good/*  test/<anything else>/*  ground_truth/<same>/<stem>[_mask].*, all or none
"""

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from reconpatch.errors import ReconpatchError

LAYOUTS = ("mvtec_ad", "btad", "folder", "sample")
NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"  # of data sets and categories
NORMAL = frozenset({"good", "ok", "normal"})
EXTENSIONS = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"})
# Order of the paper's Table 5: objects, then textures.
MVTEC_AD = (
    *("bottle", "cable", "capsule", "hazelnut", "metal_nut", "pill", "screw", "toothbrush", "transistor", "zipper"),
    *("carpet", "grid", "leather", "tile", "wood"),
)


@dataclass(frozen=True)
class Item:
    """One image of a category; paths are relative to the category's folder, with forward slashes."""

    path: str
    split: str  # train or test
    label: int  # 1 is anomalous
    defect: str  # "good" for normal images
    mask: str | None
    sha256: str = ""
    mask_sha256: str = ""
    bytes: int = 0
    width: int = 0
    height: int = 0
    mode: str = ""


def categories(layout: str, root: Path) -> list[str]:
    """root folder -> names of the categories in it, MVTec AD's in the paper's order, others sorted.

    Raises ReconpatchError when the root is missing or holds no category.
    """
    if not root.is_dir():
        what = "train/ and test/" if layout == "folder" else "the categories"
        raise ReconpatchError(f"data root {root}: no such folder; give the one that holds {what}")
    if layout == "folder" and (root / "train").is_dir():
        return [_checked(root.resolve().name)]
    found = {p.name for p in root.iterdir() if (p / "train").is_dir()}
    if not found:
        raise ReconpatchError(
            f"data root {root}: no folder in it has a train/ folder, so it holds no {layout} category"
        )
    return [c for c in MVTEC_AD if c in found] + [_checked(c) for c in sorted(found.difference(MVTEC_AD))]


def _checked(name: str) -> str:
    """Category names become folders of the results."""
    if not re.fullmatch(NAME, name):
        raise ReconpatchError(f"category folder {name!r}: rename it, names hold only letters, digits, '.', '_' and '-'")
    return name


def category_folder(layout: str, root: Path, category: str) -> Path:
    """The folder of one category; a `folder` data set may be a single category itself."""
    return root if layout == "folder" and (root / "train").is_dir() else root / category


def _images(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.suffix.lower() in EXTENSIONS) if folder.is_dir() else []


def _masks(folder: Path, defect: str) -> dict[str, Path]:
    """Masks of one defect folder by the stem of their image. Stems repeat between folders, so one folder a time."""
    return {p.stem.removesuffix("_mask"): p for p in _images(folder / "ground_truth" / defect)}


def list_items(layout: str, folder: Path, problems: list[str]) -> Iterator[Item]:
    """layout, a category's folder -> its images in sorted order; what does not fit is added to `problems`."""
    normal = {"btad": "ok"}.get(layout, "good")
    train = folder / "train" / normal
    if layout == "folder" and not train.is_dir():
        train = folder / "train"
    for p in _images(train):
        yield Item(p.relative_to(folder).as_posix(), "train", 0, "good", None)
    test = folder / "test"
    for sub in sorted(p for p in test.iterdir() if p.is_dir()) if test.is_dir() else []:
        masks, is_normal = _masks(folder, sub.name), sub.name in NORMAL
        for p in _images(sub):
            mask = None if is_normal else masks.pop(p.stem, None)
            if mask is None and not is_normal and layout != "folder":
                problems.append(f"{p}: no mask in {folder / 'ground_truth' / sub.name}")
            relative = None if mask is None else mask.relative_to(folder).as_posix()
            defect = "good" if is_normal else sub.name
            yield Item(p.relative_to(folder).as_posix(), "test", int(not is_normal), defect, relative)
        problems.extend(f"{m}: mask without a defective image in {sub}" for m in masks.values())
    truth = folder / "ground_truth"
    for sub in sorted(p for p in truth.iterdir() if p.is_dir()) if truth.is_dir() else []:
        if not (test / sub.name).is_dir():
            problems.append(f"{sub}: masks for a folder {test / sub.name} that does not exist; are the names the same?")


def manifest(items: list[Item]) -> str:
    """items -> JSON text: the items and a digest of them, the same wherever the data set lies."""
    rows = [asdict(item) for item in items]
    digest = hashlib.sha256(json.dumps(rows, sort_keys=True).encode()).hexdigest()
    return json.dumps({"digest": digest, "images": rows}, indent=1) + "\n"


def read_manifest(path: Path) -> tuple[list[Item], str]:
    """manifest file -> (items, digest)."""
    content = json.loads(path.read_text())
    return [Item(**row) for row in content["images"]], content["digest"]


def listing(layout: str, root: Path, category: str) -> str:
    """category -> digest of names, sizes and times of its images and masks: cheap, changes whenever one does."""
    folder = category_folder(layout, root, category)
    found = [p for part in ("train", "test", "ground_truth") for p in (folder / part).rglob("*") if p.is_file()]
    images = [p for p in found if p.suffix.lower() in EXTENSIONS]
    facts = sorted((p.relative_to(folder).as_posix(), p.stat().st_size, p.stat().st_mtime_ns) for p in images)
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]


def count_images(layout: str, folder: Path) -> tuple[int, int]:
    """The folder of a category -> (training, test) images in it, none of them opened."""
    splits = [item.split for item in list_items(layout, folder, [])]
    return splits.count("train"), splits.count("test")
