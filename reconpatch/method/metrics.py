"""The metrics of the benchmark, exact with ties, and the registry from which everything else about them follows.

`METRICS` is the only list of metrics: records, tables, sweeps, intervals, verification and `reconpatch evaluate` read
it. Values are in [0, 1]; None means undefined, for example without any anomaly.

All metrics of a category share one sort of its scores, a `Ranking`. With a and b the shares of negatives above, and at
or above, a positive's score, the ROC and PRO curves are sums of ramps from a to b. The areas of ramps have closed
forms: the trapezoid rule with interpolation at the limit, ties included.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, NamedTuple, TypedDict, Unpack

import numpy as np
from numpy.typing import NDArray

from reconpatch.errors import ReconpatchError
from reconpatch.method import bootstrap
from reconpatch.method.bootstrap import Wins
from reconpatch.method.saturated import Defects, counted_pixels

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Labels = NDArray[np.int64]
Masks = NDArray[np.bool_]
Level = Literal["image", "pixel"]
Metrics = dict[str, float | None]


class Special(TypedDict, total=False):
    """What some data sets have beside masks of their test images: every defect in a mask of its own, inside the image's
    mask; and a threshold of pixels that was chosen without the test images.
    """

    defects: Defects | None
    threshold: float | None


class PrecisionRecall(NamedTuple):
    """Precision and recall at every distinct positive score. Thresholds rise, so recall falls.

    Other thresholds have the same recall and no better precision.
    """

    precision: Doubles
    recall: Doubles
    thresholds: Floats


@dataclass(frozen=True)
class Ranking:
    """The scores of normal and anomalous images or pixels, sorted once and shared by all metrics.

    negative: (n,) rising scores of what is normal. positive: (p,) rising scores of what is anomalous. region_weights:
    (p,) the weight of every positive pixel in AUPRO, 1 / (regions x pixels of its region); None for images. saturated:
    the same negatives with the pixels and weights that count in sPRO, where the data set marks every defect alone.
    threshold: one that was chosen without the test images. Raises ReconpatchError when there are no negatives or no
    positives, or a score is not finite.
    """

    negative: Floats
    positive: Floats
    region_weights: Doubles | None = None
    saturated: "Ranking | None" = None
    threshold: float | None = None

    def __post_init__(self) -> None:
        for name, scores in (("negatives", self.negative), ("positives", self.positive)):
            if not len(scores):
                raise ReconpatchError(f"there are no {name}", fix="metrics need both")
            bootstrap.check_finite(scores[[0, -1]])  # the ends are enough: infinities sort to both ends, NaN sorts last

    @cached_property
    def above(self) -> Doubles:
        """(p,) the share of negatives above each positive: false positive rate just below its threshold's ties."""
        return 1 - np.searchsorted(self.negative, self.positive, "right") / len(self.negative)

    @cached_property
    def at_or_above(self) -> Doubles:
        """(p,) the share of negatives at or above each positive: false positive rate at its score as threshold."""
        return 1 - np.searchsorted(self.negative, self.positive, "left") / len(self.negative)

    @cached_property
    def precision_recall(self) -> PrecisionRecall:
        """The precision-recall curve, one point per distinct positive score."""
        thresholds, first = np.unique(self.positive, return_index=True)
        true = len(self.positive) - first
        false = len(self.negative) - np.searchsorted(self.negative, thresholds, "left")
        return PrecisionRecall(true / (true + false), true / len(self.positive), thresholds)

    @cached_property
    def best_f1(self) -> tuple[float, float]:
        """The largest F1 = 2 TP / (2 TP + FP + FN) and its threshold, the highest threshold on a tie.

        Scores at or above the threshold are positive.
        """
        precision, recall, thresholds = self.precision_recall
        f1 = 2 * precision * recall / (precision + recall)
        best = len(f1) - 1 - int(np.argmax(f1[::-1]))
        return float(f1[best]), float(thresholds[best])

    def f1_above(self, threshold: float) -> float:
        """F1 = 2 TP / (2 TP + FP + FN), where scores above the threshold are positive."""
        true, false = (
            len(scores) - int(np.searchsorted(scores, np.float32(threshold), "right"))
            for scores in (self.positive, self.negative)
        )
        return 2 * true / (true + false + len(self.positive))


def auroc(ranking: Ranking) -> float:
    """Area under the ROC curve: the share of (positive, negative) pairs in order, ties counting half."""
    return float(np.mean(1 - (ranking.above + ranking.at_or_above) / 2))


def average_precision(ranking: Ranking) -> float:
    """Sum of precision times the gain in recall, without interpolation (scikit-learn's definition)."""
    precision, recall, _ = ranking.precision_recall
    return float(np.sum(precision * -np.diff(recall, append=0)))


