"""Data sets: which image is what, in sorted order, each file read and checked once.

Layouts (one folder a category):
    mvtec_ad  train/good/*  test/good/*  test/<defect>/*  ground_truth/<defect>/<stem>_mask.*   (the sample, too)
    btad      train/ok/*    test/ok/*    test/ko/*        ground_truth/ko/<stem>.*
    folder    train/[good/]*  test/good/*  test/<anything else>/*  ground_truth/<same>/<stem>[_mask].*, all or none
"""

import hashlib
import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from reconpatch.errors import ReconpatchError
from reconpatch.images import EXTENSIONS, decode, load_mask, to_rgb

LAYOUTS = ("mvtec_ad", "btad", "folder", "sample")
NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"  # of data sets and categories
NORMAL = frozenset({"good", "ok", "normal"})
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


def _list(layout: str, folder: Path, problems: list[str]) -> Iterator[Item]:
    """Yield every image in sorted order; what does not fit the layout is added to `problems`."""
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


def _check(folder: Path, item: Item) -> tuple[Item, list[str]]:
    """Read the image and its mask once: item with digest, size and mode, and what is wrong with them."""
    problems: list[str] = []
    path = folder / item.path
    facts: dict[str, str | int] = {}
    size: tuple[int, int] | None = None
    try:
        content = path.read_bytes()
        image = decode(path)
        to_rgb(image)
        size = image.size
        facts = {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content), "mode": image.mode}
        facts |= {"width": size[0], "height": size[1]}
    except ReconpatchError as error:
        problems.append(str(error) if str(path) in str(error) else f"{path}: {error}")
    except OSError as error:
        problems.append(f"{path}: cannot be read ({error.strerror})")
    if item.mask is not None:
        mask_path = folder / item.mask
        try:
            mask = load_mask(mask_path)
            facts["mask_sha256"] = hashlib.sha256(mask_path.read_bytes()).hexdigest()
            if size is not None and mask.size != size:
                problems.append(f"{mask_path}: mask is {mask.size[0]}x{mask.size[1]} px, {path} is {size[0]}x{size[1]}")
            if not np.asarray(mask).any():
                problems.append(f"{mask_path}: mask of a defective image is empty")
        except ReconpatchError as error:
            problems.append(str(error))
    return Item(**(asdict(item) | facts)), problems


def index(layout: str, root: Path, category: str, threads: int = 1) -> list[Item]:
    """category -> its images in sorted order, every file decoded once.

    Raises one ReconpatchError that lists all problems: unreadable images, missing, surplus, empty or wrongly sized
    masks, no training images, no test images.
    """
    folder = category_folder(layout, root, category)
    if not folder.is_dir():
        raise ReconpatchError(f"{folder}: no such folder; category {category} is not under {root}")
    problems: list[str] = []
    listed = list(_list(layout, folder, problems))
    train = {"btad": "train/ok", "folder": "train"}.get(layout, "train/good")
    for split, normal in (("train", train), ("test", "test")):
        if not any(item.split == split for item in listed):
            problems.append(f"{folder / normal}: no images ({', '.join(sorted(EXTENSIONS))})")
    anomalous = [item for item in listed if item.label]
    if any(item.mask for item in anomalous):
        missing = [item.path for item in anomalous if item.mask is None]
        if layout == "folder" and missing:
            problems.append(
                f"{folder}: some defective images have masks, but not {', '.join(missing[:5])}; give all or none"
            )
    with ThreadPoolExecutor(threads) as pool:
        checked = list(pool.map(lambda item: _check(folder, item), listed))
    problems.extend(p for _, found in checked for p in found)
    if problems:
        raise ReconpatchError("\n  ".join([f"{category}: {len(problems)} problem(s) in the data:", *problems]))
    return [item for item, _ in checked]


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
    splits = [item.split for item in _list(layout, folder, [])]
    return splits.count("train"), splits.count("test")
