"""Unpacking archives of data sets: ordinary files, all of them below one folder, the whole archive or nothing.

A digest already vouches for the archive. What is here holds without it, too: names, kinds, numbers and sizes are
checked as they come, and bytes are counted as they are unpacked, because headers can lie.
"""

import io
import lzma
import os
import shutil
import stat
import tarfile
import unicodedata
import zipfile
import zlib
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PureWindowsPath
from typing import IO, cast

from reconpatch.errors import ReconpatchError

FORMATS = (".tar.xz", ".zip")
CHUNK = 2**20
SMALL = 16 * 2**20  # bytes always allowed: tiny archives have large ratios, as tar pads every file
LONGEST = 1000  # characters of a member's name
DAMAGED = (zipfile.BadZipFile, tarfile.TarError, lzma.LZMAError, zlib.error, EOFError, ValueError, RuntimeError)


@dataclass(frozen=True)
class Limits:
    """The most an archive may hold: members, bytes in all, and unpacked bytes for each packed one."""

    members: int = 100_000
    total: int = 64 * 2**30
    ratio: int = 100


LIMITS = Limits()


@dataclass(frozen=True)
class _Member:
    name: str
    kind: str  # "file", "folder", or in words what else it is
    open: Callable[[], IO[bytes]]


@contextmanager
def unpacked(archive: Path, destination: Path, limits: Limits = LIMITS) -> Iterator[Path]:
    """A .tar.xz or .zip file -> a temporary folder with its content; it becomes `destination` when the body succeeds.

    So the destination is whole or absent. What a killed run left is removed first. One process at a time. Raises
    ReconpatchError, naming archive and member, for a destination that exists, an archive that is damaged or too large,
    and members that are encrypted, no files or folders, lie outside the folder or fall together.
    """
    if os.path.lexists(destination):
        raise ReconpatchError(f"{destination} is already there: left alone; move it away to unpack {archive} again")
    temporary = destination.with_name(f".{destination.name}.unpacking")
    try:
        _unpack(archive, temporary, limits)
        yield temporary
        os.sync()  # one call for thousands of files: a power cut after the renaming must not leave empty ones
        temporary.rename(destination)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _unpack(archive: Path, folder: Path, limits: Limits) -> None:
    allowed = 0
    unpacking = None
    try:
        allowed = min(limits.total, max(SMALL, limits.ratio * archive.stat().st_size))
        if folder.exists():
            shutil.rmtree(folder)
        folder.mkdir(parents=True)
        unpacking = _Unpacking(folder, limits.members, allowed)
        with closing(_members(archive, unpacking)) as members:
            for member in members:
                unpacking.write(member)
    except (ReconpatchError, *DAMAGED, OSError) as error:
        where = f" at member {unpacking.member!r}" if unpacking and unpacking.member else ""
        why = str(error) if isinstance(error, ReconpatchError) else f"{type(error).__name__}: {error}"
        hint = "free space, or choose another folder" if isinstance(error, OSError) else "get the published archive"
        raise ReconpatchError(f"archive {archive}{where}: {why}; nothing is unpacked, {hint}") from None


def _members(archive: Path, unpacking: "_Unpacking") -> Generator[_Member]:
    if archive.name.endswith(".tar.xz"):
        return _tar_members(archive, unpacking)
    if archive.name.endswith(".zip"):
        return _zip_members(archive)
    raise ReconpatchError(f"cannot be unpacked here, only {' and '.join(FORMATS)} can")


@dataclass
class _Unpacking:
    """State of one unpacking: the bytes so far, the names so far and, for messages, the member at hand."""

    folder: Path
    members: int
    allowed: int
    member: str = ""
    count: int = 0
    spent: int = 0
    names: dict[tuple[str, ...], tuple[tuple[str, ...], bool]] = field(default_factory=dict)

    def spend(self, size: int) -> None:
        self.spent += size
        if self.spent > self.allowed:
            raise ReconpatchError(f"more than {self.allowed:,} bytes come out of it, too many for its size")

    def write(self, member: _Member) -> None:
        self.member = member.name
        self.count += 1
        if self.count > self.members:
            raise ReconpatchError(f"more than {self.members:,} members")
        parts = _parts(member.name)
        if member.kind not in ("file", "folder"):
            raise ReconpatchError(f"it is {member.kind}, only files and folders are unpacked")
        self._claim(parts, member.kind == "folder")
        path = self.folder.joinpath(*parts)
        if member.kind == "folder":
            path.mkdir(parents=True, exist_ok=True)
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        with (
            member.open() as source,
            open(path, "xb") as target,
        ):  # the permissions of any new file, never the archive's
            while chunk := source.read(CHUNK):
                if not isinstance(source, tarfile.ExFileObject):  # a tar's bytes are counted as they are decompressed
                    self.spend(len(chunk))
                target.write(chunk)

    def _claim(self, parts: tuple[str, ...], folder: bool) -> None:
        """Refuse what some file system takes for the same name: equal but for case, form of accents and last dots."""
        if not parts and not folder:
            raise ReconpatchError("a file without a name")
        for end in range(1, len(parts) + 1):
            this = (parts[:end], folder or end < len(parts))
            key = tuple(unicodedata.normalize("NFC", part).casefold().rstrip(" .") for part in parts[:end])
            if key not in self.names:
                self.names[key] = this
            elif self.names[key] != this or not this[1]:
                raise ReconpatchError(f"its name falls together with {'/'.join(self.names[key][0])!r}")


