"""The published data sets: where they are, what they are allowed to be used for, and a checked copy of one.

Nothing is transferred unless `download` is called, and no data set comes with this program.
"""

import errno
import fcntl
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from reconpatch.data.archives import unpacked
from reconpatch.data.published import KNOWN
from reconpatch.data.transfer import check_room, fetch
from reconpatch.errors import ReconpatchError


@dataclass(frozen=True)
class Published:
    """One data set: its archive's name, addresses by preference and SHA-256, and what a user should know of it."""

    title: str
    home: str
    archive: str
    urls: tuple[str, ...]
    sha256: str
    size: str
    licence: str
    source: str


DRIVE = "https://www.mydrive.ch/shares"
PUBLISHED = {
    "mvtec_ad": Published(
        title="MVTec AD (MVTec Software GmbH)",
        home="https://www.mvtec.com/company/research/datasets/mvtec-ad",
        archive="mvtec_anomaly_detection.tar.xz",
        urls=(
            f"{DRIVE}/150996/b52ecdcbf521176e9db9c731f2304b27/download/420938113-1629960298/mvtec_anomaly_detection.tar.xz",
            f"{DRIVE}/38536/3830184030e49fe74747669442f0f282/download/420938113-1629952094/mvtec_anomaly_detection.tar.xz",
        ),
        sha256="cf4313b13603bec67abb49ca959488f7eedce2a9f7795ec54446c649ac98cd3d",
        size="about 5 GB",
        licence="CC BY-NC-SA 4.0 (not for commercial use), as anomalib states it; the home page is authoritative",
        source="first address and SHA-256: anomalib, datamodules/image/mvtecad.py; second: the share in use before it",
    ),
    "btad": Published(
        title="BTAD (beanTech, University of Udine)",
        home="https://github.com/pankajmishra000/VT-ADL",
        archive="btad.zip",
        urls=(
            "https://avires.dimi.uniud.it/papers/btad/btad.zip",
            "http://avires.dimi.uniud.it/papers/btad/btad.zip",  # the digest protects this one, too
        ),
        sha256="461c9387e515bfed41ecaae07c50cf6b10def647b36c9e31d239ab2736b10d2a",
        size="not known here",
        licence="sources differ: CC BY-NC-SA 4.0 (anomalib), CC BY-SA (a copy by inclad-benchmark), "
        "none found (others); ask the authors before you use it commercially or pass it on",
        source="address and SHA-256: anomalib, datamodules/image/btech.py",
    ),
}


def describe(name: str, folder: Path = Path(), *, published: Mapping[str, Published] = PUBLISHED) -> str:
    """Name of a data set, the folder it would go to -> text to show first: origin, licence, what would be written.

    Raises ReconpatchError for a name that is not published.
    """
    this = _known(name, published)
    addresses = "\n".join(f"{'address' if n == 0 else 'or':12}{url}" for n, url in enumerate(this.urls))
    return "\n".join(
        (
            f"{name}: {this.title}",
            f"{'home':12}{this.home}",
            addresses,
            f"{'SHA-256':12}{this.sha256}",
            f"{'size':12}{this.size}; as much again, or more, unpacked",
            f"{'licence':12}{this.licence}",
            f"{'taken from':12}{this.source}",
            f"{'writes':12}{folder / this.archive} (.part until complete; may be deleted once unpacked)",
            f"{'':12}{folder / name}{os.sep} (the unpacked images)",
        )
    )


def download(
    name: str,
    folder: Path,
    *,
    report: Callable[[str], None],
    published: Mapping[str, Published] = PUBLISHED,
    pause: Callable[[float], None] = time.sleep,
    timeout: float = 30.0,
) -> Path:
    """Name of a data set, a folder -> the folder of its categories below `<folder>/<name>`: the `root` to configure.

    A data set that is there already is left alone; an archive that is there is used if its SHA-256 is right. What an
    interrupted call transferred is continued. `report` gets lines for the user. Raises ReconpatchError for an unknown
    name, a folder that holds something else or cannot be written, another download into it, a full disk, an archive
    that cannot be had, differs from the published one, cannot be unpacked safely or lacks categories.
    """
    this = _known(name, published)
    destination = folder / name
    if os.path.lexists(destination):
        found = find_root(name, destination)
        report(f"{destination} is already there: left alone, nothing downloaded; `reconpatch check` reads every image")
        return found
    with _alone(folder):
        archive = fetch(this.urls, folder / this.archive, this.sha256, report=report, pause=pause, timeout=timeout)
        check_room(folder, archive.stat().st_size, f"unpacking {archive.name}, at least")
        report(f"unpacking {archive}")
        with unpacked(archive, destination) as temporary:
            below = find_root(name, temporary).relative_to(temporary)
    report(f"{destination} is complete; {archive} may be deleted")
    return destination / below


def find_root(name: str, folder: Path) -> Path:
    """Name of a data set, folder -> the folder of its categories: this one or the first directly below that holds all.

    Raises ReconpatchError, naming what is missing, where there is none.
    """
    below = sorted(p for p in folder.iterdir() if p.is_dir()) if folder.is_dir() else []
    for candidate in (folder, *below):
        if all((candidate / category / "train").is_dir() for category in KNOWN[name]):
            return candidate
    missing = [c for c in KNOWN[name] if not any((f / c / "train").is_dir() for f in (folder, *below))]
    raise ReconpatchError(
        f"{folder}: does not hold {name}, no folder has all of its categories with their train/ "
        f"(missing: {', '.join(missing) or 'they lie in different folders'}); move it away and run the command again"
    )


def _known(name: str, published: Mapping[str, Published]) -> Published:
    if name not in published:
        raise ReconpatchError(f"data set {name!r}: not published where this program knows; {', '.join(published)} are")
    return published[name]


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Make the folder and keep other downloads out of it. The lock goes with the process, however that ends."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise ReconpatchError(f"{folder}: cannot be used ({error.strerror}); give a folder you may write to") from None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        raise ReconpatchError(f"{folder}: another download into it is running; wait for it or end it") from None
    except OSError as error:  # network file systems may lock no folders: then there is no lock
        if error.errno not in (errno.EBADF, errno.ENOLCK, errno.ENOTSUP, errno.EINVAL, errno.ENOSYS):
            os.close(handle)
            raise
    try:
        yield
    finally:
        os.close(handle)
