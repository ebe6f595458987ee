"""A fitted detector: photographs in, anomaly scores and maps out, with one batch in memory at a time."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from reconpatch.data.images import View, view
from reconpatch.data.remarks import ImageFacts, enlarged_remarks, grouped, image_remarks
from reconpatch.detector.photographs import Source, load_with_facts, name_of
from reconpatch.detector.settings import BATCH_IMAGES
from reconpatch.device import repeating, resolve
from reconpatch.errors import ReconpatchError, listed
from reconpatch.experiments.run import Run
from reconpatch.method.backbones import Backbone, network_of, prepare_backbone, probe
from reconpatch.method.features import features_of, passes
from reconpatch.method.memory_bank import MemoryBank
from reconpatch.method.scoring import anomaly_maps, content_map, score_features
from reconpatch.method.search import Search, search_in
from reconpatch.runtime import openmp_threads, read_ahead

Framed = tuple[NDArray[np.uint8], View, ImageFacts]  # (H, W, 3) pixels, how they lie on which photograph
Seen = tuple[ImageFacts, View]  # a photograph, and how the network saw it


@dataclass(frozen=True)
class Detection:
    """The result for one photograph. Higher is more anomalous."""

    number: int  # of the photograph among those given
    score: float  # the largest patch score, equations 9 and 10
    map: NDArray[np.float32]  # `view.shape`, of what the network saw
    view: View
    facts: ImageFacts  # of the photograph, without a digest

    def peak(self) -> tuple[int, int]:
        """The place on the photograph where the map is largest, px from the left and from the upper edge."""
        y, x = np.unravel_index(int(self.map.argmax()), self.map.shape)
        column, row = self.view.point(float(x) + 0.5, float(y) + 0.5)
        return min(int(column), self.view.width - 1), min(int(row), self.view.height - 1)


def seen_remarks(seen: Sequence[Seen], fitted_modes: Sequence[str]) -> list[str]:
    """N photographs that were seen, modes of those that the detector was fitted to -> what is odd in them."""
    facts, factors = [each for each, _ in seen], [view.enlargement() for _, view in seen]
    return [*image_remarks(facts, fitted_modes), *enlarged_remarks([each.name for each in facts], factors)]


def pixels(source: Source, run: Run, number: int = 0) -> Framed:
    """Source, parameters, the source's number -> what the network sees of it. Raises ReconpatchError if it cannot be
    read, and as `view` does.
    """
    image, facts = load_with_facts(source, number)
    seen = view(*image.size, size=run.crop, resize=run.resize, aspect=run.aspect)
    return seen.framed(image, run.interpolation), seen, facts


def views_of(facts: Sequence[ImageFacts], run: Run) -> list[View]:
    """Facts of N photographs, parameters -> how each is seen. Raises one ReconpatchError that names all that cannot be
    seen so.
    """
    views, problems = [], []
    for each in facts:
        try:
            views.append(view(each.width, each.height, size=run.crop, resize=run.resize, aspect=run.aspect))
        except ReconpatchError as error:
            problems.append(error.at(each.name))
    if problems:
        raise ReconpatchError("\n".join(["problems of the images:", *listed(grouped(problems))]))
    return views


def backbone_of(network: nn.Module, weights: dict[str, str], run: Run, device: str, portable: bool = False) -> Backbone:
    """Network from `load_network` with the source and digest of its weights, parameters, cpu or cuda -> Backbone,
    `portable` as in `fused_inference.prepare`. The network itself is changed.
    """
    if run.batch_norm == "probed":
        probe(network, run.crop)
    return prepare_backbone(network, weights, device, run.precision, portable)


def scores_of(
    features: NDArray[np.float16], on_photograph: NDArray[np.bool_], bank: MemoryBank, run: Run, search: Search
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """((B, H, W, C) patch features, (B, H, W) which patches lie on the photographs, memory bank, parameters, search in
    the bank) -> ((B,) image scores, (B, H, W) patch scores, 0 on padding).
    """
    image, patch, _ = score_features(
        features,
        bank,
        neighbours=run.neighbours,
        reweight_map=run.reweight == "map",
        squared=run.distance == "squared",
        cells=on_photograph,
        search=search,
    )
    return image, patch


def maps_of(
    patch: NDArray[np.float32], on_photograph: NDArray[np.bool_], views: Sequence[View], run: Run
) -> NDArray[np.float32]:
    """((B, H, W) patch scores, (B, H, W) which patches lie on the photographs, B views of one shape, parameters) ->
    anomaly maps of this shape.
    """
    maps = anomaly_maps(patch, views[0].shape, run.blur)
    for n, seen in enumerate(views):
        content = seen.content(seen.shape)
        if not content.all():
            maps[n] = content_map(maps[n], on_photograph[n], content, run.blur)
    return maps


@dataclass
class Detector:
    """Network, memory bank and parameters.

    Several threads may use one detector. It can be copied and pickled: a copy has the weights, and prepares its network
    anew for the device of the process it is in.
    """

    backbone: Backbone
    state: dict[str, Tensor]  # weights of the network, as `state_of` gives them before the network is prepared
    bank: MemoryBank
    run: Run
    threads: int = 1
    batch: int = BATCH_IMAGES
    modes: Sequence[str] = ()  # Pillow's, of the images it was fitted to, sorted; empty: not known
    seconds: dict[str, float] = field(default_factory=dict)  # part of the work -> wall time so far
    search: Search = field(init=False)

    def __post_init__(self) -> None:
        self.search = search_in(self.bank.patches, self.threads, self.backbone.device)

    def __reduce__(self) -> tuple[Any, ...]:
        """How to make a copy. NumPy arrays, because multiprocessing would move tensors into shared memory."""
        state = {key: value.numpy() for key, value in self.state.items()}
        facts = self.backbone.weights, self.backbone.device
        return copied, (state, *facts, self.bank, self.run, self.threads, self.batch, self.modes)

    def __call__(
        self,
        sources: Iterable[Source],
        unreadable: Callable[[int, ReconpatchError], None] | None = None,
        batch: int | None = None,
    ) -> Iterator[Detection]:
        """N photographs -> a Detection of each, in order, computed `batch` at a time.

        Photographs of a batch that are seen in one shape go through the network together, but no more of them than have
        the px of a batch of squares.

        A photograph that cannot be read is left out, and `unreadable` is called with its number and the error. Without
        `unreadable` the error is raised. Between two batches the process is as the caller left it.
        """
        batch = batch or self.batch

        def read(item: tuple[int, Source]) -> tuple[int, Framed | ReconpatchError]:
            number, source = item
            try:
                return number, pixels(source, self.run, number)
            except ReconpatchError as error:
                return number, error.at(name_of(source, number))

        waiting: list[tuple[int, Framed]] = []
        began = time.perf_counter()
        for number, result in read_ahead(read, enumerate(sources), self.threads, depth=2 * batch):
            if isinstance(result, ReconpatchError):
                if unreadable is None:
                    raise result
                unreadable(number, result)
                continue
            waiting.append((number, result))
            if len(waiting) == batch:
                began = self._add_time("waiting for images", began)
                yield from self._detect(waiting)
                waiting, began = [], time.perf_counter()
        if waiting:
            self._add_time("waiting for images", began)
            yield from self._detect(waiting)

    def _add_time(self, part: str, began: float) -> float:
        """Add the time since `began` to a part -> the time now."""
        now = time.perf_counter()
        self.seconds[part] = self.seconds.get(part, 0.0) + now - began
        return now

    def _detect(self, batch: list[tuple[int, Framed]]) -> list[Detection]:
        """B photographs as they are seen, with their numbers -> B detections. Patches on the padding score 0.

        `repeating` lasts for one batch only: a block that a generator leaves in its `finally` ends at any time, in any
        thread, wherever the garbage collector closes the generator.
        """
        with repeating(self.backbone.device, openmp_threads(self.threads)):
            of_pass = passes([image for _, (image, *_) in batch], self.batch * self.run.crop**2)
            detections = [each for numbers in of_pass for each in self._detect_pass([batch[n] for n in numbers])]
        return sorted(detections, key=lambda each: each.number)

    def _detect_pass(self, batch: list[tuple[int, Framed]]) -> list[Detection]:
        """As `_detect`, of photographs that are seen in one shape, with the settings of the process as they are."""
        began = time.perf_counter()
        images, views, run = [image for _, (image, *_) in batch], [seen for _, (_, seen, _) in batch], self.run
        features = features_of(images, self.backbone, run.patch_size, run.level_width, run.width)
        began = self._add_time("network and patch features", began)
        on_photograph = np.stack([seen.content(features.shape[1:3]) for seen in views])
        image, patch = scores_of(features, on_photograph, self.bank, run, self.search)
        began = self._add_time("search in the memory bank", began)
        maps = maps_of(patch, on_photograph, views, run)
        self._add_time("anomaly maps", began)
        return [
            Detection(number, float(score), each, seen, facts)
            for (number, (_, seen, facts)), score, each in zip(batch, image, maps, strict=True)
        ]


def copied(
    state: Mapping[str, NDArray[Any]],
    weights: dict[str, str],
    device: str,
    bank: MemoryBank,
    run: Run,
    threads: int,
    batch: int,
    modes: Sequence[str],
) -> Detector:
    """What `Detector.__reduce__` gives -> a detector that computes the same; on a GPU if that did and there is one."""
    tensors = {key: torch.from_numpy(np.array(value)) for key, value in state.items()}
    device = resolve("auto" if device == "cuda" else device)
    with repeating(device, openmp_threads(threads)):
        backbone = backbone_of(network_of(tensors, run.backbone, run.levels), weights, run, device)
        return Detector(backbone, tensors, bank, run, threads, batch, modes)
