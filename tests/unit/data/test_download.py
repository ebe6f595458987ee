import errno
import fcntl
import hashlib
import io
import os
import random
import re
import shutil
import signal
import ssl
import subprocess
import sys
import tarfile
import threading
import time
import zipfile
from collections.abc import Iterator
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.error import URLError

import pytest

from reconpatch.data import transfer
from reconpatch.data.download import PUBLISHED, Published, describe, download, find_root
from reconpatch.data.published import KNOWN
from reconpatch.data.transfer import fetch
from reconpatch.errors import ReconpatchError

DATA = random.Random(0).randbytes(3 * 2**20 + 7)
SHA = hashlib.sha256(DATA).hexdigest()
WRONG = hashlib.sha256(b"wrong").hexdigest()


def listed(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


class Handler(BaseHTTPRequestHandler):
    """Serves the server's content; each request takes the next of the behaviours, "ok" when none is left."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        server = self.server
        asked = self.headers.get("Range")
        server.requests.append((self.path, asked))
        how, _, number = (server.behaviours.pop(0) if server.behaviours else "ok").partition(":")
        data, start = server.content, int(asked[6:-1]) if asked else 0
        self.close_connection = True
        if how.isdigit():
            return self.answer(int(how), b"sorry")
        if how == "close":
            return None
        if how == "to":
            self.send_response(302)
            self.send_header("Location", server.elsewhere)
            self.send_header("Content-Length", "0")
            return self.end_headers()
        if how == "page":
            return self.answer(200, b"<html>log in</html>", kind="text/html; charset=utf-8")
        if how == "wrong":
            return self.answer(200, b"wrong")
        if how == "endless":
            return self.answer(200, b"x" * 5000, length=None)
        if how == "chunks":  # the last chunk is missing: the connection closes within the body
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            self.wfile.write(b"10\r\n" + data[:16] + b"\r\n")
            return None
        ranges = how not in ("plain", "plaincut", "nolength")
        if asked and ranges and start >= len(data):
            return self.answer(416, b"", span=f"bytes */{len(data)}")
        part = data[start:] if ranges else data
        span = f"bytes {start}-{len(data) - 1}/{len(data)}" if asked and ranges else None
        send = part
        if how in ("cut", "plaincut", "slow"):
            send = part[: int(number)]
        if how == "less":  # a shorter range than asked for, which a server may send
            send = part = part[: int(number)]
            span = f"bytes {start}-{start + len(part) - 1}/{len(data)}"
        if how == "star" and span:
            span = span.replace(f"/{len(data)}", "/*")
        if how == "otherrange" and span:
            span = f"bytes 5-{len(data) - 1}/{len(data)}"
        if how == "norange":
            span = "" if span else None
        self.answer(206 if span is not None else 200, send, span=span, length=None if how == "nolength" else len(part))
        if how == "slow":
            self.wfile.flush()
            server.released.wait(20)
        return None

    def answer(
        self,
        status: int,
        body: bytes,
        *,
        span: str | None = None,
        length: int | None = -1,
        kind: str = "application/zip",
    ) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        if length is not None:
            self.send_header("Content-Length", str(len(body) if length < 0 else length))
        if span:
            self.send_header("Content-Range", span)
        self.end_headers()
        self.wfile.write(body)


class Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content, self.elsewhere = DATA, ""
        self.behaviours: list[str] = []
        self.requests: list[tuple[str, str | None]] = []
        self.released = threading.Event()

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that gives up is no error here."""

    def url(self, path: str = "data.zip") -> str:
        return f"http://127.0.0.1:{self.server_port}/{path}"


@pytest.fixture
def server(monkeypatch) -> Iterator[Server]:
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.released.set()
        running.shutdown()
        thread.join()


class Run:
    """One call of fetch after another into the same folder, with what was told and how long was paused."""

    def __init__(self, folder: Path, server: Server) -> None:
        self.folder, self.server = folder, server
        self.target, self.part = folder / "data.zip", folder / "data.zip.part"
        self.lines: list[str] = []
        self.pauses: list[float] = []

    def __call__(self, *behaviours: str, urls: tuple[str, ...] = (), sha256: str = SHA, timeout: float = 20) -> list:
        """Behaviours of the server's next answers -> the ranges that were asked for."""
        self.server.behaviours[:], self.lines[:], self.pauses[:] = behaviours, [], []
        before = len(self.server.requests)
        kwargs = {"report": self.lines.append, "pause": self.pauses.append, "timeout": timeout}
        assert fetch(urls or (self.server.url(),), self.target, sha256, **kwargs) == self.target
        assert self.target.read_bytes() == self.server.content and listed(self.folder) == ["data.zip"]
        return [asked for _, asked in self.server.requests[before:]]

    def refused(self, *behaviours: str, **kwargs) -> str:
        with pytest.raises(ReconpatchError) as error:
            self(*behaviours, **kwargs)
        assert not self.target.exists()
        return str(error.value)


@pytest.fixture
def run(tmp_path, server) -> Run:
    (tmp_path / "to").mkdir()
    return Run(tmp_path / "to", server)


def test_downloads_and_checks(run) -> None:
    assert run("ok") == [None]
    assert run.lines == [f"downloading {run.server.url()}", f"checking the SHA-256 of {len(DATA):,} bytes"]
    assert run.pauses == []


@pytest.mark.parametrize("how", ["plain", "nolength", "star", "norange"])
def test_servers_that_tell_less(run, how) -> None:
    assert run(how) == [None]


def test_truncated_body_is_continued_where_it_stopped(run) -> None:
    assert run("cut:1000", "cut:500", "ok") == [None, "bytes=1000-", "bytes=1500-"]
    assert f"connection closed after 1,000 of {len(DATA):,} bytes; trying again in 1 s" in run.lines
    assert run.pauses == [1, 2]


def test_shorter_ranges_and_unknown_totals(run) -> None:
    assert run("cut:1000", "less:500", "star") == [None, "bytes=1000-", "bytes=1500-"]
    run.target.unlink()
    run.part.write_bytes(DATA[:-100])
    assert run("star") == [f"bytes={len(DATA) - 100}-"]


@pytest.mark.parametrize("left", [b"", DATA[:1], DATA[:-1], DATA[: 2**20]])
def test_part_of_a_killed_run_is_continued(run, left) -> None:
    run.part.write_bytes(left)
    assert run("ok") == [f"bytes={len(left)}-" if left else None]


def test_complete_part_needs_no_network(run) -> None:
    """Killed between the last byte and the renaming."""
    run.part.write_bytes(DATA)
    assert run() == []


@pytest.mark.parametrize("how", ["plain", "nolength"])
def test_server_without_ranges_starts_anew(run, how) -> None:
    """What it sends replaces the part, it is not appended."""
    run.part.write_bytes(b"other" * 1000)
    assert run(how) == ["bytes=5000-"]


@pytest.mark.parametrize("how", ["otherrange", "norange"])
def test_range_that_was_not_asked_for(run, how) -> None:
    run.part.write_bytes(DATA[:1000])
    assert run(how, "ok") == ["bytes=1000-", None]
    assert "sent another range than asked for: starting anew; trying again in 1 s" in run.lines


@pytest.mark.parametrize("left", [DATA + b"more", b"x" * len(DATA)])
def test_part_that_is_too_long_or_as_long_but_wrong(run, left) -> None:
    run.part.write_bytes(left)
    assert run("ok", "ok") == [f"bytes={len(left)}-", None]
    assert "what had arrived is no beginning of this file: starting anew; trying again in 1 s" in run.lines


def test_part_with_a_wrong_beginning_is_removed_and_the_next_try_is_clean(run) -> None:
    run.part.write_bytes(b"x" * 1000)
    mixed = hashlib.sha256(b"x" * 1000 + DATA[1000:]).hexdigest()
    told = run.refused("ok")
    assert f"sent SHA-256 {mixed}, published {SHA}; what it sent is removed" in told
    assert not run.part.exists()
    assert run("ok") == [None]


def test_wrong_digest(run) -> None:
    told = run.refused("wrong")
    assert f"{run.server.url()}: sent SHA-256 {WRONG}, published {SHA}" in told
    assert f"{run.target}: no address delivered it" in told
    assert listed(run.folder) == []
    assert run("wrong", "ok", urls=(run.server.url("a"), run.server.url("b"))) == [None, None]


@pytest.mark.parametrize("status", [404, 403, 410])
def test_address_that_is_gone_leads_to_the_mirror_at_once(run, status) -> None:
    assert run(str(status), "ok", urls=(run.server.url("a"), run.server.url("b"))) == [None, None]
    assert [path for path, _ in run.server.requests] == ["/a", "/b"] and run.pauses == []
    assert any(line.startswith(f"{run.server.url('a')}: HTTP {status} ") for line in run.lines)


def test_mirror_continues_what_the_first_address_began(run) -> None:
    urls = (run.server.url("a"), run.server.url("b"))
    assert run("cut:1000", "404", "ok", urls=urls) == [None, "bytes=1000-", "bytes=1000-"]


@pytest.mark.parametrize("status", [500, 502, 503, 504, 429, 408])
def test_passing_errors_are_tried_again_with_growing_pauses(run, status) -> None:
    assert run(*[str(status)] * 3, "ok") == [None] * 4
    assert run.pauses == [1, 2, 4]


def test_every_address_fails(run) -> None:
    told = run.refused(*["503"] * 4, "404", urls=(run.server.url("a"), run.server.url("b")))
    assert f"{run.server.url('a')}: HTTP 503 Service Unavailable (attempt 4 of 4)" in told
    assert f"{run.server.url('b')}: HTTP 404 Not Found" in told and "check the network and its proxy" in told
    assert run.pauses == [1, 2, 4] and listed(run.folder) == []


def test_connection_closed_without_an_answer_and_within_a_chunk(run) -> None:
    assert run("close", "chunks", "ok") == [None, None, "bytes=16-"]
    assert any(re.match(r"connection lost \((RemoteDisconnected|ConnectionResetError)", line) for line in run.lines)
    assert any(line.startswith("connection lost (IncompleteRead") for line in run.lines)


def test_server_that_falls_silent(run) -> None:
    assert run("slow:1000", "ok", timeout=0.3) == [None, "bytes=1000-"]
    assert "no answer in time; trying again in 1 s" in run.lines


def test_progress_is_no_failure(run) -> None:
    """More breaks than tries, each after another megabyte."""
    run.server.content = DATA * 3
    assert len(run(*["cut:1200000"] * 7, "ok", sha256=hashlib.sha256(DATA * 3).hexdigest())) == 8
    assert run.pauses == [1] * 7


def test_breaks_at_the_same_place_end(run) -> None:
    """Without ranges every attempt starts anew: sending the same bytes again is no progress."""
    told = run.refused(*["plaincut:2000000"] * 9)
    assert f"connection closed after 2,000,000 of {len(DATA):,} bytes (attempt 4 of 4)" in told
    assert run.pauses == [1, 2, 4] and run.part.stat().st_size == 2_000_000
    assert run("ok") == ["bytes=2000000-"]


def test_web_page_does_not_replace_what_has_arrived(run) -> None:
    run.part.write_bytes(DATA[:1000])
    assert "answers with a web page, not a file" in run.refused("page")
    assert run.part.read_bytes() == DATA[:1000]


def test_redirection(run) -> None:
    run.server.elsewhere = run.server.url("there")
    assert run("to", "ok") == [None, None]
    assert run.server.requests[-1][0] == "/there"


@pytest.mark.parametrize("scheme", ["file:///etc/passwd", "ftp://127.0.0.1/x", "data:,x"])
def test_only_https_and_http(run, scheme) -> None:
    """Neither from the table nor by redirection."""
    assert f"{scheme}: only https and http addresses are used" in run.refused(urls=(scheme,))
    run.server.elsewhere = scheme
    assert re.search(r"HTTP 302 .* not allowed|unknown url type", run.refused(*["to"] * 4))
    assert listed(run.folder) == []


def test_no_network(run, server) -> None:
    with Server() as gone:
        closed = gone.url()
    told = run.refused(urls=(closed, server.url().replace("http", "https")))
    assert f"{closed}: no connection ([Errno {errno.ECONNREFUSED}]" in told and "SSL" in told
    assert run.pauses == [1, 2, 4] * 2 and listed(run.folder) == []


def test_certificate_that_is_not_trusted_is_not_tried_again(run, monkeypatch) -> None:
    class Opener:
        def open(self, request, timeout) -> None:
            raise URLError(ssl.SSLCertVerificationError(1, "certificate verify failed"))

    monkeypatch.setattr(transfer, "_opener", Opener)
    assert "no connection (certificate verify failed)" in run.refused()
    assert run.pauses == []


def test_file_that_is_there(run) -> None:
    run.target.write_bytes(DATA)
    assert run() == []
    assert run.lines == [f"{run.target} is already there with the published SHA-256: not downloaded again"]
    run.target.write_bytes(b"wrong")
    with pytest.raises(
        ReconpatchError, match=f"data.zip: SHA-256 {WRONG}, published {SHA}: .*move it away or delete it"
    ):
        run()
    assert run.target.read_bytes() == b"wrong" and run.server.requests == []
    run.target.unlink()
    run.target.mkdir()
    with pytest.raises(ReconpatchError, match=r"data.zip: cannot be read or written \(Is a directory\)"):
        run()


def test_disk_without_room(run, monkeypatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: shutil._ntuple_diskusage(10**9, 10**9, len(DATA) - 1001))
    told = run.refused("ok")
    assert f"{run.folder}: {len(DATA):,} bytes are needed for data.zip.part, {len(DATA) - 1001:,} are free" in told
    assert listed(run.folder) == [] and len(run.server.requests) == 1
    run.part.write_bytes(DATA[:1001])  # what is there needs no room
    assert run("ok") == ["bytes=1001-"]


def test_disk_that_fills_up(run) -> None:
    run.part.symlink_to("/dev/full")
    told = run.refused("nolength")
    assert f"{run.part}: cannot be read or written (No space left on device); free space" in told


def test_folder_that_cannot_be_written(run) -> None:
    (run.folder / "file").touch()
    run.target, run.part = run.folder / "file/data.zip", run.folder / "file/data.zip.part"
    with pytest.raises(ReconpatchError, match=r"file/data.zip: cannot be read or written \(Not a directory\)"):
        run()
    assert run.server.requests == []


def test_what_has_arrived_is_in_the_file_at_once(run, monkeypatch) -> None:
    """A killed run keeps it."""
    sizes = []

    class Answer(io.BytesIO):
        status, length, headers = 200, None, Message()

        def read1(self, size=-1) -> bytes:
            sizes.append(run.part.stat().st_size)
            return super().read1(300)

    class Opener:
        def open(self, request, timeout) -> Answer:
            return Answer(b"x" * 1000)

    monkeypatch.setattr(transfer, "_opener", Opener)
    run.server.content = b"x" * 1000
    run(sha256=hashlib.sha256(b"x" * 1000).hexdigest())
    assert sizes == [0, 300, 600, 900, 1000]


def test_endless_answer(run, monkeypatch) -> None:
    monkeypatch.setattr(transfer, "MOST", 4000)
    assert "sends more than 4,000 bytes" in run.refused("endless")
    assert listed(run.folder) == []


def test_progress_is_told(run, monkeypatch) -> None:
    monkeypatch.setattr(transfer, "CHUNK", 1024)  # steps of 256 KiB
    run()
    told = [line for line in run.lines if re.fullmatch(f"[0-9,]+ of {len(DATA):,} bytes", line)]
    assert len(told) == len(DATA) // (256 * 1024)


def packed(name: str, file: Path, top: str = "", skip: int = 0) -> bytes:
    """An archive with one small file in every category of a data set but the first `skip`."""
    names = [f"{top}{c}/{'train/ok' if name == 'btad' else 'train/good'}/0.png" for c in list(KNOWN[name])[skip:]]
    if file.name.endswith(".zip"):
        with zipfile.ZipFile(file, "w") as archive:
            for path in names:
                archive.writestr(zipfile.ZipInfo(path), path)  # the same bytes every time
    else:
        with tarfile.open(file, "w:xz") as tar:
            for path in names:
                info = tarfile.TarInfo(path)
                info.size = len(path)
                tar.addfile(info, io.BytesIO(path.encode()))
    return file.read_bytes()


class Library:
    """The table with the server's archives in the place of the published ones."""

    def __init__(self, folder: Path, server: Server) -> None:
        self.folder, self.server, self.lines = folder, server, []
        self.pauses: list[float] = []
        (folder / "make").mkdir()

    def get(self, name: str, archive: str, folder: Path, top: str = "", skip: int = 0) -> Path:
        self.server.content = packed(name, self.folder / "make" / archive, top, skip)
        sha256 = hashlib.sha256(self.server.content).hexdigest()
        this = Published("t", "h", archive, (self.server.url(archive),), sha256, "s", "l", "f")
        self.lines.clear()
        return download(name, folder, report=self.lines.append, published={name: this}, pause=self.pauses.append)


@pytest.fixture
def library(tmp_path, server) -> Library:
    return Library(tmp_path, server)


BTAD = ("btad", "b.zip", "BTech_Dataset_transformed/")
SETS = {
    "mvtec_ad": ("mvtec_ad", "m.tar.xz", ""),
    "below a top folder": ("mvtec_ad", "m.tar.xz", "mvtec_anomaly_detection/"),
    "btad": BTAD,
}


@pytest.mark.parametrize("case", SETS)
def test_data_set_is_downloaded_and_unpacked(library, tmp_path, case) -> None:
    name, archive, top = SETS[case]
    folder = tmp_path / "new/data"
    root = library.get(name, archive, folder, top)
    assert root == folder / name / top
    files = {p.relative_to(root).as_posix(): p.read_text() for p in root.rglob("*") if p.is_file()}
    assert files == {path.removeprefix(top): path for path in files.values()} and len(files) == len(KNOWN[name])
    assert {p.name for p in folder.iterdir()} == {archive, name}
    assert library.lines[-1] == f"{folder / name} is complete; {folder / archive} may be deleted"
    (folder / archive).unlink()
    assert library.get(name, archive, folder, top) == root  # a second call: nothing is transferred or touched
    assert library.lines == [
        f"{folder / name} is already there: left alone, nothing downloaded; `reconpatch check` reads every image"
    ]
    assert len(library.server.requests) == 1 and {p.name for p in folder.iterdir()} == {name}


def test_archive_that_is_there_is_used(library, tmp_path) -> None:
    first = library.get(*BTAD[:2], tmp_path / "data", BTAD[2])
    shutil.rmtree(tmp_path / "data/btad")
    assert library.get(*BTAD[:2], tmp_path / "data", BTAD[2]) == first
    assert len(library.server.requests) == 1


def test_archive_without_all_categories(library, tmp_path) -> None:
    with pytest.raises(ReconpatchError, match=r"does not hold btad, .*\(missing: 01\)"):
        library.get(*BTAD[:2], tmp_path / "data", BTAD[2], skip=1)
    assert [p.name for p in (tmp_path / "data").iterdir()] == ["b.zip"]


def test_folder_that_holds_something_else(library, tmp_path) -> None:
    (tmp_path / "data/btad/02/train").mkdir(parents=True)
    with pytest.raises(ReconpatchError, match=r"data/btad: does not hold btad, .*\(missing: 01, 03\); move it away"):
        library.get(*BTAD[:2], tmp_path / "data", BTAD[2])
    assert library.server.requests == [] and listed(tmp_path / "data") == ["btad"]


def test_categories_in_different_folders(tmp_path) -> None:
    for folder in ("a/01", "a/02", "b/03"):
        (tmp_path / folder / "train").mkdir(parents=True)
    with pytest.raises(ReconpatchError, match="missing: they lie in different folders"):
        find_root("btad", tmp_path)


def test_hostile_archive_is_named_and_nothing_stays(library, tmp_path) -> None:
    with pytest.raises(
        ReconpatchError, match=r"archive .*b.zip at member '../../01/train/ok/0.png': its path leads out"
    ):
        library.get("btad", "b.zip", tmp_path / "in/data", "../../")
    assert [p.name for p in (tmp_path / "in/data").iterdir()] == ["b.zip"] and listed(tmp_path / "in") == ["data"]


def test_one_download_a_folder(library, tmp_path) -> None:
    (tmp_path / "data").mkdir()
    other = os.open(tmp_path / "data", os.O_RDONLY)
    fcntl.flock(other, fcntl.LOCK_EX)
    with pytest.raises(ReconpatchError, match="data: another download into it is running"):
        library.get(*BTAD[:2], tmp_path / "data", BTAD[2])
    assert library.server.requests == []
    os.close(other)
    assert library.get(*BTAD[:2], tmp_path / "data", BTAD[2]).is_dir()


def test_folder_systems_without_locks(library, tmp_path, monkeypatch) -> None:
    def refuse(handle, how) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    assert library.get(*BTAD[:2], tmp_path / "data", BTAD[2]).is_dir()


def test_folder_that_is_a_file(library, tmp_path) -> None:
    (tmp_path / "data").touch()
    with pytest.raises(ReconpatchError, match=r"data: cannot be used \(File exists\); give a folder"):
        library.get(*BTAD[:2], tmp_path / "data", BTAD[2])


def test_no_room_to_unpack(library, tmp_path, monkeypatch) -> None:
    archive = packed("btad", tmp_path / "b.zip", BTAD[2])
    free = iter([10**9, 5])
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: shutil._ntuple_diskusage(10**9, 0, next(free)))
    with pytest.raises(
        ReconpatchError, match=f"{len(archive):,} bytes are needed for unpacking b.zip, at least, 5 are"
    ):
        library.get(*BTAD[:2], tmp_path / "data", BTAD[2])
    assert [p.name for p in (tmp_path / "data").iterdir()] == ["b.zip"]


