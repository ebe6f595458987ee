"""Writes files so that a reader sees a whole file or none, even if the writing process is killed."""

import hashlib
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from glob import escape
from pathlib import Path

from reconpatch.errors import ReconpatchError

NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"  # of a file or folder of the results: safe in paths, rules and wildcards


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`, to which the block writes a file or a folder.

    If the block succeeds, its output is flushed to the disk and replaces `path`. If it fails, its output is removed.
    Temporary files that a killed process left for the same path are removed first. Raises ReconpatchError, which names
    the path and the free space, if the system refuses to write.
    """
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.tmp{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        for left in path.parent.glob(f".{escape(path.stem)}.*.tmp{escape(path.suffix)}"):
            if not _running(left.name.removesuffix(path.suffix).split(".")[-2]):
                _remove(left)
        yield temporary
        if temporary.is_dir():
            for part in [*temporary.rglob("*"), temporary]:
                _share(part)
                flush(part)
            _remove(path)  # the system lets a folder replace only an empty one
        else:
            _share(temporary)
            flush(temporary)
        temporary.replace(path)
        flush(path.parent)  # the folder holds the name, which must survive a power loss, too
    except Exception as error:
        reason = _refusal(error, [temporary, path, *path.parents])
        if reason is None:
            raise
        raise ReconpatchError(f"cannot be written ({reason})", where=path, fix=_free(path)) from error
    finally:
        with suppress(OSError):  # its folder may not exist
            _remove(temporary)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text to a file, which is then complete or absent. Raises as `replacing` does."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def sha256_of(file: Path) -> str:
    """File -> SHA-256 of its bytes in hexadecimal. Reads in pieces, about a second per GB. Raises OSError."""
    with open(file, "rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def check_writable(folder: Path) -> None:
    """Raise ReconpatchError unless this process may write files to `folder`, which need not exist. Writes nothing."""
    there = next(part for part in (folder.absolute(), *folder.absolute().parents) if part.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        why = "is write-protected" if there.is_dir() else "is no folder"
        raise ReconpatchError(
            f"nothing can be written there, because {there} {why}", where=folder, fix="change that and run again"
        )


def _refusal(error: Exception, ours: Sequence[Path]) -> str | None:
    """The system's reason for refusing to write one of `ours`; None for any other error, for example of an input.

    The error of a failed write to an open file names no file. NumPy's error says how much of the array it wrote.
    safetensors raises an error class of its own.
    """
    if isinstance(error, OSError) and (error.filename is None or Path(str(error.filename)) in ours):
        return error.strerror or str(error)
    return str(error) if type(error).__name__ == "SafetensorError" else None


def _free(path: Path) -> str:
    """The free space on the disk of `path`, and what the user can do."""
    there = next(folder for folder in path.absolute().parents if folder.is_dir())
    with suppress(OSError):
        free = shutil.disk_usage(there).free / 1e9
        return f"{free:.2f} GB are free there: make room, or make {there} writable, and run the same command again"
    return f"make room, or make {there} writable, and run the same command again"


def _running(process: str) -> bool:
    """Whether a process with this number runs on this machine."""
    try:
        os.kill(int(process), 0)
    except (OSError, ValueError):
        return False
    return True


def flush(path: Path) -> None:
    """Make the system write a file's bytes, or a folder's names, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _share(path: Path) -> None:
    """Give a file the permissions of any new file: some libraries write files that only their owner can read."""
    if path.is_file() and not path.is_symlink():
        path.chmod(0o666 & ~_umask())


def _umask() -> int:
    """The permissions that new files of this process lack. Linux tells them; elsewhere they must be changed to be read,
    which other threads might see.
    """
    try:
        return int(Path("/proc/self/status").read_text().partition("Umask:")[2].split()[0], 8)
    except (OSError, IndexError, ValueError):
        mask = os.umask(0)
        os.umask(mask)
        return mask


def _remove(path: Path) -> None:
    """Remove a file, or a folder and its contents, if it exists."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
