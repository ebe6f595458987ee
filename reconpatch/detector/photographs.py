"""Your own photographs: finding them in folders of any layout, and reading them."""

import os
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from reconpatch.data.decoding import Picture, decode, load_picture, pixel_digest, read_file, to_rgb
from reconpatch.data.layouts import (
    EXTENSIONS,
    NORMAL,
    OTHER_FORMATS,
    called_like_masks,
    differ_in_suffix,
    hidden,
    is_mask_folder,
    of_system,
)
from reconpatch.data.pictures import image_facts
from reconpatch.data.remarks import ImageFacts, grouped
from reconpatch.errors import ReconpatchError, listed, quote
from reconpatch.runtime import read_ahead

CAMERA_FORMATS = {".cr2", ".cr3", ".nef", ".arw", ".orf", ".rw2", ".raf"}
NOT_READ = OTHER_FORMATS | CAMERA_FORMATS
# Names of folders of defective products, letters alone; NG, NOK, KO and n. i. O. are usual in factories.
BAD = frozenset(
    {
        *("bad", "ng", "nogood", "notgood", "nok", "notok", "ko", "nio", "reject", "rejects", "rejected", "scrap"),
        *("defect", "defects", "defective", "fault", "faults", "faulty", "fail", "fails", "failed"),
        *("damaged", "broken", "anomaly", "anomalies", "anomalous", "abnormal"),
    }
)
GIVE = {  # what photographs are for -> what to give of a folder that holds more
    "fit": "its folder of good images, for example train/good",
    "predict": "the folder of images to score, for example test",
    "evaluate": "its folder test, and as --masks its folder ground_truth",
}
Purpose = Literal["fit", "predict", "evaluate"]


@dataclass(frozen=True)
class Photograph:
    """An image file, with the name it has in results."""

    name: str  # path below the folder in which it was found, with forward slashes
    path: Path


Source = Photograph | Image.Image | NDArray[Any]  # what the Python interface takes as one image


def find_photographs(sources: Sequence[Path], purpose: Purpose | None = None) -> tuple[list[Photograph], list[str]]:
    """Folders (searched at any depth) and files -> (photographs sorted by name, remarks on what was left out).

    Hidden names are skipped. Files that are no images, and the `layouts.SYSTEM_FOLDERS`, are counted in a remark. A
    file that lies below two sources counts once, with the longer of its two names, and a remark says so.
    Files in formats that are not read are returned too, so that reading them fails with a message. Raises
    ReconpatchError if nothing is found, if two photographs have the same name, and, with a purpose, what
    `check_folders` and `check_names` raise.
    """
    per_source: list[list[tuple[str, Photograph]]] = []  # for each source: (name of the folder, photograph)
    ignored: Counter[str] = Counter()  # what was left out, in words
    problems: list[ReconpatchError] = []
    for source in sources:
        if source.is_dir():
            folder = source.resolve().name
            per_source.append([(folder, each) for each in _photographs_below(source, ignored, problems)])
        elif source.exists():  # named by the user, so taken whatever its suffix is
            per_source.append([("", Photograph(source.name, source))])
        else:
            problems.append(ReconpatchError("no such file or folder", where=source))
    kept = _without_repetitions(per_source)
    repeated = sum(map(len, per_source)) - len(kept)
    photographs = [photograph for _, photograph in kept]
    if len(sources) > 1 and len({each.name for each in photographs}) < len(photographs):
        # Names of different folders collide: put the folders' names in front.
        photographs = [Photograph(f"{folder}/{each.name}" if folder else each.name, each.path) for folder, each in kept]
    counts = Counter(each.name for each in photographs)
    problems += [
        ReconpatchError("two images would have this name in the results", where=name, fix="rename one")
        for name, count in counts.items()
        if count > 1
    ]
    _raise_all(problems)
    remarks = [f"{n} {what}" for what, n in sorted(ignored.items())]
    if repeated:
        remarks.append(f"{repeated} images lie below more than one of the sources given; each counts once")
    if not photographs:
        besides = f" ({'; '.join(remarks)})" if remarks else ""
        raise ReconpatchError(
            f"no images below it{besides}",
            where=", ".join(map(quote, sources)),
            fix=f"images end in {', '.join(sorted(EXTENSIONS))}",
        )
    photographs.sort(key=lambda each: each.name)
    if purpose:
        remarks += check_folders(photographs, sources, purpose)
        named = [source for source in sources if not source.is_dir()]
        remarks += check_names([photograph.path for photograph in photographs], purpose, named)
    return photographs, remarks


