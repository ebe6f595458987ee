"""Files from the network: resumed where they stopped, tried again, taken from a mirror, checked before they count."""

import os
import re
import shutil
import ssl
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit

from reconpatch.errors import ReconpatchError
from reconpatch.files import flush, sha256_of

CHUNK = 2**20
ENOUGH = 2**20  # bytes that make an attempt a success, although it broke off
MOST = 16 * 2**30  # bytes; a server that sends more does not send a known archive
PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})  # HTTP statuses that may be gone the next time


class _AttemptError(Exception):
    """An attempt failed; the next may succeed."""


class _AddressError(Exception):
    """This address will not deliver; another may."""


def check_room(folder: Path, size: int, what: str) -> None:
    """Raise ReconpatchError unless `folder` has `size` bytes free for `what`."""
    free = shutil.disk_usage(folder).free
    if free < size:
        raise ReconpatchError(
            f"{folder}: {size:,} bytes are needed for {what}, {free:,} are free; free space, or choose another folder"
        )


def fetch(
    urls: Sequence[str],
    target: Path,
    sha256: str,
    *,
    report: Callable[[str], None],
    pause: Callable[[float], None] = time.sleep,
    timeout: float = 30.0,
    tries: int = 4,
) -> Path:
    """https or http addresses of one file, the first preferred -> `target`, whose SHA-256 is `sha256`.

    Bytes go to `<target>.part`, which a later call continues, and which takes the name of the target when its digest is
    right. A wrong one is removed. A target that is already there is checked, never overwritten. An address is given up
    after `tries` attempts in a row without progress, between which `pause` gets 1, 2, 4, ... seconds. `timeout` is that
    of every network operation, in seconds. One process at a time. Raises ReconpatchError when no address delivers,
    naming what each of them did, for a wrong target, and for a full disk or a folder that cannot be written.
    """
    if target.exists():
        with _disk(target):
            found = sha256_of(target)
        if found != sha256:
            raise ReconpatchError(
                f"{target}: SHA-256 {found}, published {sha256}: not the published file, and left as it is; "
                "move it away or delete it, then run the command again"
            )
        report(f"{target} is already there with the published SHA-256: not downloaded again")
        return target
    part = target.with_name(target.name + ".part")
    try:
        with _disk(target):
            with open(part, "ab"):  # before any traffic: can it be written?
                pass
            if _size(part) and sha256_of(part) == sha256:
                return _finish(part, target)
        failures = []
        for url in urls:
            try:
                _download(url, part, report, pause, timeout, tries)
            except _AddressError as error:
                failures.append(f"{url}: {error}")
            else:
                report(f"checking the SHA-256 of {_size(part):,} bytes")
                with _disk(target):
                    if (found := sha256_of(part)) == sha256:
                        return _finish(part, target)
                    part.unlink()
                failures.append(f"{url}: sent SHA-256 {found}, published {sha256}; what it sent is removed")
            report(failures[-1])
    finally:
        if part.exists() and not _size(part):
            part.unlink()
    raise ReconpatchError(
        f"{target}: no address delivered it; check the network and its proxy, then run the command again (it continues "
        "what has arrived), or put the file there by other means\n  " + "\n  ".join(failures)
    )


def _finish(part: Path, target: Path) -> Path:
    part.rename(target)
    flush(target.parent)
    return target


