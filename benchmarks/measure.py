"""Time and memory of one call in a process of its own. Standard library only: peers' environments run it too."""

import argparse
import gc
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from threading import Event, Thread
from typing import Any, TypeVar

T = TypeVar("T")
COSTS = ("wall_s", "cpu_s")


def threads() -> int:
    """Threads that every library may use here: bench.py sets the variable for all of them."""
    return int(os.environ.get("OMP_NUM_THREADS", "1"))


def status_mb(field: str) -> float:
    """Field of this process's status, as VmHWM -> MiB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == field:
            return int(value.split()[0]) / 1024
    raise KeyError(field)


def cpu_s() -> float:
    """CPU seconds of this process, all its threads, and the processes it has waited for."""
    used = os.times()
    return time.process_time() + used.children_user + used.children_system


def measured(call: Callable[[], T], base: float | None = None) -> tuple[T, dict[str, float]]:
    """Run once -> (what it returns; wall and CPU seconds, peak memory of the process, and what the call added to it).

    The high-water mark is set back first, so `extra_mb` is this call's alone, whatever ran before. After a warm-up of
    the same size, whose memory is kept for reuse, give as `base` the resident MiB before that.
    """
    gc.collect()
    earlier = status_mb("VmHWM")
    Path("/proc/self/clear_refs").write_text("5")
    before, cpu, wall = status_mb("VmRSS"), cpu_s(), time.perf_counter()
    result = call()
    wall, cpu = time.perf_counter() - wall, cpu_s() - cpu
    peak = status_mb("VmHWM")
    return result, {
        "wall_s": wall,
        "cpu_s": cpu,
        "peak_mb": max(peak, earlier),
        "extra_mb": peak - (before if base is None else base),
    }


def timed(call: Callable[[], T]) -> tuple[T, float]:
    """Run once -> (what it returns, CPU seconds). For the parts of a call that `measured` watches."""
    before = cpu_s()
    return call(), cpu_s() - before


def estimated(call: Callable[[int], Any], few: int, many: int, wanted: int) -> dict[str, Any]:
    """Cost of `wanted` equal steps from runs of `few` (the warm-up, too) and of `many`: what one more step costs."""
    call(few)
    _, short = measured(lambda: call(few))
    _, long = measured(lambda: call(many))
    values: dict[str, Any] = {"est": True, "peak_mb": long["peak_mb"], "extra_mb": long["extra_mb"]}
    for cost in COSTS:
        each = (long[cost] - short[cost]) / (many - few)
        if each <= 0:
            return {"missing": "too noisy"}
        values |= {cost: short[cost] + each * (wanted - few), f"{cost[:-2]}_ms_per_step": 1000 * each}
    return values


def repeated(call: Callable[[], Any], times: int) -> dict[str, float]:
    """Warm up once, then run so many times -> costs of one run, and the memory of all."""
    call()
    _, all_of_them = measured(lambda: [None for _ in range(times) if call() is None])
    return all_of_them | {cost: all_of_them[cost] / times for cost in COSTS}


class Held:
    """While entered, watches the memory that cannot be given back at will: what a mapped file fills is not counted."""

    def __enter__(self) -> "Held":
        """Start to watch."""
        self.peak_mb = 0.0
        self._stop = Event()
        self._thread = Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop watching; `peak_mb` is final."""
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while True:
            self.peak_mb = max(self.peak_mb, status_mb("RssAnon"))
            if self._stop.wait(0.02):
                return


def category_parser(text: str | None) -> argparse.ArgumentParser:
    """Docstring of a contestant -> the command line of those that run a whole category."""
    parser = argparse.ArgumentParser(description=(text or "").splitlines()[0])
    parser.add_argument("root")
    parser.add_argument("category")
    parser.add_argument("--ratio", type=float, default=0.1)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--resize", type=int, default=256)
    parser.add_argument("--crop", type=int, default=224)
    return parser


def emit(**values: Any) -> None:
    """Print the one line of JSON that bench.py reads."""
    print("\n" + json.dumps(values), flush=True)
