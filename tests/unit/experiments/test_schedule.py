import itertools
import re
from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from reconpatch.errors import ReconpatchError
from reconpatch.experiments.checks import check_backbones
from reconpatch.experiments.config import read_config
from reconpatch.experiments.estimate import Job, estimate
from reconpatch.experiments.plan import make_plan
from reconpatch.experiments.schedule import Task, critical_path, dependencies, simulate, tasks_of

ROOT = Path(__file__).parents[3]
Graph = dict[int, Task[int]]


@st.composite
def graphs(draw: st.DrawFn, most: int = 12, cores: int = 3) -> Graph:
    """Tasks that come after earlier ones, of up to some cores each."""
    count = draw(st.integers(1, most))
    return {
        n: Task(
            float(draw(st.integers(1, 9))),
            {"cores": draw(st.integers(1, cores))},
            frozenset(draw(st.sets(st.integers(0, n - 1), max_size=3))) if n else frozenset(),
            draw(st.integers(0, 2)),
        )
        for n in range(count)
    }


def longest_chain(graph: Mapping[int, Task[int]], name: int) -> float:
    return graph[name].seconds + max((longest_chain(graph, before) for before in graph[name].after), default=0.0)


def work(graph: Graph) -> float:
    return sum(task.seconds * task.takes["cores"] for task in graph.values())


@given(graphs(), st.integers(3, 5))
def test_a_schedule_keeps_to_order_and_capacity(graph: Graph, cores: int) -> None:
    found = simulate(graph, {"cores": cores})
    for name, task in graph.items():
        assert found.end[name] == found.begin[name] + task.seconds
        assert all(found.end[before] <= found.begin[name] for before in task.after)
    for now in found.begin.values():
        running = [n for n in graph if found.begin[n] <= now < found.end[n]]
        assert sum(graph[n].takes["cores"] for n in running) <= cores


@given(graphs(cores=1), st.integers(1, 4))
def test_bounds_of_graham(graph: Graph, cores: int) -> None:
    """Greedy: never below the longest chain or the work a core, never above work a core and longest chain together."""
    wall = simulate(graph, {"cores": cores}).wall
    chain = max(longest_chain(graph, name) for name in graph)
    assert max(chain, work(graph) / cores) <= wall <= work(graph) / cores + chain * (1 - 1 / cores) + 1e-9


def shortest(graph: Graph, cores: int) -> float:
    """The least wall time there is: of all orders, each task beginning as early as what it comes after and cores let
    it, no task before one earlier in the order.
    """
    best = float("inf")
    for order in itertools.permutations(graph):
        end: dict[int, float] = {}
        free = [0.0] * cores
        for name in order:
            if not graph[name].after <= end.keys():
                break
            core = free.index(min(free))
            begin = max([free[core], *(end[before] for before in graph[name].after)])
            free[core] = end[name] = begin + graph[name].seconds
        else:
            best = min(best, max(free))
    return best


@given(graphs(most=6, cores=1), st.integers(1, 3))
def test_no_schedule_is_shorter_than_the_shortest(graph: Graph, cores: int) -> None:
    least, wall = shortest(graph, cores), simulate(graph, {"cores": cores}).wall
    assert least <= wall <= least * (2 - 1 / cores) + 1e-9
    if cores == 1:
        assert wall == least


@given(graphs(most=9))
def test_without_limits_the_critical_path_is_all(graph: Graph) -> None:
    path = critical_path(graph)
    assert all(before in graph[after].after for before, after in itertools.pairwise(path))
    assert sum(graph[n].seconds for n in path) == simulate(graph, {}).wall
    assert simulate(graph, {}).wall == max(longest_chain(graph, name) for name in graph)


def test_priority_then_order_decide() -> None:
    one = {"cores": 1}
    graph = {"a": Task(1, one), "b": Task(1, one), "c": Task(1, one, priority=1)}
    assert simulate(graph, one).begin == {"c": 0, "a": 1, "b": 2}


def test_a_task_of_two_cores_waits_while_one_is_taken() -> None:
    """What fits goes first meanwhile, though it comes later."""
    graph = {"long": Task(9, {"cores": 1}), "wide": Task(1, {"cores": 2}), "short": Task(2, {"cores": 1})}
    assert simulate(graph, {"cores": 2}).begin == {"long": 0, "short": 0, "wide": 9}


def test_what_cannot_be_scheduled_is_said() -> None:
    one = {"cores": 1}
    with pytest.raises(ReconpatchError, match="a takes 2 of cores, there are 1"):
        simulate({"a": Task(1, {"cores": 2})}, one)
    with pytest.raises(ReconpatchError, match="a comes after b, which is no task"):
        simulate({"a": Task(1, one, frozenset({"b"}))}, one)
    with pytest.raises(ReconpatchError, match="comes after itself"):
        simulate({"a": Task(1, one, frozenset({"b"})), "b": Task(1, one, frozenset({"a"}))}, one)
    assert simulate({}, one).wall == 0 and critical_path({}) == []


@pytest.fixture
def planned(monkeypatch):
    """The plan of the smoke run, its estimate."""
    monkeypatch.chdir(ROOT)
    plan = make_plan(read_config(yaml.safe_load((ROOT / "configs/default.yaml").read_text())), ["smoke"])
    return plan, estimate(plan, check_backbones(plan, Path("none"), ROOT / "workflow/backbones.json"))


def test_jobs_come_after_those_whose_files_they_read(planned) -> None:
    """The smoke run has one category, two trainings, four banks, eight runs; a training reads features, and so on."""
    plan, found = planned
    after = dependencies(plan, found.jobs)
    assert after.keys() == found.jobs.keys()
    rules = {job: sorted({before.rule for before in befores}) for job, befores in after.items()}
    for job, names in rules.items():
        learnt = ["train_representation"] if "reconpatch" in job.name or "method" not in job.name else []
        expected = {
            "index_category": [],
            "extract_features": ["index_category"],
            "read_masks": ["index_category"],
            "train_representation": ["extract_features"],
            "select_coreset": ["extract_features", *learnt] if "patchcore" not in job.name else ["extract_features"],
            "score_run": sorted(["extract_features", "index_category", "read_masks", "select_coreset", *learnt]),
            "make_table": ["score_run"],
            "draw_qualitative": ["index_category", "score_run"],
        }
        assert names == expected[job.rule]
    assert len(after[Job("make_table", name="smoke")]) == 8
    assert len(after[Job("draw_qualitative", "sample", "brick", "smoke")]) == 3
    for job, befores in after.items():
        if job.rule in ("score_run", "select_coreset"):  # its own bank and training, not those of another dimension
            dims = {
                re.match(r"\d+", name.split("dim=")[1])[0]
                for name in (b.name for b in (job, *befores))
                if "dim=" in name
            }
            assert len(dims) == 1


def test_tasks_take_what_the_rules_say(planned) -> None:
    plan, found = planned
    tasks = tasks_of(plan, found, 8, overhead=0.5)
    for job, task in tasks.items():
        assert task.takes["cores"] == (2 if job.rule in ("index_category", "extract_features") else 1)
        assert task.takes["mem_mb"] == found.mb(job)
        assert task.seconds == pytest.approx(found.seconds(job) + 0.5)
    alone = tasks_of(plan, found, 1)
    assert all(task.takes["cores"] == 1 for task in alone.values())
    assert simulate(alone, {"cores": 1}).wall == pytest.approx(sum(time.cpu for time in found.times.values()))