def test_killed_download_is_continued(library, tmp_path, server) -> None:
    """SIGKILL while the server keeps the process waiting; then the same call again."""
    server.content = packed("btad", tmp_path / "b.zip", BTAD[2])
    server.behaviours[:] = ["slow:300"]
    sha256 = hashlib.sha256(server.content).hexdigest()
    code = (
        "import sys; from pathlib import Path; from reconpatch.data.download import Published, download\n"
        f"this = Published('t', 'h', 'b.zip', ({server.url('b.zip')!r},), {sha256!r}, 's', 'l', 'f')\n"
        "download('btad', Path(sys.argv[1]), report=lambda line: None, published={'btad': this})"
    )
    part = tmp_path / "data/b.zip.part"
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "data")]) as process:
        while not (part.exists() and part.stat().st_size):
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    assert listed(tmp_path / "data") == ["b.zip.part"]
    size = part.stat().st_size
    assert library.get(*BTAD[:2], tmp_path / "data", BTAD[2]).is_dir()
    assert server.requests == [("/b.zip", None), ("/b.zip", f"bytes={size}-")]


@pytest.mark.parametrize("name", PUBLISHED)
def test_description_says_everything_before_any_transfer(name, tmp_path) -> None:
    this, text = PUBLISHED[name], describe(name, tmp_path)
    for fact in (this.title, this.home, *this.urls, this.sha256, this.size, this.licence, this.source):
        assert fact in text
    assert str(tmp_path / this.archive) in text and str(tmp_path / name) in text
    assert listed(tmp_path) == []


