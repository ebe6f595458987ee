"""From which score on an image is called anomalous: chosen on good images the model has not seen, with its uncertainty.

No distribution is assumed. Let the threshold be the r-th smallest of the scores of n held-out good images. The share of
further good images above it, the false-alarm rate, then follows Beta(n + 1 - r, r): on average (n + 1 - r) / (n + 1),
whatever the scores' distribution, as long as it is continuous and the images to come are like the held-out ones.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from reconpatch.errors import ReconpatchError

LEVEL = 0.95  # of every interval
LEAST = 1e-6  # false-alarm rate that can be asked for


@dataclass(frozen=True)
class Threshold:
    """A threshold for image scores, above which an image is called anomalous, and what is known of it."""

    value: float
    wanted: float  # the false-alarm rate asked for
    expected: float  # the rate on average over all draws of so many held-out images
    low: float  # 95 % interval of the rate
    high: float
    images: int  # held out
    reachable: bool  # whether so many images can show so low a rate

    def sentence(self) -> str:
        """What to tell the user."""
        said = (
            f"{self.value:.4g}: of good images {self.expected:.1%} are expected above it "
            f"(95 % interval {self.low:.1%} to {self.high:.1%}, from {self.images} held-out good images)"
        )
        if self.reachable:
            return said
        least = needed(self.wanted)
        return f"{said}; the {100 * self.wanted:.3g}% wanted cannot be shown with so few: hold out at least {least}"


def needed(rate: float) -> int:
    """False-alarm rate -> the fewest held-out images whose largest score is expected to be exceeded no more often."""
    return math.ceil(round(1 / rate - 1, 9))


def check_rate(rate: float) -> None:
    """Raise ReconpatchError unless a false-alarm rate is between 0 and 1, and not below what any images could show."""
    if not LEAST <= rate < 1:
        raise ReconpatchError(f"false-alarm rate {rate}: must be at least {LEAST:g} and below 1, as 0.05 for 5 %")


def choose(scores: Sequence[float], rate: float) -> Threshold:
    """Scores of n >= 1 held-out good images, wanted false-alarm rate -> Threshold of the lowest suitable score.

    Where n is too small for the rate, the largest score. Raises ReconpatchError for a rate outside [LEAST, 1), no
    scores, and scores that are not finite.
    """
    check_rate(rate)
    ordered = np.sort(np.asarray(scores, np.float64))
    n = len(ordered)
    if not n or not np.isfinite(ordered).all():
        raise ReconpatchError(f"a threshold needs finite scores of held-out good images, there are {n}: hold some out")
    wanted = math.ceil(round((n + 1) * (1 - rate), 9))  # 1-based; rounding noise must not cost a place
    r = min(max(wanted, 1), n)
    from scipy.stats import beta  # heavy, and only a choice needs it

    low, high = beta.ppf([(1 - LEVEL) / 2, (1 + LEVEL) / 2], n + 1 - r, r)
    return Threshold(float(ordered[r - 1]), rate, (n + 1 - r) / (n + 1), float(low), float(high), n, wanted <= n)


def share_interval(count: int, of: int) -> tuple[float, float]:
    """Successes, trials -> Clopper and Pearson's 95 % interval of the probability: at least that coverage, always."""
    from scipy.stats import beta

    low = beta.ppf((1 - LEVEL) / 2, count, of - count + 1) if count else 0.0
    high = beta.ppf((1 + LEVEL) / 2, count + 1, of - count) if count < of else 1.0
    return float(low), float(high)
