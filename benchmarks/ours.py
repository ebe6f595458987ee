"""The project's calls that the parts share: the only place to change when their signatures do."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from reconpatch.data.images import image_array
from reconpatch.method.backbones import Backbone, load_backbone
from reconpatch.method.features import write_features
from reconpatch.method.patches import patch_features
from reconpatch.runtime import keep_freed_memory

LEVELS, PATCH, DIM = (2, 3), 3, 1024  # the paper's levels; 1,024 dimensions as the official PatchCore has


def backbone(name: str, precision: str) -> Backbone:
    """timm name, float32 or bfloat16 -> network with random weights; memory is kept as in the workflow's jobs."""
    keep_freed_memory()
    return load_backbone(name, LEVELS, "random", precision=precision)


def features(network: Backbone, images: NDArray[np.uint8]) -> NDArray[np.float16]:
    """(B, H, W, 3) uint8 -> (B, h, w, 1024) float16 patch features, as extraction makes them."""
    with torch.inference_mode():
        levels = network(torch.from_numpy(images))
        found: NDArray[np.float16] = patch_features(levels, PATCH, DIM, DIM, torch.float16).cpu().numpy()
    return found


def forward(network: Backbone, images: NDArray[np.uint8]) -> Callable[[], Any]:
    """The network as it was prepared, and what it is fed -> its forward pass alone, without normalisation."""
    fed: list[torch.Tensor] = []

    handle = network.net.register_forward_pre_hook(lambda _, inputs: fed.append(inputs[0]))
    with torch.inference_mode():
        network(torch.from_numpy(images))
    handle.remove()

    def call() -> Any:
        with torch.inference_mode():
            return network.net(fed[0])

    return call


def extract_files(
    paths: list[Path], network: Backbone, destination: Path, resize: int, crop: int, threads: int, batch: int = 8
) -> None:
    """Image files -> .npy of their patch features."""
    write_features(
        paths,
        lambda path: image_array(path, resize, crop, "bilinear"),
        network,
        destination,
        patch_size=PATCH,
        level_dim=DIM,
        dim=DIM,
        batch=batch,
        threads=threads,
    )
