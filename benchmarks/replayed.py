"""Finished runs beside their predictions: what their logs say, and the schedule of the jobs these timed."""

import ast
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from schedule import Task, simulate, tasks_of

from reconpatch.experiments.resources import LONGEST, Estimate, Job
from reconpatch.experiments.stages import BY_RULE

JOB = 0.35  # s of Snakemake around each job: starting its process, and noticing its end


class Run(NamedTuple):
    """A finished run: its cores, wall time in seconds, and of every log its rule and (start, work, CPU) seconds."""

    folder: Path
    cores: int
    wall: float
    logs: dict[str, tuple[float, float, float]]


def measured(folder: Path) -> Run:
    """Folder of a run -> what its logs say."""
    text = sorted((folder / ".snakemake/log").glob("*.log"))[-1].read_text()
    h, m, s = re.findall(r"Elapsed time: (\d+):(\d+):([\d.]+)", text)[-1]
    logs = {}
    for file in (folder / "logs").rglob("*.log"):
        used = ast.literal_eval(re.findall(r"done: (\{.*\})", file.read_text())[-1])
        logs[file.relative_to(folder / "logs").with_suffix("").as_posix()] = (
            used["start_s"],
            used["wall_s"],
            used["cpu_s"],
        )
    return Run(
        folder, int(re.findall(r"Provided cores: (\d+)", text)[-1]), int(h) * 3600 + int(m) * 60 + float(s), logs
    )


def log_of(job: Job) -> str:
    """A job -> its log's name."""
    if job.rule.startswith("draw"):
        return "/".join(filter(None, (job.rule, job.name, *job[1:3])))
    return "/".join(filter(None, job))


def compare(needs: Estimate, runs: Sequence[Run]) -> None:
    """Print predicted and measured times of the first run's jobs by rule, and of all runs the wall times."""
    first = runs[0]
    rows: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for job, need in needs.jobs.items():
        rows[job.rule].append((need.time.cpu, first.logs[log_of(job)][2]))
    print(f"{first.folder.name}: CPU seconds of all jobs of a rule, and the ratio of the single jobs\n")
    print("| rule | jobs | predicted | measured | least and largest ratio |\n| --- | --- | --- | --- | --- |")
    for rule, pairs in rows.items():
        ratios = [p / m for p, m in pairs]
        sums = [sum(side) for side in zip(*pairs, strict=True)]
        print(f"| {rule} | {len(pairs)} | {sums[0]:.1f} | {sums[1]:.1f} | {min(ratios):.2f} to {max(ratios):.2f} |")
    print("\n| run | cores | wall, s | simulated from the jobs of | s | ratio |\n| --- | --- | --- | --- | --- | --- |")
    for run in runs:
        simulated = {other.folder.name: simulate(*_replayed(needs, other, run.cores)).wall for other in runs}
        simulated["the predictions"] = simulate(*_replayed(needs, first, run.cores, predicted=True)).wall
        for name, wall in simulated.items():
            print(f"| {run.folder.name} | {run.cores} | {run.wall:.1f} | {name} | {wall:.1f} | {wall / run.wall:.2f} |")


def _replayed(
    needs: Estimate, run: Run, cores: int, predicted: bool = False
) -> tuple[dict[Job, Task[Job]], dict[str, float]]:
    """Tasks of the plan as a run's logs timed them, or as predicted, on some cores; with jobs of which only the run
    knows.
    """
    tasks = tasks_of(needs, cores, JOB)
    for job, task in () if predicted else tasks.items():
        start, work, _ = run.logs[log_of(job)]
        shared = needs.threads(BY_RULE[job.rule], cores) / needs.threads(BY_RULE[job.rule], run.cores)
        tasks[job] = replace(task, seconds=start + work / shared + JOB)
    results = frozenset(job for job in tasks if job.rule in ("score_run", "combine_ensemble"))
    for name in run.logs.keys() - {log_of(job) for job in tasks}:
        start, work, _ = run.logs[name]
        early = name.startswith(("draw_sample", "fetch_weights", "plan"))
        after = frozenset() if early else frozenset(tasks) if name.startswith("report") else results
        tasks[Job(name)] = Task(start + work + JOB, {"cores": 1.0}, after, LONGEST * (3 if early else 1))
    return tasks, {"cores": float(cores)}
