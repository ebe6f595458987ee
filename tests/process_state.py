"""What this package changes of a process while it works."""

import os

import torch
from threadpoolctl import ThreadpoolController


def state() -> tuple[object, ...]:
    """All that `repeatable` and faiss's search change of a process."""
    found = [
        (lib.filepath, lib.num_threads) for lib in ThreadpoolController().select(user_api="openmp").lib_controllers
    ]
    flags = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    more = torch.backends.cudnn.allow_tf32, torch.utils.deterministic.fill_uninitialized_memory
    return torch.get_num_threads(), flags, more, os.environ.get("CUBLAS_WORKSPACE_CONFIG"), sorted(found)
