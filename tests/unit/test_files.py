"""Files are whole or absent whenever the writer is killed, and what the system refuses is said clearly."""

import hashlib
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from reconpatch.errors import ReconpatchError
from reconpatch.files import check_writable, replacing, sha256_of, write_text


def child(code: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run code in a process of its own; `argv[1:]` are the arguments."""
    head = "import os, resource, signal, sys\nfrom pathlib import Path\nfrom reconpatch.files import replacing\n"
    command = [sys.executable, "-c", head + code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


KILLED = """
with replacing(Path(sys.argv[1])) as temporary:
    temporary.write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_killed_writer_leaves_the_old_and_the_next_one_clears_up(tmp_path: Path) -> None:
    target = tmp_path / "x.1.json"
    write_text(target, "old")
    assert child(KILLED, target).returncode == -9
    assert target.read_text() == "old" and len(list(tmp_path.iterdir())) == 2
    write_text(target, "new")
    assert target.read_text() == "new" and list(tmp_path.iterdir()) == [target]


def test_what_a_running_process_or_another_file_left_stays(tmp_path: Path) -> None:
    others = [tmp_path / f".x.{os.getppid()}.tmp.json", tmp_path / ".y.999999999.tmp.json", tmp_path / ".x.1.json"]
    for file in others:
        file.touch()
    write_text(tmp_path / "x.json", "new")
    assert sorted(tmp_path.iterdir()) == sorted([*others, tmp_path / "x.json"])


def test_flushed_before_and_folder_after_it_takes_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    flush, replace = os.fsync, Path.replace

    def fsync(descriptor: int) -> None:
        done.append("flush folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "flush file")
        flush(descriptor)

    def move(self: Path, target: Path) -> Path:
        done.append("replace")
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(Path, "replace", move)
    write_text(tmp_path / "x.json", "new")
    assert done == ["flush file", "replace", "flush folder"]


def test_folder_takes_the_place_of_another_as_a_whole(tmp_path: Path) -> None:
    target = tmp_path / "sample"
    for names in (["a", "b"], ["c"]):
        with replacing(target) as folder:
            for name in names:
                (folder / "in").mkdir(parents=True, exist_ok=True)
                (folder / "in" / name).write_text(name)
    assert [p.relative_to(target).as_posix() for p in target.rglob("*")] == ["in", "in/c"]
    with pytest.raises(RuntimeError), replacing(target) as folder:
        folder.mkdir()
        raise RuntimeError
    assert (target / "in/c").is_file() and list(tmp_path.iterdir()) == [target]


LIMITED = """
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
import numpy as np
from safetensors.numpy import save_file
try:
    with replacing(Path(sys.argv[1])) as temporary:
        save_file({"a": np.zeros(10**6)}, temporary)
except Exception as error:
    print(type(error).__name__, error)
"""


def test_safetensors_that_do_not_fit_are_refused_alike(tmp_path: Path) -> None:
    printed = child(LIMITED, tmp_path / "x.safetensors").stdout
    assert printed.startswith("ReconpatchError") and "x.safetensors: cannot be written" in printed
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_written_to_is_said_before_anything_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    check_writable(tmp_path / "results" / "runs")
    assert [file.name for file in tmp_path.iterdir()] == ["file"]
    with pytest.raises(ReconpatchError, match=r"file/runs: nothing can be written there, .*file is no folder"):
        check_writable(tmp_path / "file" / "runs")
    monkeypatch.setattr(os, "access", lambda *_: False)  # who runs the tests may be allowed everything
    with pytest.raises(ReconpatchError, match=r"results: nothing can be written there, .* is write-protected"):
        check_writable(tmp_path / "results")


def test_digest_of_a_file_is_that_of_its_bytes(tmp_path) -> None:
    content = bytes(range(256)) * 5000
    (tmp_path / "x").write_bytes(content)
    assert sha256_of(tmp_path / "x") == hashlib.sha256(content).hexdigest()
