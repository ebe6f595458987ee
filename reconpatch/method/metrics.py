"""Metrics, exact with ties. All in [0, 1]; `None` means undefined, as without any anomaly.

One sort of the negatives' scores and two searches per positive give everything. With a and b the shares of negatives
above, and at or above, a positive's score, the ROC and PRO curves are sums of ramps from a to b, whose areas have
closed forms: the trapezoid rule with interpolation at the limit, ties included.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from reconpatch.errors import ReconpatchError

PRO_LIMIT = 0.3  # AUPRO integrates up to this false positive rate, as MVTec AD's authors do
EIGHT = np.ones((3, 3))  # regions of a mask are 8-connected, as in their code
Floats = NDArray[np.float32]
Metrics = dict[str, float | None]


@dataclass(frozen=True)
class Best:
    """The threshold with the largest F1 = 2 TP / (2 TP + FP + FN), scores at or above it being positive."""

    f1: float
    threshold: float


def precision_curve(negative: Floats, positive: Floats) -> tuple[NDArray[np.float64], NDArray[np.float64], Floats]:
    """(sorted negatives, sorted positives) -> (precision, recall, threshold) at every distinct positive score.

    Thresholds rise, so recall falls. Other thresholds have the same recall and no better precision. Raises
    ReconpatchError when there are no negatives or no positives, or a score is not finite.
    """
    _sorted(negative, positive)
    thresholds, first = np.unique(positive, return_index=True)
    true = len(positive) - first
    false = len(negative) - np.searchsorted(negative, thresholds, "left")
    return true / (true + false), true / len(positive), thresholds


def average_precision(precision: NDArray[np.float64], recall: NDArray[np.float64]) -> float:
    """Sum of precision times the gain in recall, without interpolation (scikit-learn's definition).

    Raises ReconpatchError unless both are of the same length and in [0, 1], recall falling from 1.
    """
    _curve(precision, recall)
    return float(np.sum(precision * -np.diff(recall, append=0)))


def best_f1(precision: NDArray[np.float64], recall: NDArray[np.float64], thresholds: Floats) -> Best:
    """The largest F1 and its threshold, the highest one on a tie.

    Raises ReconpatchError as `average_precision`, and unless there are as many thresholds.
    """
    _curve(precision, recall)
    if len(thresholds) != len(recall):
        raise ReconpatchError(f"{len(thresholds)} thresholds for a curve of {len(recall)} points: give as many")
    f1 = 2 * precision * recall / (precision + recall)
    best = len(f1) - 1 - int(np.argmax(f1[::-1]))
    return Best(float(f1[best]), float(thresholds[best]))


def false_positive_rates(negative: Floats, positive: Floats) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(sorted negatives, sorted positives) -> per positive, the share of negatives above it, and at or above it.

    Raises ReconpatchError when there are no negatives or no positives, or a score is not finite.
    """
    _sorted(negative, positive)
    above = 1 - np.searchsorted(negative, positive, "right") / len(negative)
    return above, 1 - np.searchsorted(negative, positive, "left") / len(negative)


def image_metrics(scores: Floats, labels: NDArray[np.int64]) -> Metrics:
    """((N,) scores, (N,) labels, 1 anomalous) -> image_auroc, image_ap, image_f1, image_f1_threshold.

    None where one kind of label is missing. Raises ReconpatchError when the shapes differ, a score is not finite or a
    label is neither 0 nor 1.
    """
    if scores.ndim != 1 or scores.shape != labels.shape:
        raise ReconpatchError(f"scores {scores.shape} and labels {labels.shape}: must be one of each per image")
    _finite(scores)
    if not np.isin(labels, (0, 1)).all():
        raise ReconpatchError(f"labels {np.unique(labels)[:5].tolist()}: must be 0, normal, or 1, anomalous")
    names = ("image_auroc", "image_ap", "image_f1", "image_f1_threshold")
    negative, positive = np.sort(scores[labels == 0]), np.sort(scores[labels == 1])
    if not len(negative) or not len(positive):
        return dict.fromkeys(names)
    above, at_or_above = false_positive_rates(negative, positive)
    return dict(zip(names, _curve_metrics(negative, positive, above, at_or_above), strict=True))


def pixel_metrics(maps: Floats, masks: NDArray[np.bool_], counted: NDArray[np.bool_] | None = None) -> Metrics:
    """((N, H, W) maps, (N, H, W) masks) -> pixel_auroc, pixel_ap, pixel_f1, pixel_f1_threshold, aupro_30.

    All pixels of the category are pooled, or those `counted` (N, H, W), among which all of the masks' must be. AUPRO:
    the mean, over all 8-connected defect regions, of the share of the region found, integrated over the false positive
    rate up to 0.3 and divided by 0.3. None where all pixels are normal or all anomalous. Raises ReconpatchError when
    the shapes differ, masks are not boolean, a defect lies outside what is counted, or a score is not finite.
    """
    if maps.shape != masks.shape:
        raise ReconpatchError(f"maps {maps.shape} and masks {masks.shape} differ in shape")
    _masks(masks)
    _finite(maps)
    if counted is not None and (counted.shape != masks.shape or not counted[masks].all()):
        raise ReconpatchError(f"counted {counted.shape}: must have the masks' shape {masks.shape} and all they mark")
    names = ("pixel_auroc", "pixel_ap", "pixel_f1", "pixel_f1_threshold", "aupro_30")
    negative = maps[~masks if counted is None else counted & ~masks]
    if not masks.any() or not len(negative):
        return dict.fromkeys(names)
    negative.sort()  # in place: with as many pixels as these, a second copy counts
    positive, weights = maps[masks], region_weights(masks)
    order = np.argsort(positive)  # sorted queries keep the searches in cache
    positive, weights = positive[order], weights[order]
    above, at_or_above = false_positive_rates(negative, positive)
    pro = float(np.sum(weights * ramp_area(above, at_or_above, PRO_LIMIT)) / PRO_LIMIT)
    return dict(zip(names, (*_curve_metrics(negative, positive, above, at_or_above), pro), strict=True))


def _curve_metrics(
    negative: Floats, positive: Floats, above: NDArray[np.float64], at_or_above: NDArray[np.float64]
) -> tuple[float, float, float, float]:
    """AUROC, average precision, best F1 and its threshold of sorted scores."""
    precision, recall, thresholds = precision_curve(negative, positive)
    best = best_f1(precision, recall, thresholds)
    auroc = float(np.mean(1 - (above + at_or_above) / 2))
    return auroc, average_precision(precision, recall), best.f1, best.threshold


def ramp_area(start: NDArray[np.float64], end: NDArray[np.float64], limit: float) -> NDArray[np.float64]:
    """Area below a ramp that rises from 0 at `start` to 1 at `end` and stays there, between 0 and `limit`.

    Raises ReconpatchError unless 0 <= start <= end <= 1 and 0 < limit <= 1.
    """
    if start.shape != end.shape or not ((start >= 0) & (start <= end) & (end <= 1)).all() or not 0 < limit <= 1:
        raise ReconpatchError(f"ramps {start.shape} to {end.shape} up to {limit}: must rise within 0 and 1")
    length = end - start
    cut = np.where(length > 0, (limit - start) ** 2 / np.where(length > 0, 2 * length, 1), 0)
    return np.where(end <= limit, limit - (start + end) / 2, np.where(start < limit, cut, 0))


def region_weights(masks: NDArray[np.bool_]) -> NDArray[np.float64]:
    """(N, H, W) masks -> one weight per positive pixel, in the masks' order: 1 / (regions x pixels of its region).

    Raises ReconpatchError when masks are not boolean or not three-dimensional. Without regions there are no weights.
    """
    _masks(masks)
    weights, regions = [np.zeros(0)], 0
    for mask in masks:
        if mask.any():
            labels, count = ndimage.label(mask, structure=EIGHT)
            inside = labels[mask]
            weights.append(1 / np.bincount(inside)[inside])
            regions += count
    return np.asarray(np.concatenate(weights) / max(regions, 1))


def _finite(scores: Floats) -> None:
    if not np.isfinite(scores).all():
        raise ReconpatchError(f"{int((~np.isfinite(scores)).sum())} anomaly scores are not finite: check the features")


def _sorted(negative: Floats, positive: Floats) -> None:
    """The ends of sorted scores tell whether all are finite: NaN sorts last."""
    for name, scores in (("negatives", negative), ("positives", positive)):
        if not len(scores):
            raise ReconpatchError(f"no {name}: without them nothing can be measured")
        _finite(scores[[0, -1]])


def _curve(precision: NDArray[np.float64], recall: NDArray[np.float64]) -> None:
    sound = len(precision) == len(recall) > 0 and ((precision >= 0) & (precision <= 1) & (recall > 0)).all()
    if not sound or recall[0] > 1 or (np.diff(recall) > 0).any():
        raise ReconpatchError("precision and recall are no curve of precision_curve: both in [0, 1], recall falling")


def _masks(masks: NDArray[np.bool_]) -> None:
    if masks.dtype != np.bool_ or masks.ndim != 3:
        raise ReconpatchError(f"masks {masks.shape} of {masks.dtype}: must be boolean, (images, height, width)")
