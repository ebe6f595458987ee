"""Extraction: images -> patch features, streamed to disk so that memory holds one batch at a time."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from reconpatch.data.augmentation import Augmentation
from reconpatch.data.images import image_array
from reconpatch.errors import ReconpatchError
from reconpatch.method.backbones import Backbone
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

    Raises ReconpatchError when one does not fit float16, which trained networks do not come near.
    """
    with torch.inference_mode():
        levels = backbone(torch.from_numpy(np.stack(images)))
        features = patch_features(levels, patch_size, level_dim, dim, torch.float16).cpu()
        if not features.sum(dtype=torch.float32).isfinite():  # one pass; a sum is finite only if every term is
            raise ReconpatchError("patch features do not fit float16: check the weights")
    return np.asarray(features.numpy())


def write_features(
    items: Sequence[T],
    read: Callable[[T], NDArray[np.uint8]],
    names: Sequence[str],
    backbone: Backbone,
    destination: Path,
    *,
    patch_size: int,
    level_dim: int,
    dim: int,
    batch: int,
    threads: int,
    progress: Callable[[int, int], None],
) -> None:
    """N items, how an image (crop, crop, 3) is read of one, their names -> `destination`, an .npy of (N, H, W, dim)
    float16 patch features.

    Reading overlaps with the forward pass. `progress` is called with (images done, images in all). Raises
    ReconpatchError without images, and what `features_of` raises, with the name of the batch's first image.
    """
    if not items:
        raise ReconpatchError(f"{destination}: no images to extract features of")
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
                raise ReconpatchError(f"{names[done]} and after: {error}") from None
            if done == 0:
                write_header(file, (len(items), *features.shape[1:]), np.dtype(np.float16))
            file.write(features.data)
            done += len(images)
            images.clear()
            progress(done, len(items))


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
    """N image files, each with its augmentation, if it has one -> `destination`, as `write_features` makes it."""

    def read(item: tuple[Path, Augmentation | None]) -> NDArray[np.uint8]:
        return image_array(item[0], resize, crop, interpolation, item[1])

    write_features(
        list(zip(paths, augmentations, strict=True)),
        read,
        [str(path) for path in paths],
        backbone,
        destination,
        patch_size=patch_size,
        level_dim=level_dim,
        dim=dim,
        batch=batch,
        threads=threads,
        progress=progress,
    )


def write_header(file: BinaryIO, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    """Begin an .npy file of an array that follows in C order."""
    described = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, described)
