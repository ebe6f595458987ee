"""Photographs of a user's own: found in folders of any layout, read whole, with all problems at once."""

import os
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from reconpatch.data.decoding import decode, read_file, to_rgb
from reconpatch.data.layouts import EXTENSIONS, OTHER_FORMATS, hidden
from reconpatch.errors import ReconpatchError, quote

UNREAD = OTHER_FORMATS | {".cr2", ".cr3", ".nef", ".arw", ".orf", ".rw2", ".raf"}  # these are cameras' raw files
MOST = 20  # problems that are spelt out
DECODERS = 8  # images decoded at once at most: one of 80 megapixels takes 0.7 GB


@dataclass(frozen=True)
class Photograph:
    """A file with the name it has in results: its path below the folder it was found in, with forward slashes."""

    name: str
    path: Path


@dataclass(frozen=True)
class Facts:
    """What reading a photograph told."""

    name: str
    sha256: str
    width: int  # px, after the turn EXIF asks for
    height: int


Source = Photograph | Image.Image | NDArray[Any]  # of what the Python interface takes as an image


def find(sources: Sequence[Path]) -> tuple[list[Photograph], list[str]]:
    """Folders, looked through at any depth, and files -> (photographs in sorted order, remarks on what was left out).

    Hidden names are skipped; files with other suffixes than images' are counted in a remark, as are files found again
    where sources overlap: they count once, with the name that tells most folders. Raises ReconpatchError where there is
    nothing, and for two photographs of one name. Photographs in formats that are not read are found, but not loaded.
    """
    listed: list[list[tuple[str, Photograph]]] = []  # of every source, with the name of the folder it was found in
    ignored: Counter[str] = Counter()
    problems: list[str] = []
    for source in sources:
        if source.is_dir():
            listed.append([(source.resolve().name, each) for each in _below(source, ignored, problems)])
        elif source.exists():
            listed.append([("", Photograph(source.name, source))])  # named by the user, whatever its suffix
        else:
            problems.append(f"{quote(source)}: no such file or folder")
    below = _once(listed)
    again = sum(map(len, listed)) - len(below)
    found = [each for _, each in below]
    if len(sources) > 1 and len({each.name for each in found}) < len(found):  # the folders tell them apart
        found = [Photograph(f"{folder}/{each.name}" if folder else each.name, each.path) for folder, each in below]
    twice = [name for name, count in Counter(each.name for each in found).items() if count > 1]
    problems += [f"{quote(name)}: two images would have this name in the results; rename one" for name in twice]
    _refuse(problems, "of the images")
    remarks = [
        f"{count} files ending in {suffix or 'nothing'} are no images" for suffix, count in sorted(ignored.items())
    ]
    if again:
        remarks.append(f"{again} images lie below more than one of the sources given; each counts once")
    if not found:
        kinds, besides = ", ".join(sorted(EXTENSIONS)), f" ({'; '.join(remarks)})" if remarks else ""
        raise ReconpatchError(f"{', '.join(map(quote, sources))}: no images below it{besides}; images end in {kinds}")
    return sorted(found, key=lambda p: p.name), remarks


def _once(listed: Sequence[Sequence[tuple[str, Photograph]]]) -> list[tuple[str, Photograph]]:
    """What was found below every source -> the same without files of which another source's name tells more folders,
    or as many, and came first. Links within one source stay: they are its owner's wish.
    """
    best: dict[str, tuple[int, int]] = {}  # real path -> folders in its name, source
    found = [(os.path.realpath(each.path), n, (folder, each)) for n, of in enumerate(listed) for folder, each in of]
    for real, n, (_, each) in found:
        depth = each.name.count("/")
        if real not in best or depth > best[real][0]:
            best[real] = depth, n
    return [item for real, n, item in found if best[real][1] == n]


def _below(folder: Path, ignored: Counter[str], problems: list[str]) -> list[Photograph]:
    """Photographs below a folder, through links, too, each folder once."""
    found, entered = [], set()
    for place, folders, files in os.walk(folder, followlinks=True, onerror=lambda e: problems.append(str(e))):
        real = os.path.realpath(place)
        if real in entered:
            folders.clear()
            continue
        entered.add(real)
        folders[:] = sorted(name for name in folders if not hidden(name))
        for path in (Path(place, name) for name in sorted(files) if not hidden(name)):
            suffix = path.suffix.lower()
            if suffix in EXTENSIONS | UNREAD:  # the latter are said with what else cannot be read
                found.append(Photograph(path.relative_to(folder).as_posix(), path))
            else:
                ignored[suffix] += 1
    return found


