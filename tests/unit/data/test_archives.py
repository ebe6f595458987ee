import io
import lzma
import os
import posixpath
import random
import re
import shutil
import signal
import stat
import struct
import subprocess
import sys
import tarfile
import tracemalloc
import warnings
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reconpatch.data.archives import LIMITS, Limits, unpacked
from reconpatch.errors import ReconpatchError

Content = Sequence[tuple[str, bytes]]


def member(name: str, kind: bytes = tarfile.REGTYPE, **facts: object) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type = kind
    for key, value in facts.items():
        setattr(info, key, value)
    return info


def tar_bytes(*members: tarfile.TarInfo, content: bytes = b"x") -> bytes:
    """An uncompressed tar; files that state no size of their own have the content."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for info in members:
            if info.type == tarfile.REGTYPE:
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
            else:
                tar.addfile(info)
    return stream.getvalue()


def write_tar(file: Path, plain: bytes) -> Path:
    file.write_bytes(lzma.compress(plain, preset=0))
    return file


def write_zip(file: Path, content: Content, attributes: int | None = None, packed: int = zipfile.ZIP_DEFLATED) -> Path:
    with warnings.catch_warnings(), zipfile.ZipFile(file, "w", packed) as archive:
        warnings.simplefilter("ignore")  # duplicate names
        for name, data in content:
            info = zipfile.ZipInfo(name)
            info.filename = name  # as it is, also with NUL and backslash
            info.compress_type = packed
            if attributes is not None:
                info.external_attr = attributes << 16
            archive.writestr(info, data)
    return file


def tree(folder: Path) -> dict[str, bytes | None]:
    """Everything below a folder, links not followed: path -> content, None for folders."""
    return {
        p.relative_to(folder).as_posix(): p.read_bytes() if p.is_file() and not p.is_symlink() else None
        for p in folder.rglob("*")
    }


def refuse(archive: Path, message: str, limits: Limits | None = None) -> None:
    """Unpacking says so, names the archive and leaves everything as it was, near the destination and above it."""
    place = archive.parent / "place"
    place.mkdir()
    before = tree(archive.parent)
    with pytest.raises(ReconpatchError) as error:
        unpack(archive, place / "data", limits)
    assert re.search(message, str(error.value)), str(error.value)
    assert str(error.value).startswith(f"archive {archive}") and "; nothing is unpacked, " in str(error.value)
    assert tree(archive.parent) == before and not (place / "data").exists()


def unpack(archive: Path, destination: Path, limits: Limits | None = None) -> dict[str, bytes | None]:
    with unpacked(archive, destination, *([limits] if limits else [])):
        assert not destination.exists()
    return tree(destination)


GOOD = [("top/a/1.png", b"one"), ("top/a/2.png", b""), ("top/b/1.png", b"three" * 1000)]


def good_tar(file: Path) -> Path:
    infos = [member("./"), member("./top", tarfile.DIRTYPE, mode=0o555)]
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        infos[0].type = tarfile.DIRTYPE
        for info in infos:
            tar.addfile(info)
        for name, data in GOOD:
            info = member(f"./{name}", size=len(data), mode=0o4777, uid=12345)
            tar.addfile(info, io.BytesIO(data))
    return write_tar(file, stream.getvalue())


def good_zip(file: Path) -> Path:
    return write_zip(file, [("top/", b""), *GOOD])


MAKERS = {"tar": (good_tar, "d.tar.xz"), "zip": (good_zip, "d.zip")}
both = pytest.mark.parametrize(("make", "name"), MAKERS.values(), ids=MAKERS)
WANTED = {"top": None, "top/a": None, "top/b": None, **dict(GOOD)}


@both
def test_unpacks_everything_as_ordinary_files(tmp_path, make: Callable[[Path], Path], name) -> None:
    archive = make(tmp_path / name)
    assert unpack(archive, tmp_path / "data") == WANTED
    (tmp_path / "own").touch()
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / "data").rglob("*"):
        own = tmp_path / ("folder" if path.is_dir() else "own")
        assert path.stat().st_mode == own.stat().st_mode and path.stat().st_uid == os.getuid()
        assert not path.stat().st_mode & (stat.S_ISUID | stat.S_ISGID | stat.S_ISVTX)
    assert {p.name for p in tmp_path.iterdir()} == {name, "data", "own", "folder"}


@both
def test_destination_that_exists_is_left_alone(tmp_path, make, name) -> None:
    archive = make(tmp_path / name)
    (tmp_path / "data").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for there in ("data", "link"):
        with pytest.raises(ReconpatchError, match=f"{there} is already there: left alone"):
            unpack(archive, tmp_path / there)
    assert tree(tmp_path) == {name: archive.read_bytes(), "data": None, "link": None}


def test_body_that_fails_leaves_nothing(tmp_path) -> None:
    archive = good_zip(tmp_path / "d.zip")
    with pytest.raises(KeyboardInterrupt), unpacked(archive, tmp_path / "data") as temporary:
        assert tree(temporary) == WANTED
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == [archive]


@both
def test_killed_unpacking_is_repeated(tmp_path, make, name) -> None:
    archive = make(tmp_path / name)
    code = (
        "import sys, time; from pathlib import Path; from reconpatch.data.archives import unpacked\n"
        "with unpacked(Path(sys.argv[1]), Path(sys.argv[2])) as t:\n"
        "    (t / 'junk').write_text('x'); print(t, flush=True); time.sleep(600)"
    )
    command = [sys.executable, "-c", code, str(archive), str(tmp_path / "data")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        left = Path(process.stdout.readline().strip())
        process.send_signal(signal.SIGKILL)
    assert (left / "junk").is_file() and not (tmp_path / "data").exists()
    assert unpack(archive, tmp_path / "data") == WANTED
    assert not left.exists()


NAMES = {
    "../out": "'../out': its path leads out of the folder",
    "a/../../out": "its path leads out of the folder",
    "a/..": "its path leads out of the folder",
    "/out": "'/out': its path is absolute",
    "C:out": "'C:out': its path is absolute",
    "C:/out": "its path is absolute",
    "..\\out": "a NUL or a backslash",
    "n" * 1001: "its name has 1,001 characters",
}


@pytest.mark.parametrize("bad", NAMES, ids=lambda name: name[:12])
def test_names_that_lead_out(tmp_path, bad) -> None:
    for kind in ("tar", "zip"):
        (tmp_path / kind).mkdir()
    refuse(write_tar(tmp_path / "tar/d.tar.xz", tar_bytes(member("good"), member(bad))), NAMES[bad])
    refuse(write_zip(tmp_path / "zip/d.zip", [("good", b"x"), (bad, b"x")]), NAMES[bad])


def test_absolute_path_to_a_place_that_may_be_written(tmp_path) -> None:
    refuse(write_tar(tmp_path / "d.tar.xz", tar_bytes(member(f"{tmp_path}/out"))), "its path is absolute")
    assert not (tmp_path / "out").exists()


def test_zip_name_with_a_nul(tmp_path) -> None:
    archive = write_zip(tmp_path / "d.zip", [("outXpng", b"x")])
    archive.write_bytes(archive.read_bytes().replace(b"outXpng", b"out\0png"))
    refuse(archive, r"'out\\x00png': its name holds a NUL")


SPECIAL = {
    "link out": (member("l", tarfile.SYMTYPE, linkname="../../out"), "'l': it is a symbolic link"),
    "link absolute": (member("l", tarfile.SYMTYPE, linkname="/etc"), "it is a symbolic link"),
    "link inside": (member("l", tarfile.SYMTYPE, linkname="good"), "it is a symbolic link"),
    "hard link": (member("l", tarfile.LNKTYPE, linkname="good"), "it is a hard link"),
    "hard link out": (member("l", tarfile.LNKTYPE, linkname="../d.tar.xz"), "it is a hard link"),
    "device": (member("d", tarfile.CHRTYPE, devmajor=1, devminor=3), "it is a device"),
    "block device": (member("d", tarfile.BLKTYPE, devmajor=8), "it is a device"),
    "pipe": (member("p", tarfile.FIFOTYPE), "'p': it is a pipe"),
    "unknown": (member("u", b"Z"), "'u': it is of an unknown kind"),
}


@pytest.mark.parametrize("kind", SPECIAL)
def test_tar_members_that_are_no_files(tmp_path, kind) -> None:
    bad, message = SPECIAL[kind]
    refuse(write_tar(tmp_path / "d.tar.xz", tar_bytes(member("good"), bad, member("l/through"))), message)


def test_sparse_file(tmp_path) -> None:
    info = member("holes", pax_headers={"GNU.sparse.map": "0,1", "GNU.sparse.size": "99999999999"})
    refuse(write_tar(tmp_path / "d.tar.xz", tar_bytes(info)), "'holes': it is of an unknown kind")


ATTRIBUTES = {
    "link": (stat.S_IFLNK | 0o777, "it is a symbolic link"),
    "device": (stat.S_IFCHR | 0o666, "it is a device, a pipe or a socket"),
    "block device": (stat.S_IFBLK, "it is a device"),
    "pipe": (stat.S_IFIFO | 0o666, "a pipe"),
    "socket": (stat.S_IFSOCK | 0o666, "a socket"),
}


@pytest.mark.parametrize("kind", ATTRIBUTES)
def test_zip_members_that_are_no_files(tmp_path, kind) -> None:
    attributes, message = ATTRIBUTES[kind]
    refuse(write_zip(tmp_path / "d.zip", [("l", b"../out")], attributes), f"member 'l': .*{message}")


def test_setuid_in_a_zip_is_ignored(tmp_path) -> None:
    unpack(write_zip(tmp_path / "d.zip", [("f", b"x")], stat.S_IFREG | 0o6777), tmp_path / "data")
    assert not (tmp_path / "data/f").stat().st_mode & 0o7111


TOGETHER = {
    "same": ("a/b", "a/b"),
    "dots": ("a/b", "a/./b"),
    "slashes": ("a/b", "a//b"),
    "case": ("a/b.png", "a/B.PNG"),
    "folders' case": ("a/1", "A/2"),
    "accents": ("\u00e9", "e\u0301"),
    "last dot": ("a", "a."),
    "file and folder": ("a", "a/b"),
    "folder and file": ("a/b", "a"),
}


@pytest.mark.parametrize("kind", TOGETHER)
def test_names_that_fall_together(tmp_path, kind) -> None:
    names = TOGETHER[kind]
    for form in ("tar", "zip"):
        (tmp_path / form).mkdir()
    refuse(
        write_tar(tmp_path / "tar/d.tar.xz", tar_bytes(*map(member, names))), "its name falls together with 'a|\u00e9"
    )
    refuse(write_zip(tmp_path / "zip/d.zip", [(n, b"x") for n in names]), "its name falls together with 'a|\u00e9")


def test_file_without_a_name(tmp_path) -> None:
    refuse(write_tar(tmp_path / "d.tar.xz", tar_bytes(member("."))), "a file without a name")


@both
def test_too_many_members(tmp_path, make, name) -> None:
    archive = make(tmp_path / name)
    count = 5 if make is good_tar else 4
    assert unpack(archive, tmp_path / "data", Limits(members=count)) == WANTED
    refuse(archive, f"more than {count - 1} members", Limits(members=count - 1))


def test_default_limits() -> None:
    assert Limits() == Limits(members=100_000, total=64 * 2**30, ratio=100) == LIMITS


def test_bombs(tmp_path) -> None:
    """40 MB of zeros in a few KB: more than the 16 MB that are always allowed."""
    zeros = bytes(40 * 2**20)
    for kind in ("tar", "zip"):
        (tmp_path / kind).mkdir()
    tar = write_tar(tmp_path / "tar/d.tar.xz", tar_bytes(member("zeros"), content=zeros))
    packed = write_zip(tmp_path / "zip/d.zip", [("zeros", zeros)])
    for archive in (tar, packed):
        assert archive.stat().st_size < 100_000
        refuse(archive, "'zeros': more than 16,777,216 bytes come out of it")
        assert unpack(archive, archive.parent / "all", Limits(ratio=10**6)) == {"zeros": zeros}


def test_many_members_count_together(tmp_path) -> None:
    content = [(str(n), random.Random(n).randbytes(1000)) for n in range(9)]
    archive = write_zip(tmp_path / "d.zip", content)
    refuse(archive, "member '8': more than 8,999 bytes", Limits(total=8999))
    assert unpack(archive, tmp_path / "data", Limits(total=9000)) == dict(content)


def test_bomb_hidden_in_padding_and_headers(tmp_path) -> None:
    """Zeros behind the end of the tar, a header that says it is huge, and a size below zero, which leads back."""
    for n, (plain, message) in enumerate(
        [
            (tar_bytes(member("good")) + bytes(40 * 2**20), "bytes come out of it"),
            (tar_bytes(member("good", pax_headers={"comment": "x" * 2**21})), r"a header of \d+ bytes"),
            (
                member("back", size=-1024).tobuf(tarfile.GNU_FORMAT) + tar_bytes(member("good")),
                "headers that lead back",
            ),
        ]
    ):
        (tmp_path / str(n)).mkdir()
        refuse(write_tar(tmp_path / str(n) / "d.tar.xz", plain), message)


def test_zip_whose_header_lies_about_the_size(tmp_path) -> None:
    archive = write_zip(tmp_path / "d.zip", [("f", b"a" * 5000)])
    archive.write_bytes(archive.read_bytes().replace(struct.pack("<L", 5000), struct.pack("<L", 10)))
    refuse(archive, "member 'f': BadZipFile: Bad CRC-32")


def test_encrypted_zip(tmp_path) -> None:
    archive = write_zip(tmp_path / "d.zip", [("f", b"x")])
    content = bytearray(archive.read_bytes())
    content[6] |= 1
    content[content.index(b"PK\1\2") + 8] |= 1
    archive.write_bytes(content)
    refuse(archive, "member 'f': it is encrypted")


def test_zip_with_an_unknown_compression(tmp_path) -> None:
    archive = write_zip(tmp_path / "d.zip", [("f", b"x")])
    content = bytearray(archive.read_bytes())
    content[8] = content[content.index(b"PK\1\2") + 10] = 97
    archive.write_bytes(content)
    refuse(archive, "member 'f': NotImplementedError: .*compression")


@both
def test_truncated_archive(tmp_path, make, name) -> None:
    """Cut anywhere, a last byte included: refused."""
    whole = make(tmp_path / name).read_bytes()
    for keep in sorted({0, 1, len(whole) // 2, len(whole) - 30, len(whole) - 1}):
        folder = tmp_path / str(keep)
        folder.mkdir()
        (folder / name).write_bytes(whole[:keep])
        refuse(folder / name, "EOFError|BadZipFile|LZMAError|ReadError")


def test_changed_bytes(tmp_path) -> None:
    """Stored bytes that changed: the zip's CRC and xz's own digest tell."""
    archive = write_zip(tmp_path / "d.zip", [("f", b"original")], packed=zipfile.ZIP_STORED)
    archive.write_bytes(archive.read_bytes().replace(b"original", b"0riginal"))
    refuse(archive, "member 'f': BadZipFile: Bad CRC-32")
    (tmp_path / "tar").mkdir()
    noise = random.Random(0).randbytes(50_000)
    tar = write_tar(tmp_path / "tar/d.tar.xz", tar_bytes(member("f"), content=noise))
    content = bytearray(tar.read_bytes())
    content[len(content) // 2] ^= 1
    tar.write_bytes(content)
    refuse(tar, "LZMAError")


@pytest.mark.parametrize("damage", ["no end", "cut header", "cut content", "wrong checksum"])
def test_whole_xz_around_a_damaged_tar(tmp_path, damage) -> None:
    """Python's tarfile takes such damage for the end of the archive and says nothing."""
    plain = tar_bytes(member("f"), member("g"), content=b"x" * 600)
    second = plain.index(b"g\0\0")
    damaged = {
        "no end": plain[: second + 512 + 1024],
        "cut header": plain[: second + 100],
        "cut content": plain[: second + 512 + 100],
        "wrong checksum": plain[: second + 200] + b"?" + plain[second + 201 :],
    }[damage]
    refuse(write_tar(tmp_path / "d.tar.xz", damaged), "ReadError: (it ends, or a header is damaged|unexpected end)")


