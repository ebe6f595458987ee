import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import beta, binomtest, kstest

from reconpatch.detector.threshold import LEAST, check_rate, choose, needed, share_interval
from reconpatch.errors import ReconpatchError

RATES = st.floats(1e-4, 0.999)
SCORES = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=40)


@given(SCORES, RATES)
def test_the_lowest_score_whose_expected_rate_is_low_enough(scores, rate) -> None:
    """Every held-out score in turn: a further image is above the r-th smallest with probability (n + 1 - r)/(n + 1)."""
    n = len(scores)
    suitable = [r for r in range(1, n + 1) if (n + 1 - r) / (n + 1) <= rate + 1e-9]
    found = choose(scores, rate)
    r = min(suitable, default=n)
    assert found.value == sorted(scores)[r - 1]
    assert found.expected == pytest.approx((n + 1 - r) / (n + 1))
    assert found.reachable == bool(suitable) and found.images == n
    assert np.array(scores).max() >= found.value >= np.array(scores).min()


@given(st.integers(1, 200), RATES)
def test_interval_is_that_of_the_order_statistic(n, rate) -> None:
    """P(U_(r) > 1 - x), U uniform: the chance that fewer than r of n uniforms lie below, summed term by term."""
    found = choose(np.arange(n, dtype=float), rate)
    r = int(found.value) + 1
    for end, below in ((found.low, 0.025), (found.high, 0.975)):
        p = 1 - end  # share of good images below the threshold
        at_most = sum(math.comb(n, k) * p**k * (1 - p) ** (n - k) for k in range(r))  # threshold above the p-quantile
        assert at_most == pytest.approx(below, abs=1e-6)


@pytest.mark.parametrize(("n", "rate"), [(19, 0.05), (40, 0.1), (7, 0.3)])
def test_rate_by_simulation(n, rate) -> None:
    """Draw held-out images again and again from a known distribution: the true rate is Beta and below on average."""
    rng = np.random.default_rng(0)
    rates = []
    for _ in range(2000):
        threshold = choose(rng.exponential(size=n), rate).value
        rates.append(math.exp(-threshold))  # of further images above it
    one = choose(rng.exponential(size=n), rate)
    r = round(n + 1 - one.expected * (n + 1))
    assert np.mean(rates) == pytest.approx(one.expected, rel=0.05) and one.expected <= rate + 1e-12
    assert kstest(rates, beta(n + 1 - r, r).cdf).pvalue > 0.001
    inside = np.mean((np.array(rates) >= one.low) & (np.array(rates) <= one.high))
    assert inside == pytest.approx(0.95, abs=0.02)


@given(st.integers(1, 400), st.integers(1, 400))
def test_needed_by_trying(numerator, denominator) -> None:
    rate = numerator / (denominator + numerator)
    least = next(n for n in range(1, 1000) if 1 / (n + 1) <= rate * (1 + 1e-12))
    assert max(1, needed(rate)) == least
    assert choose(range(least), rate).reachable
    if least > 1:
        few = choose(range(least - 1), rate)
        assert not few.reachable and few.value == least - 2
        assert f"hold out at least {least}" in few.sentence()


def test_five_percent_of_nineteen() -> None:
    """The numbers of everyday use: 19 images suffice for 5 %, whatever binary fractions make of 0.95 * 20."""
    assert needed(0.05) == 19 and needed(0.01) == 99 and needed(0.1) == 9
    assert choose(range(19), 0.05).reachable and not choose(range(18), 0.05).reachable
    assert choose(range(99), 0.05).value == 94  # the 95th of 99


def test_sentence_has_the_numbers() -> None:
    said = choose(np.arange(99.0), 0.05).sentence()
    assert said.startswith("94: of good images 5.0% are expected above it") and "99 held-out" in said
    assert "0.001% wanted" in choose([1.0, 2.0], 1e-5).sentence()


@pytest.mark.parametrize("rate", [0, 1, -0.1, 1.5, float("nan"), float("inf"), 1e-320])
def test_rates_that_mean_nothing(rate) -> None:
    with pytest.raises(ReconpatchError, match="false-alarm rate"):
        check_rate(rate)
    with pytest.raises(ReconpatchError, match="false-alarm rate"):
        choose([1.0], rate)


def test_the_lowest_rate_can_be_spoken_of() -> None:
    found = choose([1.0, 3.0, 2.0], LEAST)
    assert found.value == 3 and not found.reachable and "hold out at least 999999" in found.sentence()


@pytest.mark.parametrize("scores", [[], [1.0, float("nan")], [float("inf")]])
def test_scores_that_say_nothing(scores) -> None:
    with pytest.raises(ReconpatchError, match="finite scores"):
        choose(scores, 0.05)


@given(st.integers(1, 300).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_share_interval_is_scipys(pair) -> None:
    count, of = pair
    want = binomtest(count, of).proportion_ci(0.95, "exact")
    assert share_interval(count, of) == pytest.approx((want.low, want.high), abs=1e-9)