def _size(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


@contextmanager
def _disk(file: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ReconpatchError(
            f"{file}: cannot be read or written ({error.strerror or error}); "
            "free space, or give a folder that you may write to"
        ) from None


def _download(
    url: str,
    part: Path,
    report: Callable[[str], None],
    pause: Callable[[float], None],
    timeout: float,
    tries: int,
) -> None:
    """One address until it has sent everything. Progress makes earlier failures forgotten."""
    if urlsplit(url).scheme not in ("https", "http"):
        raise _AddressError("only https and http addresses are used")
    furthest, failed = _size(part), 0
    report(f"downloading {url}" + (f" from byte {furthest:,} on" if furthest else ""))
    while True:
        try:
            return _attempt(url, part, report, timeout)
        except _AttemptError as error:
            if _size(part) >= furthest + ENOUGH:
                furthest, failed = _size(part), 0
            failed += 1
            if failed >= tries:
                raise _AddressError(f"{error} (attempt {failed} of {tries})") from None
            report(f"{error}; trying again in {2 ** (failed - 1)} s")
            pause(2.0 ** (failed - 1))


def _opener() -> urllib.request.OpenerDirector:
    """What urllib opens by default, without file:, ftp: and data:, to which a server could redirect."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler,
        urllib.request.UnknownHandler,
        urllib.request.HTTPHandler,
        urllib.request.HTTPSHandler,
        urllib.request.HTTPDefaultErrorHandler,
        urllib.request.HTTPRedirectHandler,
        urllib.request.HTTPErrorProcessor,
    ):
        opener.add_handler(handler())
    return opener


@contextmanager
def _network() -> Iterator[None]:
    try:
        yield
    except HTTPError as error:
        error.close()
        raise (_AttemptError if error.code in PASSING else _AddressError)(f"HTTP {error.code} {error.reason}") from None
    except URLError as error:
        certificate = isinstance(error.reason, ssl.SSLCertVerificationError)
        raise (_AddressError if certificate else _AttemptError)(f"no connection ({error.reason})") from None
    except TimeoutError:
        raise _AttemptError("no answer in time") from None
    except (OSError, HTTPException) as error:
        raise _AttemptError(f"connection lost ({type(error).__name__}: {error})") from None


def _attempt(url: str, part: Path, report: Callable[[str], None], timeout: float) -> None:
    """Ask for what is missing and append it, or start anew where the server sends everything."""
    have = _size(part)
    headers = {"User-Agent": "reconpatch"} | ({"Range": f"bytes={have}-"} if have else {})
    request = urllib.request.Request(url, headers=headers)  # noqa: S310  the scheme is checked
    with _network():
        try:
            answer = _opener().open(request, timeout=timeout)
        except HTTPError as error:
            if error.code != 416:
                raise
            error.close()
            part.unlink(missing_ok=True)  # its digest is not right, yet the server has nothing behind it
            raise _AttemptError("what had arrived is no beginning of this file: starting anew") from None
    with answer:
        have, total = _place(answer, have, part)
        with _disk(part), open(part, "ab" if have else "wb") as file:
            if total is not None:
                check_room(part.parent, total - have, part.name)
            _append(answer, file, have, total, report)
            file.flush()
            os.fsync(file.fileno())


def _place(answer: Any, have: int, part: Path) -> tuple[int, int | None]:
    """(first byte that the answer brings, size of the whole file if the server tells it)."""
    if answer.headers.get_content_type() == "text/html":
        raise _AddressError(
            "answers with a web page, not a file"
        )  # a portal's, say: it must not replace what has arrived
    if answer.status == 200:  # to a request for a range, too: the server knows no ranges
        return 0, answer.length
    if answer.status != 206:
        raise _AddressError(f"HTTP {answer.status} {answer.reason}")
    told = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", answer.headers.get("Content-Range", ""))
    if told is None or int(told[1]) != have:
        part.unlink(missing_ok=True)
        raise _AttemptError("sent another range than asked for: starting anew")
    if told[2] != "*":
        return have, int(told[2])
    return have, None if answer.length is None else have + answer.length


def _append(answer: Any, file: Any, done: int, total: int | None, report: Callable[[str], None]) -> None:
    """Write what the answer brings; less than announced is an _AttemptError. What has arrived stays in the file."""
    step = max(256 * CHUNK, (total or 0) // 20)
    shown = done // step
    while True:
        with _network():
            chunk = answer.read1(CHUNK)  # not read(): what arrived before a time-out would be lost
        if not chunk:
            break
        file.write(chunk)
        file.flush()  # so that a killed run keeps all that arrived
        done += len(chunk)
        if done > MOST:
            file.truncate(0)
            raise _AddressError(f"sends more than {MOST:,} bytes")
        if done // step > shown:
            shown = done // step
            report(f"{done:,} of {'unknown' if total is None else f'{total:,}'} bytes")
    if total is not None and done != total:
        raise _AttemptError(f"connection closed after {done:,} of {total:,} bytes")
