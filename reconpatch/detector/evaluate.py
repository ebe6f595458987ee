"""A detector against the truth: AUROCs with intervals, and how often its threshold is right."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reconpatch.data.images import View, load_mask
from reconpatch.detector.detector import Detector
from reconpatch.detector.photographs import MOST, Photograph, load
from reconpatch.detector.threshold import share_interval
from reconpatch.detector.truth import Truth
from reconpatch.errors import ReconpatchError, quote
from reconpatch.experiments.costs import MB, metrics_mb
from reconpatch.experiments.stages import STAGES
from reconpatch.method.bootstrap import interval, resamples
from reconpatch.method.features import read_ahead
from reconpatch.method.metrics import METRICS, image_metrics, pixel_metrics, resampled_images
from reconpatch.rng import named_rng
from reconpatch.runtime import machine_mb

RESAMPLES, AT_A_TIME = 2000, 100  # together they would take as much memory as many maps


def seen_mask(truth: Truth, view: View, photograph: Photograph) -> NDArray[np.bool_]:
    """Truth about a photograph seen so -> (size, size) bool, true on the defect, nearest neighbour.

    Raises ReconpatchError where mask and photograph differ in size.
    """
    if truth.mask is None:
        return np.zeros((view.size, view.size), bool)
    mask = load_mask(truth.mask)
    for problem in _of_another_size(truth.mask, mask.size, photograph, (view.width, view.height)):
        raise ReconpatchError(problem)
    return np.asarray((view.square(mask, "nearest") == 255) & view.content(view.size))


def check(
    photographs: Sequence[Photograph],
    truths: Sequence[Truth],
    threads: int,
    progress: Callable[[int, int], None],
) -> None:
    """Photographs with the truth of each, all read whole -> nothing. Raises one ReconpatchError that lists every
    photograph and mask that cannot be read, and every mask of another size than its photograph.
    """

    def look(pair: tuple[Photograph, Truth]) -> list[str]:
        photograph, truth = pair
        problems, wanted = [], None
        try:
            wanted = load(photograph).size
        except ReconpatchError as error:
            problems.append(str(error))
        if truth.mask is None:
            return problems
        try:
            size = load_mask(truth.mask).size
        except ReconpatchError as error:
            return [*problems, str(error)]
        return problems if wanted is None else _of_another_size(truth.mask, size, photograph, wanted)

    problems: list[str] = []
    for done, found in enumerate(read_ahead(look, zip(photographs, truths, strict=True), threads, 2 * threads), 1):
        problems += found
        progress(done, len(photographs))
    if problems:
        more = [f"and {len(problems) - MOST} more"] if len(problems) > MOST else []
        raise ReconpatchError("\n".join(["problems of the images and masks:", *problems[:MOST], *more]))


def _of_another_size(mask: Path, size: tuple[int, int], photograph: Photograph, wanted: tuple[int, int]) -> list[str]:
    """A mask and a photograph with their (width, height) -> what is wrong, if anything is."""
    (width, height), (w, h) = size, wanted
    said = (
        f"{quote(mask)}: {width}x{height} px, its image {quote(photograph.name)} has {w}x{h}; give a mask of the same "
        "size"
    )
    return [said] if size != wanted else []


def check_room(images: int, size: int) -> None:
    """Raise ReconpatchError where memory is too small for maps and masks of so many images, `size` px a side."""
    # Which pixels are counted, and which of these are normal, is a byte a pixel each.
    wanted, there = STAGES["features"].base_mb + metrics_mb(images, size) + 2 * images * size**2 / MB, machine_mb()
    if wanted > there:
        raise ReconpatchError(
            f"{images} images: their maps and masks need about {wanted / 1000:.1f} GB of memory, there are "
            f"{there / 1000:.1f} GB; evaluate fewer images, or without masks"
        )


def assess(
    detector: Detector,
    photographs: Sequence[Photograph],
    truths: Sequence[Truth],
    threshold: float | None,
    progress: Callable[[str, int, int], None],
) -> dict[str, Any]:
    """Detector, N photographs with the truth of each, threshold of image scores if there is one -> what was found.

    Pixel metrics where every anomalous photograph has a mask, of the pixels that are not padding. Metrics are in
    [0, 1], None where undefined. Raises ReconpatchError, before any is scored, for photographs and masks that cannot be
    read, masks of another size, where only some have one, and where memory is too small.
    """
    labels = np.array([truth.label for truth in truths])
    anomalous = [truth for truth in truths if truth.label]
    with_mask = sum(truth.mask is not None for truth in anomalous)
    if 0 < with_mask < len(anomalous):
        lacking = next(p.name for p, t in zip(photographs, truths, strict=True) if t.label and t.mask is None)
        raise ReconpatchError(
            f"{len(anomalous) - with_mask} of {len(anomalous)} anomalous images have no mask, first {quote(lacking)}: "
            "give all masks, or none"
        )
    side = detector.run.crop
    if with_mask:
        check_room(len(photographs), side)
    check(photographs, truths, detector.threads, lambda done, total: progress("reading images", done, total))
    image = np.empty(len(photographs), np.float32)
    shape = (len(photographs) if with_mask else 0, side, side)
    maps, masks, counted = np.empty(shape, np.float32), np.empty(shape, bool), np.empty(shape, bool)
    scores: list[float] = []
    for detection in detector(photographs):
        n = detection.number
        scores.append(detection.score)
        image[n] = detection.score
        if with_mask:
            maps[n] = detection.map
            masks[n] = seen_mask(truths[n], detection.view, photographs[n])
            counted[n] = detection.view.content(side)
        progress("scoring", n + 1, len(photographs))
    found: dict[str, Any] = {
        "normal": int((labels == 0).sum()),
        "anomalous": int(labels.sum()),
        "masks": with_mask,
        "metrics": image_metrics(image, labels) | (pixel_metrics(maps, masks, counted) if with_mask else {}),
    }
    if 0 < labels.sum() < len(labels):
        for metric in (m for m in METRICS.values() if m.level == "image" and m.interval):
            rng = named_rng(0, "evaluate")  # the same resamples for every metric
            draws = (resamples(labels, AT_A_TIME, rng) for _ in range(RESAMPLES // AT_A_TIME))
            values = [resampled_images(metric, image, labels, d) for d in draws]
            found[f"{metric.name}_interval"] = interval(np.concatenate(values))
    if threshold is not None:
        found["threshold"] = _at_threshold(scores, truths, threshold)
    return found


def _at_threshold(scores: Sequence[float], truths: Sequence[Truth], threshold: float) -> dict[str, Any]:
    """N scores, the truth of each -> of normal and anomalous images, and of every kind of these, how many lie above the
    threshold, with 95 % intervals. A kind may have any name, that of normal images, too.
    """

    def share(label: int, kind: str | None = None) -> dict[str, Any] | None:
        of = [s for s, t in zip(scores, truths, strict=True) if t.label == label and kind in (None, t.kind)]
        above = sum(score > threshold for score in of)
        return {"above": above, "of": len(of), "interval": share_interval(above, len(of))} if of else None

    return {
        "value": threshold,
        "false_alarms": share(0),
        "found": share(1),
        "found_by_kind": {kind: share(1, kind) for kind in sorted({truth.kind for truth in truths if truth.label})},
    }


def lines(told: dict[str, Any]) -> list[str]:
    """What `assess` found -> lines to print."""
    said = [f"{told['normal']} normal and {told['anomalous']} anomalous images, {told['masks']} masks"]
    for name, value in told["metrics"].items():
        if name not in METRICS:
            continue  # a threshold
        between = told.get(f"{name}_interval")
        more = f" (95 % interval {between[0]:.4f} to {between[1]:.4f})" if between else ""
        name = f"{name} (best F1)" if name.endswith("_f1") else name  # at a threshold the truth chose
        said.append(f"  {name}: {'undefined' if value is None else f'{value:.4f}'}{more}")
    if at := told.get("threshold"):
        said.append(f"at the threshold {at['value']:.4g}:")
        named = {"false alarms": at["false_alarms"], "anomalous images found": at["found"]} | {
            f"  of {kind}": each for kind, each in at["found_by_kind"].items()
        }
        for name, each in named.items():
            if each:
                low, high = each["interval"]
                share = each["above"] / each["of"]
                said.append(
                    f"  {name}: {each['above']} of {each['of']}, {share:.1%} (95 % interval {low:.1%} to {high:.1%})"
                )
    return said
