"""A step on fixed memory as one CUDA graph: launching its hundred small kernels costs more than their work.

A graph is trusted only after it has done, from the same start, what the step itself does: to the bit, since both launch
the same kernels.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

Step = Callable[[], None]
WARM_UP = 3  # steps before the recording, in which libraries take their workspaces


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


def captured(step: Step, state: Sequence[Tensor], recorder: Callable[[Step], Step] = record) -> tuple[Step | None, str]:
    """A step, all tensors that it changes and a later step reads -> its recording and "", or None and the reason.

    There is none where the step cannot be recorded, or its recording leaves the state otherwise than the step does. The
    state is left as it was. A recording reads what the step reads where it lay, so new inputs must be copied there.
    """
    before = [value.clone() for value in state]

    def restore() -> None:
        for value, old in zip(state, before, strict=True):
            value.copy_(old)

    def state_after(function: Step) -> list[Tensor]:
        restore()
        function()
        return [value.clone() for value in state]

    expected = state_after(step)
    try:
        replay = recorder(step)
        found = state_after(replay)
    except RuntimeError as error:
        cause = error.__context__ or error  # ending the recording raises, too, and says less
        return None, f"the step cannot be recorded as a CUDA graph ({str(cause).splitlines()[0]})"
    finally:
        restore()
    if not all(map(torch.equal, found, expected)):
        return None, "the CUDA graph of the step computes something else than the step"
    return replay, ""
