"""From images to patch features: read, run through the network and written to disk batch by batch."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from reconpatch.errors import ReconpatchError
from reconpatch.method.backbones import Backbone
from reconpatch.method.feature_files import write_header
from reconpatch.method.patches import patch_features

T = TypeVar("T")
R = TypeVar("R")


def read_ahead(function: Callable[[T], R], items: Iterable[T], threads: int, depth: int) -> Iterator[R]:
    """items -> function(item), in order, while threads already work on the next `depth` items."""
    with ThreadPoolExecutor(threads) as pool:
        waiting: deque[Future[R]] = deque()
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) > depth:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def features_of(
    images: Sequence[NDArray[np.uint8]], backbone: Backbone, patch_size: int, level_dim: int, dim: int
) -> NDArray[np.float16]:
    """B (crop, crop, 3) uint8 images -> (B, H, W, dim) float16 patch features.

    Raises ReconpatchError if a feature does not fit into float16. Features of trained networks are far from that.
    """
    with torch.inference_mode():
        levels = backbone(torch.from_numpy(np.stack(images)))
        features = patch_features(levels, patch_size, level_dim, dim, torch.float16).cpu()
        if not features.sum(dtype=torch.float32).isfinite():  # one pass; a sum is finite only if every term is
            raise ReconpatchError("patch features do not fit into float16", fix="check the weights of the network")
    return np.asarray(features.numpy())


def write_features(
    items: Sequence[T],
    read: Callable[[T], NDArray[np.uint8]],
    backbone: Backbone,
    destination: Path,
    *,
    names: Sequence[str] | None = None,
    patch_size: int,
    level_dim: int,
    dim: int,
    batch: int,
    threads: int,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> None:
    """N items, a function that reads the (crop, crop, 3) image of one -> `destination`, an .npy file of (N, H, W, dim)
    float16 patch features.

    Images are read while the network works. `progress` is called with (images done, images in all). Raises
    ReconpatchError if there are no items, and as `features_of` does, with the name of the first image of the batch:
    from `names`, by default the items as text.
    """
    if not items:
        raise ReconpatchError("no images to extract features of", where=destination)
    done = 0
    images: list[NDArray[np.uint8]] = []
    with open(destination, "wb") as file:  # written in order: a memory map would count as memory and hide a full disk
        for image in read_ahead(read, items, threads, depth=2 * batch):
            images.append(image)
            if len(images) < batch and done + len(images) < len(items):
                continue
            try:
                features = features_of(images, backbone, patch_size, level_dim, dim)
            except ReconpatchError as error:
                first = names[done] if names else items[done]
                raise ReconpatchError(error.what, where=f"{first} and after", fix=error.fix) from None
            if done == 0:
                write_header(file, (len(items), *features.shape[1:]), np.dtype(np.float16))
            file.write(features.data)
            done += len(images)
            images.clear()
            progress(done, len(items))
