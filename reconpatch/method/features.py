"""From images to patch features: read, run through the network and written to disk batch by batch."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
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
from reconpatch.runtime import read_ahead

T = TypeVar("T")


class Started(NamedTuple):
    """Patch features of a batch that may still be on their way from a GPU to the host."""

    features: Tensor  # (B, rows, columns, dim) float16, in host memory
    total: Tensor  # their sum: finite only if every feature is
    arrived: Any  # torch.cuda.Event; None on the CPU


def start_features(
    images: Sequence[NDArray[np.uint8]], backbone: Backbone, patch_size: int, level_dim: int | None, dim: int
) -> Started:
    """B (H, W, 3) uint8 images -> their features. On a GPU it returns before these are computed: the host can
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
    """What `start_features` started -> (B, rows, columns, dim) float16 patch features.

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
    """B (H, W, 3) uint8 images -> (B, rows, columns, dim) float16 patch features. Raises as `finish_features` does."""
    return finish_features(start_features(images, backbone, patch_size, level_dim, dim))


def passes(images: Sequence[NDArray[np.uint8]], pixels: int) -> list[list[int]]:
    """N (H, W, 3) images, px that go through the network at a time -> numbers of the images of each pass.

    The images of a pass have one shape, and no more px together, unless one image alone has more.
    """
    by_shape: dict[tuple[int, ...], list[int]] = {}
    for number, image in enumerate(images):
        by_shape.setdefault(image.shape[:2], []).append(number)
    found: list[list[int]] = []
    for (height, width), numbers in by_shape.items():
        count = max(1, pixels // (height * width))
        found += [numbers[i : i + count] for i in range(0, len(numbers), count)]
    return found


def stream_features(
    items: Sequence[T],
    read: Callable[[T], NDArray[np.uint8]],
    backbone: Backbone,
    *,
    names: Sequence[str] | None = None,
    patch_size: int,
    level_dim: int | None,
    dim: int,
    batch: int,
    pixels: int | None = None,
    threads: int,
    in_flight: int | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Iterator[NDArray[np.float16]]:
    """N items, a function that reads the (H, W, 3) image of one -> the (rows, columns, dim) patch features of each, in
    order.

    Images are read while the network works, `batch` at a time, and go through it in `passes` of at most `pixels`, by
    default those of the batch. `in_flight` batches may be on their way from it: by default one from a GPU, none from
    the CPU. `progress` is called with (images done, images in all). Raises ReconpatchError as `finish_features` does,
    with the name of the first image of the pass: from `names`, by default the items as text.
    """
    in_flight = int(backbone.device == "cuda") if in_flight is None else in_flight
    begun = done = 0
    images: list[NDArray[np.uint8]] = []
    waiting: deque[list[tuple[list[int], Started]]] = deque()  # of each batch, the numbers of the images of each pass

    def finish_oldest() -> list[NDArray[np.float16]]:
        features: dict[int, NDArray[np.float16]] = {}
        for numbers, started in waiting.popleft():
            try:
                features.update(zip(numbers, finish_features(started), strict=True))
            except ReconpatchError as error:
                first = names[numbers[0]] if names else items[numbers[0]]
                raise error.at(f"{first} and after") from None
        return [features[number] for number in sorted(features)]

    for image in read_ahead(read, items, threads, depth=2 * batch):
        images.append(image)
        if len(images) == batch or begun + len(images) == len(items):
            most = pixels or sum(each.shape[0] * each.shape[1] for each in images)
            waiting.append(
                [
                    (
                        [begun + n for n in numbers],
                        start_features([images[n] for n in numbers], backbone, patch_size, level_dim, dim),
                    )
                    for numbers in passes(images, most)
                ]
            )
            begun += len(images)
            images.clear()
            while len(waiting) > (in_flight if begun < len(items) else 0):
                finished = finish_oldest()
                yield from finished
                done += len(finished)
                progress(done, len(items))


def write_empty(destination: Path) -> None:
    """`destination` -> the .npy file of the features of no images."""
    with open(destination, "wb") as file:
        write_header(file, (0, 0, 0, 0), np.dtype(np.float16))


def write_features(
    items: Sequence[T],
    read: Callable[[T], NDArray[np.uint8]],
    backbone: Backbone,
    destination: Path,
    **options: Any,
) -> None:
    """N items, a function that reads the (H, W, 3) image of one, options of `stream_features` -> `destination`, an .npy
    file of (N, rows, columns, dim) float16 patch features.

    Raises ReconpatchError if there are no items, and as `stream_features` does. The images must have one shape.
    """
    if not items:
        raise ReconpatchError("no images to extract features of", where=destination)
    with open(destination, "wb") as file:  # written in order: a memory map would count as memory and hide a full disk
        for n, features in enumerate(stream_features(items, read, backbone, **options)):
            if n == 0:
                write_header(file, (len(items), *features.shape), np.dtype(np.float16))
            file.write(features.data)
