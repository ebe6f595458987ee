from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import ndimage
from sklearn.metrics import average_precision_score, f1_score, precision_recall_curve, roc_auc_score

from reconpatch.errors import ReconpatchError
from reconpatch.method.bootstrap import resamples
from reconpatch.method.metrics import (
    METRICS,
    Metric,
    Ranking,
    aupro,
    evaluate,
    image_metrics,
    pixel_metrics,
    ramp_area,
    region_weights,
    resampled,
    resampled_images,
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


def aupro_by_thresholds(maps: np.ndarray, masks: np.ndarray, limit: float = 0.3) -> float:
    """Every threshold in turn: mean share of each 8-connected region found, against the false positive rate."""
    regions = []
    for n, mask in enumerate(masks):
        labels, count = ndimage.label(mask, structure=np.ones((3, 3)))
        regions += [(n, labels == r) for r in range(1, count + 1)]
    curve = [(0.0, 0.0)]
    for threshold in np.unique(maps)[::-1]:
        found = maps >= threshold
        curve.append((found[~masks].mean(), float(np.mean([found[n][r].mean() for n, r in regions]))))
    fpr, pro = np.array(curve).T
    end = np.searchsorted(fpr, limit)  # the first of several points with this rate: the curve rises at the limit
    last = np.interp(limit, fpr[end - 1 : end + 1], pro[end - 1 : end + 1])
    fpr, pro = np.append(fpr[:end], limit), np.append(pro[:end], last)
    return float(np.trapezoid(pro, fpr) / limit)


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10**6), st.sampled_from([None, 2, 1, 0]))
def test_pixel_metrics_against_scikit_learn_and_thresholds(seed, decimals) -> None:
    maps, masks = draw(seed, decimals)
    assume(masks.any())
    got = pixel_metrics(maps, masks)
    flat, truth = maps.ravel(), masks.ravel()
    assert got["pixel_auroc"] == pytest.approx(roc_auc_score(truth, flat), abs=1e-6)
    assert got["pixel_ap"] == pytest.approx(average_precision_score(truth, flat), abs=1e-6)
    assert got["aupro_30"] == pytest.approx(aupro_by_thresholds(maps, masks), abs=1e-6)
    precision, recall, _ = precision_recall_curve(truth, flat)
    assert got["pixel_f1"] == pytest.approx(np.nanmax(2 * precision * recall / (precision + recall + 1e-30)), abs=1e-6)
    assert f1_score(truth, flat >= np.float32(got["pixel_f1_threshold"])) == pytest.approx(got["pixel_f1"], abs=1e-6)


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


@given(st.integers(0, 10**6))
def test_monotone_scores_and_order_of_images_do_not_matter(seed) -> None:
    maps, masks = draw(seed, 1)
    assume(masks.any())
    order = np.random.default_rng(seed).permutation(len(maps))
    a, b, c = pixel_metrics(maps, masks), pixel_metrics(np.exp(maps), masks), pixel_metrics(maps[order], masks[order])
    for name in ("pixel_auroc", "pixel_ap", "pixel_f1", "aupro_30"):
        assert a[name] == pytest.approx(b[name], abs=1e-9) and a[name] == pytest.approx(c[name], abs=1e-9)


def test_closed_forms() -> None:
    masks = np.zeros((1, 10, 10), bool)
    masks[0, 0, :5] = True
    assert pixel_metrics(masks.astype(np.float32), masks)["aupro_30"] == pytest.approx(1)
    constant = pixel_metrics(np.zeros((1, 10, 10), np.float32), masks)
    assert constant["pixel_auroc"] == pytest.approx(0.5)
    assert constant["aupro_30"] == pytest.approx(0.15)  # the diagonal up to 0.3: 0.045 of 0.3
    assert pixel_metrics(-masks.astype(np.float32), masks)["pixel_auroc"] == pytest.approx(0)


def test_aupro_counts_regions_not_pixels() -> None:
    """A large region found and a small one missed is half, though most pixels are found."""
    masks = np.zeros((1, 40, 40), bool)
    masks[0, :20, :20] = masks[0, 30, 30] = True
    maps = np.zeros((1, 40, 40), np.float32)
    maps[0, :20, :20], maps[0, 30, 30] = 1, -1
    assert pixel_metrics(maps, masks)["aupro_30"] == pytest.approx(0.5 + 0.5 * 0.15, abs=0.075)
    touching = np.zeros((1, 4, 4), bool)
    touching[0, 0, 0] = touching[0, 1, 1] = True  # by a corner: one region of two pixels
    maps = np.zeros((1, 4, 4), np.float32)
    maps[0, 0, 0] = 1
    assert pixel_metrics(maps, touching)["aupro_30"] == pytest.approx(aupro_by_thresholds(maps, touching))


