"""Patch features as the official PatchCore code makes them: neighbourhood, alignment, pooling."""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, cat, split, stack


def neighbourhoods(level: Tensor, patch_size: int) -> Tensor:
    """(B, C, H, W) -> (B, C*s*s, H, W): the s x s surroundings of every position, zeros outside the map."""
    b, _, h, w = level.shape
    return F.unfold(level, patch_size, padding=(patch_size - 1) // 2).reshape(b, -1, h, w)


def pool_channels(x: Tensor, dim: int) -> Tensor:
    """(B, C, H, W) -> (B, dim, H, W): means of neighbouring channels, as adaptive average pooling cuts them."""
    b, c, h, w = x.shape
    pooled = F.adaptive_avg_pool1d(x.permute(0, 2, 3, 1).reshape(b, h * w, c), dim)
    return pooled.reshape(b, h, w, dim).permute(0, 3, 1, 2)


def patch_features(levels: Sequence[Tensor], patch_size: int, level_dim: int, dim: int) -> Tensor:
    """(B, C_l, H_l, W_l) per level -> (B, H, W, dim) on the grid of the first level.

    Every level is gathered over its s x s neighbourhoods, pooled to `level_dim` and resized bilinearly to the first
    level's grid; the levels are laid end to end and pooled to `dim`. The official code resizes before it pools; both
    are linear and act on different axes, so the order only changes the cost.
    """
    if len(levels[0]) > 1:  # one image at a time: its gathered neighbourhoods are s*s times its feature maps
        images = zip(*(split(level, 1) for level in levels), strict=True)
        return cat([patch_features(image, patch_size, level_dim, dim) for image in images])
    grid = levels[0].shape[-2:]
    aligned = []
    for level in levels:
        pooled = pool_channels(neighbourhoods(level, patch_size), level_dim)
        if pooled.shape[-2:] != grid:
            pooled = F.interpolate(pooled, size=grid, mode="bilinear", align_corners=False)
        aligned.append(pooled)
    stacked = stack(aligned, 1).flatten(1, 2)  # (B, L*level_dim, H, W)
    return pool_channels(stacked, dim).permute(0, 2, 3, 1)
