import subprocess
import sys

import pytest
import torch
from process_state import state

from reconpatch.device import name, repeating, resolve, restored
from reconpatch.errors import ReconpatchError


def test_cpu_is_what_is_asked_for_and_cuda_must_be_there(monkeypatch) -> None:
    assert resolve("cpu") == "cpu" and name("cpu") == "cpu"
    for there, device in ((True, "cuda"), (False, "cpu")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda there=there: there)
        assert resolve("auto") == device
    with pytest.raises(ReconpatchError, match="device: cuda, but PyTorch finds no CUDA device here"):
        resolve("cuda")


@pytest.mark.parametrize("workspace", [None, ":16:8"])
@pytest.mark.parametrize("strict", [True, False])
def test_what_is_changed_for_a_block_is_restored_after_it(workspace, strict, monkeypatch) -> None:
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    if workspace:
        monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", workspace)
    with restored():
        torch.use_deterministic_algorithms(strict, warn_only=strict)
        torch.backends.cudnn.allow_tf32 = True
        torch.set_num_threads(3)
        before = state()
        with pytest.raises(RuntimeError, match="torn"), repeating("cpu", 2):
            assert torch.are_deterministic_algorithms_enabled() and torch.get_num_threads() == 2
            assert not torch.backends.cudnn.allow_tf32
            assert {count for _, count in state()[-1]} == {2}
            torch.set_num_threads(1)
            raise RuntimeError("torn")
        assert state() == before and before[0] == 3
        with repeating("cuda", 1):
            assert torch.is_deterministic_algorithms_warn_only_enabled()
        assert state() == before


def test_a_process_is_made_repeatable() -> None:
    """In one of its own: the flags are torch's and hold for a whole process."""
    code = """
import os
import torch
from reconpatch.device import repeatable
repeatable("cpu", 1)
print(os.environ["CUBLAS_WORKSPACE_CONFIG"])
print(torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled())
print(torch.get_num_threads(), torch.backends.cudnn.allow_tf32, torch.utils.deterministic.fill_uninitialized_memory)
repeatable("cuda", 1)
print(torch.is_deterministic_algorithms_warn_only_enabled())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [":4096:8", "True", "False", "1", "False", "False", "True"]
