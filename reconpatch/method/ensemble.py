"""Ensembles of scores (section 3.3, Table 6): the mean of the members' normalised scores.

"zscore" is the paper's modified z-score, whose median and deviation come from the training images. The paper names a
mean absolute deviation, but its constant 1.4826 belongs to the median absolute deviation, which is used here. "minmax"
is the normalisation of PatchCore's official code: the scores of the whole test set, scaled to [0, 1].
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reconpatch.errors import ReconpatchError
from reconpatch.method.scoring import anomaly_maps

BETA = 1.4826  # makes the median absolute deviation of a normal distribution its standard deviation
NORMALISATIONS = ("zscore", "minmax")
Scores = NDArray[np.float32]


def modified_z(scores: NDArray[Any], reference: NDArray[Any]) -> Scores:
    """(scores, reference scores), both of any shape -> (scores - median) / (1.4826 MAD), of the scores' shape.

    The median and the median absolute deviation from it, MAD, are those of the reference. Raises ReconpatchError if the
    reference is empty, is not finite, or has a MAD of 0.
    """
    centre, scale = _median_and_deviation(reference)
    return ((np.asarray(scores, np.float64) - centre) / scale).astype(np.float32)


def min_max(scores: NDArray[Any]) -> Scores:
    """scores of the whole test set, any shape -> the same shape, in [0, 1]; constant scores become 0.

    Raises ReconpatchError if there are no scores or one is not finite.
    """
    low, span = _lowest_and_span(scores)
    return ((np.asarray(scores, np.float64) - low) / span).astype(np.float32)


def combine_scores(members: Iterable[NDArray[Any]], references: Sequence[NDArray[Any]] | None, how: str) -> Scores:
    """(members' (N,) image scores, per member its (M,) scores of the training images) -> (N,) mean normalised scores.

    `how` is "zscore", or "minmax", which ignores the references. Raises ReconpatchError if `how` is another word, if
    there are no members, if members differ in shape, or if there is not one reference per member.
    """
    return _mean_normalised(members, references, how, axes=1)


def combine_maps(members: Iterable[NDArray[Any]], references: Sequence[NDArray[Any]] | None, how: str) -> Scores:
    """(members' (N, H, W) maps, per member its patch scores of the training images, any shape) -> (N, H, W) mean map.

    `members` may be a generator: besides the result, only one member is in memory at a time. `how` and errors are those
    of `combine_scores`.
    """
    return _mean_normalised(members, references, how, axes=3)


def combine_runs(
    scores: Sequence[Mapping[str, NDArray[Any]]],
    references: Sequence[Mapping[str, NDArray[Any]]],
    sizes: Sequence[tuple[tuple[int, ...], float]],
    how: str,
) -> tuple[Scores, Scores]:
    """(members' saved scores of the test images, of the training images (none for "minmax"), per member (H, W)
    and blur of its maps) -> ((N,) image scores, (N, H, W) maps) of the ensemble.

    Saved scores are (N,) "image" and (N, h, w) "patch". Errors as in `combine_scores`.
    """
    image = combine_scores([s["image"] for s in scores], [r["image"] for r in references] or None, how)
    maps = (anomaly_maps(s["patch"], *size) for s, size in zip(scores, sizes, strict=True))
    return image, combine_maps(maps, [r["patch"] for r in references] or None, how)


def _mean_normalised(
    members: Iterable[NDArray[Any]], references: Sequence[NDArray[Any]] | None, how: str, axes: int
) -> Scores:
    if how not in NORMALISATIONS:
        raise ReconpatchError(f"ensemble {how!r}: unknown normalisation, choose one of {', '.join(NORMALISATIONS)}")
    if how == "minmax":
        references = None
    elif references is None:
        raise ReconpatchError('ensemble "zscore" needs scores of the training images: give them or use "minmax"')
    total, count = None, 0
    for member in members:
        if references is not None and count == len(references):
            raise ReconpatchError(f"ensemble: more members than the {count} references; every member needs one")
        if member.ndim != axes:
            raise ReconpatchError(f"ensemble member {count}: has shape {member.shape}, {axes} axes are expected")
        if total is None:
            total = np.zeros(member.shape, np.float32)
        if member.shape != total.shape:
            raise ReconpatchError(
                f"shape {member.shape} differs from {total.shape} of member 0",
                where=f"ensemble member {count}",
                fix="members must score the same images at the same size",
            )
        centre, scale = _lowest_and_span(member) if references is None else _median_and_deviation(references[count])
        _add(total, member, centre, scale)
        count += 1
        del member  # frees its memory before a generator makes the next one
    if total is None:
        raise ReconpatchError("ensemble: no members")
    if references is not None and count != len(references):
        raise ReconpatchError(f"ensemble: {len(references)} references for {count} members; every member needs one")
    total /= count
    return total


def _add(total: Scores, member: NDArray[Any], centre: float, scale: float) -> None:
    """Add image by image, so that double precision needs no second copy of the maps."""
    for i, part in enumerate(member):
        total[i] += (np.asarray(part, np.float64) - centre) / scale


def _median_and_deviation(reference: NDArray[Any]) -> tuple[float, float]:
    """Reference scores -> (median, 1.4826 MAD)."""
    values = _finite(reference, "reference scores of training images")
    centre = float(np.median(values))
    deviation = float(np.median(np.abs(values - centre)))
    if deviation == 0:
        raise ReconpatchError(
            f"ensemble: more than half of the {values.size} reference scores equal {centre:g}, so their median "
            'absolute deviation is 0 and no z-score exists: use "minmax"'
        )
    return centre, BETA * deviation


def _lowest_and_span(scores: NDArray[Any]) -> tuple[float, float]:
    """Scores -> (lowest, highest - lowest), the latter 1 when all are equal, so that they become 0."""
    ends = [scores.min(), scores.max()] if scores.size else []
    low, high = (float(end) for end in _finite(np.array(ends), "scores"))
    return low, (high - low) or 1.0


def _finite(values: NDArray[Any], what: str) -> NDArray[np.float64]:
    if not values.size or not np.isfinite(values).all():
        raise ReconpatchError(f"ensemble: {what} are {'not finite' if values.size else 'missing'}: check the features")
    return np.asarray(values, np.float64)
