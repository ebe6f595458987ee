"""Chooses the device that computes, and makes its results repeatable."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from threadpoolctl import ThreadpoolController

from reconpatch.errors import ReconpatchError

WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"
DETERMINISTIC: Any = torch.utils.deterministic  # whose flags the stubs do not know


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
    os.environ.setdefault(WORKSPACE, ":4096:8")  # read when CUDA starts
    torch.use_deterministic_algorithms(True, warn_only=device == "cuda")
    # Filling fresh memory costs time; nothing is read before it is written.
    DETERMINISTIC.fill_uninitialized_memory = False
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False


@contextmanager
def restored() -> Iterator[None]:
    """Restore, after the block, all settings of the process that `repeatable` changes.

    Callers that share the process with other code need this. The number of threads is restored for every library that
    uses OpenMP, which includes faiss.
    """
    deterministic = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    threads = torch.get_num_threads()
    tf32 = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    fill = DETERMINISTIC.fill_uninitialized_memory
    workspace = os.environ.get(WORKSPACE)
    openmp = ThreadpoolController().select(user_api="openmp")
    before = [(library, library.num_threads) for library in openmp.lib_controllers]
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(deterministic, warn_only=warn_only)
        DETERMINISTIC.fill_uninitialized_memory = fill
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = tf32
        torch.set_num_threads(threads)
        for library, count in before:
            library.set_num_threads(count)
        if workspace is None:
            os.environ.pop(WORKSPACE, None)
        else:
            os.environ[WORKSPACE] = workspace


@contextmanager
def repeating(device: str, threads: int) -> Iterator[None]:
    """Apply `repeatable` inside the block, and give faiss the same number of threads; restore everything after it."""
    with restored():
        repeatable(device, threads)
        for library in ThreadpoolController().select(user_api="openmp").lib_controllers:
            library.set_num_threads(threads)
        yield


def name(device: str) -> str:
    """cpu or cuda -> the device's name in a record."""
    return f"cuda: {torch.cuda.get_device_name()}" if device == "cuda" else "cpu"
