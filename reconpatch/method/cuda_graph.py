"""A step on fixed memory as one CUDA graph: the launches of its hundred small kernels cost more than their work.

A graph is trusted only after it has done what the step itself does, from the same start.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

Step = Callable[[], None]
WARM_UP = 3  # steps before the recording, in which libraries take their workspaces
AGREE = 1e-3  # largest difference of two changes of a tensor, as a share of the change: both round otherwise


def record(step: Step) -> Step:
    """A step whose kernels are the same at every call -> a function that replays them on the same memory."""
    side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(WARM_UP):
            step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph.replay


def captured(
    step: Step, state: Sequence[Tensor], note: Callable[[str], None], recorder: Callable[[Step], Step] = record
) -> Step:
    """A step, all tensors that it changes and a later step reads -> its recording, or the step itself.

    The step itself is returned where it cannot be recorded, and where the recording changes the state otherwise; `note`
    is told why. The state is left as it was. A recording reads what the step reads where it lay, so new inputs must be
    copied there.
    """
    before = [value.clone() for value in state]

    def run(function: Step) -> list[Tensor]:
        restore()
        function()
        return [value - old for value, old in zip(state, before, strict=True)]

    def restore() -> None:
        for value, old in zip(state, before, strict=True):
            value.copy_(old)

    expected = run(step)
    try:
        replay = recorder(step)
        changes = run(replay)
    except RuntimeError as error:
        note(f"the step cannot be recorded as a CUDA graph ({str(error).splitlines()[0]}); it runs without one")
        return step
    finally:
        restore()
    for change, wanted in zip(changes, expected, strict=True):
        if not (change - wanted).norm() <= AGREE * wanted.norm():
            note("the CUDA graph of the step computes something else; it runs without one")
            return step
    return replay
