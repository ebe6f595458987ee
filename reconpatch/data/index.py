"""The index of a category: every file read once, hashed, decoded and checked, before any work on it."""

import hashlib
import threading
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from reconpatch.data.decoding import Picture, decode, pixel_digest, read_file, to_rgb
from reconpatch.data.layouts import (
    EXTENSIONS,
    LAYOUTS,
    MADE_UP_FILE,
    Item,
    Mask,
    category_folder,
    is_folder,
    list_items,
    mask_names,
)
from reconpatch.data.pictures import image_facts, mask_facts
from reconpatch.data.published import as_published
from reconpatch.data.remarks import MADE_UP, mask_problems
from reconpatch.data.saturation import Saturation, read_saturations, saturated_px
from reconpatch.errors import ReconpatchError, quote


def index(layout: str, root: Path, category: str, threads: int = 1) -> list[Item]:
    """category -> its images in sorted order, every file read and decoded once.

    Raises one ReconpatchError that lists all problems, each with its path: files that cannot be read or hold no whole
    image; missing, surplus, ambiguous, empty or wrongly sized masks, and masks that mark normal images; images that
    would be left out; no training or no test images. A thread holds one image and its mask at a time, each of at most
    `decoding.MAX_PIXELS`.
    """
    folder = category_folder(layout, root, category)
    if not is_folder(folder):
        raise ReconpatchError(f"no such folder; category {category} is not under {root}", where=folder)
    rules, problems = LAYOUTS[layout], list[str]()
    listed = list(list_items(layout, folder, problems))
    for split, subfolder in (("train", rules.train), ("test", rules.test), ("validation", rules.validation)):
        if not subfolder or any(item.split == split for item in listed):
            continue
        if not rules.table:
            problems.append(f"{folder / subfolder}: no images ({', '.join(sorted(EXTENSIONS))})")
        elif listed:  # without any, the problem is there already
            problems.append(f"{root / rules.table}: no {split} images of {category}")
    anomalous = [item for item in listed if item.label]
    if not rules.all_masked and any(item.masks for item in anomalous):
        unmasked = [item.path for item in anomalous if not item.masks]
        if unmasked:
            names, called = ", ".join(map(quote, unmasked)), mask_names(Path(unmasked[0]))
            problems.append(
                f"{folder}: some defective images have masks, but not {names}; give all, called {called}, or none"
            )
    published = as_published(layout, category, listed)
    saturations = read_saturations(folder / rules.saturations, problems) if rules.saturations else None
    with _warnings_collected() as warned, ThreadPoolExecutor(threads) as pool:
        checked = list(pool.map(lambda item: _check(folder, item, published, saturations, warned), listed))
    problems.extend(problem for _, of_item in checked for problem in of_item)
    if problems:
        raise ReconpatchError("\n  ".join([f"{category}: {len(problems)} problem(s) in the data:", *problems]))
    count_of = Counter(item.pixels_sha256 for item, _ in checked)
    made_up = (MADE_UP,) if (folder / MADE_UP_FILE).is_file() else ()
    return [
        replace(
            item,
            pixels_sha256=item.pixels_sha256 if count_of[item.pixels_sha256] > 1 else "",
            notes=(*item.notes, *made_up),
        )
        for item, _ in checked
    ]


class _Warned(threading.local):
    """What the libraries warn of while this thread works on one image."""

    def __init__(self) -> None:
        self.messages: set[str] = set()


@contextmanager
def _warnings_collected() -> Iterator[_Warned]:
    """A thread's warnings go to its own messages: none is lost, shown without its file, or raised as an error."""
    warned = _Warned()

    def collect(message: Warning | str, *_: object, **__: object) -> None:
        warned.messages.add(" ".join(str(message).split()))

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = collect
        yield warned


def _check(
    folder: Path, item: Item, published: bool, saturations: Mapping[int, Saturation] | None, warned: _Warned
) -> tuple[Item, list[str]]:
    """Read an image and its masks once -> the item with what they hold, and what is wrong with them.

    A published data set is taken as it is: an empty mask is no problem there, but remarked on.
    """
    warned.messages.clear()
    problems: list[str] = []
    item = _with_image(folder, item, problems)
    masks = [_checked_mask(mask, folder, item, published, saturations, problems) for mask in item.masks]
    return replace(item, masks=tuple(masks), warning="; ".join(sorted(warned.messages))), problems


def _read(path: Path, problems: list[str]) -> tuple[bytes, Picture] | None:
    """The bytes of a file and the picture decoded from them, so that what is hashed is what is decoded."""
    try:
        content = read_file(path)
        return content, decode(content, path)
    except ReconpatchError as error:
        problems.append(str(error))
        return None


def _with_image(folder: Path, item: Item, problems: list[str]) -> Item:
    """The item with the facts of its image; a problem if the image has no RGB form."""
    opened = _read(folder / item.path, problems)
    if opened is None:
        return item
    content, picture = opened
    item = replace(item, width=picture.image.width, height=picture.image.height)
    try:
        rgb = to_rgb(picture.image)
    except ReconpatchError as error:
        problems.append(str(error.at(folder / item.path)))
        return item
    facts = image_facts(item.path, picture, rgb)
    return replace(
        item,
        sha256=hashlib.sha256(content).hexdigest(),
        pixels_sha256=pixel_digest(rgb),
        bytes=len(content),
        mode=facts.mode,
        format=facts.format,
        orientation=facts.orientation,
        notes=facts.notes,
    )


def _checked_mask(
    mask: Mask,
    folder: Path,
    item: Item,
    published: bool,
    saturations: Mapping[int, Saturation] | None,
    problems: list[str],
) -> Mask:
    """The mask with what its file holds; problems if it does not fit the image or contradicts its label."""
    file = folder / mask.path
    opened = _read(file, problems)
    if opened is None:
        return mask
    content, picture = opened
    try:
        facts = mask_facts(file.name, picture)
    except ReconpatchError as error:
        problems.append(str(error.at(file)))
        return mask
    size = (item.width, item.height) if item.width else None  # no width: the image itself was not read
    wrong = mask_problems(facts, file, folder / item.path, size, item.label, may_be_empty=published)
    problems += map(str, wrong)
    saturation = 0
    if saturations is not None and facts.marked:
        try:
            saturation = saturated_px(saturations, picture, facts.marked)
        except ReconpatchError as error:
            problems.append(str(error.at(file)))
    return replace(
        mask,
        sha256=hashlib.sha256(content).hexdigest(),
        bytes=len(content),
        orientation=facts.orientation,
        pixels=facts.marked,
        between=0 if mask.classes else facts.between,
        saturation=saturation,
        notes=facts.notes,
    )
