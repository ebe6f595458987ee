"""Uncertainty by bootstrap: test images and, where there are several, seeds are drawn with replacement.

An AUROC is the share of (positive, negative) pairs in which the positive scores higher, ties counting half. Those pairs
are counted once per pair of images; any resample is then a weighting of the images: no score is looked at again.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reconpatch.errors import ReconpatchError

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]


@dataclass(frozen=True)
class Wins:
    """Counts of N images: (N, N) pairs A, (N,) positives p, (N,) negatives n. With image weights w, the AUROC of the
    weighted images is w'Aw / ((w.p)(w.n)).

    pairs[i, j] is the number of pairs of a positive of image i and a negative of image j in which the positive scores
    higher, ties counting half. float32 keeps pairs to a relative 6e-8.
    """

    pairs: Floats
    positives: Doubles
    negatives: Doubles


def of_images(wins: Wins, chosen: NDArray[np.bool_]) -> Wins:
    """Counts of N images, (N,) which of them -> the counts of these."""
    return Wins(wins.pairs[np.ix_(chosen, chosen)], wins.positives[chosen], wins.negatives[chosen])


def image_wins(scores: Floats, labels: NDArray[np.int64]) -> Wins:
    """((N,) scores, (N,) labels, 1 anomalous) -> wins, every image being one positive or one negative. Exact.

    Raises ReconpatchError when the shapes differ, a score is not finite or a label is neither 0 nor 1.
    """
    check_labels(scores, labels)
    positive, negative = labels == 1, labels == 0
    higher = (scores[:, None] > scores) + 0.5 * (scores[:, None] == scores)
    pairs = np.where(positive[:, None] & negative, higher, 0)
    return Wins(pairs.astype(np.float32), positive.astype(np.float64), negative.astype(np.float64))


def pixel_wins(
    maps: Floats, masks: NDArray[np.bool_], bins: int = 4096, counted: NDArray[np.bool_] | None = None
) -> Wins:
    """((N, H, W) maps, (N, H, W) masks) -> wins of the pixels, from histograms of every image.

    Pixels that are not `counted`, (N, H, W), are no negatives; all of the masks' must be counted.
    The histograms have a bin at every cut and one between every two cuts. The cuts are bins / 2 quantiles of the
    positives and as many of the negatives, of all images, so high scores, where the positives are, are resolved as
    finely as the rest. Ties at a cut stay ties; up to bins / 2 positives and as many negatives are counted exactly.
    Pairs between two cuts count half. For even bins, less than 1 / (bins / 2 - 1) of the positives lie between two
    cuts, so the AUROC of all pixels errs by less than 1 / (bins - 2); far less in practice, because overcounted and
    undercounted pairs cancel. Besides the maps, this needs a sorted copy of the pixels and 8 * N * bins float64.
    Raises ReconpatchError when the shapes differ, masks are not boolean, there are no images, a score is not finite,
    or bins is below 4.
    """
    _check_scores("masks", maps, masks)
    if masks.dtype != np.bool_ or masks.ndim != 3 or not len(masks):
        raise ReconpatchError(f"masks {masks.shape} of {masks.dtype}: must be boolean, (images, height, width)")
    if bins < 4:
        raise ReconpatchError(f"bins {bins}: must be at least 4")
    normal = ~masks if counted is None else counted & ~masks
    cuts = np.union1d(_quantiles(maps[masks], bins // 2), _quantiles(maps[normal], bins // 2))
    positive = np.stack([_histogram(m[mask], cuts) for m, mask in zip(maps, masks, strict=True)])
    negative = np.stack([_histogram(m[each], cuts) for m, each in zip(maps, normal, strict=True)])
    positives, negatives = positive.sum(1), negative.sum(1)
    negative = np.cumsum(negative, 1) - negative / 2  # negatives below each bin, and half of those in it
    return Wins((positive @ negative.T).astype(np.float32), positives, negatives)


def _quantiles(values: Floats, count: int) -> Floats:
    """(n,) -> up to `count` >= 2 of the values, evenly spaced in rank, first and last included. Sorts `values`."""
    values.sort()
    return values[np.unique(np.arange(count) * (len(values) - 1) // (count - 1))] if len(values) else values


def _histogram(values: Floats, cuts: Floats) -> Doubles:
    """((n,), (k,) sorted cuts) -> (2k + 1,) counts: below the first cut, at it, between it and the second, ..."""
    values = np.sort(values)  # then only the cuts are looked up, not every pixel
    below = np.stack([np.searchsorted(values, cuts, side) for side in ("left", "right")], 1)
    return np.diff(below.ravel(), prepend=0, append=len(values)).astype(np.float64)


def auroc(wins: Wins, weights: NDArray[Any]) -> Doubles:
    """(wins of N images, (R, N) weights) -> (R,) AUROCs, NaN where no positive or no negative has weight.

    A weight m is the image taken m times. Raises ReconpatchError when the weights are not of N images, negative or not
    finite.
    """
    w = check_weights(weights, len(wins.pairs)).astype(np.float64)
    won = np.sum(w @ wins.pairs.astype(np.float64) * w, axis=1)
    pairs = (w @ wins.positives) * (w @ wins.negatives)
    return np.asarray(np.divide(won, pairs, out=np.full(len(w), np.nan), where=pairs > 0))


def image_aurocs(scores: Floats, labels: NDArray[np.int64], weights: NDArray[Any]) -> Doubles:
    """((N,) scores, (N,) labels, 1 anomalous, (R, N) weights) -> (R,) AUROCs, equal to `auroc(image_wins(...))`.

    It sums the weights below every distinct score, so that no array is N x N. Raises ReconpatchError as these two do.
    """
    check_labels(scores, labels)
    weights = check_weights(weights, len(scores))
    levels, level = np.unique(scores, return_inverse=True)
    values = np.full(len(weights), np.nan)
    for n, w in enumerate(weights.astype(np.float64)):
        positive, negative = (np.bincount(level, w * (labels == label), len(levels)) for label in (1, 0))
        pairs = positive.sum() * negative.sum()
        if pairs > 0:
            values[n] = positive @ (np.cumsum(negative) - negative / 2) / pairs
    return values


def resamples(labels: NDArray[np.int64], count: int, rng: np.random.Generator) -> Floats:
    """(N,) labels -> (count, N): how often each image is drawn, with replacement.

    Normal and anomalous images are drawn apart: both classes keep their sizes, so no resample lacks one. Raises
    ReconpatchError for count < 1.
    """
    weights = np.zeros((_positive("count", count), len(labels)), np.float32)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        weights[:, members] = _draws(len(members), count, rng)
    return weights


def seed_resamples(seeds: int, count: int, rng: np.random.Generator) -> Floats:
    """S seeds -> (count, S): how often each is drawn, S in all, with replacement. A single seed is drawn every time.

    Raises ReconpatchError for seeds < 1 or count < 1.
    """
    return _draws(_positive("seeds", seeds), _positive("count", count), rng)


def _draws(size: int, count: int, rng: np.random.Generator) -> Floats:
    return rng.multinomial(size, np.full(size, 1 / size), count).astype(np.float32)


def mean_over_seeds(values: Sequence[Doubles], weights: NDArray[Any]) -> Doubles:
    """((R,) values of each of S seeds, (R, S) how often each seed is drawn) -> (R,) weighted means over the seeds.

    Their deviations from the plain mean are stretched by sqrt(S / (S - 1)).
    Draws of S things with replacement scatter too little, by the share 1 / S of the variance: without the stretch an
    interval over three seeds would be a fifth too short.

    All seeds of a resample must see the same images. To compare two methods, give both the same resamples of images
    and seeds and subtract: the draws are then paired, and what both have in common cancels. NaN where any value is.
    Raises ReconpatchError when the shapes do not fit, a weight is negative or not finite, or a resample has no seed.
    """
    check_weights(weights, len(values))
    if not values or {v.shape for v in values} != {weights.shape[:1]} or not weights.sum(1).all():
        raise ReconpatchError(
            f"seed weights {weights.shape} for values of {len(values)} seeds: give (resamples, seeds), and each "
            "resample a seed"
        )
    every = np.stack(values, 1)
    plain, drawn = every.mean(1), np.average(every, axis=1, weights=weights.astype(np.float64))
    count = len(values)
    return np.asarray(plain + (drawn - plain) * (count / (count - 1)) ** 0.5 if count > 1 else drawn)


def interval(values: NDArray[Any], level: float = 0.95) -> tuple[float, float]:
    """(R,) bootstrap values -> percentile interval: the quantiles (1 - level) / 2 and (1 + level) / 2.

    (NaN, NaN) when a value is NaN or there is none. Raises ReconpatchError for a level not between 0 and 1.
    """
    if not 0 < level < 1:
        raise ReconpatchError(f"level {level}: must be between 0 and 1")
    if not len(values) or np.isnan(values).any():
        return float("nan"), float("nan")
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def to_tensors(wins: Wins, prefix: str) -> dict[str, NDArray[Any]]:
    """Wins -> name to array, for a safetensors file: `<prefix>_pairs`, `<prefix>_positives`, `<prefix>_negatives`."""
    return {f"{prefix}_{field.name}": getattr(wins, field.name) for field in fields(Wins)}


def from_tensors(tensors: Mapping[str, NDArray[Any]], prefix: str) -> Wins:
    """What `to_tensors` gave, possibly among others -> wins.

    Raises ReconpatchError for one that is missing, of another shape, negative or not finite.
    """
    try:
        wins = Wins(**{field.name: tensors[f"{prefix}_{field.name}"] for field in fields(Wins)})
    except KeyError as error:
        raise ReconpatchError(f"tensor {error} is missing", fix="run the step that wrote the file again") from error
    n = wins.positives.size
    for field, shape in zip(fields(Wins), ((n, n), (n,), (n,)), strict=True):
        values = getattr(wins, field.name)
        if values.shape != shape or not (np.isfinite(values) & (values >= 0)).all():
            raise ReconpatchError(
                f"tensor '{prefix}_{field.name}' {values.shape} is damaged, {shape} finite counts are expected",
                fix="run the step that wrote the file again",
            )
    return wins


def check_finite(scores: Floats) -> None:
    """Raise ReconpatchError unless all scores are finite."""
    if not np.isfinite(scores).all():
        raise ReconpatchError(
            f"{int((~np.isfinite(scores)).sum())} anomaly scores are not finite", fix="check the features"
        )


def check_labels(scores: Floats, labels: NDArray[np.int64]) -> None:
    """Raise ReconpatchError unless there is one finite score and one label, 0 or 1, per image."""
    _check_scores("labels", scores, labels)
    if scores.ndim != 1 or not np.isin(labels, (0, 1)).all():
        raise ReconpatchError(f"labels {labels.shape}: must be one per image, 0, normal, or 1, anomalous")


def check_weights(weights: NDArray[Any], columns: int) -> NDArray[Any]:
    """The weights. Raises ReconpatchError unless they are (resamples, columns), finite and not negative."""
    if weights.ndim != 2 or weights.shape[1] != columns:
        raise ReconpatchError(f"weights {weights.shape}: must have a column for each of the {columns} images or seeds")
    if not (np.isfinite(weights) & (weights >= 0)).all():
        raise ReconpatchError(f"weights {weights.shape}: must be finite and not negative")
    return weights


def _check_scores(name: str, scores: Floats, truth: NDArray[Any]) -> None:
    if scores.shape != truth.shape:
        raise ReconpatchError(f"scores {scores.shape} and {name} {truth.shape} differ in shape")
    check_finite(scores)


def _positive(name: str, value: int) -> int:
    if value < 1:
        raise ReconpatchError(f"{name} {value}: must be at least 1")
    return value
