"""A fitted detector: photographs in, anomaly scores and maps out, a batch in memory at a time."""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from reconpatch.data.images import View, view
from reconpatch.detector.photographs import Source, load, with_number
from reconpatch.errors import ReconpatchError
from reconpatch.experiments.run import Run, description
from reconpatch.method.backbones import Backbone
from reconpatch.method.features import features_of, read_ahead
from reconpatch.method.memory_bank import MemoryBank, Search
from reconpatch.method.scoring import anomaly_maps, content_map, score_features

Pixels = tuple[NDArray[np.uint8], View]


@dataclass(frozen=True)
class Detection:
    """What a detector says of one photograph. Higher is more anomalous."""

    number: int  # of the photograph among those given
    score: float  # largest patch score, eq. 9 and 10
    map: NDArray[np.float32]  # (size, size), of the square the network saw
    view: View

    def peak(self) -> tuple[int, int]:
        """Where on the photograph the map is largest, px from the left and upper edge."""
        y, x = np.unravel_index(int(self.map.argmax()), self.map.shape)
        column, row = self.view.point(float(x) + 0.5, float(y) + 0.5)
        return min(int(column), self.view.width - 1), min(int(row), self.view.height - 1)


def pixels(source: Source, run: Run, aspect: str) -> Pixels:
    """Source -> ((crop, crop, 3) uint8, how it was seen). Raises ReconpatchError where it cannot be read."""
    image = load(source)
    seen = view(*image.size, size=run.crop, resize=run.resize, aspect=aspect)
    return seen.square(image, run.interpolation), seen


@dataclass
class Detector:
    """Network, memory bank and settings. `seconds` adds up what the parts of its work took."""

    backbone: Backbone
    bank: MemoryBank
    run: Run
    aspect: str
    threads: int = 1
    batch: int = 8
    seconds: Counter[str] = field(default_factory=Counter)
    search: Search = field(init=False)
    width: int = field(init=False)  # of a patch feature

    def __post_init__(self) -> None:
        self.width = int(description(self.run, "features")["feature_dim"])
        self.search = Search(self.bank.patches, self.threads, self.backbone.device)

    def __call__(
        self, sources: Iterable[Source], unreadable: Callable[[int, ReconpatchError], None] | None = None
    ) -> Iterator[Detection]:
        """Photographs -> a Detection of each, in order.

        One that cannot be read is told to `unreadable`, with its number, and left out; without that it raises.
        """

        def read(item: tuple[int, Source]) -> tuple[int, Pixels | ReconpatchError]:
            try:
                return item[0], pixels(item[1], self.run, self.aspect)
            except ReconpatchError as error:
                return item[0], with_number(error, item[1], item[0])

        waiting: list[tuple[int, Pixels]] = []
        began = time.perf_counter()
        for number, result in read_ahead(read, enumerate(sources), self.threads, depth=2 * self.batch):
            if isinstance(result, ReconpatchError):
                if unreadable is None:
                    raise result
                unreadable(number, result)
                continue
            waiting.append((number, result))
            if len(waiting) == self.batch:
                began = self._took("waiting for images", began)
                yield from self._detect(waiting)
                waiting, began = [], time.perf_counter()
        if waiting:
            self._took("waiting for images", began)
            yield from self._detect(waiting)

    def _took(self, part: str, began: float) -> float:
        now = time.perf_counter()
        self.seconds[part] += now - began  # type: ignore[assignment]
        return now

    def _detect(self, batch: list[tuple[int, Pixels]]) -> list[Detection]:
        began = time.perf_counter()
        squares, run = [square for _, (square, _) in batch], self.run
        features = features_of(squares, self.backbone, run.patch_size, run.level_dim, self.width)
        began = self._took("network and patch features", began)
        on_photograph = np.stack([seen.content(features.shape[1]) for _, (_, seen) in batch])
        image, patch, _ = score_features(
            features,
            self.bank,
            neighbours=run.neighbours,
            reweight_map=run.reweight == "map",
            cells=on_photograph,
            search=self.search,
        )
        began = self._took("search in the memory bank", began)
        maps = anomaly_maps(patch, run.crop, run.blur)
        for n, (_, (_, seen)) in enumerate(batch):
            if not (content := seen.content(run.crop)).all():
                maps[n] = content_map(maps[n], on_photograph[n], content, run.blur)
        self._took("anomaly maps", began)
        return [
            Detection(number, float(score), each, seen)
            for (number, (_, seen)), score, each in zip(batch, image, maps, strict=True)
        ]
