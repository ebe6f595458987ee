"""A checked copy of a published data set, from where `sources` says it is.

Nothing is transferred unless `download` is called, and no data set comes with this program. An archive counts only when
it has the SHA-256 that is pinned there, which is checked before anything in it is read.
"""

import errno
import lzma
import os
import shutil
import tarfile
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from filelock import FileLock, Timeout

from reconpatch.data.catalogue import CONTENTS
from reconpatch.data.layouts import training_part
from reconpatch.data.sources import PUBLISHED, Published
from reconpatch.errors import ReconpatchError
from reconpatch.files import flush, replacing, sha256_of

CHUNK = 2**20  # bytes read at once
REPORT_EVERY = 2**28  # bytes between two lines of progress


def describe(name: str, folder: Path = Path(), *, published: Mapping[str, Published] = PUBLISHED) -> str:
    """Name of a data set, the folder it would go to -> text to show first: origin, licence, what would be written.

    Raises ReconpatchError for a name that is not published.
    """
    this = _known(name, published)
    facts = [("home", this.home), *(("or" if n else "address", url) for n, url in enumerate(this.urls))]
    facts += [("SHA-256", this.sha256)] if this.urls else []
    facts += [("size", f"{this.size}; as much again, or more, unpacked"), ("licence", this.licence)]
    facts += [("cite", this.citation)] if this.citation else []
    facts += [("taken from", this.source)]
    facts += [("beware" if n == 0 else "", trap) for n, trap in enumerate(this.traps)]
    if this.urls:
        facts += [
            ("writes", f"{folder / this.archive} (.part until complete; may be deleted once unpacked)"),
            ("", f"{folder / name}{os.sep} (the unpacked images)"),
        ]
    return "\n".join([f"{name}: {this.title}", *(f"{key:12}{text}" for key, text in facts)])


def download(
    name: str,
    folder: Path,
    *,
    report: Callable[[str], None],
    published: Mapping[str, Published] = PUBLISHED,
    timeout: float = 30.0,
    pauses: Sequence[float] = (0, 2, 8),
) -> Path:
    """Name of a data set, a folder -> the folder of its categories below `<folder>/<name>`: the `root` to configure.

    A data set that is there already is left alone; an archive that is there is used if its SHA-256 is right. What an
    interrupted call transferred is continued. `report` gets lines for the user; `timeout` (seconds) is that of every
    network operation; `pauses` are the seconds before each round over the addresses.

    Raises ReconpatchError for an unknown name, a folder that holds something else or cannot be written, another
    download into it, a full disk, an archive that no address delivers, differs from the published one, cannot be
    unpacked or lacks categories.
    """
    this = _known(name, published)
    destination = folder / name
    if os.path.lexists(destination):
        root = find_root(name, destination)
        report(f"{destination} is already there: left alone, nothing downloaded; `reconpatch check` reads every image")
        return root
    if not this.urls:
        raise ReconpatchError(
            "its authors give no address that a program could use",
            where=name,
            fix=f"fetch it by hand from {this.home} and unpack it into {destination}",
        )
    with _locked(folder, name):
        archive = fetch(this.urls, folder / this.archive, this.sha256, report=report, timeout=timeout, pauses=pauses)
        size, free = archive.stat().st_size, shutil.disk_usage(folder).free
        if free < size:
            raise ReconpatchError(
                f"{free:,} bytes are free, unpacking {archive.name} needs more than {size:,}",
                where=folder,
                fix="make room and run the command again",
            )
        report(f"unpacking {archive}")
        below = _unpack(archive, destination, name)
    report(f"{destination} is complete; {archive} may be deleted")
    return destination / below


