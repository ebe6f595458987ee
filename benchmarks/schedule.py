"""How long a plan's jobs take together: a greedy schedule on some cores, as Snakemake makes it, and what limits it."""

import heapq
from collections import defaultdict
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from reconpatch.errors import ReconpatchError
from reconpatch.experiments.resources import Estimate, Job
from reconpatch.experiments.stages import BY_RULE

K = TypeVar("K", bound=Hashable)


@dataclass(frozen=True)
class Task(Generic[K]):
    """A job to be scheduled: its seconds, what it takes of which resource, what must end before it begins."""

    seconds: float
    takes: Mapping[str, float]
    after: frozenset[K] = frozenset()
    priority: float = 0


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


def tasks_of(estimate: Estimate, cores: int, overhead: float = 0.0) -> dict[Job, Task[Job]]:
    """Estimate of a plan, cores, seconds the workflow adds to a job -> tasks that take `cores` and `mem_mb`, in the
    order and with the threads of the rules.
    """
    tasks = {}
    for job, need in estimate.jobs.items():
        threads = estimate.threads(BY_RULE[job.rule], cores)
        takes = {"cores": float(threads), "mem_mb": float(need.memory.mb)}
        tasks[job] = Task(need.time.wall(threads) + overhead, takes, need.after, estimate.priority(job))
    return tasks
