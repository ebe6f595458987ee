"""Which device does the work."""

import torch

from reconpatch.errors import ReconpatchError


def resolve(wanted: str) -> str:
    """auto, cpu or cuda -> cpu or cuda. Raises ReconpatchError when cuda is wanted and there is none."""
    if wanted == "cuda" and not torch.cuda.is_available():
        raise ReconpatchError("device: cuda, but PyTorch finds no CUDA device here; set device: auto or cpu")
    return "cuda" if wanted != "cpu" and torch.cuda.is_available() else "cpu"


def name(device: str) -> str:
    """cpu or cuda -> what a record says of it."""
    return f"cuda: {torch.cuda.get_device_name()}" if device == "cuda" else "cpu"
