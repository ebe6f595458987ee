"""The index of a category: every file of it read once, hashed, decoded and checked, before any work on it."""

import hashlib
import threading
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from reconpatch.data.decoding import Picture, decode, mask_values, read_file, to_rgb
from reconpatch.data.index import Item, category_folder
from reconpatch.data.layouts import EXTENSIONS, LAYOUTS, is_folder, list_items, shown
from reconpatch.data.published import as_published
from reconpatch.errors import ReconpatchError


class Warned(threading.local):
    """What the libraries warn of while this thread works on one image."""

    def __init__(self) -> None:
        self.messages: set[str] = set()


@contextmanager
def _warnings_kept() -> Iterator[Warned]:
    """Warnings of any thread go to its own messages: none is lost, shown without its file, or raised as an error."""
    warned = Warned()

    def keep(message: Warning | str, *_: Any, **__: Any) -> None:
        warned.messages.add(" ".join(str(message).split()))

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = keep
        yield warned


@dataclass
class _Check:
    """One image and its mask: facts found and what is wrong."""

    folder: Path
    item: Item
    published: bool  # a published data set is taken as it is: an empty mask is remarked on
    facts: dict[str, Any] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def read(self, name: str, prefix: str = "") -> Picture | None:
        """The decoded file; what is hashed is what is decoded."""
        path = self.folder / name
        try:
            content = read_file(path)
            picture = decode(content, path)
        except ReconpatchError as error:
            self.problems.append(str(error))
            return None
        found = {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
        self.facts |= {prefix + key: fact for key, fact in (found | {"orientation": picture.orientation}).items()}
        return picture

    def image(self) -> None:
        """Facts of the image; problems if it has no RGB form."""
        picture = self.read(self.item.path)
        if picture is None:
            return
        width, height = picture.image.size
        self.facts |= {"width": width, "height": height, "mode": picture.image.mode, "format": picture.format}
        try:
            to_rgb(picture.image)
        except ReconpatchError as error:
            self.problems.append(f"{shown(self.folder / self.item.path)}: {error}")

    def mask(self, name: str) -> None:
        """Facts of the mask; problems if it does not fit the image or contradicts its label."""
        picture = self.read(name, "mask_")
        if picture is None:
            return
        path, (width, height) = shown(self.folder / name), picture.image.size
        image = shown(self.folder / self.item.path)
        try:
            values = mask_values(picture.image)
        except ReconpatchError as error:
            self.problems.append(f"{path}: {error}")
            return
        size = (self.facts.get("width", width), self.facts.get("height", height))
        if (width, height) != size:
            self.problems.append(
                f"{path}: mask is {width}x{height} px, {image} is {size[0]}x{size[1]}; make them equal"
            )
        above = int(np.count_nonzero(values))
        self.facts |= {"mask_pixels": above, "mask_between": above - int(np.count_nonzero(values == 255))}
        if self.item.label and not above and not self.published:
            self.problems.append(f"{path}: mask of a defective image is empty; mark the defect")
        elif above and not self.item.label:
            self.problems.append(
                f"{path}: marks {above} px of a normal image, {image}; move the image or empty the mask"
            )


def _check(folder: Path, item: Item, published: bool, warned: Warned) -> tuple[Item, list[str]]:
    """Read the image and its mask once: item with its facts, and what is wrong with them."""
    warned.messages.clear()
    check = _Check(folder, item, published)
    check.image()
    if item.mask is not None:
        check.mask(item.mask)
    return replace(item, **check.facts, warning="; ".join(sorted(warned.messages))), check.problems


def index(layout: str, root: Path, category: str, threads: int = 1) -> list[Item]:
    """category -> its images in sorted order, every file read and decoded once.

    Raises one ReconpatchError that lists all problems, each with its path: files that cannot be read or hold no whole
    image; missing, surplus, ambiguous, empty or wrongly sized masks, and masks that mark normal images; images that
    would be left out; no training or no test images. A thread holds one image and its mask at a time, each of at most
    `decoding.MAX_PIXELS`.
    """
    folder = category_folder(layout, root, category)
    if not is_folder(folder):
        raise ReconpatchError(f"{folder}: no such folder; category {category} is not under {root}")
    names, problems = LAYOUTS[layout], list[str]()
    listed = list(list_items(layout, folder, problems))
    for split, place in (("train", names.train), ("test", names.test)):
        if not any(item.split == split for item in listed):
            problems.append(f"{folder / place}: no images ({', '.join(sorted(EXTENSIONS))})")
    anomalous = [item for item in listed if item.label]
    if any(item.mask for item in anomalous):
        missing = [shown(item.path) for item in anomalous if item.mask is None]
        if not names.all_masked and missing:
            problems.append(
                f"{folder}: some defective images have masks, but not {', '.join(missing)}; give all or none"
            )
    published = as_published(layout, category, listed)
    with _warnings_kept() as warned, ThreadPoolExecutor(threads) as pool:
        checked = list(pool.map(lambda item: _check(folder, item, published, warned), listed))
    problems.extend(p for _, found in checked for p in found)
    if problems:
        raise ReconpatchError("\n  ".join([f"{category}: {len(problems)} problem(s) in the data:", *problems]))
    return [item for item, _ in checked]
