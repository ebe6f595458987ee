"""Choosing the threshold above which an image is called anomalous, with its uncertainty.

The threshold is one of the image scores of n good images that were not in the memory bank when they were scored. No
distribution of scores is assumed.

Held-out images. The model has not seen them. If the threshold is the r-th smallest of their scores, the share of
further good images above it (the false-alarm rate) follows Beta(n + 1 - r, r), with mean (n + 1 - r) / (n + 1). This
holds exactly for any continuous distribution of scores, as long as the images to come are like the held-out ones.

Folds. Every image is left out once: the images of a fold are scored by a memory bank of all others, which has as many
rows as the final one. The final bank, of all images, is another one, and the scores depend on each other through the
banks. So the distribution is approximate: the mean is the same, and the interval is that of FOLD_SHARE times as many
images. tests/unit/detector/test_calibration.py and benchmarks/calibration.py measure how often it holds.

Groups. Images of one day or lot are alike. If their scores were equal within each group, only groups would count. So n
is then the number of groups, and an image of a group of s images counts as 1/s: the threshold is the lowest score at or
below which the images count as r groups. The rate is that of images of further groups. This is approximate too: images
of a group that are not alike make the interval too wide.

The same image can get a score with other last bits on another processor, and on old ones in another batch. The
threshold therefore lies ROUNDING above the score that sets it, so that the image with this score stays normal.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from reconpatch.errors import ReconpatchError

CONFIDENCE = 0.95  # of every interval
SMALLEST_RATE = 1e-6  # smallest false-alarm rate that can be asked for
# Relative: about half the step between two float16 numbers. Patch features are stored as float16, so a rounding error
# anywhere before moves a few of them by one step and the others not at all (docs/trust.md has measurements).
ROUNDING = 2**-11
FOLD_SHARE = 0.7  # share of the images that a threshold from folds counts for its interval


@dataclass(frozen=True)
class Calibration:
    """How good images were kept from the memory banks that scored them."""

    folds: int = 0  # number of folds of which each was left out once; 0: the images were held out
    group_of: tuple[int, ...] = ()  # the group of each scored image; empty: every image stands for itself

    @property
    def groups(self) -> int:
        """Number of groups that were never parted; 0: every image stands for itself."""
        return len(set(self.group_of))

    @property
    def exact(self) -> bool:
        """Whether the distribution of the rate is known exactly."""
        return not (self.folds or self.group_of)


HELD_OUT = Calibration()


@dataclass(frozen=True)
class Threshold:
    """A threshold of image scores and what is known about the false-alarm rate above it."""

    value: float
    wanted: float  # the false-alarm rate asked for
    expected: float  # mean of the rate over all draws of as many images
    low: float  # 95 % interval of the rate
    high: float
    images: int  # number of images whose scores it follows from
    reachable: bool  # whether so many images, or groups, can show so low a rate
    calibration: Calibration  # how these images were kept from the memory bank
    interval: Literal["exact", "approximate"]

    def sentence(self) -> str:
        """The threshold and its uncertainty as one line of text."""
        how = self.calibration
        kept = "good images" if how.folds else "held-out good images"
        kept += f" of {how.groups} groups, each of which counts as one image" if how.groups else ""
        kept += f", each left out once in {how.folds} folds" if how.folds else ""
        approximate = "" if how.exact else "approximate "
        text = (
            f"{self.value:.4g}: of good images {self.expected:.1%} are expected above it "
            f"({approximate}95 % interval {self.low:.1%} to {self.high:.1%}, from {self.images} {kept})"
        )
        if self.reachable:
            return text
        least = images_needed(self.wanted)
        fix = (
            f"give at least {least} groups" if how.groups else f"{'give' if how.folds else 'hold out'} at least {least}"
        )
        return f"{text}; the {100 * self.wanted:.3g}% wanted cannot be shown with so few: {fix}"


def images_needed(rate: float) -> int:
    """False-alarm rate -> the smallest number n of held-out images that can show it: 1 / (n + 1) <= rate."""
    return math.ceil(round(1 / rate - 1, 9))


def check_rate(rate: float) -> float:
    """False-alarm rate -> the same. Raises ReconpatchError unless it is in [SMALLEST_RATE, 1)."""
    if not SMALLEST_RATE <= rate < 1:
        raise ReconpatchError(
            f"must be at least {SMALLEST_RATE:g} and below 1",
            where=f"false-alarm rate {rate}",
            fix="give 0.05 for 5 %",
        )
    return rate


def choose_threshold(scores: Sequence[float], rate: float, calibration: Calibration = HELD_OUT) -> Threshold:
    """Scores of good images, wanted false-alarm rate, how these images were kept from the memory bank -> the lowest
    score whose expected rate is not above the wanted one, raised by ROUNDING.

    If there are too few images, or groups, for the rate, this is the largest score, raised likewise. Raises
    ReconpatchError for a rate that `check_rate` refuses, for no scores, and for scores that are not finite.
    """
    check_rate(rate)
    values = np.asarray(scores, np.float64)
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    if not len(ordered) or not np.isfinite(ordered).all():
        raise ReconpatchError(
            f"a threshold needs finite scores of held-out good images, there are {len(ordered)}", fix="hold some out"
        )
    group_of = np.asarray(calibration.group_of or range(len(ordered)))
    _, group, sizes = np.unique(group_of, return_inverse=True, return_counts=True)
    n, counted = len(sizes), np.cumsum(1 / sizes[group[order]])
    wanted_rank = math.ceil(round((n + 1) * (1 - rate), 9))  # from 1; rounded, so that 0.95 * 20 is 19 and not above
    r = min(max(wanted_rank, 1), n)
    from scipy.stats import beta  # takes long to import and is needed here alone

    share = FOLD_SHARE if calibration.folds else 1.0
    ends = [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2]
    low, high = beta.ppf(ends, share * (n + 1 - r), share * r)
    return Threshold(
        value=float(ordered[min(int(np.searchsorted(counted, r - 1e-9)), len(ordered) - 1)]) * (1 + ROUNDING),
        wanted=rate,
        expected=(n + 1 - r) / (n + 1),
        low=float(low),
        high=float(high),
        images=len(ordered),
        reachable=wanted_rank <= n,
        calibration=calibration,
        interval="exact" if calibration.exact else "approximate",
    )


def share_interval(count: int, of: int) -> tuple[float, float]:
    """Successes, trials -> 95 % interval of the probability of a success (Clopper and Pearson's exact one)."""
    from scipy.stats import binomtest

    interval = binomtest(count, of).proportion_ci(CONFIDENCE, "exact")
    return float(interval.low), float(interval.high)
