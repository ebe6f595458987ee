"""AdamP against timm's."""

import pytest
import timm.optim
import torch

from reconpatch.method import adamp, loss

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


@pytest.mark.parametrize("elements", [1, 12, 2**17, None])
@pytest.mark.parametrize("how", ["rows", "whole", "none"])
def test_steps_are_timms(how, elements, monkeypatch) -> None:
    """With gradients that make it project by row, as a whole, and not at all; the rate changes in between. None: as on
    an accelerator, all parameters at once and rates as tensors.
    """
    monkeypatch.setattr(adamp, "row_blocks", lambda matrix: loss.row_blocks(matrix, elements or 2**17))
    mine = [draw(shape, i) for i, shape in enumerate(SHAPES)]
    theirs = [p.clone().requires_grad_() for p in mine]
    reference = timm.optim.AdamP(theirs, lr=1e-2, weight_decay=0.1, nesterov=True)
    optimiser = adamp.AdamP(mine, 0.1)
    optimiser.in_blocks = elements is not None
    for step in range(6):
        rate = 1e-2 / (step + 1)
        gradients = [orthogonal(draw(p.shape, 10 * step + i), p, how) for i, p in enumerate(mine)]
        for p, g in zip(theirs, gradients, strict=True):
            p.grad = g.clone()
        reference.param_groups[0]["lr"] = rate
        reference.step()
        rates = optimiser.next_rates(rate)
        optimiser.step(gradients, rates if elements else adamp.Rates(*torch.tensor(rates)))
        for a, b in zip(mine, theirs, strict=True):
            torch.testing.assert_close(a, b.detach(), atol=2e-6, rtol=2e-5)
