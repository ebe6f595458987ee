"""A frozen network made ready for inference: the same numbers in fewer passes over memory.

Batch norms are folded into their convolutions. On a CPU the activation and the residual sum that follow a convolution
are joined to it, and its weights are laid out once as oneDNN wants them instead of in every call. What the rewriting
does not know it leaves as it is.
"""

import logging
import operator
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from timm.layers._fx import get_notrace_functions, get_notrace_modules
from timm.layers.conv2d_same import Conv2dSame
from timm.layers.norm_act import BatchNormAct2d
from torch import Tensor, fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from reconpatch.device import ALONE

LOG = logging.getLogger(__name__)
Activation = tuple[str | None, list[float]]  # oneDNN's name and its numbers
NONE: Activation = (None, [])
ACTIVATIONS: dict[type, Activation] = {
    nn.ReLU: ("relu", []),
    nn.ReLU6: ("hardtanh", [0.0, 6.0]),
    nn.SiLU: ("swish", []),
}
AFTER_SUM: dict[type, Activation] = {nn.ReLU: ACTIVATIONS[nn.ReLU]}  # the only one oneDNN has there
NORMS = (nn.BatchNorm2d, BatchNormAct2d)  # the second is timm's, with the activation inside
PLAIN = (nn.Conv2d, Conv2dSame)  # others may do something to their weights first
SUMS = (operator.add, torch.add)  # x += y is traced as x + y