def check_folders(photographs: Sequence[Photograph], sources: Sequence[Path], purpose: Purpose) -> list[str]:
    """Photographs, the folders and files in which they were found, what they are for -> remarks on what the names of
    the folders below the sources leave open.

    Raises ReconpatchError if a folder holds a whole data set or masks beside images, because these would be taken for
    what they are not, and, to fit on, if a folder holds defective products by its name or others beside good ones.
    Sources are taken as given: this is how to say that a folder is meant whatever it is called.
    """
    remarks = []
    for folder, counts in sorted(_counts_by_folder(photographs, sources).items()):
        names = sorted(counts)
        shown = {name: "files of its own" if name == "." else quote(name) for name in names}
        if {"train", "test"} <= counts.keys():
            what = f"holds {' and '.join(shown.values())}, a whole data set"
            raise ReconpatchError(what, where=folder, fix=f"give {GIVE[purpose]}")
        masks = list(filter(is_mask_folder, names))
        if masks and len(names) > 1:
            what = f"its folder {quote(masks[0])} holds masks by its name, and lies beside images"
            raise ReconpatchError(what, where=folder, fix=f"give {GIVE[purpose]}, or move the masks out of it")
        if purpose != "fit":
            continue
        bad = [name for name in names if _holds_bad(name)]
        good = [name for name in names if name.casefold() in NORMAL]
        one_by_one = "give the folders of good images one by one; they may have any names then"
        if bad:
            what = f"its folder {quote(bad[0])} does not hold good products by its name"
            raise ReconpatchError(what, where=folder, fix=one_by_one)
        if good and len(good) < len(names):
            what = f"images of good products only are wanted, and it holds {', '.join(shown.values())}"
            raise ReconpatchError(what, where=folder, fix=one_by_one)
        if len(names) > 1 and not good:
            counted = ", ".join(f"{shown[name]} ({counts[name]})" for name in names[:5])
            more = ", ..." if len(names) > 5 else ""
            remarks.append(f"{quote(folder)}: the images in {counted}{more} all count as good products")
    return remarks


def _counts_by_folder(photographs: Sequence[Photograph], sources: Sequence[Path]) -> dict[Path, Counter[str]]:
    """Photographs, sources -> for every folder at or below a source, how many photographs lie in each of its folders,
    and under the name "." how many in itself.
    """
    counts: dict[Path, Counter[str]] = {}
    for photograph in photographs:
        above = [source for source in sources if source in photograph.path.parents]
        if above:
            folder = max(above, key=lambda source: len(source.parts))
            for part in (*photograph.path.relative_to(folder).parts[:-1], "."):
                counts.setdefault(folder, Counter())[part] += 1
                folder /= part
    return counts


def _holds_bad(name: str) -> bool:
    """Whether the name of a folder says that it holds defective products."""
    words = re.findall("[a-z]+", name.lower())
    denied = {"no", "non", "not", "free", "without"}.intersection(words)
    return "".join(words) in BAD or (not denied and not BAD.isdisjoint(words))


def check_names(paths: Sequence[Path], purpose: Purpose, named: Sequence[Path]) -> list[str]:
    """Files of photographs, what they are for, files that the user named one by one -> remarks on names that say that a
    file may be no photograph of its own.

    Raises ReconpatchError if files to fit on are called like masks of others and were not named, but found in folders.
    """
    remarks = []
    if masks := called_like_masks(paths):
        as_given = set(map(os.path.realpath, named))
        found = [mask for mask in masks if os.path.realpath(mask) not in as_given]
        refused = found if purpose == "fit" else []
        first = (refused or list(masks))[0]
        count, image = len(refused or masks), masks[first]
        what = f"{count} images are called like masks of others, first {quote(first)} of {quote(image.name)}"
        fix = "move masks elsewhere, and rename photographs"
        if refused:
            raise ReconpatchError(what, fix=f"{fix}, or give each file by its own name")
        remarks.append(f"{what}; {fix}")
    if twins := differ_in_suffix(paths):
        remarks.append(
            f"{len(twins)} images differ from another only in suffix, first {quote(twins[0])}: copies, or masks?"
        )
    return remarks


def _without_repetitions(per_source: Sequence[Sequence[tuple[str, Photograph]]]) -> list[tuple[str, Photograph]]:
    """Photographs of every source -> all of them, but a file below several sources only from the source in which its
    name has most folders (the first of these). Two links to one file within one source are both kept.
    """
    best: dict[str, tuple[int, int]] = {}  # real path -> (folders in the name, number of the source)
    items = [
        (os.path.realpath(photograph.path), number, (folder, photograph))
        for number, source in enumerate(per_source)
        for folder, photograph in source
    ]
    for real, number, (_, photograph) in items:
        depth = photograph.name.count("/")
        if real not in best or depth > best[real][0]:
            best[real] = depth, number
    return [item for real, number, item in items if best[real][1] == number]


