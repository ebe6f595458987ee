"""Patch features: neighbourhood, alignment, pooling as in the official PatchCore code, or the plain mean.

At every position, the official code collects the s x s neighbourhood in all channels as one vector, in the order
channel, row, column. It pools this vector to `level_dim` values, resizes the result to the grid of the first level,
concatenates the levels and pools them to `dim` values. Both poolings are linear and local: each output is a weighted
sum of the neighbourhoods in a few channels. Therefore this module computes a level with a few depthwise s x s
convolutions whose weights are known, and collects no neighbourhoods.

The mean of every channel over the neighbourhood is the same pooling to as many values as the level has channels. The
embedding `concat` lays these means of all levels end to end, and pools them to `dim` values if these are fewer.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
import torch.nn.functional as F
from scipy.sparse import csr_array
from torch import Tensor

BLOCK = 16  # oneDNN's fast depthwise convolution needs a multiple of this number of channels


@dataclass(frozen=True)
class LevelWeights:
    """The outputs `start` to `stop`, which one level gives: a sum over terms of depthwise convolutions."""

    start: int
    stop: int
    channels: tuple[Tensor | None, ...]  # one (n) per term: the input channel of every output; None: all, in order
    kernels: Tensor  # (terms, n, 1, s, s): its weights, 0 where an output has fewer terms; n: a multiple of BLOCK


def pooling(inputs: int, outputs: int) -> csr_array:
    """(outputs, inputs) matrix of adaptive average pooling: row i averages floor(i m/n) to ceil((i+1) m/n)."""
    i = np.arange(outputs)
    low, high = i * inputs // outputs, -(-(i + 1) * inputs // outputs)
    starts = np.concatenate([[0], np.cumsum(high - low)])
    columns = np.arange(starts[-1]) + np.repeat(low - starts[:-1], high - low)
    return csr_array((np.repeat(1 / (high - low), high - low), columns, starts), shape=(outputs, inputs))


@cache
def level_weights(
    channels: tuple[int, ...], patch_size: int, level_dim: int | None, dim: int, device: torch.device
) -> tuple[LevelWeights, ...]:
    """(channels of every level, s, level_dim, dim) -> the weights of every level, on a device."""
    area, levels = patch_size**2, []
    widths = [level_dim or count for count in channels]
    last, ends = pooling(sum(widths), dim).tocsc(), np.cumsum(widths)
    for count, width, end in zip(channels, widths, ends, strict=True):
        whole = (last[:, end - width : end] @ pooling(count * area, width)).tocoo()
        start, stop = int(whole.row.min()), int(whole.row.max()) + 1
        outputs, (inputs, position) = whole.row - start, np.divmod(whole.col, area)
        first = np.full(-(-(stop - start) // BLOCK) * BLOCK, count - 1)
        np.minimum.at(first, outputs, inputs)
        term = inputs - first[outputs]  # windows are contiguous
        channels_of = np.tile(first, (term.max() + 1, 1))
        kernels = np.zeros((*channels_of.shape, area), np.float32)
        channels_of[term, outputs], kernels[term, outputs, position] = inputs, whole.data
        shaped = torch.from_numpy(kernels).view(*channels_of.shape, 1, patch_size, patch_size)
        everything = np.arange(count)
        taken = [None if np.array_equal(c, everything) else torch.from_numpy(c).to(device) for c in channels_of]
        levels.append(LevelWeights(start, stop, tuple(taken), shaped.to(device)))
    return tuple(levels)


def pooled_level(level: Tensor, weights: LevelWeights) -> Tensor:
    """(B, C, H, W) -> (B, stop - start, H, W) float32: surroundings gathered and pooled, zeros outside the map."""
    level = level.float().contiguous(memory_format=torch.channels_last)
    rows = level.permute(0, 2, 3, 1)
    terms = []
    for channels, kernel in zip(weights.channels, weights.kernels, strict=True):
        if channels is None:
            x = level
        else:
            chosen = rows.reshape(-1, rows.shape[-1]).index_select(1, channels)
            x = chosen.view(*rows.shape[:-1], -1).permute(0, 3, 1, 2)
        kernel = kernel.contiguous(memory_format=torch.channels_last)
        terms.append(F.conv2d(x, kernel, padding=(kernel.shape[-1] - 1) // 2, groups=len(kernel)))
    return sum(terms[1:], terms[0])[:, : weights.stop - weights.start]


def patch_features(
    levels: Sequence[Tensor], patch_size: int, level_dim: int | None, dim: int, dtype: torch.dtype = torch.float32
) -> Tensor:
    """(B, C_l, H_l, W_l) per level, channels last -> (B, H, W, dim) on the grid of the first level.

    Without a `level_dim` every level keeps its channels, each averaged over s x s positions (`concat`). Both embeddings
    count positions outside a feature map as 0. The official code resizes before it pools; both are linear and act on
    different axes, so the order only changes the cost.
    """
    b, _, h, w = levels[0].shape
    features = levels[0].new_empty((b, h, w, dim), dtype=dtype)
    weights = level_weights(tuple(level.shape[1] for level in levels), patch_size, level_dim, dim, levels[0].device)
    for each, part in zip(weights, level_parts(levels, weights), strict=True):
        features[..., each.start : each.stop] = part
    return features


def level_parts(levels: Sequence[Tensor], weights_of_levels: Sequence[LevelWeights]) -> Iterator[Tensor]:
    """(B, C_l, H_l, W_l) per level, the weights of each -> per level (B, H, W, stop - start) on the grid of the first.

    Where the outputs of a level begin before those of the level before it stop, its part holds the whole sum there.
    """
    h, w = levels[0].shape[-2:]
    stop, before = 0, levels[0]
    for level, weights in zip(levels, weights_of_levels, strict=True):
        part = pooled_level(level, weights)
        if part.shape[-2:] != (h, w):
            # F.interpolate's own operator: with deterministic algorithms on a GPU it would take a slow detour for the
            # sake of gradients.
            part = torch.ops.aten.upsample_bilinear2d(part, [h, w], align_corners=False)
        part = part.permute(0, 2, 3, 1)
        shared = stop - weights.start  # windows of the last pooling may span two levels
        if shared:
            part[..., :shared] += before[..., -shared:]
        stop, before = weights.stop, part
        yield part