def aupro(ranking: Ranking, limit: float) -> float:
    """Mean, over all defect regions, of the share of the region found, integrated up to a limit.

    The integral runs over the false positive rate and is divided by the limit. Regions are those of the weights: for
    AUPRO the 8-connected ones of all masks. Raises ReconpatchError for a ranking of images, which have no regions.
    """
    if ranking.region_weights is None:
        raise ReconpatchError("AUPRO is a metric of pixels", fix="give a ranking with region weights")
    areas = ramp_area(ranking.above, ranking.at_or_above, limit)
    return float(np.sum(ranking.region_weights * areas) / limit)


def spro(ranking: Ranking, limit: float) -> float | None:
    """The same with saturated overlaps (`saturated`); None where the data set does not say when a defect is found."""
    return None if ranking.saturated is None else aupro(ranking.saturated, limit)


def f1_at_threshold(ranking: Ranking) -> float | None:
    """F1 at the threshold that was chosen without the test images; None without one."""
    return None if ranking.threshold is None else ranking.f1_above(ranking.threshold)


@dataclass(frozen=True)
class Metric:
    """One metric: an entry of METRICS is all that a metric needs.

    name: its key in records. label: its name in tables and figures. level: whether it ranks images or pixels; pixel
    metrics need masks. function: ranking -> value. optional: whether it needs more than masks; where a data set does
    not have that, the function gives None and records leave the metric out. threshold: ranking -> the score that
    belongs to the value; it stands in records as `<name>_threshold`. in_tables: whether tables have columns for it
    unless their experiment says otherwise. interval: how its 95 % bootstrap interval is computed, None for no interval:

    "scores"  image metrics: the function, of the image scores of every resample
    "pairs"   AUROC only: counts of ordered pairs, kept per pair of images, so that pixels can be resampled, too
    """

    name: str
    label: str
    level: Level
    function: Callable[[Ranking], float | None]
    threshold: Callable[[Ranking], float | None] | None = None
    higher_is_better: bool = True
    in_tables: bool = False
    optional: bool = False
    interval: Literal["pairs", "scores"] | None = None

    def __post_init__(self) -> None:
        if self.needs_masks and self.interval == "scores":
            raise ReconpatchError(
                "pixels are not saved, so their metric cannot be computed again for resamples",
                where=self.name,
                fix='set interval to None or, for an AUROC, to "pairs"',
            )

    @property
    def needs_masks(self) -> bool:
        """Whether it is undefined without masks of the defects."""
        return self.level == "pixel"


METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("image_auroc", "image AUROC", "image", auroc, in_tables=True, interval="pairs"),
        Metric("image_ap", "image AP", "image", average_precision),
        Metric("image_f1", "image F1", "image", lambda r: r.best_f1[0], threshold=lambda r: r.best_f1[1]),
        Metric("pixel_auroc", "pixel AUROC", "pixel", auroc, in_tables=True, interval="pairs"),
        Metric("pixel_ap", "pixel AP", "pixel", average_precision),
        Metric("pixel_f1", "pixel F1", "pixel", lambda r: r.best_f1[0], threshold=lambda r: r.best_f1[1]),
        # Up to the false positive rate of MVTec AD's authors, and of MVTec AD 2's.
        Metric("aupro_30", "AUPRO (30 %)", "pixel", lambda r: aupro(r, 0.3), in_tables=True),
        Metric("aupro_05", "AUPRO (5 %)", "pixel", lambda r: aupro(r, 0.05)),
        Metric("spro_05", "sPRO (5 %)", "pixel", lambda r: spro(r, 0.05), optional=True),
        # At the threshold of `normal_threshold`.
        Metric("pixel_f1_normal", "pixel F1, fixed", "pixel", f1_at_threshold, lambda r: r.threshold, optional=True),
    )
}


def image_metrics(scores: Floats, labels: Labels) -> Metrics:
    """((N,) scores, (N,) labels, 1 anomalous) -> every image metric of METRICS, and its threshold if it has one.

    None where one kind of label is missing. Raises ReconpatchError when the shapes differ, a score is not finite or a
    label is neither 0 nor 1.
    """
    if scores.ndim != 1 or scores.shape != labels.shape:
        raise ReconpatchError(f"scores {scores.shape} and labels {labels.shape}: must be one of each per image")
    bootstrap.check_finite(scores)
    if not np.isin(labels, (0, 1)).all():
        raise ReconpatchError(f"labels {np.unique(labels)[:5].tolist()}: must be 0, normal, or 1, anomalous")
    if labels.all() or not labels.any():
        return _measured("image", None)
    return _measured("image", Ranking(np.sort(scores[labels == 0]), np.sort(scores[labels == 1])))


