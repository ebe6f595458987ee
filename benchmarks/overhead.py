"""What the workflow itself costs: `snakemake smoke` in a fresh folder, its time apart from the work of its jobs.

python benchmarks/overhead.py [--cores 2] [--keep FOLDER]

Prints JSON, in seconds:
    wall_s      the whole command
    planning_s  from the start of the command to the first job
    start_s     sum over jobs: from the start of the process to the start of its work, so its imports
    end_s       sum over jobs: from there being no work left to Snakemake noticing the end, and forking at the start
    body_s      sum over jobs: their work
    gaps_s      between jobs, when none is running
    closing_s   from the end of the last job to the end of the command
    overhead_s  the part of wall_s that is no work; overhead_share is it divided by wall_s

At an instant when n jobs run, w of which are at work, the overhead is 1 - w / n, and 1 when none runs; overhead_s is
the integral. Libraries loaded inside a job's work, as UMAP is, count as work.
"""

import argparse
import itertools
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).resolve().parents[1]
PARTS = ("Snakefile", "workflow", "configs", "profiles", "environment.yml")


@dataclass
class Job:
    """A job of the run, in seconds since its start."""

    rule: str
    begin: float
    log: Path = Path()
    end: float = 0.0
    start: float = 0.0  # from the start of the process to its work
    body: float = 0.0


def run(folder: Path, cores: int) -> tuple[list[Job], float]:
    """A fresh copy of the workflow -> (its jobs, seconds in all). Snakemake's lines are dated as they come."""
    for part in PARTS:
        copy = shutil.copytree if (ROOT / part).is_dir() else shutil.copy
        copy(ROOT / part, folder / part)
    env = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    env |= {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    command = [str(Path(sys.executable).parent / "snakemake"), "--cores", str(cores), "smoke"]
    began, jobs, shown, latest = time.perf_counter(), {}, [], Job("", 0)
    process = subprocess.Popen(
        command, cwd=folder, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, bufsize=1
    )
    for line in process.stdout or []:
        now = time.perf_counter() - began
        shown.append(line)
        if found := re.match(r"(?:local)?rule (\w+):", line):
            latest = Job(found[1], now)
        elif found := re.match(r"    log: (\S+)", line):
            latest.log = folder / found[1]
        elif found := re.match(r"    jobid: (\d+)", line):
            jobs[found[1]] = latest
        elif found := re.match(r"Finished jobid: (\d+)", line):
            jobs[found[1]].end = now
    if process.wait():
        sys.exit("".join(shown))
    wall = time.perf_counter() - began
    found = [job for job in jobs.values() if job.log != Path()]  # the target itself does nothing
    for job in found:
        text = job.log.read_text()
        job.start, job.body = (float(re.findall(rf"'{key}': ([0-9.]+)", text)[-1]) for key in ("start_s", "wall_s"))
    return found, wall


def overhead(jobs: Sequence[Job], wall: float) -> float:
    """(jobs, seconds in all) -> seconds that are no work: the integral of 1 - jobs at work / jobs running."""
    edges = sorted({0.0, wall, *(t for j in jobs for t in (j.begin, j.end, j.begin + j.start, _done(j)))})
    total = 0.0
    for low, high in itertools.pairwise(edges):
        middle = (low + high) / 2
        running = [job for job in jobs if job.begin <= middle < job.end]
        working = sum(job.begin + job.start <= middle < _done(job) for job in running)
        total += (high - low) * (1 - working / len(running) if running else 1)
    return total


def _done(job: Job) -> float:
    return min(job.begin + job.start + job.body, job.end)


def idle(jobs: Sequence[Job]) -> float:
    """Seconds between the first and the last job when none was running."""
    gaps, reached = 0.0, min(job.begin for job in jobs)
    for job in sorted(jobs, key=lambda job: job.begin):
        gaps += max(0.0, job.begin - reached)
        reached = max(reached, job.end)
    return gaps


def main() -> None:
    """Entry point of the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--keep", type=Path, help="run in this new folder and keep it")
    arguments = parser.parse_args()
    with TemporaryDirectory() as scratch:
        folder = arguments.keep or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        jobs, wall = run(folder.resolve(), arguments.cores)
    none = overhead(jobs, wall)
    sums = {
        "wall_s": wall,
        "planning_s": min(job.begin for job in jobs),
        "start_s": sum(job.start for job in jobs),
        "end_s": sum(job.end - job.begin - job.start - job.body for job in jobs),
        "body_s": sum(job.body for job in jobs),
        "gaps_s": idle(jobs),
        "closing_s": wall - max(job.end for job in jobs),
        "overhead_s": none,
    }
    by_rule: dict[str, list[float]] = {}
    for job in jobs:
        by_rule.setdefault(job.rule, []).append(round(job.start, 2))
    shown = {key: round(value, 2) for key, value in sums.items()}
    print(json.dumps(shown | {"overhead_share": round(none / wall, 3), "start_s_by_rule": by_rule}, indent=1))


if __name__ == "__main__":
    main()