def test_published_addresses() -> None:
    """As stated by anomalib; every address is one of the two hosts and names the archive."""
    assert set(PUBLISHED) == set(KNOWN)
    digests = {name: this.sha256 for name, this in PUBLISHED.items()}
    assert digests == {
        "mvtec_ad": "cf4313b13603bec67abb49ca959488f7eedce2a9f7795ec54446c649ac98cd3d",
        "btad": "461c9387e515bfed41ecaae07c50cf6b10def647b36c9e31d239ab2736b10d2a",
    }
    assert PUBLISHED["mvtec_ad"].urls == (
        "https://www.mydrive.ch/shares/150996/b52ecdcbf521176e9db9c731f2304b27/download/420938113-1629960298/"
        "mvtec_anomaly_detection.tar.xz",
        "https://www.mydrive.ch/shares/38536/3830184030e49fe74747669442f0f282/download/420938113-1629952094/"
        "mvtec_anomaly_detection.tar.xz",
    )
    assert PUBLISHED["btad"].urls == tuple(
        f"{s}://avires.dimi.uniud.it/papers/btad/btad.zip" for s in ("https", "http")
    )


@pytest.mark.parametrize("call", [describe, lambda *a: download(*a, report=print)])
def test_unknown_name(call, tmp_path) -> None:
    with pytest.raises(ReconpatchError, match=r"data set 'visa': not published .* mvtec_ad, btad are"):
        call("visa", tmp_path)