def find_root(name: str, folder: Path, named: Path | None = None) -> Path:
    """Name of a data set, folder -> the folder of its categories: this one or the first directly below that holds all.

    Raises ReconpatchError, naming what is missing, where there is none; `named` is what it calls the folder.
    """
    below = sorted(p for p in folder.iterdir() if p.is_dir()) if folder.is_dir() else []
    part, known = training_part(name), CONTENTS[name].categories
    for candidate in (folder, *below):
        if all((candidate / category / part).is_dir() for category in known):
            return candidate
    missing = [c for c in known if not any((f / c / part).is_dir() for f in (folder, *below))]
    raise ReconpatchError(
        f"does not hold {name}, no folder has all of its categories with their {part}/ "
        f"(missing: {', '.join(missing) or 'they lie in different folders'})",
        where=named or folder,
        fix="move it away and run the command again",
    )


def _known(name: str, published: Mapping[str, Published]) -> Published:
    if name not in published:
        raise ReconpatchError(
            "not published where this program knows", where=f"data set {name!r}", fix=f"choose {' or '.join(published)}"
        )
    return published[name]


@contextmanager
def _locked(folder: Path, name: str) -> Iterator[None]:
    """Make the folder and keep other downloads of this data set out of it while the body runs."""
    lock = FileLock(folder / f".{name}.lock", timeout=0)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout:
        raise ReconpatchError(
            f"another download of {name} into it is running", where=folder, fix="wait for it or end it"
        ) from None
    except OSError as error:
        if error.errno not in (errno.ENOLCK, errno.ENOTSUP):  # some network file systems have no locks
            raise _unwritable(folder, error) from None
    try:
        yield
    finally:
        lock.release()


def _unwritable(path: Path, error: OSError) -> ReconpatchError:
    fix = "free space, or give a folder that you may write to"
    return ReconpatchError(f"cannot be written ({error.strerror or error})", where=path, fix=fix)


def fetch(
    urls: Sequence[str],
    target: Path,
    sha256: str,
    *,
    report: Callable[[str], None],
    timeout: float = 30.0,
    pauses: Sequence[float] = (0, 2, 8),
) -> Path:
    """http or https addresses of one file, the first preferred -> `target`, whose SHA-256 is `sha256`.

    Bytes go to `<target>.part`, which a later call continues, and which becomes the target when its digest is right; if
    it is wrong, it is removed. An address is asked again as long as it sends something, then the next one is; before
    each round over all addresses there is a pause, in seconds. A target that is already there is checked, never
    overwritten. Raises ReconpatchError when no address delivers, for a wrong target, and for a full disk or a folder
    that cannot be written.
    """
    if target.exists():
        if (digest := sha256_of(target)) != sha256:
            raise ReconpatchError(
                f"SHA-256 {digest}, published {sha256}: not the published file, and left as it is",
                where=target,
                fix="move it away or delete it, then run the command again",
            )
        report(f"{target} is already there with the published SHA-256: not downloaded again")
        return target
    part = target.with_name(target.name + ".part")
    failures: dict[str, str] = {}
    try:
        part.touch()  # before any traffic: can it be written?
        if part.stat().st_size and sha256_of(part) == sha256:
            return _finished(part, target)
        for pause in pauses:
            time.sleep(pause)
            for url in urls:
                try:
                    _complete(url, part, sha256, report, timeout)
                    return _finished(part, target)
                except _AddressError as error:
                    failures[url] = f"{url}: {error}"
                    report(failures[url])
    except OSError as error:
        raise _unwritable(part, error) from None
    finally:
        if part.exists() and not part.stat().st_size:
            part.unlink()
    raise ReconpatchError(
        "no address delivered it",
        where=target,
        fix="check the network and its proxy, then run the command again, which continues what has arrived; or put the "
        "file there by other means\n  " + "\n  ".join(failures.values()),
    )


def _finished(part: Path, target: Path) -> Path:
    part.rename(target)
    flush(target.parent)
    return target


class _AddressError(Exception):
    """An address did not deliver the file; another may, or the same one later."""


@contextmanager
def _network() -> Iterator[None]:
    """Errors of the network become _AddressError, to tell them from those of the disk, which are OSError, too."""
    try:
        yield
    except (OSError, HTTPException) as error:
        raise _AddressError(str(error) or type(error).__name__) from error


