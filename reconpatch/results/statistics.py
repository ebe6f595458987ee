"""Statistics over categories, which answer whether one method is better than another.

The p of a gain comes from its paired bootstrap draws. Several categories ask the question several times, so their p are
corrected (Holm). Three methods or more are compared by their average ranks over categories (Friedman, Nemenyi; Demsar,
"Statistical comparisons of classifiers over multiple data sets", JMLR 7, 2006).
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from statsmodels.stats.multitest import multipletests

LEVEL = 0.05  # of significance, after the correction
LEAST = 3  # methods, and categories, that ranks are compared of
RANKED = ("image_auroc", "pixel_auroc")  # metrics that methods are ranked by
Doubles = NDArray[np.float64]


def p_value(draws: Doubles) -> float:
    """(R,) bootstrap draws of a difference -> two-sided p of no difference; NaN when a draw is NaN.

    Twice the share of the draws on the smaller side of 0, 0 counting on both, with one more draw counted on it: so p
    is never 0, and at least 2 / (1 + R).
    """
    if np.isnan(draws).any():
        return float("nan")
    least = min(np.sum(draws <= 0), np.sum(draws >= 0))
    return float(min(1.0, 2 * (1 + least) / (1 + len(draws))))


def holm(p: Sequence[float]) -> list[float]:
    """p of several tests, at least one -> the p of each after Holm's correction for all of them."""
    return [float(each) for each in multipletests(p, method="holm")[1]]


def average_ranks(values: NDArray[Any]) -> Doubles:
    """(N categories, k methods), higher is better -> (k,) average ranks; 1 is the best of a category, ties share."""
    return np.asarray(stats.rankdata(-values, axis=1).mean(0))


def friedman_p(values: NDArray[Any]) -> float:
    """(N categories, k >= 3 methods) -> p of Friedman's test that all methods rank alike; 1 where all are tied."""
    if (values == values[:, :1]).all():
        return 1.0
    return float(stats.friedmanchisquare(*values.T).pvalue)


def critical_difference(categories: int, methods: int) -> float:
    """Numbers of categories and methods -> the difference of average ranks from which on two methods differ (Nemenyi).

    The quantile of the studentized range, divided by the root of 2, times the root of k (k + 1) / (6 N).
    """
    quantile = stats.studentized_range.ppf(1 - LEVEL, methods, np.inf) / np.sqrt(2)
    return float(quantile * np.sqrt(methods * (methods + 1) / (6 * categories)))
