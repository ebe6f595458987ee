import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from reconpatch.results.statistics import average_ranks, critical_difference, friedman_p, holm, p_value

shares = st.floats(0, 1, allow_subnormal=False)
values = arrays(np.float64, st.tuples(st.integers(3, 8), st.integers(3, 5)), elements=st.integers(0, 4).map(float))


@given(st.lists(shares, min_size=1, max_size=8))
def test_holm_step_by_step(p) -> None:
    """The smallest p counts once for each test, the next once less; none is corrected below a smaller one's."""
    due, waiting, last = [0.0] * len(p), list(range(len(p))), 0.0
    while waiting:
        least = min(waiting, key=lambda n: p[n])
        last = max(last, min(1.0, len(waiting) * p[least]))
        due[least] = last
        waiting.remove(least)
    assert holm(p) == pytest.approx(due)


def test_p_is_that_of_a_permutation_of_signs() -> None:
    """Draws that change sign with equal chance: the p of the mean, over all 2^10 of them, is the test's exact level."""
    differences = np.array([0.9, 0.4, -0.2, 0.7, 0.3, -0.1, 0.8, 0.5, 0.6, -0.3])
    flips = np.array(list(itertools.product((-1, 1), repeat=len(differences))))
    null = (flips * differences).mean(1)  # symmetric around 0
    observed = differences.mean()
    exact = np.mean(np.abs(null) >= observed - 1e-12)
    assert p_value(observed + null) == pytest.approx(exact, abs=2 / len(null))
    assert p_value(-observed + null) == pytest.approx(exact, abs=2 / len(null))


@pytest.mark.parametrize(
    ("draws", "p"),
    [([1.0] * 99, 0.02), ([-1.0] * 99, 0.02), ([0.0] * 9, 1.0), ([1.0] * 7 + [-1.0] * 2, 0.6), ([1.0, -1.0], 1.0)],
)
def test_p_by_hand(draws, p) -> None:
    assert p_value(np.array(draws)) == pytest.approx(p)
    assert np.isnan(p_value(np.array([*draws, np.nan])))


@given(values)
def test_average_ranks_row_by_row(table) -> None:
    due = np.mean([stats.rankdata([-value for value in row]) for row in table], axis=0)
    assert average_ranks(table) == pytest.approx(due)


@given(values)
def test_friedman_from_the_sums_of_ranks(table) -> None:
    """The form with ties: k - 1 times the spread of the methods' rank sums, over the spread of all ranks."""
    n, k = table.shape
    ranks = np.array([stats.rankdata(row) for row in table])
    spread = np.sum((ranks - (k + 1) / 2) ** 2)
    if spread == 0:
        assert friedman_p(table) == 1
        return
    statistic = (k - 1) * np.sum((ranks.sum(0) - n * (k + 1) / 2) ** 2) / spread
    assert friedman_p(table) == pytest.approx(stats.chi2.sf(statistic, k - 1))


@pytest.mark.parametrize(("methods", "quantile"), [(3, 2.343), (4, 2.569), (5, 2.728), (10, 3.164)])
def test_critical_difference_by_the_printed_quantiles(methods, quantile) -> None:
    """Demsar's Table 5 (a), for 5 %."""
    for categories in (3, 15, 30):
        due = quantile * (methods * (methods + 1) / (6 * categories)) ** 0.5
        assert critical_difference(categories, methods) == pytest.approx(due, rel=5e-4)
