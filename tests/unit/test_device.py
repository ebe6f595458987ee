import pytest
import torch
from process_state import restored, state

from reconpatch.device import name, repeatable, repeating, resolve
from reconpatch.errors import ReconpatchError


def test_cpu_is_what_is_asked_for_and_cuda_must_be_there(monkeypatch) -> None:
    assert resolve("cpu") == "cpu" and name("cpu") == "cpu"
    for there, device in ((True, "cuda"), (False, "cpu")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda there=there: there)
        assert resolve("auto") == device
    with pytest.raises(ReconpatchError, match="device: cuda: PyTorch finds no CUDA device here"):
        resolve("cuda")


@pytest.mark.parametrize("workspace", [None, ":16:8"])
def test_what_is_changed_for_a_block_is_restored_after_it(workspace, monkeypatch) -> None:
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    if workspace:
        monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", workspace)
    with restored():
        torch.use_deterministic_algorithms(bool(workspace), warn_only=bool(workspace))
        torch.backends.cudnn.allow_tf32 = True
        torch.set_num_threads(3)
        before = state()
        with pytest.raises(RuntimeError, match="torn"), repeating("cpu", 2):
            assert torch.are_deterministic_algorithms_enabled() and torch.get_num_threads() == 2
            assert not torch.backends.cudnn.allow_tf32
            raise RuntimeError("torn")
        assert state() == before and before[0] == (3, 3)
        with repeating("cuda", 1):
            assert torch.is_deterministic_algorithms_warn_only_enabled()
        assert state() == before


def test_a_process_is_made_repeatable(monkeypatch) -> None:
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    with restored():
        repeatable("cpu", 1)
        assert state()[:4] == ((1, 1), (True, False), (False, False), ":4096:8")
        repeatable("cuda", 1)
        assert torch.is_deterministic_algorithms_warn_only_enabled()
