"""Chooses the device that computes, and makes its results repeatable."""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import torch

from reconpatch.errors import ReconpatchError
from reconpatch.runtime import Shared, fork_safe_lock

WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"
DETERMINISTIC: Any = torch.utils.deterministic  # whose flags the stubs do not know
# For what changes the whole process for a moment, and in which two threads would disturb each other.
ALONE = fork_safe_lock()
THREAD_NUMBERS = fork_safe_lock()  # not ALONE, which is held for seconds while a network is built


def resolve(wanted: str) -> str:
    """auto, cpu or cuda -> cpu or cuda. Raises ReconpatchError when cuda is wanted and there is none."""
    if wanted == "cuda" and not torch.cuda.is_available():
        raise ReconpatchError(
            "PyTorch finds no CUDA device here", where="device: cuda", fix="set device: auto or device: cpu"
        )
    return "cuda" if wanted != "cpu" and torch.cuda.is_available() else "cpu"


def repeatable(device: str, threads: int) -> None:
    """Make this process compute the same bytes from the same input, with this number of threads.

    On a GPU, an operation that has no repeatable variant warns and goes on. Convolutions and matrix products there use
    float32, not TensorFloat-32, whose mantissa of ten bits gives results far from those of a CPU.
    """
    torch.set_num_threads(threads)
    _compute_repeatably(device)


def _compute_repeatably(device: str) -> None:
    """As `repeatable`, without the threads. Where another thread has a GPU warn already, it goes on to do so."""
    os.environ.setdefault(WORKSPACE, ":4096:8")  # read when CUDA starts
    warns = torch.are_deterministic_algorithms_enabled() and torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(True, warn_only=warns or device == "cuda")
    # Filling fresh memory costs time; nothing is read before it is written.
    DETERMINISTIC.fill_uninitialized_memory = False
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False


@contextmanager
def flags_restored() -> Iterator[None]:
    """Restore, after the block, what `repeatable` changes of the process, but for the number of threads.

    For a caller that has the process to itself. Several threads may use `repeating`.
    """
    deterministic = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    tf32 = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    fill = DETERMINISTIC.fill_uninitialized_memory
    workspace = os.environ.get(WORKSPACE)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(deterministic, warn_only=warn_only)
        DETERMINISTIC.fill_uninitialized_memory = fill
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = tf32
        if workspace is None:
            os.environ.pop(WORKSPACE, None)
        else:
            os.environ[WORKSPACE] = workspace


FLAGS = Shared(flags_restored)


@contextmanager
def repeating(device: str, threads: int) -> Iterator[None]:
    """Compute as after `repeatable` inside the block; restore everything after it.

    Several threads may do so at once, each with its own number of threads. What is changed for the whole process stays
    changed until the last of them leaves.
    """
    with FLAGS(), torch_threads(threads):
        _compute_repeatably(device)
        yield


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Have PyTorch use this number of threads for what the calling thread computes inside the block."""
    before = torch.get_num_threads()
    _set_torch_threads(count)
    try:
        yield
    finally:
        _set_torch_threads(before)


def _set_torch_threads(count: int) -> None:
    """As torch.set_num_threads, for the calling thread alone.

    PyTorch has a number for every thread, and one for threads that are still to begin, which torch.set_num_threads
    changes too. Another thread can read that and set it back.
    """
    with THREAD_NUMBERS, ThreadPoolExecutor(1) as other:
        beginning = other.submit(torch.get_num_threads).result()
        torch.set_num_threads(count)
        other.submit(torch.set_num_threads, beginning).result()


def name(device: str) -> str:
    """cpu or cuda -> the device's name in a record."""
    return f"cuda: {torch.cuda.get_device_name()}" if device == "cuda" else "cpu"
