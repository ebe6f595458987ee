"""How long a plan's jobs take together: a greedy schedule on some cores, as Snakemake makes it, and what limits it."""

import heapq
from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from reconpatch.errors import ReconpatchError
from reconpatch.experiments.estimate import Estimate, Job, threads_of
from reconpatch.experiments.plan import Plan, Target, stage_name
from reconpatch.experiments.run import of_training
from reconpatch.experiments.stages import BY_RULE

K = TypeVar("K", bound=Hashable)


@dataclass(frozen=True)
class Task(Generic[K]):
    """A job to be scheduled: its seconds, what it takes of which resource, what must end before it begins."""

    seconds: float
    takes: Mapping[str, float]
    after: frozenset[K] = frozenset()
    priority: int = 0


@dataclass(frozen=True)
class Schedule(Generic[K]):
    """When every task begins and ends, in seconds."""

    begin: dict[K, float]
    end: dict[K, float]

    @property
    def wall(self) -> float:
        """Seconds until the last task ends."""
        return max(self.end.values(), default=0.0)


def simulate(tasks: Mapping[K, Task[K]], capacity: Mapping[str, float]) -> Schedule[K]:
    """Tasks by name, how much there is of every resource that is limited -> their greedy schedule.

    Whenever something ends, every task that is ready and fits begins, the highest priority first, then in the order
    given. Raises ReconpatchError for a task that never fits, comes after one that is not there, or after itself.
    """
    place = {name: n for n, name in enumerate(tasks)}
    followers: dict[K, list[K]] = defaultdict(list)
    for name, task in tasks.items():
        for resource, amount in task.takes.items():
            if amount > capacity.get(resource, amount):
                raise ReconpatchError(f"{name} takes {amount:g} of {resource}, there are {capacity[resource]:g}")
        for before in task.after:
            if before not in tasks:
                raise ReconpatchError(f"{name} comes after {before}, which is no task")
            followers[before].append(name)
    waits = {name: len(task.after) for name, task in tasks.items()}
    ready = sorted((-tasks[name].priority, place[name], name) for name, n in waits.items() if not n)
    free, now = dict(capacity), 0.0
    running: list[tuple[float, int, K]] = []
    begin: dict[K, float] = {}
    end: dict[K, float] = {}
    while ready or running:
        later = []
        for entry in ready:
            name = entry[2]
            takes = tasks[name].takes
            if any(amount > free.get(resource, amount) + 1e-9 for resource, amount in takes.items()):
                later.append(entry)
                continue
            for resource in takes.keys() & free.keys():
                free[resource] -= takes[resource]
            begin[name] = now
            heapq.heappush(running, (now + tasks[name].seconds, place[name], name))
        ready = later
        now = running[0][0]
        while running and running[0][0] == now:
            name = heapq.heappop(running)[2]
            end[name] = now
            for resource in tasks[name].takes.keys() & free.keys():
                free[resource] += tasks[name].takes[resource]
            for follower in followers[name]:
                waits[follower] -= 1
                if not waits[follower]:
                    ready.append((-tasks[follower].priority, place[follower], follower))
        ready.sort(key=lambda entry: entry[:2])
    if len(end) < len(tasks):
        raise ReconpatchError(f"{next(name for name in tasks if name not in end)} comes after itself")
    return Schedule(begin, end)


def critical_path(tasks: Mapping[K, Task[K]]) -> list[K]:
    """Tasks by name -> the chain of tasks, first to last, that takes longest however much there is of everything."""
    ends = simulate(tasks, {}).end
    path = [max(ends, key=ends.__getitem__)] if ends else []
    while path and (before := tasks[path[-1]].after):
        path.append(max(before, key=lambda name: (ends[name], str(name))))
    return path[::-1]


def dependencies(plan: Plan, jobs: Mapping[Job, object]) -> dict[Job, frozenset[Job]]:
    """Plan, its jobs as the estimate names them -> job -> the jobs whose files it reads.

    Figures but the photographs, and the report, are not there: seconds each, at the end.
    """
    found: dict[Job, frozenset[Job]] = {}
    for name, targets in plan.targets.items():
        for target in targets:
            for key in plan.members(name):
                found |= _of_run(plan, key, target) if key in plan.runs else _of_ensemble(plan, key, target)
        results = (_result(plan, key, target) for target in targets for key in plan.members(name))
        found[Job("make_table", name=name)] = frozenset(results)
        shown = plan.drawn(name, "gallery")[:1]
        found[Job("draw_gallery", name=name)] = frozenset(job for target in targets for job in _pictured(target, shown))
        for target in targets:
            drawn = _pictured(target, plan.drawn(name, "qualitative"))
            found[Job("draw_qualitative", *target, name)] = frozenset(drawn)
    return {job: found.get(job, frozenset()) for job in jobs}


def _result(plan: Plan, key: str, target: Target) -> Job:
    return Job("score_run" if key in plan.runs else "combine_ensemble", *target, key)


def _pictured(target: Target, runs: Sequence[str]) -> list[Job]:
    return [Job("index_category", *target), *(Job("score_run", *target, key) for key in runs)]


def _of_run(plan: Plan, key: str, target: Target) -> dict[Job, frozenset[Job]]:
    """The jobs behind a run on a category, each with those it reads from."""
    run = plan.runs[key]
    trained = of_training(run)
    index = Job("index_category", *target)
    masks = Job("read_masks", *target, stage_name(run, "masks"))
    tested, features = (Job("extract_features", *target, stage_name(side, "features")) for side in (run, trained))
    training = Job("train_representation", *target, stage_name(trained, "training"))
    bank = Job("select_coreset", *target, stage_name(trained, "bank"))
    learnt = frozenset({training}) if run.method == "reconpatch" else frozenset()
    return {
        **dict.fromkeys((masks, tested, features), frozenset({index})),
        training: frozenset({features}),
        bank: frozenset({features}) | learnt,
        Job("score_run", *target, key): frozenset({index, tested, masks, bank}) | learnt,
        Job("score_training", *target, key): frozenset({features, bank}),
    }


def _of_ensemble(plan: Plan, key: str, target: Target) -> dict[Job, frozenset[Job]]:
    combination = plan.ensembles[key]
    rules = ("score_run", "score_training") if combination.combine == "zscore" else ("score_run",)
    masks = Job("read_masks", *target, stage_name(plan.runs[combination.members[0]], "masks"))
    members = {Job(rule, *target, member) for rule in rules for member in combination.members}
    return {Job("combine_ensemble", *target, key): frozenset({Job("index_category", *target), masks, *members})}


def tasks_of(plan: Plan, estimate: Estimate, cores: int, overhead: float = 0.0) -> dict[Job, Task[Job]]:
    """Plan, its estimate, cores, seconds the workflow adds to a job -> tasks that take `cores` and `mem_mb`."""
    after = dependencies(plan, estimate.jobs)
    tasks = {}
    for job, need in estimate.jobs.items():
        threads = min(cores, threads_of(job.rule))
        takes = {"cores": float(threads), "mem_mb": float(need.mb)}
        seconds = estimate.times[job].wall(threads) + overhead
        tasks[job] = Task(seconds, takes, after[job], BY_RULE[job.rule].priority)
    return tasks
