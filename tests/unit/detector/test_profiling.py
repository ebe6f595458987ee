from collections import Counter
from dataclasses import dataclass, field

import numpy as np
import pytest

from reconpatch.detector import profiling
from reconpatch.detector.profiling import SAMPLE, lines, profile


@dataclass
class Clocked:
    """Stands for a detector whose n-th call takes n ms, by a clock of its own."""

    clock: list[float]
    calls: list[int] = field(default_factory=list)
    threads: int = 2
    batch: int = 8
    seconds: Counter = field(default_factory=lambda: Counter({"network": 2.0, "search": 1.0}))
    backbone = type("Backbone", (), {"device": "cpu"})

    def __call__(self, sources, unreadable=None):
        assert self.batch == 1 and len(sources) == 1
        self.calls.append(sources[0])
        self.clock[0] += len(self.calls) / 1000
        self.seconds["network"] += 1.0
        if sources[0] == "broken":
            unreadable(0, None)
            return
        yield sources[0]


@pytest.fixture
def clocked(monkeypatch) -> Clocked:
    now = [50.0]
    monkeypatch.setattr(profiling.time, "perf_counter", lambda: now[0])
    return Clocked(now)


def test_numbers_against_arithmetic(clocked) -> None:
    found = profile(clocked, list(range(5)), 4.0, 10)
    assert found["images_per_second"] == 2.5 and (found["threads"], found["batch"], found["device"]) == (2, 8, "cpu")
    assert found["parts_s"] == {"network": 2.0, "search": 1.0, "pictures and files": 1.0}
    times = [2.0, 3.0, 4.0, 5.0, 6.0]  # ms; the first call warms up
    want = {"images": 5, "median": 4.0, "95 %": round(float(np.quantile(times, 0.95)), 1)}
    assert found["latency_ms"] == want and clocked.calls == [0, 0, 1, 2, 3, 4]
    said = lines(found)
    assert said[0] == "throughput: 2.50 images/s on cpu, 2 threads, batches of 8 (10 images in 4.0 s)"
    assert said[-1] == "latency, one image at a time: median 4.0 ms, 95 % within 5.8 ms (5 images)"


def test_the_search_index_is_not_built_again(clocked, monkeypatch) -> None:
    """What a detector makes when it is made stays; its own seconds and batch are left as they were."""
    monkeypatch.setattr(Clocked, "__post_init__", lambda self: pytest.fail("made again"), raising=False)
    before = Counter(clocked.seconds)
    profile(clocked, list(range(3)), 1.0, 3)
    assert clocked.seconds == before and clocked.batch == 8


def test_no_more_than_a_sample_is_timed_and_what_is_unreadable_is_not(clocked) -> None:
    found = profile(clocked, ["a", "broken", *map(str, range(100))], 1.0, 101)
    assert len(clocked.calls) == SAMPLE + 1 and found["latency_ms"]["images"] == SAMPLE - 1


def test_with_nothing_readable(clocked) -> None:
    found = profile(clocked, ["broken"], 1.0, 0)
    assert "latency_ms" not in found and found["images_per_second"] == 0 and len(lines(found)) == 4
