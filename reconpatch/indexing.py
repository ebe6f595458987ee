"""The index of a category: every file of it read and checked once, before any work on it."""

import hashlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

import numpy as np

from reconpatch.data import EXTENSIONS, Item, category_folder, list_items
from reconpatch.errors import ReconpatchError
from reconpatch.images import decode, load_mask, to_rgb


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
    listed = list(list_items(layout, folder, problems))
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
