"""How long a plan takes on some workers, as docs/scaling.md shows it; and predictions beside runs that were measured.

python benchmarks/scaling.py [--configfile FILE ...] [--workers 1 8 64] [--figure FILE] [EXPERIMENT ...]
python benchmarks/scaling.py --measured FOLDER ... [--configfile FILE ...] EXPERIMENT

The first prints tables of a plan's predicted work and wall times. The second compares: each FOLDER is a copy of the
workflow in which one call of Snakemake made the experiment. Its logs say what each job took; the schedule of these,
simulated on the cores of every folder, is set beside the wall times, which begin with Snakemake's log.
"""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from replayed import JOB, compare, measured
from schedule import Schedule, Task, critical_path, simulate, tasks_of

from reconpatch.experiments.checks import check_backbones
from reconpatch.experiments.costs import GPU_SPEED
from reconpatch.experiments.networks import known_networks
from reconpatch.experiments.plan import load_plan
from reconpatch.experiments.resources import Estimate, Job, estimate
from reconpatch.experiments.stages import BY_RULE

PLANNING = 12.0  # s of Snakemake before the first of 3,067 jobs
BESIDE = 8  # cores beside each GPU


class Scenario(NamedTuple):
    """A way to run a plan: its name, cores of an extraction if not as the rules say, whether extractions begin in the
    order of their chains among all other jobs, with GPUs.
    """

    name: str
    threads: int = 0
    early: bool = False
    gpu: bool = False


SCENARIOS = (
    Scenario("as the rules are"),
    Scenario("extraction on one core", threads=1),
    Scenario("extraction on two cores", threads=2),
    Scenario("extraction not last", early=True),
    Scenario(f"a GPU of {GPU_SPEED:g} cores (assumed) and {BESIDE} cores a worker", gpu=True),
)


@dataclass(frozen=True)
class Outcome:
    """What a simulated schedule comes to: hours, share of the cores that work, GB at once."""

    wall: float
    path: float
    used: float
    features: float
    memory: float


def variant(needs: Estimate, workers: int, scenario: Scenario) -> tuple[dict[Job, Task[Job]], dict[str, float]]:
    """Estimate of a plan, workers, how they are used -> tasks and what there is of every resource."""
    cores = workers * (BESIDE if scenario.gpu else 1)
    tasks = tasks_of(needs, cores, JOB)
    capacity = {"cores": float(cores)} | ({"gpu": float(workers)} if scenario.gpu else {})
    for job, task in tasks.items():
        time = needs.jobs[job].time
        if scenario.gpu and time.dense:
            threads = min(cores, BY_RULE[job.rule].threads)
            takes = {**task.takes, "cores": float(threads), "gpu": 1.0}
            task = replace(task, seconds=time.on_gpu(threads) + JOB, takes=takes)
        elif job.rule == "extract_features" and scenario.threads:
            threads = min(cores, scenario.threads)
            task = replace(task, seconds=time.wall(threads) + JOB, takes={**task.takes, "cores": float(threads)})
        tasks[job] = replace(task, priority=needs.remaining[job]) if scenario.early else task
    return tasks, capacity


def most_at_once(spans: Sequence[tuple[float, float, float]]) -> float:
    """(begin, end, amount) -> the most of it at any instant; what ends when another begins is gone."""
    total = most = 0.0
    for _, change in sorted((at, change) for begin, end, n in spans for at, change in ((begin, n), (end, -n))):
        total += change
        most = max(most, total)
    return most


def outcome(tasks: Mapping[Job, Task[Job]], capacity: Mapping[str, float], gb: Mapping[Job, float]) -> Outcome:
    """Tasks, resources, GB of features -> what their schedule comes to."""
    found: Schedule[Job] = simulate(tasks, capacity)
    last = {job: found.end[job] for job in gb}  # a set of features goes when its last reader is done
    for job, task in tasks.items():
        for before in task.after & gb.keys():
            last[before] = max(last[before], found.end[job])
    path = sum(tasks[job].seconds for job in critical_path(tasks))
    used = sum(task.seconds * task.takes["cores"] for task in tasks.values()) / capacity["cores"] / found.wall
    features = most_at_once([(found.begin[job], last[job], size) for job, size in gb.items()])
    memory = most_at_once(
        [(found.begin[job], found.end[job], task.takes["mem_mb"] / 1e3) for job, task in tasks.items()]
    )
    return Outcome((found.wall + PLANNING) / 3600, path / 3600, used, features, memory)


def hours(seconds: float) -> str:
    """Seconds as a table shows them."""
    return (
        f"{seconds / 3600:.1f} h"
        if seconds >= 3600
        else f"{seconds / 60:.1f} min"
        if seconds >= 60
        else f"{seconds:.1f} s"
    )


