from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from oracles import aupro_by_thresholds
from scipy import ndimage
from sklearn.metrics import average_precision_score, f1_score, precision_recall_curve, roc_auc_score

from reconpatch.errors import ReconpatchError
from reconpatch.method.bootstrap import resamples
from reconpatch.method.metrics import (
    METRICS,
    evaluate,
    image_metrics,
    pixel_metrics,
    resampled,
    saved_scores,
)

AP = replace(METRICS["image_ap"], interval="scores")


def draw(seed: int, decimals: int | None) -> tuple[np.ndarray, np.ndarray]:
    """Maps with noise and defects of several sizes; rounded, they are full of ties."""
    rng = np.random.default_rng(seed)
    masks = ndimage.gaussian_filter(rng.standard_normal((4, 24, 24)), (0, 2, 2)) > 0.15
    masks[rng.integers(4)] = False
    maps = ndimage.gaussian_filter(rng.standard_normal(masks.shape), (0, 1, 1)) + 0.4 * masks * rng.random(masks.shape)
    return (maps if decimals is None else maps.round(decimals)).astype(np.float32), masks


@settings(max_examples=15)
@given(st.integers(0, 10**6), st.sampled_from([None, 2, 1, 0]))
def test_pixel_metrics_against_scikit_learn_and_thresholds(seed, decimals) -> None:
    maps, masks = draw(seed, decimals)
    assume(masks.any())
    got = pixel_metrics(maps, masks)
    flat, truth = maps.ravel(), masks.ravel()
    assert got["pixel_auroc"] == pytest.approx(roc_auc_score(truth, flat), abs=1e-6)
    assert got["pixel_ap"] == pytest.approx(average_precision_score(truth, flat), abs=1e-6)
    for name, limit in (("aupro_30", 0.3), ("aupro_05", 0.05)):
        assert got[name] == pytest.approx(aupro_by_thresholds(maps, masks, limit=limit), abs=1e-6), name
    precision, recall, _ = precision_recall_curve(truth, flat)
    assert got["pixel_f1"] == pytest.approx(np.nanmax(2 * precision * recall / (precision + recall + 1e-30)), abs=1e-6)
    assert f1_score(truth, flat >= np.float32(got["pixel_f1_threshold"])) == pytest.approx(got["pixel_f1"], abs=1e-6)


@settings(max_examples=30)
@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=2, max_size=30))
def test_image_metrics_against_scikit_learn(pairs) -> None:
    scores, labels = np.array([s for s, _ in pairs], np.float32), np.array([int(t) for _, t in pairs])
    assume(0 < labels.sum() < len(labels))
    got = image_metrics(scores, labels)
    assert got["image_auroc"] == pytest.approx(roc_auc_score(labels, scores))
    assert got["image_ap"] == pytest.approx(average_precision_score(labels, scores))
    best = max(f1_score(labels, scores >= t) for t in np.unique(scores))
    assert got["image_f1"] == pytest.approx(best)
    assert f1_score(labels, scores >= got["image_f1_threshold"]) == pytest.approx(best)


def test_a_single_pixel_and_the_largest_floats() -> None:
    maps, masks = np.full((2, 5, 5), np.finfo(np.float32).min), np.zeros((2, 5, 5), bool)
    masks[1, 4, 4] = True
    maps[1, 4, 4] = np.finfo(np.float32).max
    found = pixel_metrics(maps, masks)
    assert [found[k] for k in ("pixel_auroc", "pixel_ap", "pixel_f1", "aupro_30", "aupro_05")] == [1] * 5
    maps[maps > 0], maps[maps < 0] = np.float32(1e-45), 0  # the smallest difference there is
    assert pixel_metrics(maps, masks)["pixel_auroc"] == 1


@pytest.fixture
def scored(rng) -> tuple[np.ndarray, ...]:
    """Image scores, labels, maps and masks of twelve images, four of them anomalous."""
    labels = np.tile([0, 1, 0], 4)
    masks = np.zeros((12, 8, 8), bool)
    masks[labels == 1, 2:5, 3:6] = True
    maps = (rng.standard_normal(masks.shape) + masks).astype(np.float32)
    return (rng.integers(0, 6, 12) + labels).astype(np.float32), labels, maps, masks


def test_every_metric_with_an_interval_is_that_of_the_repeated_images(scored, rng) -> None:
    """Also for a metric that is new in the registry: nothing but its entry is needed."""
    image, labels, maps, masks = scored
    metrics, tensors = evaluate(image, labels, maps, masks)
    saved = saved_scores(tensors | {"image": image, "label": labels}, metrics)
    weights = resamples(labels, 20, rng)
    for metric in [AP, *(m for m in METRICS.values() if m.interval)]:
        values = resampled(metric, saved, np.concatenate([np.ones((1, 12)), weights]))
        assert values[0] == pytest.approx(metrics[metric.name], abs=1e-6)
        for value, times in zip(values[1:], weights.astype(int), strict=True):
            drawn = np.repeat(np.arange(12), times)
            expected = image_metrics(image[drawn], labels[drawn]) | pixel_metrics(maps[drawn], masks[drawn])
            assert value == pytest.approx(expected[metric.name], abs=1e-6)


def test_arguments_that_would_give_a_wrong_number_are_refused() -> None:
    one, two = np.zeros((1, 2, 2), np.float32), np.array([0.0, 1.0], np.float32)
    for call in (
        lambda: image_metrics(two, np.array([0, 2])),
        lambda: image_metrics(np.array([1, np.nan], np.float32), np.array([0, 1])),
        lambda: pixel_metrics(one, np.zeros((1, 2, 3), bool)),
        lambda: pixel_metrics(one, np.full((1, 2, 2), 255, np.uint8)),
        lambda: pixel_metrics(one, np.ones((1, 2, 2), bool), np.zeros((1, 2, 2), bool)),
    ):
        with pytest.raises(ReconpatchError):
            call()
