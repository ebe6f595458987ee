import re
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from reconpatch.errors import ReconpatchError
from reconpatch.pipeline.job import run_job

JOB = """
import os, signal, subprocess, sys, time
from pathlib import Path
from reconpatch.pipeline.job import end_with_parent, run_job
log = Path(sys.argv[1])
"""


def python(code: str, log: Path) -> subprocess.CompletedProcess[str]:
    """Run a Python process that has the names of JOB."""
    return subprocess.run([sys.executable, "-c", JOB + code, log], capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (ReconpatchError("coreset: 2 is too much"), "error: coreset: 2 is too much"),
        (FileNotFoundError(2, "No such file or directory", "a/train.npy"), "error: a/train.npy: No such file"),
        (MemoryError("3 GiB for an array"), "error: out of memory (3 GiB for an array); `reconpatch plan` shows"),
    ],
)
def test_an_error_of_the_users_ends_the_job_with_a_message_and_without_traceback(tmp_path, error, message) -> None:
    log = tmp_path / "logs/x.log"
    with pytest.raises(SystemExit) as caught, run_job(log, "x"):
        raise error
    assert caught.value.code == 1
    assert message in log.read_text() and "Traceback" not in log.read_text()


def test_any_other_error_leaves_its_traceback_in_the_log(tmp_path) -> None:
    assert python("with run_job(log, 'x'):\n    1 / 0", tmp_path / "x.log").returncode == 1
    assert "Traceback" in (text := (tmp_path / "x.log").read_text()) and "ZeroDivisionError" in text


def test_the_message_goes_to_the_terminal_if_the_disk_is_full(capsys) -> None:
    with pytest.raises(SystemExit), run_job(Path("/dev/full"), "x"):
        raise ReconpatchError("coreset: 2 is too much")
    assert "error: coreset: 2 is too much" in capsys.readouterr().err


def test_the_job_begins_when_imports_are_done(tmp_path) -> None:
    code = "time.sleep(0.5)  # stands for imports\nwith run_job(log, 'x') as job:\n    job.progress('images', 5, 10)\n"
    code += "    time.sleep(0.2)\n    print(job.usage()['start_s'], job.usage()['wall_s'])"
    began = time.perf_counter()
    start, wall = map(float, python(code, tmp_path / "x.log").stdout.split())
    assert start > 0.49 and wall >= 0.2 and start + wall < time.perf_counter() - began + 0.02
    log = (tmp_path / "x.log").read_text()
    assert "images 5/10" in log and "left" in log
    told = re.search(r"begun ([\d.]+) s ago", log)
    assert told and abs(float(told[1]) - start) < 0.011  # rounded to another digit


def test_peak_memory_is_the_jobs_own_and_not_its_parents(tmp_path) -> None:
    """A process of 400 MB becomes the parent of one that takes 100 MB for a moment."""
    inner = "with run_job(log, 'x') as job:\n    bytearray(b'1') * 100_000_000\n    print(job.usage()['peak_mb'])"
    outer = f"""
held = bytearray(b"1") * 400_000_000
if not os.fork():
    os.execv(sys.executable, [sys.executable, "-c", {JOB + inner!r}, log])
os.wait()
"""
    assert 95 < float(python(outer, tmp_path / "x.log").stdout) < 250


@pytest.mark.parametrize(("work", "code"), [("pass", 0), ("1 / 0", 1), ("raise MemoryError", 1)])
def test_a_script_of_the_workflow_ends_with_its_job(work, code, tmp_path) -> None:
    """What Python does at its end takes long with large libraries, and is left out where the job was done. What was
    printed is not lost.
    """
    script, log = tmp_path / ".snakemake/scripts/x.py", tmp_path / "x.log"
    script.parent.mkdir(parents=True)
    ending = "import atexit\natexit.register(print, 'ended slowly')\nprint('worked')\n"
    script.write_text(f"{JOB}{ending}with run_job(log, 'x'):\n    {work}\nprint('not reached')\n")
    done = subprocess.run([sys.executable, script, log], stdout=subprocess.PIPE, text=True, check=False)
    assert done.returncode == code and ("done: {" in log.read_text()) == (code == 0)
    assert done.stdout == ("worked\nended slowly\n" if code else "worked\n")


def test_a_job_ends_with_the_process_that_started_it(tmp_path) -> None:
    """A scheduler starts a job that would sleep for a minute, prints its number, and is killed."""
    job = JOB + "end_with_parent(); print(flush=True); time.sleep(60)"
    scheduler = f"""
job = subprocess.Popen([sys.executable, "-c", {job!r}, log], stdout=subprocess.PIPE)
job.stdout.readline()
print(job.pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    done = python(scheduler, tmp_path / "x.log")
    assert done.returncode == -9
    for _ in range(100):
        if not psutil.pid_exists(int(done.stdout)) or psutil.Process(int(done.stdout)).status() == "zombie":
            break
        time.sleep(0.1)
    else:
        raise AssertionError("the job goes on")