def test_not_an_archive(tmp_path) -> None:
    for name, message in (
        ("d.rar", "cannot be unpacked here, only .tar.xz and .zip can"),
        ("d.zip", "BadZipFile"),
        ("d.tar.xz", "LZMAError"),
    ):
        (tmp_path / name[2:]).mkdir()
        (tmp_path / name[2:] / name).write_bytes(b"<html>not found</html>")
        refuse(tmp_path / name[2:] / name, message)
    with pytest.raises(ReconpatchError, match=r"archive .*missing.zip: FileNotFoundError"):
        unpack(tmp_path / "missing.zip", tmp_path / "data")


def test_python_without_the_data_filter(tmp_path, monkeypatch) -> None:
    monkeypatch.delattr(tarfile, "data_filter")
    refuse(good_tar(tmp_path / "d.tar.xz"), r"Python 3.11.4 or later is needed")


def test_folder_that_cannot_be_written(tmp_path) -> None:
    archive = good_zip(tmp_path / "d.zip")
    (tmp_path / "file").touch()
    with pytest.raises(ReconpatchError, match=r"NotADirectoryError.*choose another folder"):
        unpack(archive, tmp_path / "file/data")


def test_disk_that_fills_up(tmp_path, monkeypatch) -> None:
    """The members' folder is swapped for one on a device that is full."""
    archive = good_zip(tmp_path / "d.zip")
    real = open

    def full(file, mode="r", *args, **kwargs):
        return real("/dev/full" if mode == "xb" else file, mode.replace("x", "w"), *args, **kwargs)

    monkeypatch.setattr("builtins.open", full)
    refuse(archive, r"member 'top/a/1.png': OSError: .*No space left.*free space")


