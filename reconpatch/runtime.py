"""What the machine gives to a process: memory, processor cores, one GPU. Nothing here can change a result.

Imports nothing heavy: the Snakefile, which every job reads, uses it.
"""

import ctypes
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from reconpatch.errors import ReconpatchError, warn_user

if TYPE_CHECKING:
    from filelock import BaseFileLock

MB = 1e6
GIB = 2**30
MOST_DECODERS = 8  # images decoded at once: one of 80 megapixels takes 0.7 GB
TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # parameters of mallopt
# One of these is set in a cluster's jobs, which see only what is theirs: SLURM, Kubernetes, PBS, LSF.
CLUSTERS = ("SLURM_JOB_ID", "KUBERNETES_SERVICE_HOST", "PBS_JOBID", "LSB_JOBID")
_held: "list[BaseFileLock]" = []  # locks of this process; the system releases them when the process ends

_IMPORTED_IN = os.getpid()
T = TypeVar("T")
R = TypeVar("R")


def forked() -> bool:
    """Whether this process was forked, without a new program, after this module was imported."""
    return os.getpid() != _IMPORTED_IN


def openmp_threads(wanted: int) -> int:
    """Threads that are wanted -> threads that OpenMP can have in this process.

    A forked child has only the thread that forked. OpenMP would wait forever for the others that it had started before,
    so one thread is left, and a warning says so.
    """
    if wanted > 1 and forked():
        warn_user(
            "a forked process computes with one thread; for more, start it with spawn or forkserver, or import "
            "reconpatch only after the fork",
            category=RuntimeWarning,
        )
        return 1
    return wanted


def fork_safe_lock() -> threading.RLock:
    """A lock that no other thread holds while this process is forked, so that it is free in the child. A thread that
    holds it may take it again, and fork.
    """
    lock = threading.RLock()
    os.register_at_fork(before=lock.acquire, after_in_parent=lock.release, after_in_child=lock.release)
    return lock


class Shared:
    """A change of the whole process that threads may need at the same time: the first makes it, the last undoes it."""

    def __init__(self, change: Callable[[], AbstractContextManager[object]]) -> None:
        self._change, self._undo = change, ExitStack()
        self._users: list[int] = []  # their threads
        self._lock = fork_safe_lock()
        os.register_at_fork(after_in_child=self._forget_other_threads)

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """The change is in force inside the block."""
        user = threading.get_ident()
        with self._lock:
            if not self._users:
                self._undo.enter_context(self._change())
            self._users.append(user)
        try:
            yield
        finally:
            with self._lock:
                self._users.remove(user)
                if not self._users:
                    self._undo.close()

    def _forget_other_threads(self) -> None:
        self._users = [user for user in self._users if user == threading.get_ident()]
        if not self._users:
            self._undo.close()


def sleep_between_work() -> None:
    """Let OpenMP's threads sleep while they wait for work, in this process and those it starts, if the user has not
    chosen otherwise. Call it before PyTorch is loaded.

    By default they spin for a while. A process has several OpenMPs (PyTorch's, faiss's, scikit-learn's), so threads of
    one hold the cores that another needs (docs/product.md has the times).
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


@contextmanager
def _limited_by_another_thread() -> Iterator[None]:
    """BLAS with one thread. threadpoolctl lets only one living thread change and restore the number, so that one does
    both here, whichever of our threads are the first and the last to need it.
    """
    from threadpoolctl import threadpool_limits

    changed: Future[None] = Future()
    done = threading.Event()

    def keep() -> None:
        try:
            with threadpool_limits(1, "blas"):
                changed.set_result(None)
                done.wait()
        except BaseException as error:
            changed.set_exception(error)

    keeper = threading.Thread(target=keep, daemon=True)
    keeper.start()
    changed.result()
    try:
        yield
    finally:
        done.set()
        keeper.join()


_limited = Shared(_limited_by_another_thread)


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """BLAS with one thread inside the block: another number rounds differently, and where our own threads each have
    their rows, more threads of BLAS would compete with these. Several threads may be inside at once.

    A thread that has limited BLAS itself, with threadpoolctl, alone may change the number: here for itself.
    """
    from threadpoolctl import threadpool_limits

    with _limited(), threadpool_limits(1, "blas"):
        yield


def threads_here() -> int:
    """Threads to compute with where the user names no number: what OMP_NUM_THREADS says (of a list, the first number),
    else all processor cores that this process may use.
    """
    wanted = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    if wanted.isdecimal() and int(wanted):
        return int(wanted)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def read_ahead(function: Callable[[T], R], items: Iterable[T], threads: int, depth: int) -> Iterator[R]:
    """Items, threads, of which MOST_DECODERS are used at most -> function(item) of each in order, while the threads
    already work on the next `depth` items.
    """
    with ThreadPoolExecutor(min(threads, MOST_DECODERS)) as pool:
        waiting: deque[Future[R]] = deque()
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) > depth:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def machine_mb(root: Path = Path("/")) -> float:
    """MB this process may use: the memory of the machine, or the lowest limit of its control groups if that is lower.

    Swap does not count. `root` is the folder that holds proc and sys.
    """
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    try:
        groups = [line.split(":", 2) for line in (root / "proc/self/cgroup").read_text().splitlines()]
    except OSError:  # another system
        groups = []
    for _, controllers, path in groups:
        if controllers == "":  # version 2
            top, file = root / "sys/fs/cgroup", "memory.max"
        elif "memory" in controllers.split(","):
            top, file = root / "sys/fs/cgroup/memory", "memory.limit_in_bytes"
        else:
            continue
        inner = Path(path.strip("/"))
        for folder in (inner, *inner.parents):  # parent groups limit too; in a container only the last one exists
            try:
                limits.append(int((top / folder / file).read_text()))
            except (OSError, ValueError):  # "max" is no limit
                continue
    return min(limits) / MB


def peak_bytes() -> int:
    """Largest memory of this process so far, in bytes.

    On Linux from the kernel's mark of this program: `ru_maxrss` is inherited by child processes, so every job would
    have at least the memory of the Snakemake process that started it.
    """
    marked = _status_bytes("VmHWM")
    if marked is None:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return marked


def resident_bytes() -> int:
    """Memory of this process now, in bytes; where the system does not say, its largest so far."""
    now = _status_bytes("VmRSS")
    return peak_bytes() if now is None else now


def _status_bytes(field: str) -> int | None:
    """Field of what Linux says of this process -> its value in bytes; None on another system."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:")), None)