def test_undefined_is_none() -> None:
    scores = np.array([1, 2], np.float32)
    for labels in (np.array([0, 0]), np.array([1, 1])):
        assert set(image_metrics(scores, labels).values()) == {None}
    nothing = pixel_metrics(np.zeros((2, 4, 4), np.float32), np.zeros((2, 4, 4), bool))
    assert set(nothing.values()) == {None} and "aupro_30" in nothing and "pixel_f1_threshold" in nothing


def test_a_single_pixel_and_the_largest_floats() -> None:
    maps, masks = np.full((2, 5, 5), np.finfo(np.float32).min), np.zeros((2, 5, 5), bool)
    masks[1, 4, 4] = True
    maps[1, 4, 4] = np.finfo(np.float32).max
    found = pixel_metrics(maps, masks)
    assert [found[k] for k in ("pixel_auroc", "pixel_ap", "pixel_f1", "aupro_30")] == [1, 1, 1, 1]
    maps[maps > 0], maps[maps < 0] = np.float32(1e-45), 0  # the smallest difference there is
    assert pixel_metrics(maps, masks)["pixel_auroc"] == 1
    assert len(region_weights(np.zeros((2, 3, 3), bool))) == 0


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


def test_a_resample_without_anomalies_is_undefined(scored) -> None:
    image, labels, _, _ = scored
    weights = np.stack([labels == 0, labels == 1, np.zeros(12), np.ones(12)]).astype(int)
    for metric in (AP, METRICS["image_auroc"]):
        assert np.isnan(resampled_images(metric, image, labels, weights)).tolist() == [True, True, True, False]


def test_intervals_that_nothing_saved_can_give_are_refused(scored) -> None:
    with pytest.raises(ReconpatchError, match="pixel_iou"):
        Metric("pixel_iou", "pixel IoU", "pixel", aupro, interval="scores")
    image, labels, maps, masks = scored
    metrics, tensors = evaluate(image, labels, maps, masks)
    saved = saved_scores(tensors | {"image": image, "label": labels}, metrics)
    with pytest.raises(ReconpatchError, match="aupro_30"):
        resampled(METRICS["aupro_30"], saved, np.ones((1, 12)))
    with pytest.raises(ReconpatchError, match="whole numbers"):
        resampled_images(AP, image, labels, np.full((1, 12), 0.5))


ONE, TWO = np.zeros((1, 2, 2), np.float32), np.array([0.0, 1.0], np.float32)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: image_metrics(TWO, np.array([0, 2])), "must be 0, normal, or 1"),
        (lambda: image_metrics(TWO, np.array([0, 1, 1])), "one of each per image"),
        (lambda: image_metrics(ONE, np.zeros((1, 2, 2), int)), "one of each per image"),
        (lambda: image_metrics(np.array([1, np.nan], np.float32), np.array([0, 1])), "not finite"),
        (lambda: pixel_metrics(ONE, np.zeros((1, 2, 3), bool)), "differ in shape"),
        (lambda: pixel_metrics(ONE, np.full((1, 2, 2), 255, np.uint8)), "must be boolean"),
        (lambda: pixel_metrics(ONE[0], np.ones((2, 2), bool)), "must be boolean"),
        (lambda: pixel_metrics(ONE, np.ones((1, 2, 2), bool), np.zeros((1, 2, 2), bool)), "all they mark"),
        (lambda: pixel_metrics(ONE, np.zeros((1, 2, 2), bool), np.ones((1, 2, 1), bool)), "the masks' shape"),
        (lambda: region_weights(np.ones((1, 2, 2))), "must be boolean"),
        (lambda: Ranking(TWO, TWO[:0]), "no positives"),
        (lambda: Ranking(TWO[:0], TWO), "no negatives"),
        (lambda: Ranking(np.array([-np.inf, 0], np.float32), TWO), "not finite"),
        (lambda: aupro(Ranking(TWO, TWO)), "of pixels"),
        (lambda: ramp_area(np.array([np.nan]), np.array([1.0]), 0.3), "within 0 and 1"),
        (lambda: ramp_area(np.array([0.5]), np.array([0.4]), 0.3), "within 0 and 1"),
        (lambda: ramp_area(np.array([0.5]), np.array([0.6]), 0), "within 0 and 1"),
    ],
)
def test_arguments_that_would_give_a_wrong_number_are_refused(call, message) -> None:
    with pytest.raises(ReconpatchError, match=message):
        call()