def _complete(url: str, part: Path, sha256: str, report: Callable[[str], None], timeout: float) -> None:
    """Ask one address for the rest of the file, and again as long as more arrives, then check its digest.

    Raises _AddressError when that does not get further, or for a wrong digest, whose file is removed.
    """
    if urlsplit(url).scheme not in ("https", "http"):
        raise _AddressError("only https and http addresses are used")
    while True:
        have = part.stat().st_size if part.exists() else 0
        report(f"downloading {url}" + (f" from byte {have:,} on" if have else ""))
        try:
            _append(url, part, have, report, timeout)
            break
        except _AddressError as error:
            if not part.exists() or part.stat().st_size <= have:
                raise
            report(f"{error}; continuing")
    report(f"checking the SHA-256 of {part.stat().st_size:,} bytes")
    if (digest := sha256_of(part)) != sha256:
        part.unlink()
        raise _AddressError(f"sent SHA-256 {digest}, published {sha256}; what it sent is removed")


def _append(url: str, part: Path, have: int, report: Callable[[str], None], timeout: float) -> None:
    """Append what comes after the first `have` bytes, or replace them where the server sends the whole file.

    What has arrived stays in the file when the connection breaks.
    """
    headers = {"User-Agent": "reconpatch"} | ({"Range": f"bytes={have}-"} if have else {})
    try:
        with _network():
            answer = urlopen(Request(url, headers=headers), timeout=timeout)  # noqa: S310  the scheme is checked
    except _AddressError as error:
        if isinstance(error.__cause__, HTTPError) and error.__cause__.code == 416:
            part.unlink()  # the server has nothing after it, yet its digest is wrong
        raise
    with answer:
        if answer.headers.get_content_type() == "text/html":  # a log-in page must not replace what has arrived
            raise _AddressError("answers with a web page, not a file")
        continued = answer.status == 206
        if continued and not answer.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
            part.unlink()
            raise _AddressError("sent another part than asked for")
        done = have if continued else 0
        total = None if answer.length is None else done + answer.length
        if total is not None and shutil.disk_usage(part.parent).free < total - done:
            raise ReconpatchError(f"{total - done:,} bytes do not fit on the disk", where=part, fix="free space")
        with open(part, "ab" if continued else "wb") as file:
            while True:
                with _network():
                    chunk = answer.read1(CHUNK)  # not read(): what arrived before a time-out would be lost
                if not chunk:
                    break
                file.write(chunk)
                file.flush()  # so that a killed run keeps all that arrived
                done += len(chunk)
                if done // REPORT_EVERY > (done - len(chunk)) // REPORT_EVERY:
                    report(f"{done:,} of {'unknown' if total is None else f'{total:,}'} bytes")
    if total is not None and done < total:
        raise _AddressError(f"connection closed after {done:,} of {total:,} bytes")


DAMAGED = (zipfile.BadZipFile, tarfile.TarError, lzma.LZMAError, zlib.error, EOFError)


def _unpack(archive: Path, destination: Path, name: str) -> Path:
    """A .zip or .tar.* file of a data set -> `destination`, whole or absent; the path of its root in there.

    Raises ReconpatchError for an archive that is damaged, has members outside the folder or lacks categories, and for a
    full disk.
    """
    try:
        with replacing(destination) as folder:
            folder.mkdir()
            if zipfile.is_zipfile(archive):
                with zipfile.ZipFile(archive) as members:
                    for member in members.namelist():
                        if member.startswith("/") or ".." in member.split("/"):
                            raise zipfile.BadZipFile(f"member {member!r} lies outside the folder")
                    members.extractall(folder)  # noqa: S202  of zip files, whose members stay inside
            else:
                with tarfile.open(archive) as files:
                    files.extractall(folder, filter="data")  # refuses members outside the folder, links and devices
            return find_root(name, folder, named=archive).relative_to(folder)
    except DAMAGED as error:
        raise ReconpatchError(
            f"cannot be unpacked ({error})", where=archive, fix="delete it and run the command again"
        ) from None
    except OSError as error:
        raise _unwritable(destination, error) from None