def work_table(needs: Estimate) -> None:
    """Print every rule's jobs, work and longest job."""
    counts = {rule: n for rule, (n, _) in needs.largest().items()}
    longest = sorted(needs.longest().items(), key=lambda item: -item[1][0])
    whole = sum(total for _, (total, _) in longest)
    print("| rule | jobs | core hours | share | dense share | longest job | of |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for rule, (total, job) in longest:
        dense = sum(n.time.dense for j, n in needs.jobs.items() if j.rule == rule)
        print(
            f"| {rule} | {counts[rule]:,} | {total / 3600:.2f} | {total / whole:.1%} | {dense / total:.0%} "
            f"| {hours(needs.seconds(job))} | {'/'.join(filter(None, job[1:3])) or job.name} |"
        )
    print(f"| all | {sum(counts.values()):,} | {whole / 3600:.1f} | 100% | | | |\n")


def wall_table(needs: Estimate, gb: Mapping[Job, float], workers: Sequence[int]) -> dict[str, list[Outcome]]:
    """Print wall times on some workers in every scenario -> them."""
    print("| | workers | wall, h | critical path, h | cores at work | features at once, GB | memory at once, GB |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    found: dict[str, list[Outcome]] = {}
    for scenario in SCENARIOS:
        for n in workers:
            o = outcome(*variant(needs, n, scenario), gb)
            found.setdefault(scenario.name, []).append(o)
            print(
                f"| {scenario.name} | {n} | {o.wall:.1f} | {o.path:.1f} | {o.used:.0%} | {o.features:.0f} "
                f"| {o.memory:.0f} |"
            )
    print()
    return found


def gpu_hours(needs: Estimate) -> None:
    """Print for how long jobs hold a GPU, whatever the workers: with their imports and what the processor does."""
    tasks, _ = variant(needs, 1, next(s for s in SCENARIOS if s.gpu))
    held = sum(task.seconds for task in tasks.values() if "gpu" in task.takes)
    dense = sum(needs.jobs[job].time.dense for job in tasks) / GPU_SPEED
    rest = sum(task.seconds * task.takes["cores"] for task in tasks.values() if "gpu" not in task.takes)
    print(f"GPU (assumed): held {held / 3600:.1f} h, of which it works {dense / 3600:.1f} h")
    print(f"jobs without it: {rest / 3600:.1f} core hours\n")


def stragglers(needs: Estimate, workers: int) -> None:
    """Print the jobs that end last, and how many cores work meanwhile."""
    tasks, capacity = variant(needs, workers, SCENARIOS[0])
    found = simulate(tasks, capacity)
    for share in (0.5, 0.75, 0.9):
        now = share * found.wall
        busy = sum(t.takes["cores"] for j, t in tasks.items() if found.begin[j] <= now < found.end[j])
        print(f"at {share:.0%} of {found.wall / 3600:.1f} h on {workers} cores: {busy:.0f} at work")
    print("longest chain: " + ", ".join(f"{j.rule} {hours(tasks[j].seconds)}" for j in critical_path(tasks)) + "\n")


def draw(found: Mapping[str, Sequence[Outcome]], workers: Sequence[int], file: Path) -> None:
    """Draw wall times over workers."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "scaling"
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(6.4, 4.6), layout="constrained")
    styles = ("o-", "s--", "^:", "v--", "d-.")
    for order, ((name, outcomes), style) in enumerate(zip(found.items(), styles, strict=False)):  # the first on top
        axes.loglog(workers, [o.wall for o in outcomes], style, label=name, markersize=4, zorder=9 - order)
    first = next(iter(found.values()))[0]
    axes.loglog(workers, [first.wall * workers[0] / n for n in workers], color="0.7", lw=1, label="all cores at work")
    axes.set(xlabel="workers", ylabel="predicted wall time, h", title="The whole plan")
    axes.set_xticks(workers, list(map(str, workers)))
    axes.minorticks_off()
    axes.grid(color="0.9")
    figure.legend(loc="outside lower center", ncols=2, fontsize="small", frameon=False)
    figure.savefig(file, metadata={"Date": None})


def main() -> None:
    """Entry point of the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("experiments", nargs="*")
    parser.add_argument("--configfile", type=Path, action="append", default=[])
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4, 8, 16, 32, 64])
    parser.add_argument("--figure", type=Path)
    parser.add_argument("--measured", type=Path, action="append", default=[])
    given = parser.parse_args()
    known = known_networks()
    plan = load_plan(given.configfile, given.experiments, known)
    needs = estimate(plan, check_backbones(plan, known))
    if given.measured:
        return compare(needs, [measured(folder) for folder in given.measured])
    work_table(needs)
    found = wall_table(needs, {job: size / 1e9 for job, size in needs.features.items()}, given.workers)
    gpu_hours(needs)
    stragglers(needs, max(given.workers))
    if given.figure:
        draw(found, given.workers, given.figure)
    return None


if __name__ == "__main__":
    main()
