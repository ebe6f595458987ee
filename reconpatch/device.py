"""Which device does the work, and that it does the same work every time."""

import os

import torch

from reconpatch.errors import ReconpatchError


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
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when CUDA starts
    torch.use_deterministic_algorithms(True, warn_only=device == "cuda")
    # Filling fresh memory costs time; nothing is read before it is written.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.allow_tf32 = False


def name(device: str) -> str:
    """cpu or cuda -> what a record says of it."""
    return f"cuda: {torch.cuda.get_device_name()}" if device == "cuda" else "cpu"
