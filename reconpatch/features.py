"""Extraction: images -> patch features, streamed to disk so that memory holds one batch at a time."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from reconpatch.augmentation import Augmentation
from reconpatch.backbones import Backbone
from reconpatch.errors import ReconpatchError
from reconpatch.images import image_array
from reconpatch.patches import patch_features

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


def extract(
    paths: Sequence[Path],
    backbone: Backbone,
    destination: Path,
    *,
    resize: int,
    crop: int,
    interpolation: str,
    patch_size: int,
    level_dim: int,
    dim: int,
    batch: int,
    threads: int,
    augmentations: Sequence[Augmentation | None],
    progress: Callable[[int, int], None],
) -> None:
    """N images -> `destination`, an .npy of (N, H, W, dim) float16 patch features.

    Each image is read with its augmentation, if it has one; decoding overlaps with the forward pass. `progress` is
    called with (images done, images in all). Raises ReconpatchError without images, or when a feature does not fit
    float16, which trained networks do not come near.
    """
    if not paths:
        raise ReconpatchError(f"{destination}: no images to extract features of")

    def read(item: tuple[Path, Augmentation | None]) -> NDArray[np.uint8]:
        return image_array(item[0], resize, crop, interpolation, item[1])

    done = 0
    images: list[NDArray[np.uint8]] = []
    with open(destination, "wb") as file:  # written in order: a memory map would count as memory and hide a full disk
        for image in read_ahead(read, zip(paths, augmentations, strict=True), threads, depth=2 * batch):
            images.append(image)
            if len(images) < batch and done + len(images) < len(paths):
                continue
            with torch.inference_mode():
                levels = backbone(torch.from_numpy(np.stack(images)))
                features = patch_features(levels, patch_size, level_dim, dim, torch.float16).cpu()
            if not features.sum(dtype=torch.float32).isfinite():  # one pass; a sum is finite only if every term is
                raise ReconpatchError(f"features of {paths[done]} and after do not fit float16: check the weights")
            if done == 0:
                write_header(file, (len(paths), *features.shape[1:]), np.dtype(np.float16))
            file.write(features.numpy().data)
            done += len(images)
            images.clear()
            progress(done, len(paths))


def write_header(file: BinaryIO, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    """Begin an .npy file of an array that follows in C order."""
    described = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, described)
