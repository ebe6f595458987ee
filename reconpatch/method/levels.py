"""What timm's networks are: levels with their channels, parameters, and the grid of an image of some size.

All of it is asked of networks without weights, on PyTorch's meta device, where shapes are computed and nothing else.
"""

import difflib
from collections.abc import Sequence
from functools import cache
from typing import Any

import timm
import torch
from torch import nn

from reconpatch.device import ALONE
from reconpatch.errors import ReconpatchError

DETAILED = 6  # levels of which a message says more than the number
MULTIPLES = (8, 14, 16, 32)  # px: the sizes that networks take are mostly multiples of one of these


@cache
def describe(name: str) -> tuple[dict[str, Any], ...]:
    """timm name -> index, module, channels and stride of every level that timm counts.

    Raises ReconpatchError if timm does not know the name, or the network has no feature maps.
    """
    if not timm.is_model(name):
        known = timm.list_models() + timm.list_pretrained()
        close = ", ".join(difflib.get_close_matches(name, known, 5, cutoff=0.5)) or "none is close"
        raise ReconpatchError(f"timm has no such model (similar: {close})", where=f"backbone {name!r}")
    try:
        with torch.device("meta"):
            net: Any = timm.create_model(name, features_only=True, feature_cls="getter")
    except Exception as error:  # each family of networks refuses in its own way
        raise ReconpatchError(
            f"timm gives no feature maps of it ({type(error).__name__})",
            where=f"backbone {name!r}",
            fix="choose another network",
        ) from None
    return tuple(
        {"level": i, "module": level["module"], "channels": int(level["num_chs"]), "stride": int(level["reduction"])}
        for i, level in enumerate(net.feature_info.info)
    )


def check_levels(name: str, levels: Sequence[int]) -> list[dict[str, Any]]:
    """timm name, levels -> what `describe` says of these levels. The grid of the first one is that of the patches.

    Raises ReconpatchError if the network does not exist or lacks a level; the message lists the levels it has.
    """
    known = describe(name)
    missing = [level for level in levels if level >= len(known)]
    if missing:
        few = known if len(known) <= DETAILED else (known[0], known[-1])
        details = [f"{d['level']} ({d['module']}, {d['channels']} channels, stride {d['stride']})" for d in few]
        have = ", ".join(details) if len(few) == len(known) else " to ".join(details)
        raise ReconpatchError(f"backbone {name!r} has no level {missing[0]}; its levels are {have}")
    return [known[level] for level in levels]


def _cut(name: str, levels: tuple[int, ...], device: str) -> nn.Module:
    """timm name, levels it has, device -> the network up to the last of these levels, with random weights."""
    with ALONE, torch.random.fork_rng(devices=[]), torch.device(device):  # timm draws from the global stream
        net: nn.Module = timm.create_model(name, features_only=True, feature_cls="getter", out_indices=levels)
    return net.eval()


@cache
def _without_weights(name: str, levels: tuple[int, ...]) -> nn.Module:
    """timm name, levels it has -> the network up to the last of these levels, on the meta device."""
    return _cut(name, levels, "meta")


def count_parameters(name: str, levels: Sequence[int]) -> int:
    """timm name, levels it has -> number of parameters up to the last of these levels."""
    return sum(p.numel() for p in _without_weights(name, tuple(levels)).parameters())


def patch_grid(name: str, levels: Sequence[int], side: int, setting: str = "crop") -> int:
    """timm name, levels it has, px of a square image, what the user calls these px -> patches along a side: positions
    of the first level's map.

    Raises ReconpatchError if the network does not take images of this size; the message names sizes near it that it
    takes.
    """
    maps = _shapes(name, tuple(levels), side)
    if isinstance(maps, str):
        fitting = [n for n in _sizes_near(name, side) if not isinstance(_shapes(name, tuple(levels), n), str)]
        raise ReconpatchError(
            f"takes no images of {side} px{'' if fitting else f' ({maps})'}",
            where=f"backbone {name!r}",
            fix=f"set {setting} to {' or '.join(map(str, fitting))}" if fitting else "choose another size or network",
        )
    for level, shape in zip(levels, maps, strict=True):
        if len(shape) != 4 or shape[2] != shape[3]:
            raise ReconpatchError(
                f"level {level} gives {shape} for an image of {side} px, not a square map", where=f"backbone {name!r}"
            )
    return maps[0][2]


@cache
def _shapes(name: str, levels: tuple[int, ...], side: int) -> tuple[tuple[int, ...], ...] | str:
    """timm name, levels, px -> the shape (1, C, H, W) of each level's map, or what the network raises, as one line."""
    image = torch.zeros(1, 3, side, side)
    try:
        with torch.no_grad():
            try:
                maps = _without_weights(name, levels)(image.to("meta"))
            except RuntimeError as error:
                if "meta tensor" not in str(error):
                    raise
                maps = _cut(name, levels, "cpu")(image)  # a few networks compute sizes from values
    except Exception as error:  # networks check sizes with assertions, or fail in whichever operation comes first
        return f"{type(error).__name__}: {(str(error) or 'no reason').splitlines()[0]}"
    return tuple(tuple(each.shape) for each in maps)


def _sizes_near(name: str, side: int) -> list[int]:
    """timm name, px -> sizes to try in ascending order: the one the network was made for, and multiples near `side`."""
    config = timm.get_pretrained_cfg(name)
    near = {n for step in MULTIPLES for n in (side // step * step, (side // step + 1) * step) if n}
    return sorted(near | ({config.input_size[-1]} if config else set()))
