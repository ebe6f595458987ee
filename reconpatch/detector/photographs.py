"""Your own photographs: finding them in folders of any layout, and reading them."""

import os
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from reconpatch.data.decoding import Picture, decode, load_picture, read_file, to_rgb
from reconpatch.data.layouts import EXTENSIONS, OTHER_FORMATS, hidden
from reconpatch.data.pictures import image_facts
from reconpatch.data.remarks import ImageFacts
from reconpatch.errors import ReconpatchError, listed, quote

CAMERA_FORMATS = {".cr2", ".cr3", ".nef", ".arw", ".orf", ".rw2", ".raf"}
NOT_READ = OTHER_FORMATS | CAMERA_FORMATS
MOST_DECODERS = 8  # images decoded at once: one of 80 megapixels takes 0.7 GB


@dataclass(frozen=True)
class Photograph:
    """An image file, with the name it has in results."""

    name: str  # path below the folder in which it was found, with forward slashes
    path: Path


Source = Photograph | Image.Image | NDArray[Any]  # what the Python interface takes as one image


def find_photographs(sources: Sequence[Path]) -> tuple[list[Photograph], list[str]]:
    """Folders (searched at any depth) and files -> (photographs sorted by name, remarks on what was left out).

    Hidden names are skipped. Files that are no images are counted in a remark. A file that lies below two sources
    counts once, with the longer of its two names, and a remark says so. Files in formats that are not read are
    returned too, so that reading them fails with a message. Raises ReconpatchError if nothing is found, and if two
    photographs have the same name.
    """
    per_source: list[list[tuple[str, Photograph]]] = []  # for each source: (name of the folder, photograph)
    ignored: Counter[str] = Counter()
    problems: list[str] = []
    for source in sources:
        if source.is_dir():
            folder = source.resolve().name
            per_source.append([(folder, each) for each in _photographs_below(source, ignored, problems)])
        elif source.exists():  # named by the user, so taken whatever its suffix is
            per_source.append([("", Photograph(source.name, source))])
        else:
            problems.append(f"{quote(source)}: no such file or folder")
    kept = _without_repetitions(per_source)
    repeated = sum(map(len, per_source)) - len(kept)
    photographs = [photograph for _, photograph in kept]
    if len(sources) > 1 and len({each.name for each in photographs}) < len(photographs):
        # Names of different folders collide: put the folders' names in front.
        photographs = [Photograph(f"{folder}/{each.name}" if folder else each.name, each.path) for folder, each in kept]
    counts = Counter(each.name for each in photographs)
    problems += [
        f"{quote(name)}: two images would have this name in the results; rename one"
        for name, count in counts.items()
        if count > 1
    ]
    _raise_all(problems)
    remarks = [f"{n} files ending in {suffix or 'nothing'} are no images" for suffix, n in sorted(ignored.items())]
    if repeated:
        remarks.append(f"{repeated} images lie below more than one of the sources given; each counts once")
    if not photographs:
        besides = f" ({'; '.join(remarks)})" if remarks else ""
        raise ReconpatchError(
            f"no images below it{besides}",
            where=", ".join(map(quote, sources)),
            fix=f"images end in {', '.join(sorted(EXTENSIONS))}",
        )
    return sorted(photographs, key=lambda each: each.name), remarks


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


def _photographs_below(folder: Path, ignored: Counter[str], problems: list[str]) -> list[Photograph]:
    """Photographs below a folder, also through links; every folder is entered once, so loops of links end."""
    photographs, entered = [], set()
    for parent, folders, files in os.walk(folder, followlinks=True, onerror=lambda e: problems.append(str(e))):
        real = os.path.realpath(parent)
        if real in entered:
            folders.clear()
            continue
        entered.add(real)
        folders[:] = sorted(name for name in folders if not hidden(name))
        for path in (Path(parent, name) for name in sorted(files) if not hidden(name)):
            suffix = path.suffix.lower()
            if suffix in EXTENSIONS | NOT_READ:
                photographs.append(Photograph(path.relative_to(folder).as_posix(), path))
            else:
                ignored[suffix] += 1
    return photographs


def _raise_all(problems: Sequence[str]) -> None:
    """Raise one ReconpatchError that lists all problems, if there are any."""
    if problems:
        count = f"{len(problems)} problem{'s' if len(problems) > 1 else ''}"
        raise ReconpatchError("\n".join([f"{count} of the images:", *listed(problems)]))


def load(source: Source) -> Image.Image:
    """Photograph, PIL image, or (H, W, 3) or (H, W) uint8 array -> 8-bit RGB image.

    Raises ReconpatchError that names the file, or says what the array is instead.
    """
    return load_with_facts(source)[0]


def load_with_facts(source: Source, number: int = 0, content: bytes | None = None) -> tuple[Image.Image, ImageFacts]:
    """Source as in `load`, its number, its bytes if it is a file that was read -> (8-bit RGB image, its facts without a
    digest). Raises what `load` raises.
    """
    picture = _picture(source, content)
    try:
        rgb = to_rgb(picture.image)
    except ReconpatchError as error:
        where = source.path if isinstance(source, Photograph) else ""
        raise ReconpatchError(error.what, where=where, fix=error.fix) from None
    return rgb, image_facts(name_of(source, number), "", picture, rgb)


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


def with_number(error: ReconpatchError, source: Source, number: int) -> ReconpatchError:
    """Error that `load` raised -> an error that names the source; if it is a file, the error does so already."""
    return error if isinstance(source, Photograph) else ReconpatchError(str(error), where=name_of(source, number))


def examine(sources: Sequence[Source], threads: int, progress: Callable[[int, int], None]) -> list[ImageFacts]:
    """N sources -> facts of each, after every one was read and decoded.

    The digest is that of the bytes that were decoded. For an image in memory it is that of its size and pixels. Raises
    one ReconpatchError that lists all sources that cannot be read.
    """

    def look(item: tuple[int, Source]) -> ImageFacts | str:
        number, source = item
        try:
            content = read_file(source.path) if isinstance(source, Photograph) else None
            image, facts = load_with_facts(source, number, content)
            if content is None:  # 2x8 and 4x4 may have the same pixels
                content = f"{image.width}x{image.height} ".encode() + image.tobytes()
        except ReconpatchError as error:
            return str(with_number(error, source, number))
        return replace(facts, sha256=sha256(content).hexdigest())

    facts: list[ImageFacts] = []
    problems: list[str] = []
    with ThreadPoolExecutor(min(threads, MOST_DECODERS)) as pool:
        for done, result in enumerate(pool.map(look, enumerate(sources)), 1):
            if isinstance(result, ImageFacts):
                facts.append(result)
            else:
                problems.append(result)
            progress(done, len(sources))
    _raise_all(problems)
    return facts