def _parts(name: str) -> tuple[str, ...]:
    """A member's name -> the parts of its path, none of which leads out of the folder."""
    if len(name) > LONGEST:
        raise ReconpatchError(f"its name has {len(name):,} characters")
    if "\0" in name or "\\" in name:
        raise ReconpatchError("its name holds a NUL or a backslash")
    if name.startswith("/") or PureWindowsPath(name).drive:
        raise ReconpatchError("its path is absolute")
    parts = tuple(part for part in name.split("/") if part not in ("", "."))
    if ".." in parts:
        raise ReconpatchError("its path leads out of the folder with '..'")
    return parts


class _Counted(io.BufferedIOBase):
    """A decompressed stream for tarfile: forward only, counted, and no header so large that it fills the memory."""

    def __init__(self, stream: IO[bytes], spend: Callable[[int], None]) -> None:
        self.stream, self.spend, self.place, self.last = stream, spend, 0, b""

    def read(self, size: int | None = CHUNK, /) -> bytes:
        if size is None or not 0 <= size <= CHUNK:
            raise ReconpatchError(f"a header of {size} bytes")
        self.last = self.stream.read(size)
        self.place += len(self.last)
        self.spend(len(self.last))
        return self.last

    def seek(self, place: int, whence: int = 0, /) -> int:
        if whence or place < self.place:  # only wrong sizes in headers lead back, and then for ever
            raise tarfile.ReadError("headers that lead back")
        while self.place < place and self.read(min(CHUNK, place - self.place)):
            pass
        return self.place

    def tell(self) -> int:
        return self.place

    def seekable(self) -> bool:
        return True


KINDS = {
    tarfile.SYMTYPE: "a symbolic link",
    tarfile.LNKTYPE: "a hard link",
    tarfile.CHRTYPE: "a device",
    tarfile.BLKTYPE: "a device",
    tarfile.FIFOTYPE: "a pipe",
}


def _tar_members(archive: Path, unpacking: _Unpacking) -> Generator[_Member]:
    if not hasattr(tarfile, "data_filter"):
        raise ReconpatchError("Python 3.11.4 or later is needed to unpack it")
    with lzma.open(archive) as stream:
        counted = _Counted(stream, unpacking.spend)
        with tarfile.open(fileobj=counted, mode="r:") as tar:

            def opened(info: tarfile.TarInfo) -> IO[bytes]:
                safe = tarfile.data_filter(info, str(unpacking.folder))  # Python's opinion, too
                return cast(IO[bytes], tar.extractfile(safe))  # it is a file, so there is content

            for info in tar:
                kind = KINDS.get(info.type, "of an unknown kind")
                if info.isdir() or (info.isreg() and not info.issparse()):
                    kind = "folder" if info.isdir() else "file"
                yield _Member(info.name, kind, partial(opened, info))
            if counted.last != bytes(tarfile.BLOCKSIZE):  # tarfile takes a damaged header for the end
                raise tarfile.ReadError("it ends, or a header is damaged, before the mark of the end")
            while counted.read():  # to the end: only there xz checks its digest
                pass


def _zip_members(archive: Path) -> Generator[_Member]:
    with zipfile.ZipFile(archive) as content:
        for info in content.infolist():
            mode = stat.S_IFMT(info.external_attr >> 16)
            kind = "folder" if info.is_dir() else "file"
            if info.flag_bits & 0x1:
                kind = "encrypted"
            elif mode == stat.S_IFLNK:
                kind = "a symbolic link"
            elif mode not in (0, stat.S_IFDIR if info.is_dir() else stat.S_IFREG):
                kind = "a device, a pipe or a socket"
            yield _Member(info.orig_filename, kind, partial(content.open, info))
