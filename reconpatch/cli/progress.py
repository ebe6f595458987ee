"""What a long command shows while it works: a bar per step on a terminal, a line per finished step elsewhere."""

import sys
import time
from dataclasses import dataclass, field
from typing import Any

from tqdm import tqdm


@dataclass
class Steps:
    """Called with (what is being done, done, of how many); `seconds` keeps how long each step took."""

    silent: bool = False
    seconds: dict[str, float] = field(default_factory=dict)
    latest: float = field(default_factory=time.perf_counter)
    bar: Any = None
    pending: tuple[str, int, int] | None = None  # the last call of a step whose line is not printed yet

    def __call__(self, step: str, done: int, total: int) -> None:
        """Show how far a step is."""
        now = time.perf_counter()
        self.seconds[step] = self.seconds.get(step, 0.0) + now - self.latest
        self.latest = now
        if self.silent:
            return
        if not sys.stderr.isatty():
            if self.pending and self.pending[0] != step:
                self._print()
            self.pending = step, done, total
            if done == total:
                self._print()
            return
        if self.bar is None or self.bar.desc.rstrip(": ") != step:
            self.close()
            self.bar = tqdm(total=total, desc=step, leave=True)
        self.bar.update(done - self.bar.n)
        if done == total:
            self.close()

    def _print(self) -> None:
        """The line of the step under way; what is left out of it, as unreadable images, is never told as done."""
        if self.pending is not None:
            step, done, total = self.pending
            count = f"{done}" if done == total else f"{done} of {total}"
            print(f"{step}: {count} in {self.seconds[step]:.1f} s", file=sys.stderr, flush=True)
            self.pending = None

    def close(self) -> None:
        """End the bar or print the line of the step that is under way, if one is."""
        self._print()
        if self.bar is not None:
            self.bar.close()
            self.bar = None
