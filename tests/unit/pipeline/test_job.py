import re
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from reconpatch.errors import ReconpatchError
from reconpatch.pipeline.job import run_job


def test_job_shows_the_users_error_without_traceback(tmp_path) -> None:
    log = tmp_path / "logs/x.log"
    with pytest.raises(SystemExit) as caught, run_job(log, "x"):
        raise ReconpatchError("coreset: 2 is too much")
    assert caught.value.code == 1
    assert "error: coreset: 2 is too much" in log.read_text() and "Traceback" not in log.read_text()


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (FileNotFoundError(2, "No such file or directory", "a/train.npy"), "error: a/train.npy: No such file"),
        (MemoryError("3 GiB for an array"), "error: out of memory (3 GiB for an array); `reconpatch plan` shows"),
    ],
)
def test_job_says_what_the_system_lacks_without_traceback(tmp_path, error, message) -> None:
    with pytest.raises(SystemExit), run_job(tmp_path / "x.log", "x"):
        raise error
    assert message in (said := (tmp_path / "x.log").read_text()) and "Traceback" not in said


def test_job_keeps_the_traceback_of_what_it_does_not_know(tmp_path) -> None:
    log = str(tmp_path / "x.log")
    code = "from pathlib import Path\nfrom reconpatch.pipeline.job import run_job\n"
    code += f"with run_job(Path({log!r}), 'x'):\n    1 / 0"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 1
    assert "Traceback" in (said := (tmp_path / "x.log").read_text()) and "ZeroDivisionError" in said


def test_job_whose_log_does_not_fit_the_disk_speaks_to_the_terminal(capsys) -> None:
    with pytest.raises(SystemExit), run_job(Path("/dev/full"), "x"):
        raise ReconpatchError("coreset: 2 is too much")
    assert "error: coreset: 2 is too much" in capsys.readouterr().err


def test_job_logs_progress_and_use(tmp_path) -> None:
    log = tmp_path / "x.log"
    with run_job(log, "x") as running:
        running.progress("images", 5, 10)
        usage = running.usage()
    assert "images 5/10" in log.read_text() and "left" in log.read_text()
    assert usage["peak_mb"] > 10 and usage["wall_s"] >= 0


def child(code: str) -> list[float]:
    """What a Python process that runs `code` prints."""
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return [float(part) for part in done.stdout.split()]


def test_the_job_begins_when_imports_are_done(tmp_path) -> None:
    code = f"""
import time
from pathlib import Path
from reconpatch.pipeline.job import run_job
time.sleep(0.5)  # stands for imports
with run_job(Path({str(tmp_path / "x.log")!r}), "x") as running:
    time.sleep(0.2)
    print(running.usage()["start_s"], running.usage()["wall_s"])
"""
    began = time.perf_counter()
    start, wall = child(code)
    assert 0.49 < start < time.perf_counter() - began
    assert 0.2 <= wall < time.perf_counter() - began - start + 0.02
    told = re.search(r"begun ([\d.]+) s ago", (tmp_path / "x.log").read_text())
    assert told and abs(float(told[1]) - start) < 0.011  # rounded to another digit


def test_where_the_system_does_not_tell_cpu_time_stands_for_the_start(monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(Path, "read_text", lambda *_, **__: "no such format")
    before = time.process_time()
    with run_job(tmp_path / "x.log", "x") as running:
        usage = running.usage()
    assert before <= usage["start_s"] + 0.001 and usage["start_s"] <= time.process_time() + 0.001
    assert usage["peak_mb"] > 10


def test_peak_memory_is_the_jobs_own_and_not_its_parents(tmp_path) -> None:
    """A process of 400 MB starts one that takes 100 MB for a moment."""
    inner = f"""
from pathlib import Path
from reconpatch.pipeline.job import run_job
with run_job(Path({str(tmp_path / "x.log")!r}), "x") as running:
    bytearray(b"1") * 100_000_000
    print(running.usage()["peak_mb"])
"""
    outer = f"""
import os, sys
held = bytearray(b"1") * 400_000_000
child = os.fork()
if not child:
    os.execv(sys.executable, [sys.executable, "-c", {inner!r}])
os.waitpid(child, 0)
"""
    (peak,) = child(outer)
    assert 95 < peak < 250


def test_a_job_ends_with_the_process_that_started_it(tmp_path) -> None:
    """A scheduler starts a job that would sleep for a minute, says its number, and is killed."""
    job_code = "import time; from reconpatch.pipeline.job import end_with_parent; end_with_parent(); print(flush=True)"
    scheduler_code = f"""
import os, signal, subprocess, sys
job = subprocess.Popen([sys.executable, "-c", {job_code + "; time.sleep(60)"!r}], stdout=subprocess.PIPE)
job.stdout.readline()
print(job.pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", scheduler_code], capture_output=True, text=True, check=False)
    assert done.returncode == -9
    for _ in range(100):
        if not psutil.pid_exists(int(done.stdout)) or psutil.Process(int(done.stdout)).status() == "zombie":
            break
        time.sleep(0.1)
    else:
        raise AssertionError("the job goes on")