def keep_freed_memory() -> bool:
    """Have the C library reuse freed blocks of up to 1 GiB -> whether it can (glibc).

    By default, freed blocks above 32 MB and the free end of the heap go back to the system, and every batch pays for
    clearing new pages: up to a fifth of the time of a forward pass. With this the process keeps its largest memory.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return False
    return bool(mallopt(MMAP_THRESHOLD, GIB)) and bool(mallopt(TRIM_THRESHOLD, GIB))


def visible_devices(uuids: Mapping[str, str] | None = None) -> list[str]:
    """-> the GPUs this process may use, as CUDA_VISIBLE_DEVICES names them, or by UUID if that is not set.

    UUIDs, because CUDA and nvidia-smi number GPUs differently. `uuids` is what nvidia-smi says, if it was asked.
    """
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is None:
        return list((_gpu_uuids() if uuids is None else uuids).values())
    devices = [name.strip() for name in named.split(",")]
    end = next((i for i, name in enumerate(devices) if name in ("", "-1")), len(devices))
    return devices[:end]  # CUDA ignores what follows the first invalid name


def take_device(wanted: str, note: Callable[[str], None], folder: Path | None = None, pause: float = 2.0) -> str | None:
    """auto, cpu or cuda -> the GPU that this process has for itself until it ends, the only one it then sees; None if
    no GPU is wanted or visible.

    Snakemake counts GPUs but does not say which one a job got. Jobs agree on that by locks: files named after UUIDs in
    `folder`, by default a folder of this user's in the machine's temporary folder. Call this before CUDA starts.
    While all GPUs are taken it writes so through `note` and looks again every `pause` seconds. It does not wait if
    only one is visible or a cluster assigned them: then the first one is used. Raises ReconpatchError if the folder
    belongs to another user.
    """
    uuids = _gpu_uuids() if wanted != "cpu" else {}
    devices = visible_devices(uuids) if wanted != "cpu" else []
    if not devices:
        return None
    locks = _own_folder(folder or Path(tempfile.gettempdir()) / f"reconpatch-gpus-{os.getuid()}")
    assigned = len(devices) == 1 or any(key in os.environ for key in CLUSTERS)
    waiting = False
    while True:
        free = next((d for d in devices if _lock(locks / _uuid(d, uuids).replace("/", "_"))), None)
        if free or assigned:
            device = free or devices[0]
            os.environ["CUDA_VISIBLE_DEVICES"] = device
            os.environ["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"  # the order of nvidia-smi; by default the fastest GPU is 0
            note(f"GPU {device}")
            return device
        if not waiting:
            note(f"all {len(devices)} GPUs are taken by other jobs of this user; waiting for one (locks in {locks})")
        waiting = True
        time.sleep(pause)


def _gpu_uuids() -> dict[str, str]:
    """-> the number of every GPU, in the order of the bus, to its UUID; empty if nvidia-smi is missing or fails."""
    if shutil.which("nvidia-smi") is None:
        return {}
    command = ["nvidia-smi", "--query-gpu=index,uuid", "--format=csv,noheader"]
    asked = subprocess.run(command, text=True, capture_output=True, check=False)
    lines = [line.split(", ") for line in asked.stdout.splitlines()] if asked.returncode == 0 else []
    return {line[0]: line[1] for line in lines if len(line) == 2}


def _uuid(device: str, uuids: Mapping[str, str]) -> str:
    """A GPU as CUDA_VISIBLE_DEVICES names it, by number or by the beginning of its UUID -> its UUID, if it is known."""
    matches = [uuid for uuid in uuids.values() if device.startswith("GPU-") and uuid.startswith(device)]
    return uuids.get(device) or (matches[0] if len(matches) == 1 else device)


def _own_folder(folder: Path) -> Path:
    """Make the folder, for this user alone. In a temporary folder another user may have made it before."""
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.is_symlink() or folder.stat().st_uid != os.getuid():
        raise ReconpatchError(
            "belongs to another user", where=folder, fix="remove it, or set TMPDIR to a folder of your own"
        )
    return folder


def _lock(file: Path) -> bool:
    """Lock a file until this process ends -> whether no other process has it."""
    from filelock import FileLock, Timeout

    lock = FileLock(file, blocking=False)
    try:
        lock.acquire()
    except Timeout:
        return False
    _held.append(lock)
    return True
