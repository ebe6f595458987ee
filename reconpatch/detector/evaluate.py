"""Comparing a detector with the truth: metrics with intervals, and how often the threshold is right."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import PurePosixPath

import numpy as np
from numpy.typing import NDArray

from reconpatch.data.decoding import decode, read_file
from reconpatch.data.images import View, load_mask
from reconpatch.data.layouts import mask_names
from reconpatch.data.pictures import mask_facts
from reconpatch.data.remarks import (
    ImageFacts,
    MaskFacts,
    enlarged_remarks,
    grouped,
    image_remarks,
    mask_problems,
    mask_remarks,
    told_apart_by_files,
)
from reconpatch.detector.detector import Detector, views_of
from reconpatch.detector.photographs import Photograph, load_with_facts
from reconpatch.detector.threshold import share_interval
from reconpatch.detector.truth import Truth
from reconpatch.errors import ReconpatchError, listed, quote
from reconpatch.experiments.costs import metrics_mb
from reconpatch.experiments.stages import STAGES
from reconpatch.method.bootstrap import interval, resamples
from reconpatch.method.features import read_ahead
from reconpatch.method.metrics import METRICS, Metrics, image_metrics, pixel_metrics, resampled_images
from reconpatch.rng import named_rng
from reconpatch.runtime import MB, machine_mb

RESAMPLES = 2000
RESAMPLES_AT_ONCE = 100  # all at once would take as much memory as many maps


@dataclass(frozen=True)
class Share:
    """How many images of a group have scores above the threshold."""

    above: int
    of: int
    interval: tuple[float, float]  # 95 %, of the probability

    def text(self) -> str:
        """As one line of text."""
        low, high = self.interval
        return f"{self.above} of {self.of}, {self.above / self.of:.1%} (95 % interval {low:.1%} to {high:.1%})"


@dataclass(frozen=True)
class AtThreshold:
    """How often a threshold of image scores is right; None for a group without images."""

    value: float
    false_alarms: Share | None  # of normal images
    detected: Share | None  # of anomalous images
    detected_by_type: dict[str, Share]  # of each type of defect


@dataclass(frozen=True)
class Evaluation:
    """A detector compared with the truth."""

    normal: int  # images
    anomalous: int
    masks: int
    metrics: Metrics  # in [0, 1]; None where undefined
    intervals: dict[str, tuple[float, float]]  # metric -> 95 %; empty without normal or without anomalous images
    threshold: AtThreshold | None
    remarks: list[str]  # what is odd in the photographs and masks

    def to_json(self) -> dict[str, object]:
        """What `--json` prints."""
        content: dict[str, object] = {
            "normal": self.normal,
            "anomalous": self.anomalous,
            "masks": self.masks,
            "metrics": self.metrics,
            "remarks": self.remarks,
        }
        content |= {f"{name}_interval": interval for name, interval in self.intervals.items()}
        if self.threshold is not None:
            at = asdict(self.threshold)
            content["threshold"] = {
                "value": at["value"],
                "false_alarms": at["false_alarms"],
                "found": at["detected"],
                "found_by_kind": at["detected_by_type"],
            }
        return content

    def lines(self) -> list[str]:
        """What is printed without `--json`."""
        lines = [f"{self.normal} normal and {self.anomalous} anomalous images, {self.masks} masks"]
        for name, metric in METRICS.items():
            if name not in self.metrics:
                continue
            value = self.metrics[name]
            text = "undefined" if value is None else f"{value:.4f}"
            if metric.threshold is not None:
                text += ", at the threshold that is best for this truth"
            if name in self.intervals:
                low, high = self.intervals[name]
                text += f" (95 % interval {low:.4f} to {high:.4f})"
            lines.append(f"  {metric.label}: {text}")
        if self.threshold is not None:
            groups = {
                "  false alarms": self.threshold.false_alarms,
                "  anomalous images found": self.threshold.detected,
            }
            groups |= {f"    of {name}": share for name, share in self.threshold.detected_by_type.items()}
            lines.append(f"at the threshold {self.threshold.value:.4g}:")
            lines += [f"{name}: {share.text()}" for name, share in groups.items() if share]
        return lines


def evaluate(
    detector: Detector,
    photographs: Sequence[Photograph],
    truths: Sequence[Truth],
    threshold: float | None,
    progress: Callable[[str, int, int], None],
) -> Evaluation:
    """Detector, N photographs, N truths, threshold of image scores -> Evaluation.

    Pixel metrics are computed if every anomalous photograph has a mask; pixels of the padding do not count. Raises
    ReconpatchError, before any photograph is scored, if photographs or masks cannot be read, if `reconpatch check`
    would refuse a mask, if only some anomalous photographs have masks, and if memory is too small.
    """
    labels = np.array([truth.label for truth in truths])
    masks_given = _count_masks(photographs, truths)
    facts, remarks = check_files(
        photographs, truths, detector.modes, detector.threads, lambda *done: progress("reading images", *done)
    )
    views = views_of(facts, detector.run)
    height, width = (max(sides) for sides in zip(*(each.shape for each in views), strict=True))
    if masks_given:
        check_map_memory(len(photographs), height * width)
    scores = np.empty(len(photographs))  # float64, because `predict` compares such with the threshold
    shape = (len(photographs) if masks_given else 0, height, width)
    # Smaller maps lie in a corner; the rest does not count.
    maps, masks, counted = np.zeros(shape, np.float32), np.zeros(shape, bool), np.zeros(shape, bool)
    for detection in detector(photographs):
        n = detection.number
        scores[n] = detection.score
        if masks_given:
            corner = n, slice(detection.view.shape[0]), slice(detection.view.shape[1])
            maps[corner] = detection.map
            masks[corner] = seen_mask(truths[n], detection.view)
            counted[corner] = detection.view.content(detection.view.shape)
        progress("scoring", n + 1, len(photographs))
    image_scores = scores.astype(np.float32)
    metrics = image_metrics(image_scores, labels) | (pixel_metrics(maps, masks, counted) if masks_given else {})
    return Evaluation(
        normal=int((labels == 0).sum()),
        anomalous=int(labels.sum()),
        masks=masks_given,
        metrics=metrics,
        intervals=_intervals(image_scores, labels),
        threshold=None if threshold is None else at_threshold(scores, truths, threshold),
        remarks=[
            *remarks,
            *enlarged_remarks([each.name for each in photographs], [each.enlargement() for each in views]),
        ],
    )


def _count_masks(photographs: Sequence[Photograph], truths: Sequence[Truth]) -> int:
    """Number of anomalous photographs with a mask; ReconpatchError if only some of them have one."""
    anomalous = [(photograph, truth) for photograph, truth in zip(photographs, truths, strict=True) if truth.label]
    lacking = [photograph.name for photograph, truth in anomalous if truth.mask is None]
    if 0 < len(lacking) < len(anomalous):
        raise ReconpatchError(
            f"{len(lacking)} of {len(anomalous)} anomalous images have no mask, first {quote(lacking[0])}",
            fix="give all masks, or none; in a folder of masks, that of this image is called "
            f"{mask_names(PurePosixPath(lacking[0]))}",
        )
    return len(anomalous) - len(lacking)


def _intervals(scores: NDArray[np.float32], labels: NDArray[np.int64]) -> dict[str, tuple[float, float]]:
    """(N,) scores, (N,) labels -> 95 % bootstrap interval of every image metric that has one; none of one label."""
    intervals: dict[str, tuple[float, float]] = {}
    if len(set(labels.tolist())) < 2:
        return intervals
    for name, metric in METRICS.items():
        if metric.level == "image" and metric.interval:
            rng = named_rng(0, "evaluate")  # the same resamples for every metric
            draws = (resamples(labels, RESAMPLES_AT_ONCE, rng) for _ in range(RESAMPLES // RESAMPLES_AT_ONCE))
            values = [resampled_images(metric, scores, labels, draw) for draw in draws]
            low, high = interval(np.concatenate(values))
            intervals[name] = low, high
    return intervals


def at_threshold(scores: Sequence[float] | NDArray[np.float64], truths: Sequence[Truth], value: float) -> AtThreshold:
    """(N,) scores, N truths, threshold -> how many images of each group are above the threshold."""

    def share(label: int, defect_type: str | None = None) -> Share | None:
        group = [
            score
            for score, truth in zip(scores, truths, strict=True)
            if truth.label == label and defect_type in (None, truth.defect_type)
        ]
        above = sum(bool(score > value) for score in group)
        return Share(above, len(group), share_interval(above, len(group))) if group else None

    types = sorted({truth.defect_type for truth in truths if truth.label})
    by_type = {defect_type: found for defect_type in types if (found := share(1, defect_type))}
    return AtThreshold(value, share(0), share(1), by_type)


def seen_mask(truth: Truth, view: View) -> NDArray[np.bool_]:
    """Truth, how its photograph is seen -> bool of the map's shape, true on the defect; scaled by nearest neighbour.

    Raises ReconpatchError if mask and photograph differ in size, because the files changed meanwhile.
    """
    if truth.mask is None:
        return np.zeros(view.shape, bool)
    mask = load_mask(truth.mask)
    if mask.size != (view.width, view.height):
        raise ReconpatchError("changed while it was evaluated", where=truth.mask, fix="evaluate again")
    return np.asarray((view.framed(mask, "nearest") == 255) & view.content(view.shape))


@dataclass
class _Pair:
    """What was found in a photograph and its mask."""

    problems: list[ReconpatchError]
    image: ImageFacts | None = None  # None if it cannot be read
    mask: MaskFacts | None = None  # None if there is none, or it cannot be read


def check_files(
    photographs: Sequence[Photograph],
    truths: Sequence[Truth],
    fitted_modes: Sequence[str],
    threads: int,
    progress: Callable[[int, int], None],
) -> tuple[list[ImageFacts], list[str]]:
    """Read N photographs and their masks whole, modes of the images that the detector was fitted to -> facts of the
    photographs, remarks on them and their masks.

    The rules are those of `reconpatch check`. Raises one ReconpatchError that lists every file that cannot be read and
    every mask that cannot be used.
    """
    pairs: list[_Pair] = []
    of_each = zip(photographs, truths, strict=True)
    for done, pair in enumerate(read_ahead(lambda each: _read_pair(*each), of_each, threads, 2 * threads), 1):
        pairs.append(pair)
        progress(done, len(photographs))
    problems = [problem for pair in pairs for problem in pair.problems]
    if problems:
        raise ReconpatchError("\n".join(["problems of the images and masks:", *listed(grouped(problems))]))
    read = [(pair.image, pair.mask, truth.label) for pair, truth in zip(pairs, truths, strict=True) if pair.image]
    normal, anomalous = ([image for image, _, label in read if label == wanted] for wanted in (0, 1))
    facts = [image for image, _, _ in read]
    return facts, [
        *mask_remarks([(mask, image, label) for image, mask, label in read if mask]),
        *image_remarks(facts, fitted_modes),
        *told_apart_by_files("anomalous", anomalous, "normal", normal),
    ]


def _read_pair(photograph: Photograph, truth: Truth) -> _Pair:
    """A photograph with its truth -> what is found in it and in its mask."""
    pair, mask = _Pair([]), truth.mask
    try:
        pair.image = load_with_facts(photograph)[1]
    except ReconpatchError as error:
        pair.problems.append(error)
    if mask is None:
        return pair
    try:
        picture = decode(read_file(mask), mask)
        pair.mask = mask_facts(f"{mask.parent.name}/{mask.name}", picture)
    except ReconpatchError as error:
        pair.problems.append(error.at(mask))
        return pair
    size = (pair.image.width, pair.image.height) if pair.image else None
    pair.problems += mask_problems(pair.mask, mask, photograph.path, size, truth.label)
    return pair


def check_map_memory(images: int, frame: int) -> None:
    """Raise ReconpatchError if memory is too small for the maps and masks of N images, of `frame` px each."""
    # Which pixels count, and which of these are normal, takes a byte per pixel each.
    needed = STAGES["features"].base_mb + metrics_mb(images, frame) + 2 * images * frame / MB
    if needed > machine_mb():
        raise ReconpatchError(
            f"{images} images: their maps and masks need about {needed / 1000:.1f} GB of memory, there are "
            f"{machine_mb() / 1000:.1f} GB",
            fix="evaluate fewer images, or without masks",
        )