def pixel_metrics(
    maps: Floats,
    masks: Masks,
    counted: Masks | None = None,
    **special: Unpack[Special],
) -> Metrics:
    """((N, H, W) maps, (N, H, W) masks) -> every pixel metric of METRICS, and its threshold if it has one.

    All pixels of the category are pooled, or those `counted` (N, H, W), among which all of the masks' must be. None
    where all pixels are normal or all anomalous. Raises ReconpatchError when the shapes differ, masks are not boolean,
    a defect lies outside what is counted or outside its image's mask, or a score is not finite.
    """
    if maps.shape != masks.shape:
        raise ReconpatchError(f"maps {maps.shape} and masks {masks.shape} differ in shape")
    _check_masks(masks)
    bootstrap.check_finite(maps)
    if counted is not None and (counted.shape != masks.shape or not counted[masks].all()):
        raise ReconpatchError(f"counted {counted.shape}: must have the masks' shape {masks.shape} and all they mark")
    defects = special.get("defects")
    if defects is not None:
        defects.check_inside(masks)  # its other pixels would be positives and negatives at once
    negative = maps[~masks if counted is None else counted & ~masks]
    if not masks.any() or not len(negative):
        return _measured("pixel", None)
    negative.sort()  # in place: a second copy of that many pixels would need much memory
    positive, weights = maps[masks], region_weights(masks)
    order = np.argsort(positive)  # sorted queries keep the searches in cache
    saturated = None
    if defects is not None and len(defects.image):
        saturated = Ranking(negative, *counted_pixels(maps, defects))
    return _measured("pixel", Ranking(negative, positive[order], weights[order], saturated, special.get("threshold")))


def _measured(level: Level, ranking: Ranking | None) -> Metrics:
    """The metrics of a level, in the registry's order. Without a ranking all are undefined, and optional ones are left
    out.
    """
    values: Metrics = {}
    for metric in METRICS.values():
        value = None if ranking is None or metric.level != level else metric.function(ranking)
        if metric.level != level or (metric.optional and value is None):
            continue
        values[metric.name] = value
        if metric.threshold is not None:
            values[f"{metric.name}_threshold"] = None if ranking is None else metric.threshold(ranking)
    return values


def evaluate(
    image: Floats,
    labels: Labels,
    maps: Floats,
    masks: Masks,
    **special: Unpack[Special],
) -> tuple[Metrics, dict[str, NDArray[Any]]]:
    """((N,) image scores, (N,) labels, 1 anomalous, (N, H, W) maps, (N, H, W) masks) -> (metrics, tensors).

    The tensors are the counts from which `resampled` draws intervals, by the names they are saved under. Raises
    ReconpatchError when shapes differ or a score is not finite.
    """
    metrics = image_metrics(image, labels) | pixel_metrics(maps, masks, **special)
    wins = bootstrap.image_wins(image, labels), bootstrap.pixel_wins(maps, masks)
    return metrics, bootstrap.to_tensors(wins[0], "image") | bootstrap.to_tensors(wins[1], "pixel")


def by_kind(
    kinds: Sequence[str],
    image: Floats,
    labels: Labels,
    maps: Floats,
    masks: Masks,
    **special: Unpack[Special],
) -> dict[str, Metrics]:
    """(N kinds of anomaly, "" of a normal image, the rest as for `evaluate`) -> the metrics of each kind.

    Those of a kind are measured on its images and all normal ones, as MVTec LOCO AD's authors do. Nothing where no
    image has a kind. Raises ReconpatchError when there is not one kind per label, and as `evaluate` does.
    """
    names = np.array(kinds)
    if names.shape != labels.shape:
        raise ReconpatchError(f"kinds {names.shape} and labels {labels.shape}: must be one of each per image")
    found: dict[str, Metrics] = {}
    for kind in sorted({*kinds} - {""}):
        chosen = (names == kind) | (labels == 0)
        defects = special.get("defects")
        part: Special = {**special, "defects": None if defects is None else defects.of_images(chosen)}
        found[kind] = image_metrics(image[chosen], labels[chosen])
        found[kind] |= pixel_metrics(maps[chosen], masks[chosen], **part)
    return found


def normal_threshold(maps: Iterable[Floats]) -> float | None:
    """Anomaly maps of normal images that are no test images -> the threshold of pixels that follows from them; None
    without maps.

    It is the mean of all their pixels and 3 standard deviations, as MVTec AD 2's authors suggest, rounded like a score.
    Raises ReconpatchError when a score is not finite.
    """
    count, shift, total, squares = 0, 0.0, 0.0, 0.0
    for each in maps:
        bootstrap.check_finite(each)
        shift = shift if count else float(each.flat[0])
        # One score becomes 0, so that the variance exceeds its rounding errors or, where all scores are equal, is 0.
        values = each.astype(np.float64) - shift
        count, total, squares = count + values.size, total + values.sum(), squares + np.square(values).sum()
    if not count:
        return None
    mean = total / count
    return float(np.float32(shift + mean + 3 * np.sqrt(squares / count - mean**2)))


