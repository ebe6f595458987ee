"""From images to patch features: read, run through the network and written to disk batch by batch."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

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


class Started(NamedTuple):
    """Patch features of a batch that may still be on their way from a GPU to the host."""

    features: Tensor  # (B, H, W, dim) float16, in host memory
    total: Tensor  # their sum: finite only if every feature is
    arrived: Any  # torch.cuda.Event; None on the CPU


def start_features(
    images: Sequence[NDArray[np.uint8]], backbone: Backbone, patch_size: int, level_dim: int | None, dim: int
) -> Started:
    """B (crop, crop, 3) uint8 images -> their features. On a GPU it returns before these are computed: the host can
    read the next images meanwhile.
    """
    with torch.inference_mode():
        batch = torch.from_numpy(np.stack(images))
        levels = backbone(batch.pin_memory() if backbone.device == "cuda" else batch)
        features = patch_features(levels, patch_size, level_dim, dim, torch.float16)
        total = features.sum(dtype=torch.float32)
        if backbone.device != "cuda":
            return Started(features, total, None)
        on_host = Started(
            torch.empty_like(features, device="cpu", pin_memory=True),
            torch.empty_like(total, device="cpu", pin_memory=True),
            torch.cuda.Event(blocking=True),  # type: ignore[no-untyped-call]
        )
        on_host.features.copy_(features, non_blocking=True)
        on_host.total.copy_(total, non_blocking=True)
        on_host.arrived.record()
        return on_host


def finish_features(started: Started) -> NDArray[np.float16]:
    """What `start_features` started -> (B, H, W, dim) float16 patch features.

    Raises ReconpatchError if a feature does not fit into float16. Features of trained networks are far from that.
    """
    if started.arrived is not None:
        started.arrived.synchronize()
    if not started.total.isfinite():
        raise ReconpatchError("patch features do not fit into float16", fix="check the weights of the network")
    return np.asarray(started.features.numpy())


def features_of(
    images: Sequence[NDArray[np.uint8]], backbone: Backbone, patch_size: int, level_dim: int | None, dim: int
) -> NDArray[np.float16]:
    """B (crop, crop, 3) uint8 images -> (B, H, W, dim) float16 patch features. Raises as `finish_features` does."""
    return finish_features(start_features(images, backbone, patch_size, level_dim, dim))


def write_features(
    items: Sequence[T],
    read: Callable[[T], NDArray[np.uint8]],
    backbone: Backbone,
    destination: Path,
    *,
    names: Sequence[str] | None = None,
    patch_size: int,
    level_dim: int | None,
    dim: int,
    batch: int,
    threads: int,
    in_flight: int | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> None:
    """N items, a function that reads the (crop, crop, 3) image of one -> `destination`, an .npy file of (N, H, W, dim)
    float16 patch features.

    Images are read while the network works, and `in_flight` batches may be on their way from it: by default one from a
    GPU, none from the CPU. `progress` is called with (images done, images in all). Raises ReconpatchError if there are
    no items, and as `finish_features` does, with the name of the first image of the batch: from `names`, by default the
    items as text.
    """
    if not items:
        raise ReconpatchError("no images to extract features of", where=destination)
    in_flight = int(backbone.device == "cuda") if in_flight is None else in_flight
    begun = done = 0
    images: list[NDArray[np.uint8]] = []
    waiting: deque[Started] = deque()
    with open(destination, "wb") as file:  # written in order: a memory map would count as memory and hide a full disk

        def write_oldest() -> None:
            nonlocal done
            try:
                features = finish_features(waiting.popleft())
            except ReconpatchError as error:
                first = names[done] if names else items[done]
                raise error.at(f"{first} and after") from None
            if done == 0:
                write_header(file, (len(items), *features.shape[1:]), np.dtype(np.float16))
            file.write(features.data)
            done += len(features)
            progress(done, len(items))

        for image in read_ahead(read, items, threads, depth=2 * batch):
            images.append(image)
            if len(images) == batch or begun + len(images) == len(items):
                waiting.append(start_features(images, backbone, patch_size, level_dim, dim))
                begun += len(images)
                images.clear()
                if len(waiting) > in_flight:
                    write_oldest()
        while waiting:
            write_oldest()