def _refuse(problems: Sequence[str], what: str) -> None:
    if problems:
        more = [f"and {len(problems) - MOST} more"] if len(problems) > MOST else []
        count = f"{len(problems)} problem{'s' if len(problems) > 1 else ''}"
        raise ReconpatchError("\n".join([f"{count} {what}:", *problems[:MOST], *more]))


def _decoded(content: bytes, path: Path) -> Image.Image:
    """bytes of a file, its name for messages -> 8-bit RGB image."""
    if path.suffix.lower() in UNREAD:  # of some a parser would take the preview for the photograph
        raise ReconpatchError(f"{quote(path)}: images in this format are not read; save it as png, or move it")
    picture = decode(content, path).image
    try:
        return to_rgb(picture)
    except ReconpatchError as error:
        raise ReconpatchError(f"{quote(path)}: {error}") from None


def load(source: Source) -> Image.Image:
    """Photograph, PIL image, or (H, W, 3) or (H, W) uint8 array -> 8-bit RGB image.

    Raises ReconpatchError naming the file, or what an array is instead.
    """
    if isinstance(source, Photograph):
        return _decoded(read_file(source.path), source.path)
    if isinstance(source, Image.Image):
        try:
            return to_rgb(ImageOps.exif_transpose(source))  # as a file is turned
        except OSError as error:  # Pillow reads a file's pixels when they are asked for
            raise ReconpatchError(f"an image cannot be decoded ({error})") from None
    if not isinstance(source, np.ndarray) or source.dtype != np.uint8 or source.ndim not in (2, 3) or not source.size:
        what = f"{source.dtype} {source.shape}" if isinstance(source, np.ndarray) else type(source).__name__
        raise ReconpatchError(f"an image is {what}: give a path, a PIL image, or a uint8 array (H, W, 3) or (H, W)")
    if source.ndim == 3 and source.shape[2] != 3:
        raise ReconpatchError(f"an image of {source.shape}: the last axis must hold the 3 colours RGB")
    return Image.fromarray(np.ascontiguousarray(source)).convert("RGB")


def name_of(source: Source, number: int) -> str:
    """What results call a source: its name, or its number where it has none."""
    return source.name if isinstance(source, Photograph) else f"image {number}"


def cell(name: str) -> str:
    """A name -> the same for a table: undecodable bytes, and carriage returns, which csv leaves unquoted, escaped."""
    return name.replace("\r", "\\r").encode(errors="backslashreplace").decode()


def with_number(error: ReconpatchError, source: Source, number: int) -> ReconpatchError:
    """What `load` raised, naming the source: a file's name is in it already."""
    return error if isinstance(source, Photograph) else ReconpatchError(f"{name_of(source, number)}: {error}")


def examine(sources: Sequence[Source], threads: int, progress: Callable[[int, int], None]) -> list[Facts]:
    """Sources -> facts of each, every one read whole, at most DECODERS at once.

    The digest is that of the very bytes that were decoded, or of the shape and pixels of what is no file. Raises one
    ReconpatchError that lists all that cannot be read.
    """

    def look(item: tuple[int, Source]) -> Facts | str:
        number, source = item
        try:
            if isinstance(source, Photograph):
                content = read_file(source.path)
                width, height = _decoded(content, source.path).size
            else:
                image = load(source)
                width, height = image.size
                content = f"{width}x{height} ".encode() + image.tobytes()  # 2x8 and 4x4 may have the same pixels
        except ReconpatchError as error:
            return str(with_number(error, source, number))
        return Facts(name_of(source, number), sha256(content).hexdigest(), width, height)

    facts: list[Facts] = []
    problems: list[str] = []
    with ThreadPoolExecutor(min(threads, DECODERS)) as pool:
        for done, found in enumerate(pool.map(look, enumerate(sources)), 1):
            facts.append(found) if isinstance(found, Facts) else problems.append(found)
            progress(done, len(sources))
    _refuse(problems, "of the images")
    return facts
