import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import beta, kstest

from reconpatch.detector.threshold import ROUNDING, SMALLEST_RATE, choose_threshold, images_needed, share_interval
from reconpatch.errors import ReconpatchError

RATES = st.floats(1e-4, 0.999)
SCORES = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=40)


@given(SCORES, RATES)
def test_the_lowest_score_whose_expected_rate_is_low_enough(scores, rate) -> None:
    """A further image is above the r-th smallest of n with probability (n + 1 - r) / (n + 1)."""
    n = len(scores)
    suitable = [r for r in range(1, n + 1) if (n + 1 - r) / (n + 1) <= rate + 1e-9]
    threshold = choose_threshold(scores, rate)
    r = min(suitable, default=n)
    assert threshold.value == pytest.approx(sorted(scores)[r - 1] * (1 + ROUNDING))
    assert threshold.expected == pytest.approx((n + 1 - r) / (n + 1))
    assert threshold.reachable == bool(suitable) and threshold.images == n


@given(st.integers(1, 200), RATES)
def test_interval_is_that_of_the_order_statistic(n, rate) -> None:
    """The chance that fewer than r of n uniform numbers are below p, summed term by term."""
    threshold = choose_threshold(np.arange(n, dtype=float), rate)
    r = int(threshold.value) + 1
    for end, probability in ((threshold.low, 0.025), (threshold.high, 0.975)):
        p = 1 - end  # share of good images below the threshold
        fewer = sum(math.comb(n, k) * p**k * (1 - p) ** (n - k) for k in range(r))
        assert fewer == pytest.approx(probability, abs=1e-6)


@pytest.mark.parametrize(("n", "rate"), [(19, 0.05), (40, 0.1), (7, 0.3)])
def test_rate_by_simulation(n, rate) -> None:
    """Over many draws of held-out images the true rate follows the beta distribution, and the interval covers it."""
    rng = np.random.default_rng(0)
    rates = [math.exp(-choose_threshold(rng.exponential(size=n), rate).value) for _ in range(2000)]
    one = choose_threshold(rng.exponential(size=n), rate)
    r = round(n + 1 - one.expected * (n + 1))
    assert np.mean(rates) == pytest.approx(one.expected, rel=0.05) and one.expected <= rate + 1e-12
    assert kstest(rates, beta(n + 1 - r, r).cdf).pvalue > 0.001
    assert np.mean((np.array(rates) >= one.low) & (np.array(rates) <= one.high)) == pytest.approx(0.95, abs=0.02)


@given(st.integers(1, 400), st.integers(1, 400))
def test_images_needed_by_trying(numerator, denominator) -> None:
    rate = numerator / (denominator + numerator)
    least = next(n for n in range(1, 1000) if 1 / (n + 1) <= rate * (1 + 1e-12))
    assert max(1, images_needed(rate)) == least and choose_threshold(range(least), rate).reachable
    if least > 1:
        assert f"at least {least}" in choose_threshold(range(least - 1), rate).sentence()


def test_rates_of_everyday_use() -> None:
    assert [images_needed(rate) for rate in (0.05, 0.01, 0.1)] == [19, 99, 9]
    assert choose_threshold(range(99), 0.05).value == 94 * (1 + ROUNDING)  # the 95th of 99
    assert "999999" in choose_threshold([1.0, 3.0], SMALLEST_RATE).sentence()


@pytest.mark.parametrize("rate", [0, 1, -0.1, 1.5, float("nan"), float("inf"), 1e-320])
def test_rates_that_mean_nothing(rate) -> None:
    with pytest.raises(ReconpatchError, match="false-alarm rate"):
        choose_threshold([1.0], rate)


@pytest.mark.parametrize("scores", [[], [1.0, float("nan")], [float("inf")]])
def test_scores_that_mean_nothing(scores) -> None:
    with pytest.raises(ReconpatchError, match="finite scores"):
        choose_threshold(scores, 0.05)


@pytest.mark.parametrize("share", [0.02, 0.3, 0.9])
def test_share_interval_covers_the_probability(share) -> None:
    """Exact: in at least 95 % of all outcomes of 40 trials, weighted by their probability."""
    covered = 0.0
    for k in range(41):
        low, high = share_interval(k, 40)
        covered += math.comb(40, k) * share**k * (1 - share) ** (40 - k) * (low <= share <= high)
    assert 0.95 <= covered < 0.995
    assert share_interval(0, 40)[0] == 0 and share_interval(40, 40)[1] == 1
