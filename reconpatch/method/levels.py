"""The levels of timm's networks: modules, channels, strides and parameters. Allocates no weights."""

import difflib
from collections.abc import Sequence
from typing import Any

import timm
import torch

from reconpatch.errors import ReconpatchError


def describe(name: str) -> list[dict[str, Any]]:
    """timm name -> index, module, channels and stride of each level. Allocates no weights.

    Raises ReconpatchError if timm does not know the name, or the network has no feature maps.
    """
    if not timm.is_model(name):
        known = timm.list_models() + timm.list_pretrained()
        close = ", ".join(difflib.get_close_matches(name, known, 5, cutoff=0.5)) or "none is close"
        raise ReconpatchError(f"timm has no such model (similar: {close})", where=f"backbone {name!r}")
    try:
        with torch.device("meta"):
            info: Any = timm.create_model(name, features_only=True, feature_cls="getter").feature_info
    except (AttributeError, RuntimeError, AssertionError, ValueError) as error:
        raise ReconpatchError(f"backbone {name!r} offers no feature maps in timm ({error})") from None
    return [
        {"level": i, "module": d["module"], "channels": d["num_chs"], "stride": d["reduction"]}
        for i, d in zip(info.out_indices, info.get_dicts(keys=["module", "num_chs", "reduction"]), strict=True)
    ]


def check_levels(name: str, levels: Sequence[int]) -> list[dict[str, Any]]:
    """timm name, levels -> what `describe` says of these levels. The grid of the first one is that of the patches.

    Raises ReconpatchError if the network does not exist or lacks a level; the message lists the levels it has.
    """
    known = describe(name)
    missing = [level for level in levels if level not in {d["level"] for d in known}]
    if missing:
        have = ", ".join(f"{d['level']} ({d['module']}, {d['channels']} channels, stride {d['stride']})" for d in known)
        raise ReconpatchError(f"backbone {name!r} has no level {missing[0]}; its levels are {have}")
    return [d for d in known if d["level"] in levels]


def count_parameters(name: str, levels: Sequence[int]) -> int:
    """timm name, levels it has -> number of parameters up to the last of these levels. Allocates no parameters."""
    with torch.device("meta"):
        net = timm.create_model(name, features_only=True, feature_cls="getter", out_indices=tuple(levels))
    return sum(p.numel() for p in net.parameters())
