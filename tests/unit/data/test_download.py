import errno
import hashlib
import io
import random
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from filelock import FileLock, UnixFileLock

from reconpatch.data.catalogue import CONTENTS
from reconpatch.data.download import download, fetch, find_root
from reconpatch.data.sources import Published
from reconpatch.errors import ReconpatchError

DATA = random.Random(0).randbytes(3 * 2**20 + 7)
SHA = hashlib.sha256(DATA).hexdigest()


def listed(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


class Handler(BaseHTTPRequestHandler):
    """Serves the server's content; each request takes the next of the behaviours, "ok" when none is left."""

    def log_message(self, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        server, asked = self.server, self.headers.get("Range")
        server.requests.append((self.path, asked))
        how, _, number = (server.behaviours.pop(0) if server.behaviours else "ok").partition(":")
        data, start = server.content, int(asked[6:-1]) if asked else 0
        if how.isdigit():
            return self.answer(int(how), b"sorry")
        if how == "page":
            return self.answer(200, b"<html>log in</html>", kind="text/html; charset=utf-8")
        if how == "wrong":
            return self.answer(200, b"wrong")
        ranges = asked and how != "plain"
        if ranges and start >= len(data):
            return self.answer(416, b"")
        part = data[start:] if ranges else data
        span = f"bytes {5 if how == 'otherrange' else start}-{len(data) - 1}/{len(data)}" if ranges else None
        sent = part[: int(number)] if number else part
        self.answer(206 if ranges else 200, sent, span=span, length=len(part))
        if how == "slow":
            self.wfile.flush()
            server.released.wait(20)
        return None

    def answer(self, status: int, body: bytes, span: str | None = None, length: int = 0, kind: str = "x/zip") -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(length or len(body)))
        if span:
            self.send_header("Content-Range", span)
        self.end_headers()
        self.wfile.write(body)


class Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content = DATA
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
    server = Server()
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield server
    server.released.set()
    server.shutdown()
    server.server_close()


@pytest.fixture
def run(tmp_path, server) -> Callable[..., list[str | None]]:
    """What the server does, first to last -> the ranges it was asked for; the file lies at data.zip."""

    def call(*behaviours: str, urls: tuple[str, ...] = (), timeout: float = 5) -> list[str | None]:
        target = tmp_path / "data.zip"
        server.behaviours[:] = behaviours
        server.requests.clear()
        fetch(urls or (server.url(),), target, SHA, report=print, timeout=timeout, pauses=(0, 0))
        assert target.read_bytes() == DATA and not (tmp_path / "data.zip.part").exists()
        return [asked for _, asked in server.requests]

    return call


@pytest.mark.parametrize(
    ("behaviours", "left", "asked"),
    [
        (["ok"], b"", [None]),
        (["cut:1000", "cut:500", "ok"], b"", [None, "bytes=1000-", "bytes=1500-"]),  # breaks off twice
        (["slow:300"], b"", [None, "bytes=300-"]),  # falls silent
        (["ok"], DATA[:7], ["bytes=7-"]),
        ([], DATA, []),
        (["plain"], DATA[:9], ["bytes=9-"]),  # knows no ranges
        (["otherrange"], DATA[:9], ["bytes=9-", None]),
        (["ok"], DATA + b"more", [f"bytes={len(DATA) + 4}-", None]),
        (["ok"], b"another beginning", ["bytes=17-", None]),
        (["wrong"], b"", [None, None]),
    ],
)
def test_what_has_arrived_is_continued_and_what_is_wrong_starts_again(behaviours, left, asked, run, tmp_path) -> None:
    if left:
        (tmp_path / "data.zip.part").write_bytes(left)
    assert run(*behaviours, timeout=0.2 if "slow:300" in behaviours else 5) == asked
    assert run() == []  # it is there, with the right digest


@pytest.mark.parametrize("behaviour", ["404", "503", "page", "wrong"])
def test_another_address_delivers_what_the_first_does_not(behaviour, run, server) -> None:
    assert len(run(behaviour, urls=("ftp://127.0.0.1/x", server.url("a"), server.url("b")))) == 2
    assert [path for path, _ in server.requests] == ["/a", "/b"]


def test_every_address_fails(run, server, tmp_path) -> None:
    """What has arrived stays, also where a web page comes in its place."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        closed = f"http://127.0.0.1:{free.getsockname()[1]}/x"
    (tmp_path / "data.zip.part").write_bytes(DATA[:7])
    with pytest.raises(ReconpatchError) as caught:
        run("page", "500", urls=(server.url(), closed, "file:///etc/hosts"))
    assert caught.value.where == str(tmp_path / "data.zip") and "continues" in caught.value.fix
    for reason in ("500", "Connection refused", "only https and http"):
        assert reason in str(caught.value)
    assert (tmp_path / "data.zip.part").read_bytes() == DATA[:7]


def test_files_of_others_full_disks_and_folders_that_cannot_be_written(run, server, tmp_path, monkeypatch) -> None:
    target, part = tmp_path / "data.zip", tmp_path / "data.zip.part"
    target.write_bytes(b"mine")
    with pytest.raises(ReconpatchError, match="not the published file"):
        run()
    assert target.read_bytes() == b"mine" and server.requests == []
    target.unlink()
    part.symlink_to("/dev/full")
    with pytest.raises(ReconpatchError, match="No space left on device"):
        run()
    part.mkdir()
    with pytest.raises(ReconpatchError, match="cannot be written"):
        run()
    part.rmdir()
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: shutil._ntuple_diskusage(9, 4, 5))
    with pytest.raises(ReconpatchError, match=f"{len(DATA):,} bytes do not fit"):
        run()


def packed(name: str, file: Path, top: str = "", skip: int = 0) -> bytes:
    """An archive with one small file in every category of a data set but the first `skip`."""
    names = [
        f"{top}{c}/{'train/ok' if name == 'btad' else 'train/good'}/0.png" for c in list(CONTENTS[name].counts)[skip:]
    ]
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


BTAD = ("btad", "b.zip", "BTech_Dataset_transformed/")


@pytest.fixture
def get(tmp_path, server) -> Callable[..., Path]:
    """Downloads a data set from the server, in the place of the published one, into in/data."""
    (tmp_path / "make").mkdir()

    def call(name: str, archive: str, top: str = "", skip: int = 0) -> Path:
        server.content = packed(name, tmp_path / "make" / archive, top, skip)
        sha256 = hashlib.sha256(server.content).hexdigest()
        this = Published("t", "h", archive, (server.url(archive),), sha256, "s", "l", "f")
        return download(name, tmp_path / "in/data", report=print, published={name: this}, pauses=(0,))

    return call


def kept(tmp_path: Path) -> list[str]:
    return [name for name in listed(tmp_path / "in/data") if not name.endswith(".lock")]


@pytest.mark.parametrize(
    ("name", "archive", "top"),
    [("mvtec_ad", "m.tar.xz", ""), ("mvtec_ad", "m.tar.xz", "mvtec_anomaly_detection/"), BTAD],
)
def test_a_data_set_is_downloaded_and_unpacked_once(get, server, name, archive, top, tmp_path) -> None:
    root, data = get(name, archive, top), tmp_path / "in/data"
    assert root == data / name / top
    files = {p.relative_to(root).as_posix(): p.read_text() for p in root.rglob("*") if p.is_file()}
    assert files == {path.removeprefix(top): path for path in files.values()} and len(files) == len(
        CONTENTS[name].counts
    )
    assert kept(tmp_path) == sorted([archive, name])
    shutil.rmtree(data / name)
    assert get(name, archive, top) == root  # from the archive that is there
    (data / archive).unlink()
    assert get(name, archive, top) == root and kept(tmp_path) == [name] and len(server.requests) == 1


def test_an_archive_or_folder_without_all_categories_is_named(get, tmp_path) -> None:
    with pytest.raises(ReconpatchError, match="missing: 01"):
        get(*BTAD, skip=1)
    assert kept(tmp_path) == ["b.zip"]
    (tmp_path / "in/data/btad/02/train").mkdir(parents=True)
    with pytest.raises(ReconpatchError, match="missing: 01, 03"):
        get(*BTAD)
    for folder in ("a/01", "a/02", "b/03"):
        (tmp_path / folder / "train").mkdir(parents=True)
    with pytest.raises(ReconpatchError, match="different folders"):
        find_root("btad", tmp_path)


@pytest.mark.parametrize(
    ("name", "archive", "top"),
    [("btad", "b.zip", "../../"), ("btad", "b.zip", "/outside/"), ("mvtec_ad", "m.tar.xz", "../../")],
)
def test_members_outside_the_folder_are_refused(name, archive, top, get, tmp_path) -> None:
    with pytest.raises(ReconpatchError, match="outside") as caught:
        get(name, archive, top)
    assert caught.value.where == str(tmp_path / "in/data" / archive)
    assert kept(tmp_path) == [archive] and listed(tmp_path / "in") == ["data"]


def test_one_download_a_folder(get, server, tmp_path, monkeypatch) -> None:
    (tmp_path / "in/data").mkdir(parents=True)
    with FileLock(tmp_path / "in/data/.btad.lock"), pytest.raises(ReconpatchError, match="another download"):
        get(*BTAD)
    assert server.requests == []

    def refuse(self: UnixFileLock) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(UnixFileLock, "_acquire", refuse)  # as on some network file systems
    assert get(*BTAD).is_dir()


def test_a_killed_download_is_continued(get, server, tmp_path) -> None:
    """SIGKILL while the server keeps the process waiting; then the same call again."""
    server.content = packed("btad", tmp_path / "b.zip", BTAD[2])
    server.behaviours[:] = ["slow:300"]
    sha256, data = hashlib.sha256(server.content).hexdigest(), tmp_path / "in/data"
    code = (
        "import sys; from pathlib import Path; from reconpatch.data.sources import Published\n"
        "from reconpatch.data.download import download\n"
        f"this = Published('t', 'h', 'b.zip', ({server.url('b.zip')!r},), {sha256!r}, 's', 'l', 'f')\n"
        "download('btad', Path(sys.argv[1]), report=lambda line: None, published={'btad': this})"
    )
    part = data / "b.zip.part"
    with subprocess.Popen([sys.executable, "-c", code, str(data)]) as process:
        while not (part.exists() and part.stat().st_size):
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    size = part.stat().st_size
    assert get(*BTAD).is_dir()
    assert server.requests == [("/b.zip", None), ("/b.zip", f"bytes={size}-")]