class Tracer(fx.Tracer):
    """Records what a network does with its modules; timm names those that do not survive being traced.

    While a tracer records, PyTorch gives it the calls and attributes of all modules of the process. What other threads
    compute meanwhile with theirs must stay as it is. Two tracers at a time would undo each other's changes: hold ALONE.
    """

    def __init__(self) -> None:
        super().__init__(autowrap_functions=tuple(get_notrace_functions()))  # type: ignore[no-untyped-call]
        self.thread = threading.get_ident()

    def call_module(
        self, m: nn.Module, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """A module is called: recorded if this thread does it, and else computed."""
        if threading.get_ident() != self.thread:
            return forward(*args, **kwargs)
        return super().call_module(m, forward, args, kwargs)

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, Any]) -> Any:
        """An attribute of a module is read: as `call_module`."""
        if threading.get_ident() != self.thread:
            return attr_val
        return super().getattr(attr, attr_val, parameter_proxy_cache)

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Whether a module is one step of the graph."""
        kept = (*get_notrace_modules(), BatchNormAct2d)  # type: ignore[no-untyped-call]
        return isinstance(m, kept) or super().is_leaf_module(m, module_qualified_name)


class Shapes(fx.Interpreter):
    """Computes a traced network step by step and notes the shape of every result."""

    def run_node(self, n: fx.Node) -> Any:
        """Node -> its result."""
        result = super().run_node(n)
        n.meta["shape"] = getattr(result, "shape", None)
        return result


class JoinedConvolution(nn.Module):
    """activation(convolution(x) + other) in one call of oneDNN, through the operator torch.compile uses."""

    def __init__(self, convolution: nn.Conv2d, activation: Activation) -> None:
        super().__init__()
        c, self.activation, self.bias = convolution, activation, convolution.bias
        self.shape = (c.padding, c.stride, c.dilation, c.groups)
        self.weight = torch.ops.mkldnn._reorder_convolution_weight(c.weight, *self.shape)

    def forward(self, x: Tensor, other: Tensor | None = None) -> Tensor:
        """(B, C, H, W) input and, if there is a sum, (B, D, H', W') -> (B, D, H', W')."""
        (name, numbers), ops = self.activation, torch.ops.mkldnn
        out: Tensor
        if other is None:
            out = ops._convolution_pointwise(x, self.weight, self.bias, *self.shape, name or "none", numbers, "")
        else:
            end = ("add", 1.0, name, numbers, "")
            out = ops._convolution_pointwise.binary(x, other, self.weight, self.bias, *self.shape, *end)
        return out


def prepare(net: nn.Module, dtype: torch.dtype = torch.float32, portable: bool = False) -> nn.Module:
    """Frozen float32 network in eval mode, on its device -> the same in this precision, faster. If it is to be
    `portable`, no step of it needs oneDNN, so that it can be exported.

    Both take (B, 3, H, W). In float32 outputs agree up to rounding. That is tried on noise: a network that cannot be
    traced, takes no images of 64 px or gives something else once rewritten comes back as it was but for the precision.
    Why it did is logged as information.
    """
    device = next(net.parameters()).device
    noise = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)).to(device)
    noise = noise.contiguous(memory_format=torch.channels_last)
    try:
        with ALONE:
            traced = fx.GraphModule(net, Tracer().trace(net))
        expected = Shapes(traced).run(noise), net(noise)
        fold(traced)
        traced = traced.to(dtype)
        if device.type == "cpu" and joins(dtype) and not portable:
            join(traced)
        traced.delete_all_unused_submodules()
        traced.recompile()
        for got, *wanted in zip(traced(noise.to(dtype)), *expected, strict=True):
            error = max(float((got.float() - want).norm() / want.norm()) for want in wanted)
            if not error < (0.01 if dtype == torch.float32 else 0.1):  # well above rounding, TensorFloat-32's too
                raise ValueError(f"maps change by {error:.1%}")
    except Exception as error:  # tracing runs the network's own code on stand-ins, which may fail in any way
        LOG.info("network left as it is, which may be slower: %s: %s", type(error).__name__, error)
        return net.to(dtype)
    return traced


def joins(dtype: torch.dtype) -> bool:
    """Whether this CPU has the joined operators for a precision; for bfloat16 they need AVX-512."""
    ops = torch.ops.mkldnn
    if not hasattr(ops, "_convolution_pointwise"):
        return False
    return dtype == torch.float32 or bool(ops._is_mkldnn_bf16_supported())


def fold(traced: fx.GraphModule) -> None:
    """Fold every batch norm that alone follows a convolution into it, and drop what does nothing in inference."""
    calls = single_calls(traced)
    for node, module in calls.items():
        before = node.args[0]
        if isinstance(module, (nn.Identity, nn.Dropout)):
            drop(node)
        elif type(module) in NORMS and isinstance(before, fx.Node) and module.running_mean is not None:
            convolution = calls.get(before)
            if isinstance(convolution, nn.Conv2d) and type(convolution) in PLAIN and only_user(before) is node:
                calls[before] = replace(traced, before, fuse_conv_bn_eval(convolution, module))  # type: ignore[arg-type]
                activation = getattr(module, "act", nn.Identity())
                if isinstance(activation, nn.Identity):
                    drop(node)
                else:
                    replace(traced, node, activation)


def join(traced: fx.GraphModule) -> None:
    """Join the sum and the activation after every convolution to it."""
    calls = single_calls(traced)
    for node, convolution in calls.items():
        source = node.args[0]
        if type(convolution) is not nn.Conv2d or not isinstance(source, fx.Node):
            continue
        if isinstance(convolution.padding, str) or convolution.padding_mode != "zeros":
            continue
        steps, inputs, activation = [node], [source], NONE
        following = only_user(node)
        if following is not None and following.target in SUMS and len(following.args) == 2 and not following.kwargs:
            other = [a for a in following.args if a is not node]
            if len(other) == 1 and isinstance(other[0], fx.Node) and same_shape(other[0], node):
                steps.append(following)
                inputs.append(other[0])
                following = only_user(following)
        known = ACTIVATIONS if len(steps) == 1 else AFTER_SUM
        if following is not None and type(calls.get(following)) in known:
            steps.append(following)
            activation = known[type(calls[following])]
        if any(node < user < steps[-1] for user in source.users):  # which might change the input meanwhile
            steps, inputs, activation = [node], [source], NONE
        replace(traced, node, JoinedConvolution(convolution, activation))
        with traced.graph.inserting_after(steps[-1]):
            joined = traced.graph.call_module(str(node.target), tuple(inputs))
        joined.meta = dict(steps[-1].meta)
        steps[-1].replace_all_uses_with(joined)
        for step in reversed(steps):
            traced.graph.erase_node(step)


def single_calls(traced: fx.GraphModule) -> dict[fx.Node, nn.Module]:
    """The nodes that call a module which no other node calls or reads from, with that module, in order."""
    calls = [node for node in traced.graph.nodes if node.op == "call_module"]
    read = [str(node.target).rpartition(".")[0] for node in traced.graph.nodes if node.op == "get_attr"]
    times = Counter([*(node.target for node in calls), *read])
    return {n: traced.get_submodule(str(n.target)) for n in calls if times[n.target] == 1 and n.args}


def only_user(node: fx.Node) -> fx.Node | None:
    """The node that alone uses a node's result."""
    return next(iter(node.users)) if len(node.users) == 1 else None


def same_shape(one: fx.Node, other: fx.Node) -> bool:
    """Whether two results have one shape, so that nothing is broadcast."""
    shapes = [n.meta.get("shape") for n in (one, other)]
    return shapes[0] is not None and shapes[0] == shapes[1]


def drop(node: fx.Node) -> None:
    """Let a node's input pass."""
    node.replace_all_uses_with(node.args[0])  # type: ignore[arg-type]
    node.graph.erase_node(node)


def replace(traced: fx.GraphModule, node: fx.Node, module: nn.Module) -> nn.Module:
    """Put another module in the place of the one a node calls."""
    parent, _, name = str(node.target).rpartition(".")
    setattr(traced.get_submodule(parent), name, module)
    return module
