"""Choosing the threshold above which an image is called anomalous, with its uncertainty.

The threshold is one of the image scores of n held-out good images, which the model has not seen. No distribution of
scores is assumed. If the threshold is the r-th smallest of these scores, the share of further good images above it (the
false-alarm rate) follows Beta(n + 1 - r, r), with mean (n + 1 - r) / (n + 1). This holds for any continuous
distribution of scores, as long as the images to come are like the held-out ones.

The same image can get a score with other last bits on another processor, and on old ones in another batch. The
threshold therefore lies ROUNDING above the score that sets it, so that the image with this score stays normal.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from reconpatch.errors import ReconpatchError

CONFIDENCE = 0.95  # of every interval
SMALLEST_RATE = 1e-6  # smallest false-alarm rate that can be asked for
# Relative: about half the step between two float16 numbers. Patch features are stored as float16, so a rounding error
# anywhere before moves a few of them by one step and the others not at all (docs/trust.md has measurements).
ROUNDING = 2**-11


@dataclass(frozen=True)
class Threshold:
    """A threshold of image scores and what is known about the false-alarm rate above it."""

    value: float
    wanted: float  # the false-alarm rate asked for
    expected: float  # mean of the rate over all draws of as many held-out images
    low: float  # 95 % interval of the rate
    high: float
    images: int  # number of held-out images
    reachable: bool  # whether so many images can show so low a rate

    def sentence(self) -> str:
        """The threshold and its uncertainty as one line of text."""
        text = (
            f"{self.value:.4g}: of good images {self.expected:.1%} are expected above it "
            f"(95 % interval {self.low:.1%} to {self.high:.1%}, from {self.images} held-out good images)"
        )
        if self.reachable:
            return text
        least = images_needed(self.wanted)
        return f"{text}; the {100 * self.wanted:.3g}% wanted cannot be shown with so few: hold out at least {least}"


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


def choose_threshold(scores: Sequence[float], rate: float) -> Threshold:
    """(n,) scores of held-out good images, wanted false-alarm rate -> the lowest score whose expected rate is not
    above the wanted one, raised by ROUNDING.

    If n is too small for the rate, this is the largest score, raised likewise. Raises ReconpatchError for a rate that
    `check_rate` refuses, for no scores, and for scores that are not finite.
    """
    check_rate(rate)
    ordered = np.sort(np.asarray(scores, np.float64))
    n = len(ordered)
    if not n or not np.isfinite(ordered).all():
        raise ReconpatchError(
            f"a threshold needs finite scores of held-out good images, there are {n}", fix="hold some out"
        )
    wanted_rank = math.ceil(round((n + 1) * (1 - rate), 9))  # from 1; rounded, so that 0.95 * 20 is 19 and not above
    r = min(max(wanted_rank, 1), n)
    from scipy.stats import beta  # takes long to import and is needed here alone

    low, high = beta.ppf([(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2], n + 1 - r, r)
    value = float(ordered[r - 1]) * (1 + ROUNDING)
    return Threshold(value, rate, (n + 1 - r) / (n + 1), float(low), float(high), n, wanted_rank <= n)


def share_interval(count: int, of: int) -> tuple[float, float]:
    """Successes, trials -> 95 % interval of the probability of a success (Clopper and Pearson's exact one)."""
    from scipy.stats import binomtest

    interval = binomtest(count, of).proportion_ci(CONFIDENCE, "exact")
    return float(interval.low), float(interval.high)
