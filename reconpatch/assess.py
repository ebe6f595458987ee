"""A detector against the truth: AUROCs with intervals, and how often its threshold is right."""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from reconpatch.detector import Detector
from reconpatch.errors import ReconpatchError
from reconpatch.geometry import View
from reconpatch.images import load_mask
from reconpatch.labels import Truth
from reconpatch.layouts import shown
from reconpatch.metrics import image_metrics, pixel_metrics
from reconpatch.photographs import Photograph
from reconpatch.randomness import stream
from reconpatch.statistics import auroc, image_wins, interval, resamples
from reconpatch.threshold import share_interval

RESAMPLES = 2000


def seen_mask(truth: Truth, view: View, photograph: Photograph) -> NDArray[np.bool_]:
    """Truth about a photograph seen so -> (size, size) bool, true on the defect, nearest neighbour.

    Raises ReconpatchError where mask and photograph differ in size.
    """
    if truth.mask is None:
        return np.zeros((view.size, view.size), bool)
    mask = load_mask(truth.mask)
    if mask.size != (view.width, view.height):
        raise ReconpatchError(
            f"{shown(truth.mask)}: {mask.width}x{mask.height} px, its image {shown(photograph.name)} has "
            f"{view.width}x{view.height}; give a mask of the same size"
        )
    square = view.square(Image.merge("RGB", [mask] * 3), "nearest")[..., 0] == 255
    return np.asarray(square & view.content(view.size))


def assess(
    detector: Detector,
    photographs: Sequence[Photograph],
    truths: Sequence[Truth],
    threshold: float | None,
    progress: Callable[[str, int, int], None],
) -> dict[str, Any]:
    """Detector, N photographs with the truth of each, threshold of image scores if there is one -> what was found.

    Pixel metrics where every anomalous photograph has a mask. Metrics are in [0, 1], None where undefined. Raises
    ReconpatchError for photographs that cannot be read, masks of another size, and where only some have one.
    """
    labels = np.array([truth.label for truth in truths])
    anomalous = [truth for truth in truths if truth.label]
    with_mask = sum(truth.mask is not None for truth in anomalous)
    if 0 < with_mask < len(anomalous):
        lacking = next(p.name for p, t in zip(photographs, truths, strict=True) if t.label and t.mask is None)
        raise ReconpatchError(
            f"{len(anomalous) - with_mask} of {len(anomalous)} anomalous images have no mask, first {shown(lacking)}: "
            "give all masks, or none"
        )
    scores: list[float] = []
    maps, masks = [], []
    for detection in detector(photographs):
        n = detection.number
        scores.append(detection.score)
        if with_mask:
            maps.append(detection.map)
            masks.append(seen_mask(truths[n], detection.view, photographs[n]))
        progress("scoring", n + 1, len(photographs))
    image = np.array(scores, np.float32)
    metrics = image_metrics(image, labels) | (pixel_metrics(np.stack(maps), np.stack(masks)) if with_mask else {})
    found: dict[str, Any] = {
        "normal": int((labels == 0).sum()),
        "anomalous": int(labels.sum()),
        "masks": with_mask,
        "metrics": metrics,
    }
    if 0 < labels.sum() < len(labels):
        draws = resamples(labels, RESAMPLES, stream(0, "evaluate"))
        found["image_auroc_interval"] = interval(auroc(image_wins(image, labels), draws))
    if threshold is not None:
        found["threshold"] = _at_threshold(scores, truths, threshold)
    return found


def _at_threshold(scores: Sequence[float], truths: Sequence[Truth], threshold: float) -> dict[str, Any]:
    """N scores, the truth of each -> of every kind how many lie above the threshold, with 95 % intervals."""
    above, of = Counter[str](), Counter[str]()
    for score, truth in zip(scores, truths, strict=True):
        of[truth.kind] += 1
        above[truth.kind] += int(score > threshold)

    def share(kinds: Sequence[str]) -> dict[str, Any] | None:
        count, total = sum(above[k] for k in kinds), sum(of[k] for k in kinds)
        return {"above": count, "of": total, "interval": share_interval(count, total)} if total else None

    defects = sorted({truth.kind for truth in truths if truth.label})
    return {
        "value": threshold,
        "false_alarms": share(["good"]),
        "found": share(defects),
        "found_by_kind": {kind: share([kind]) for kind in defects},
    }


def lines(told: dict[str, Any]) -> list[str]:
    """What `assess` found -> lines to print."""
    said = [f"{told['normal']} normal and {told['anomalous']} anomalous images, {told['masks']} masks"]
    for name, value in told["metrics"].items():
        if "threshold" in name:
            continue
        between = told.get("image_auroc_interval") if name == "image_auroc" else None
        more = f" (95 % interval {between[0]:.4f} to {between[1]:.4f})" if between else ""
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
