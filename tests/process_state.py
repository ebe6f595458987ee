"""What this package changes of a process while it works."""

import os
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import torch
from threadpoolctl import ThreadpoolController
from torch import nn

from reconpatch.device import flags_restored


def state() -> tuple[object, ...]:
    """All that this package changes of a process while it works. Numbers of threads are those of the calling thread."""
    found = [(lib.filepath, lib.num_threads) for lib in ThreadpoolController().lib_controllers]
    flags = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    more = torch.backends.cudnn.allow_tf32, torch.utils.deterministic.fill_uninitialized_memory
    with ThreadPoolExecutor(1) as later:
        threads = torch.get_num_threads(), later.submit(torch.get_num_threads).result()
    workspace, generator = os.environ.get("CUBLAS_WORKSPACE_CONFIG"), torch.get_rng_state().tolist()
    return threads, flags, more, workspace, sorted(found), sys.stderr, nn.Module.__call__, generator


@contextmanager
def restored() -> Iterator[None]:
    """Restore, after the block, all settings of the process that `repeatable` changes."""
    threads = torch.get_num_threads()
    with flags_restored():
        try:
            yield
        finally:
            torch.set_num_threads(threads)
