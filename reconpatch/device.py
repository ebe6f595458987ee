"""Which device does the work, and that it does the same work every time."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from threadpoolctl import ThreadpoolController

from reconpatch.errors import ReconpatchError

WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"


def resolve(wanted: str) -> str:
    """auto, cpu or cuda -> cpu or cuda. Raises ReconpatchError when cuda is wanted and there is none."""
    if wanted == "cuda" and not torch.cuda.is_available():
        raise ReconpatchError("device: cuda, but PyTorch finds no CUDA device here; set device: auto or cpu")
    return "cuda" if wanted != "cpu" and torch.cuda.is_available() else "cpu"


def repeatable(device: str, threads: int) -> None:
    """Have this process compute the same bytes from the same input, with so many threads.

    On a GPU an operation without such a variant warns instead of failing, and float32 is float32: cuDNN's default for
    convolutions is TensorFloat-32, whose ten bits are far from what a CPU computes.
    """
    torch.set_num_threads(threads)
    os.environ.setdefault(WORKSPACE, ":4096:8")  # read when CUDA starts
    torch.use_deterministic_algorithms(True, warn_only=device == "cuda")
    # Filling fresh memory costs time; nothing is read before it is written.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.allow_tf32 = False


@contextmanager
def restored() -> Iterator[None]:
    """Restore at the end of the block what `repeatable` changed in it, for a process that others use, too.

    The threads of every library that works with OpenMP are restored, so that faiss's are, too.
    """
    deterministic = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    threads, tf32 = torch.get_num_threads(), torch.backends.cudnn.allow_tf32
    fill = torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
    workspace = os.environ.get(WORKSPACE)
    openmp = ThreadpoolController().select(user_api="openmp")
    before = [(library, library.num_threads) for library in openmp.lib_controllers]
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(deterministic, warn_only=warn_only)
        torch.utils.deterministic.fill_uninitialized_memory = fill  # type: ignore[attr-defined]
        torch.backends.cudnn.allow_tf32 = tf32
        torch.set_num_threads(threads)
        for library, count in before:
            library.set_num_threads(count)
        if workspace is None:
            os.environ.pop(WORKSPACE, None)
        else:
            os.environ[WORKSPACE] = workspace


@contextmanager
def repeating(device: str, threads: int) -> Iterator[None]:
    """As `repeatable`, with faiss on so many threads, until the end of the block, which restores everything."""
    with restored():
        repeatable(device, threads)
        for library in ThreadpoolController().select(user_api="openmp").lib_controllers:
            library.set_num_threads(threads)
        yield


def name(device: str) -> str:
    """cpu or cuda -> what a record says of it."""
    return f"cuda: {torch.cuda.get_device_name()}" if device == "cuda" else "cpu"
