"""Two evaluations of the same images, against loops over the same resamples and against statsmodels."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score
from statsmodels.stats.contingency_tables import mcnemar

from reconpatch.detector.comparison import compare
from reconpatch.detector.measures import RESAMPLES, RESAMPLES_AT_ONCE, Evaluation, Scores, measure
from reconpatch.detector.truth import Truth
from reconpatch.errors import ReconpatchError
from reconpatch.method.bootstrap import pixel_wins, resamples
from reconpatch.rng import named_rng

TYPES = ["good"] * 8 + ["bent"] * 5 + ["cut"] * 4
TRUTHS = [Truth(int(name != "good"), name, None) for name in TYPES]
NAMES = [f"{n}.png" for n in range(len(TYPES))]
LABELS = np.array([truth.label for truth in TRUTHS])


def evaluation(values, threshold: float | None = None, **more) -> Evaluation:
    scores = Scores.above(np.asarray(values, np.float64), threshold, "as given")
    result = measure(NAMES, TRUTHS, scores)
    return Evaluation(**{name: getattr(result, name) for name in result.__dataclass_fields__} | more)


def drawn() -> np.ndarray:
    """How often every image is drawn, as a user of the same generator would draw them."""
    rng = named_rng(0, "evaluate")
    return np.concatenate([resamples(LABELS, RESAMPLES_AT_ONCE, rng) for _ in range(RESAMPLES // RESAMPLES_AT_ONCE)])


def quantiles(values) -> tuple[float, float]:
    return tuple(np.quantile(values, [0.025, 0.975]))


def test_the_interval_of_a_difference_is_that_of_a_loop_over_the_same_images() -> None:
    """Each resample repeats the images and asks scikit-learn twice."""
    rng = np.random.default_rng(3)
    first = rng.normal(0, 1, 17) + LABELS
    second = first + rng.normal(0, 0.4, 17) + 0.3 * LABELS
    differences = []
    for times in drawn().astype(int):
        images = np.repeat(np.arange(17), times)
        a, b = (roc_auc_score(LABELS[images], values[images]) for values in (first, second))
        differences.append(b - a)
    result = compare(("a", "b"), evaluation(first), evaluation(second)).differences["image_auroc"]
    assert result.value == pytest.approx(roc_auc_score(LABELS, second) - roc_auc_score(LABELS, first), abs=1e-6)
    assert result.interval == pytest.approx(quantiles(differences), abs=1e-6)
    same = compare(("a", "a"), evaluation(first), evaluation(first)).differences["image_auroc"]
    assert (same.value, same.interval) == (0, (0, 0))  # paired: what both have in common cancels


def test_pixels_are_compared_image_by_image_where_both_see_the_same() -> None:
    rng = np.random.default_rng(1)
    masks = np.zeros((17, 6, 6), bool)
    masks[LABELS == 1, 2:4, 1:4] = True
    maps = [(rng.random((17, 6, 6)) + weight * masks).astype(np.float32) for weight in (0.2, 0.6)]
    values = rng.random(17)
    aurocs = [roc_auc_score(masks.ravel(), each.ravel()) for each in maps]
    both = [
        evaluation(values, metrics={"pixel_auroc": auroc}, wins=pixel_wins(each, masks), geometry="6 px")
        for auroc, each in zip(aurocs, maps, strict=True)
    ]
    result = compare(("a", "b"), *both).differences["pixel_auroc"]
    differences = []
    for times in drawn().astype(int)[:200]:
        images = np.repeat(np.arange(17), times)
        a, b = (roc_auc_score(masks[images].ravel(), each[images].ravel()) for each in maps)
        differences.append(b - a)
    assert result.value == pytest.approx(aurocs[1] - aurocs[0])
    assert result.interval == pytest.approx(quantiles(differences), abs=0.02)  # of a tenth of the resamples
    other = evaluation(values, metrics={"pixel_auroc": 0.5}, wins=both[1].wins, geometry="8 px")
    comparison = compare(("a", "b"), both[0], other)
    assert "pixel_auroc" not in comparison.differences
    assert "A sees 6 px, B sees 8 px" in "\n".join(comparison.lines())


@settings(max_examples=40)
@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=17, max_size=17))
def test_verdicts_against_counting_and_statsmodels(verdicts) -> None:
    both = [evaluation([float(v[side]) for v in verdicts], 0.5) for side in (0, 1)]
    result = compare(("a", "b"), *both)
    groups = {
        "good": result.false_alarms,
        "any": result.found,
        "bent": result.found_by_type["bent"],
        "cut": result.found_by_type["cut"],
    }
    for name, got in groups.items():
        chosen = [v for v, t in zip(verdicts, TYPES, strict=True) if t == name or (name == "any" and t != "good")]
        table = np.array([[chosen.count((a, b)) for b in (True, False)] for a in (True, False)])
        assert [[got.both, got.first_only], [got.second_only, got.neither]] == table.tolist()
        want = mcnemar(table, exact=True).pvalue
        assert got.p == pytest.approx(1 if np.isnan(want) else want)
    assert json.loads(json.dumps(result.to_json(), allow_nan=False))["verdicts"]["found"]["both"] == result.found.both
    assert f"by both {result.found.both}, by A only {result.found.first_only}" in "\n".join(result.lines())


def test_without_thresholds_and_of_other_images() -> None:
    values = np.arange(17.0)
    result = compare(("a", "b"), evaluation(values, 3.0), evaluation(values))
    assert result.found is None and result.false_alarms is None and not result.found_by_type
    assert "McNemar" not in "\n".join(result.lines())
    other = measure(NAMES, TRUTHS[::-1], Scores(values))
    with pytest.raises(ReconpatchError, match="different images"):
        compare(("a", "b"), evaluation(values), other)
