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
    ("recorder", "trusted", "said"),
    [
        (lambda step: lambda: step(), True, ""),
        (fails, False, "cannot be recorded as a CUDA graph (operation not permitted when stream is capturing)"),
        (lambda step: lambda: (step(), step()), False, "computes something else"),
        (lambda step: lambda: None, False, "computes something else"),
    ],
)
def test_a_recording_is_trusted_if_it_does_what_the_step_does(recorder, trusted, said, state) -> None:
    notes, before = [], [value.clone() for value in state]
    step = step_of(state)
    function = captured(step, state, notes.append, recorder)
    assert (function is not step) == trusted and said in "".join(notes) and bool(notes) == bool(said)
    assert all(map(torch.equal, state, before))
    function()
    assert float(state[1][0, 0]) == pytest.approx(3.003)


def test_values_that_are_not_finite_are_not_trusted(state) -> None:
    step = step_of(state)
    notes = []
    assert captured(step, state, notes.append, lambda step: lambda: state[0].fill_(torch.nan)) is step and notes
