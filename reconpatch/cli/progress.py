"""Progress of a long command: a bar per step on a terminal, a line per finished step elsewhere."""

import sys
import time
from typing import NoReturn

from tqdm import tqdm


class Steps:
    """Call it with (step, done, of how many). `seconds` holds how long each step took."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._latest = time.perf_counter()
        self._bar: tqdm[NoReturn] | None = None
        self._state = ("", 0, 0)

    def __call__(self, step: str, done: int, total: int) -> None:
        """Show how far a step is."""
        now = time.perf_counter()
        self.seconds[step] = self.seconds.get(step, 0.0) + now - self._latest
        self._latest = now
        if self._bar is None or self._state[0] != step:
            self.close()
            self._bar = tqdm(total=total, desc=step, disable=None)  # None: no bar if there is no terminal
        self._bar.update(done - self._bar.n)
        self._state = step, done, total
        if done == total:
            self.close()

    def close(self) -> None:
        """End the current step, if there is one. It may be incomplete, for example if images could not be read."""
        if self._bar is None:
            return
        if self._bar.disable:
            step, done, total = self._state
            count = f"{done}" if done == total else f"{done} of {total}"
            print(f"{step}: {count} in {self.seconds[step]:.1f} s", file=sys.stderr, flush=True)
        self._bar.close()
        self._bar = None
