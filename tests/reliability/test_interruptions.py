"""Runs killed at random moments, then resumed as the README says: the same bytes as a run left alone, on one core, of
the same data elsewhere.
"""

import base64
import os
import shutil
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import psutil
from running import SNAKEMAKE, results, snakemake, tiny

# What is killed: the whole process group, the scheduler alone (its jobs must end, too), or one job.
VICTIMS = ("scheduler", "all", "job", "scheduler")


def finished(where: Path) -> dict[Path, int]:
    """Records that Snakemake counts as finished, with their modification times in ns."""
    marks = (where / ".snakemake/incomplete").rglob("*")
    marked = {base64.urlsafe_b64decode(m.name).decode() for m in marks if m.is_file() and m.name[0] != "@"}
    records = (where / "results/runs").rglob("record.json")
    pairs = [
        (r, {str((r.parent / name).relative_to(where)) for name in (r.name, "scores.safetensors")}) for r in records
    ]
    return {record: record.stat().st_mtime_ns for record, files in pairs if not files & marked}


def kill(scheduler: subprocess.Popen, victim: str, rng: np.random.Generator) -> bool:
    """Kill with SIGKILL and wait until the scheduler is gone. Return whether there was anything to kill."""
    if scheduler.poll() is not None:
        return False
    jobs = []
    for child in psutil.Process(scheduler.pid).children(recursive=True):
        with suppress(psutil.Error):  # it may be gone meanwhile
            jobs += [child] if any(".snakemake/scripts/" in part for part in child.cmdline()) else []
    if victim == "job":
        with suppress(psutil.NoSuchProcess, IndexError):
            jobs[rng.integers(len(jobs) or 1)].kill()
        return scheduler.wait() != 0  # the job may have ended before
    if victim == "scheduler":
        scheduler.kill()
    else:
        os.killpg(scheduler.pid, signal.SIGKILL)
    scheduler.wait()
    assert not psutil.wait_procs(jobs, timeout=60)[1], "jobs outlive their scheduler"
    return True


def test_killed_runs_resume_to_the_same_bytes(checkout: Path, mvtec: Path, tmp_path: Path) -> None:
    figures = {kind: {} for kind in ("histogram", "qualitative")}
    axes = {"method": ["patchcore", "reconpatch"]}
    began = time.perf_counter()
    snakemake(checkout, "--cores", "1", *tiny(checkout, "mvtec_ad", mvtec, axes, figures=figures), "tiny")
    whole = time.perf_counter() - began
    expected = results(checkout)
    assert sum(name.endswith("record.json") for name in expected) == 2 and len(expected) > 15
    for file in sorted((file for file in mvtec.rglob("*") if file.is_file()), reverse=True):  # listed in another order
        copy = tmp_path / "elsewhere" / file.relative_to(mvtec)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, copy)
    command = ["--cores", "2", *tiny(checkout, "mvtec_ad", tmp_path / "elsewhere", axes, figures=figures), "tiny"]
    rng = np.random.default_rng(0)
    victims, kept, killed = list(VICTIMS), {}, []
    (checkout / "results").rename(tmp_path / "undisturbed")
    for attempt in range(4 * len(VICTIMS)):
        if not victims:
            break
        with open(tmp_path / "output.txt", "wb") as output:
            where = {"cwd": checkout, "stdout": output, "stderr": output, "start_new_session": True}
            run = subprocess.Popen([*SNAKEMAKE, *command], **where)
        time.sleep(whole * rng.uniform(0.1, 0.4))
        if kill(run, victims[0], rng):
            killed.append(victims.pop(0))
        elif run.returncode == 0:  # it was faster: begin anew
            assert results(checkout) == expected
            assert kept.items() <= finished(checkout).items()
            (checkout / "results").rename(tmp_path / f"finished {attempt}")
            kept = {}
            continue
        snakemake(checkout, "--unlock")
        now = finished(checkout)
        assert kept.items() <= now.items()
        kept |= now
    assert killed == list(VICTIMS)
    snakemake(checkout, *command)
    assert kept.items() <= finished(checkout).items()
    assert results(checkout) == expected
    assert "Nothing to be done" in snakemake(checkout, "-n", *command)