@both
def test_memory_is_bounded(tmp_path, make, name) -> None:
    data = bytes(48 * 2**20)
    if make is good_tar:
        archive = write_tar(tmp_path / name, tar_bytes(member("f"), content=data))
    else:
        archive = write_zip(tmp_path / name, [("f", data)])
    del data
    tracemalloc.start()
    with unpacked(archive, tmp_path / "data", Limits(ratio=10**6)):
        peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (tmp_path / "data/f").stat().st_size == 48 * 2**20
    assert peak < 12 * 2**20


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.text("aA./\\:é", min_size=1, max_size=7).filter(lambda n: not n.endswith("/")), max_size=5),
    st.booleans(),
)
def test_any_names_stay_inside_or_are_refused(tmp_path, names, as_tar) -> None:
    shutil.rmtree(tmp_path / "run", ignore_errors=True)
    (tmp_path / "run/in").mkdir(parents=True)
    if as_tar:
        archive = write_tar(tmp_path / "run/d.tar.xz", tar_bytes(*map(member, names)))
    else:
        archive = write_zip(tmp_path / "run/d.zip", [(n, b"x") for n in names])
    try:
        got = unpack(archive, tmp_path / "run/in/data")
    except ReconpatchError:
        assert tree(tmp_path) == {"run": None, "run/in": None, f"run/{archive.name}": archive.read_bytes()}
    else:
        assert sorted(path for path, data in got.items() if data) == sorted(map(posixpath.normpath, names))
        outside = {path for path in tree(tmp_path) if not path.startswith("run/in/data/")}
        assert outside == {"run", "run/in", "run/in/data", f"run/{archive.name}"}
