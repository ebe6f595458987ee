"""AdamP against timm's."""

import pytest
import timm.optim
import torch

from reconpatch.method.adamp import AdamP, Rates, rates_of
from reconpatch.method.fused_training import Parameter

SHAPES = [(6, 5), (6,), (3, 6), (3,)]


def draw(shape, seed: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def orthogonal(g: torch.Tensor, w: torch.Tensor, how: str) -> torch.Tensor:
    """g with the part along w taken out: of each row, of the whole matrix, or not."""
    if g.dim() == 1 or how == "none":
        return g
    if how == "rows":
        return g - w * ((g * w).sum(1) / (w * w).sum(1))[:, None]
    return g - w * ((g * w).sum() / (w * w).sum())


def all_at_once(values, rate_of_step, gradients_of_step):
    """As on an accelerator: operations of PyTorch, and rates as tensors."""
    optimiser = AdamP(values, 0.1)
    for rate, gradients in zip(rate_of_step, gradients_of_step, strict=True):
        optimiser.step(gradients, Rates(*torch.tensor(optimiser.next_rates(rate))))
        yield


def by_rows(values, rate_of_step, gradients_of_step):
    """As on a processor."""
    parameters = [Parameter(value) for value in values]
    for step, (rate, gradients) in enumerate(zip(rate_of_step, gradients_of_step, strict=True), 1):
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.gradient[:] = gradient
            teacher, before = parameter.teacher.copy(), parameter.student.copy()
            parameter.move(rates_of(step, rate, 0.1), 0.75, None)
            assert (parameter.student != before).any()
            torch.testing.assert_close(parameter.teacher, 0.75 * teacher + 0.25 * parameter.student)  # eq. 8
        yield


@pytest.mark.parametrize("optimise", [all_at_once, by_rows])
@pytest.mark.parametrize("how", ["rows", "whole", "none"])
def test_steps_are_timms(how, optimise) -> None:
    """With gradients that make it project by row, as a whole, and not at all; the rate changes in between."""
    mine = [draw(shape, i) for i, shape in enumerate(SHAPES)]
    theirs = [p.clone().requires_grad_() for p in mine]
    reference = timm.optim.AdamP(theirs, lr=1e-2, weight_decay=0.1, nesterov=True)
    rate_of_step = [1e-2 / (step + 1) for step in range(6)]
    drawn = ([orthogonal(draw(p.shape, 10 * step + i), p, how) for i, p in enumerate(mine)] for step in range(6))
    gradients_of_step = []

    def noted():
        for gradients in drawn:
            gradients_of_step.append([g.clone() for g in gradients])
            yield gradients

    for step, _ in enumerate(optimise(mine, rate_of_step, noted())):
        for p, g in zip(theirs, gradients_of_step[step], strict=True):
            p.grad = g
        reference.param_groups[0]["lr"] = rate_of_step[step]
        reference.step()
        for a, b in zip(mine, theirs, strict=True):
            torch.testing.assert_close(a, b.detach(), atol=2e-6, rtol=2e-5)
