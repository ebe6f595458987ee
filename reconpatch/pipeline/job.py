"""What every job of the workflow does around its one call: log, progress, resource use, errors for the user."""

import ctypes
import logging
import os
import resource
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import TextIOWrapper
from pathlib import Path
from typing import Any, TextIO

from reconpatch.errors import ReconpatchError
from reconpatch.runtime import peak_bytes


def end_with_parent() -> None:
    """On Linux, have the system kill this process when its parent ends: a job that outlives a killed scheduler would
    overwrite results of the next call.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # 1 is PR_SET_PDEATHSIG


def process_age() -> float:
    """Seconds since this process began, to the hundredth. Where the system does not say it, the CPU time of the
    process: that is close as long as the process has only imported modules.
    """
    try:
        after_name = Path("/proc/self/stat").read_text().rpartition(")")[2].split()  # the name may hold spaces
        began = int(after_name[19]) / os.sysconf("SC_CLK_TCK")  # field 22, starttime, in ticks since boot
        return max(0.0, time.clock_gettime(time.CLOCK_BOOTTIME) - began)
    except (OSError, ValueError, IndexError, AttributeError):
        return time.process_time()


@dataclass
class Job:
    """A running job: what the workflow gives it besides files and settings, its log, and its use of time and memory."""

    name: str
    log: TextIO
    threads: int = 1
    device: str = "cpu"  # the device that the user wants: auto, cpu or cuda
    code: str = ""  # digest of the modules that the job runs
    cuda_graph: bool = False  # whether the training step is recorded as a CUDA graph on a GPU
    gpu_coreset: bool = False  # whether the coreset is selected on a GPU
    started: float = field(default_factory=time.perf_counter)
    imports: float = field(default_factory=process_age)  # seconds from the start of the process to that of the job
    latest: float = 0.0  # when progress was last reported, in seconds since the start, as the next two
    shown: float = 0.0  # when progress was last shown on the terminal
    since: dict[str, float] = field(default_factory=dict)  # when each kind of progress began

    def note(self, text: str) -> None:
        """Write a line to the log, or to the terminal if the disk is full."""
        try:
            self.log.write(f"{time.strftime('%H:%M:%S')} {text}\n")
        except OSError:
            print(f"[{self.name}] {text}", file=sys.stderr, flush=True)

    def progress(self, text: str, done: int, total: int) -> None:
        """Report done of total with an estimate of the time left: to the log and, every few seconds, to the terminal.

        The first word of `text` is the kind of progress: its time starts where the kind before it ended.
        """
        elapsed = time.perf_counter() - self.started
        taken = elapsed - self.since.setdefault(text.split()[0], elapsed if done == 0 else self.latest)
        self.latest = elapsed
        line = f"{text} {done}/{total}, {taken:.0f} s, about {taken * (total - done) / max(done, 1):.0f} s left"
        self.note(line)
        if elapsed - self.shown > 3 or (done == total and self.shown):
            self.shown = elapsed
            print(f"[{self.name}] {line}", file=sys.stderr, flush=True)

    def usage(self) -> dict[str, float]:
        """-> `wall_s`, seconds since the start of the job; `start_s`, seconds from the start of the process to that of
        the job; `cpu_s`, CPU time of the process; `peak_mb`, its largest memory in MB.
        """
        used = resource.getrusage(resource.RUSAGE_SELF)
        return {
            "wall_s": round(time.perf_counter() - self.started, 3),
            "start_s": round(self.imports, 3),
            "cpu_s": round(used.ru_utime + used.ru_stime, 3),
            "peak_mb": round(peak_bytes() / 2**20, 1),
        }


@contextmanager
def run_job(log: Path, name: str, **settings: Any) -> Iterator[Job]:
    """Run a job with its log file open; `settings` are fields of `Job`. An error that the user can correct ends the
    process with a message and without a traceback. A script of the workflow ends with its job.
    """
    script = ".snakemake" in Path(sys.argv[0]).parts  # where Snakemake puts the scripts it runs
    if script:
        end_with_parent()
    log.parent.mkdir(parents=True, exist_ok=True)
    # Without a buffer, the log of a killed job holds everything the job wrote.
    with TextIOWrapper(open(log, "wb", buffering=0), encoding="utf-8", write_through=True) as file:
        logging.basicConfig(stream=file, level=logging.WARNING)
        logging.captureWarnings(True)
        running = Job(name, file, **settings)
        running.note(f"{name}, process {os.getpid()}, begun {running.imports:.2f} s ago")
        try:
            yield running
        except BaseException as error:
            message = _message(error)
            if message is None:
                logging.exception("%s failed", name)
                raise
            running.note(f"error: {message}")
            sys.exit(1)  # Snakemake shows the log of a failed job
        running.note(f"done: {running.usage()}")
    if script:
        end_now()


def end_now() -> None:
    """End this process. Otherwise Python would free what the libraries hold one by one: a second with PyTorch."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def _message(error: BaseException) -> str | None:
    """An error -> the message for the user; None for an error that only its traceback explains."""
    if isinstance(error, ReconpatchError):
        return str(error)
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}; if the file was removed meanwhile, run the same command again"
    if isinstance(error, MemoryError):
        return f"out of memory ({error}); `reconpatch plan` shows what jobs need; run fewer at once, or smaller ones"
    return None