@dataclass(frozen=True)
class SavedScores:
    """What is saved of the N test images of a run, from which all intervals are drawn.

    image: (N,) image scores. labels: (N,), 1 anomalous. wins: counts of ordered pairs of images or pixels.
    """

    image: Floats
    labels: Labels
    wins: Mapping[Level, Wins]


def saved_scores(tensors: Mapping[str, NDArray[Any]], metrics: Mapping[str, float | None]) -> SavedScores:
    """Tensors of a file of scores, metrics of its record -> what intervals of the metrics that are defined need.

    Raises ReconpatchError for a tensor that is missing or damaged.
    """
    levels = {m.level for m in METRICS.values() if m.interval == "pairs" and metrics.get(m.name) is not None}
    wins = {level: bootstrap.from_tensors(tensors, level) for level in levels}
    return SavedScores(np.asarray(tensors["image"]), np.asarray(tensors["label"]), wins)


def resampled(metric: Metric, saved: SavedScores, weights: NDArray[Any]) -> Doubles:
    """(metric with an interval, N images, (R, N) how often each image is drawn) -> (R,) values of the resamples.

    NaN where a resample lacks normal or anomalous images. Raises ReconpatchError for a metric without an interval and
    for weights of other images.
    """
    if metric.interval == "pairs" and metric.level in saved.wins:
        return bootstrap.auroc(saved.wins[metric.level], weights)
    if metric.interval is None or metric.needs_masks:
        raise ReconpatchError("cannot be drawn from what is saved", where=metric.name)
    return resampled_images(metric, saved.image, saved.labels, weights)


def resampled_images(metric: Metric, scores: Floats, labels: Labels, weights: NDArray[Any]) -> Doubles:
    """(image metric, (N,) scores, (N,) labels, (R, N) how often each image is drawn) -> (R,) values.

    No array is N x N. NaN where a resample lacks normal or anomalous images. Raises ReconpatchError when the shapes
    differ, a score is not finite, a label is neither 0 nor 1, or a weight is no whole number.
    """
    if metric.interval == "pairs":
        return bootstrap.image_aurocs(scores, labels, weights)
    times = bootstrap.check_weights(weights, len(scores)).astype(np.int64)
    if not np.array_equal(times, weights):
        raise ReconpatchError(f"weights {weights.shape}: must be whole numbers, how often each image is drawn")
    bootstrap.check_labels(scores, labels)
    normal, anomalous = (rows[np.argsort(scores[rows])] for rows in (np.flatnonzero(labels == n) for n in (0, 1)))
    values = np.full(len(times), np.nan)
    for n, w in enumerate(times):  # repeated sorted scores stay sorted
        negative, positive = np.repeat(scores[normal], w[normal]), np.repeat(scores[anomalous], w[anomalous])
        if len(negative) and len(positive):
            value = metric.function(Ranking(negative, positive))
            values[n] = np.nan if value is None else value
    return values


def ramp_area(start: Doubles, end: Doubles, limit: float) -> Doubles:
    """Area below a ramp that rises from 0 at `start` to 1 at `end` and stays there, between 0 and `limit`.

    Raises ReconpatchError unless 0 <= start <= end <= 1 and 0 < limit <= 1.
    """
    if start.shape != end.shape or not ((start >= 0) & (start <= end) & (end <= 1)).all() or not 0 < limit <= 1:
        raise ReconpatchError(f"ramps {start.shape} to {end.shape} up to {limit}: must rise within 0 and 1")
    length = end - start
    cut = np.where(length > 0, (limit - start) ** 2 / np.where(length > 0, 2 * length, 1), 0)
    return np.where(end <= limit, limit - (start + end) / 2, np.where(start < limit, cut, 0))


def region_weights(masks: Masks) -> Doubles:
    """(N, H, W) masks -> one weight per positive pixel, in the masks' order: 1 / (regions x pixels of its region).

    Raises ReconpatchError when masks are not boolean or not three-dimensional. Without regions there are no weights.
    """
    from scipy import ndimage  # tables read the registry alone and do not wait for it

    _check_masks(masks)
    weights, regions = [np.zeros(0)], 0
    for mask in masks:
        if mask.any():
            labels, count = ndimage.label(mask, structure=np.ones((3, 3)))  # 8-connected, as MVTec AD's authors do
            inside = labels[mask]
            weights.append(1 / np.bincount(inside)[inside])
            regions += count
    return np.asarray(np.concatenate(weights) / max(regions, 1))


def _check_masks(masks: Masks) -> None:
    if masks.dtype != np.bool_ or masks.ndim != 3:
        raise ReconpatchError(f"masks {masks.shape} of {masks.dtype}: must be boolean, (images, height, width)")
