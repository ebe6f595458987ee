"""What surrounds a CUDA graph, with functions in the place of recordings; no GPU is needed for it."""

import pytest
import torch

from reconpatch.method.cuda_graph import captured


@pytest.fixture
def state() -> list[torch.Tensor]:
    return [torch.arange(4.0), torch.full((2, 2), 3.0)]


def step_of(state, factor=1.0):
    def step() -> None:
        state[0].add_(factor * 1e-5)
        state[1].mul_(1 + factor * 1e-3)

    return step


def fails(step):
    raise RuntimeError("operation not permitted when stream is capturing\nmore")


@pytest.mark.parametrize(
    ("recorder", "problem"),
    [
        (lambda step: lambda: step(), ""),
        (fails, "cannot be recorded as a CUDA graph (operation not permitted when stream is capturing)"),
        (lambda step: lambda: (step(), step()), "computes something else"),
        (lambda step: lambda: None, "computes something else"),
    ],
)
def test_a_recording_is_trusted_if_it_does_what_the_step_does(recorder, problem, state) -> None:
    before = [value.clone() for value in state]
    function, said = captured(step_of(state), state, recorder)
    assert problem in said and (function is None) == bool(problem) == bool(said)
    assert all(map(torch.equal, state, before))
    if function is not None:
        function()
        assert float(state[1][0, 0]) == pytest.approx(3.003)


@pytest.mark.parametrize("wrong", [torch.nan, 1e-7])
def test_neither_nan_nor_a_last_bit_is_trusted(wrong, state) -> None:
    step = step_of(state)
    assert captured(step, state, lambda step: lambda: (step(), state[0].add_(wrong)))[0] is None
