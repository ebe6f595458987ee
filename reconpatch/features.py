"""Extraction: images -> patch features, streamed to disk so that memory holds one batch at a time."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from reconpatch.augmentation import Augmentation, draw
from reconpatch.backbones import Backbone
from reconpatch.errors import ReconpatchError
from reconpatch.images import image_array, mask_array
from reconpatch.patches import patch_features
from reconpatch.randomness import stream

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
    called with (images done, images in all). Raises ReconpatchError when a feature does not fit float16, which trained
    networks do not come near.
    """

    def read(item: tuple[Path, Augmentation | None]) -> NDArray[np.uint8]:
        return image_array(item[0], resize, crop, interpolation, item[1])

    out: np.memmap[Any, np.dtype[np.float16]] | None = None
    images: list[NDArray[np.uint8]] = []
    done = 0
    for image in read_ahead(read, zip(paths, augmentations, strict=True), threads, depth=2 * batch):
        images.append(image)
        if len(images) < batch and done + len(images) < len(paths):
            continue
        with torch.inference_mode():
            levels = backbone(torch.from_numpy(np.stack(images)))
            features = patch_features(levels, patch_size, level_dim, dim).half().cpu().numpy()
        if not np.isfinite(features).all():
            raise ReconpatchError(f"features of {paths[done]} and after do not fit float16: check the weights")
        if out is None:
            out = np.lib.format.open_memmap(destination, "w+", np.float16, (len(paths), *features.shape[1:]))
        out[done : done + len(images)] = features
        done += len(images)
        images.clear()
        progress(done, len(paths))
    if out is not None:
        out.flush()


def read_masks(
    paths: Sequence[Path | None],
    resize: int,
    crop: int,
    rule: str,
    threads: int,
    augmentations: Sequence[Augmentation | None],
) -> NDArray[np.bool_]:
    """N mask files, None for a normal image -> (N, crop, crop) bool, true on the defect, moved as their images are."""

    def read(path: Path | None, augmentation: Augmentation | None) -> NDArray[np.bool_]:
        return np.zeros((crop, crop), bool) if path is None else mask_array(path, resize, crop, rule, augmentation)

    with ThreadPoolExecutor(threads) as pool:
        return np.stack(list(pool.map(read, paths, augmentations)))


def drawn_augmentations(paths: Sequence[str], run: Mapping[str, Any]) -> list[Augmentation | None]:
    """(N paths within their category, fields of a run) -> each image's augmentation, None where the run has none.

    Each comes from the seed and the image's own path, so it does not depend on the other images.
    """
    if run.get("augment", "none") == "none":
        return [None] * len(paths)
    names = ("rotation", "translation", "brightness", "contrast", "blur")
    ranges = {name: run[f"augment_{name}"] for name in names}
    return [draw(stream(run["seed"], f"augmentation/{path}"), **ranges) for path in paths]