def _photographs_below(folder: Path, ignored: Counter[str], problems: list[ReconpatchError]) -> list[Photograph]:
    """Photographs below a folder, also through links; every folder is entered once, so loops of links end."""
    photographs, entered = [], set()

    def cannot_enter(error: OSError) -> None:
        problems.append(ReconpatchError(f"cannot be listed ({error.strerror})", where=error.filename))

    for parent, folders, files in os.walk(folder, followlinks=True, onerror=cannot_enter):
        real = os.path.realpath(parent)
        if real in entered:
            folders.clear()
            continue
        entered.add(real)
        for name in filter(of_system, folders):
            ignored[f"folders {quote(name)} of a system, network drive or program are left out"] += 1
        folders[:] = sorted(name for name in folders if not hidden(name))
        for path in (Path(parent, name) for name in sorted(files) if not hidden(name)):
            suffix = path.suffix.lower()
            if suffix in EXTENSIONS | NOT_READ:
                photographs.append(Photograph(path.relative_to(folder).as_posix(), path))
            else:
                ignored[f"files ending in {suffix or 'nothing'} are no images"] += 1
    return photographs


def _raise_all(problems: Sequence[ReconpatchError]) -> None:
    """Raise one ReconpatchError that lists all problems, if there are any."""
    if problems:
        count = f"{len(problems)} problem{'s' if len(problems) > 1 else ''}"
        raise ReconpatchError("\n".join([f"{count} of the images:", *listed(grouped(problems))]))


def load(source: Source) -> Image.Image:
    """Photograph, PIL image, or (H, W, 3) or (H, W) uint8 array -> 8-bit RGB image.

    Raises ReconpatchError that names the file, or says what the array is instead.
    """
    return load_with_facts(source)[0]


def load_with_facts(source: Source, number: int = 0, content: bytes | None = None) -> tuple[Image.Image, ImageFacts]:
    """Source as in `load`, its number, its bytes if it is a file that was read -> (8-bit RGB image, its facts without
    digests). Raises what `load` raises.
    """
    picture = _picture(source, content)
    try:
        rgb = to_rgb(picture.image)
    except ReconpatchError as error:
        raise (error.at(source.path) if isinstance(source, Photograph) else error) from None
    return rgb, image_facts(name_of(source, number), picture, rgb)


def _picture(source: Source, content: bytes | None) -> Picture:
    """Source as in `load`, bytes of its file -> the picture in its own mode. Raises what `load` raises."""
    if isinstance(source, Photograph):
        if source.path.suffix.lower() in NOT_READ:  # a parser might take the preview in a raw file for the photograph
            raise ReconpatchError(
                "images in this format are not read", where=source.path, fix="save it as png, or move it"
            )
        return decode(read_file(source.path) if content is None else content, source.path)
    if isinstance(source, Image.Image):
        try:
            return load_picture(source)
        except OSError as error:  # Pillow reads the pixels of an opened file only now
            raise ReconpatchError(f"an image cannot be decoded ({error})") from None
    if not isinstance(source, np.ndarray) or source.dtype != np.uint8 or source.ndim not in (2, 3) or not source.size:
        what = f"{source.dtype} {source.shape}" if isinstance(source, np.ndarray) else type(source).__name__
        raise ReconpatchError(
            f"an image is {what}", fix="give a path, a PIL image, or a uint8 array (H, W, 3) or (H, W)"
        )
    if source.ndim == 3 and source.shape[2] != 3:
        raise ReconpatchError(f"an image of {source.shape}: the last axis must hold the 3 colours RGB")
    return Picture(Image.fromarray(np.ascontiguousarray(source)), "")


def name_of(source: Source, number: int) -> str:
    """Source, its number -> its name in results."""
    return source.name if isinstance(source, Photograph) else f"image {number}"


def csv_safe(name: str) -> str:
    """Name -> the name for a CSV file: undecodable bytes, and carriage returns, which `csv` does not quote, escaped."""
    return name.replace("\r", "\\r").encode(errors="backslashreplace").decode()


def examine(sources: Sequence[Source], threads: int, progress: Callable[[int, int], None]) -> list[ImageFacts]:
    """N sources -> facts of each, after every one was read and decoded.

    Every file is read once, so that its digest is that of what was decoded. Raises one ReconpatchError that lists all
    sources that cannot be read.
    """

    def look(item: tuple[int, Source]) -> ImageFacts | ReconpatchError:
        number, source = item
        try:
            content = read_file(source.path) if isinstance(source, Photograph) else None
            image, facts = load_with_facts(source, number, content)
        except ReconpatchError as error:
            return error.at(name_of(source, number))
        pixels = pixel_digest(image)
        return replace(facts, sha256=pixels if content is None else sha256(content).hexdigest(), pixels_sha256=pixels)

    facts: list[ImageFacts] = []
    problems: list[ReconpatchError] = []
    for done, result in enumerate(read_ahead(look, enumerate(sources), threads, 2 * threads), 1):
        if isinstance(result, ImageFacts):
            facts.append(result)
        else:
            problems.append(result)
        progress(done, len(sources))
    _raise_all(problems)
    return facts
