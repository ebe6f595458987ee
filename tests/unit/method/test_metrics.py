from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from oracles import aupro_by_thresholds, f1_by_counting, mean_and_three_sd
from scipy import ndimage
from sklearn.metrics import average_precision_score, f1_score, precision_recall_curve, roc_auc_score

from reconpatch.errors import ReconpatchError
from reconpatch.method.bootstrap import resamples
from reconpatch.method.metrics import (
    METRICS,
    by_kind,
    evaluate,
    image_metrics,
    normal_threshold,
    pixel_metrics,
    resampled,
    saved_scores,
)
from reconpatch.method.saturated import Defects

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
    assert got["aupro_30"] == pytest.approx(aupro_by_thresholds(maps, masks), abs=1e-6)
    assert got["aupro_05"] == pytest.approx(aupro_by_thresholds(maps, masks, limit=0.05), abs=1e-6)
    precision, recall, _ = precision_recall_curve(truth, flat)
    assert got["pixel_f1"] == pytest.approx(np.nanmax(2 * precision * recall / (precision + recall + 1e-30)), abs=1e-6)
    assert f1_score(truth, flat >= np.float32(got["pixel_f1_threshold"])) == pytest.approx(got["pixel_f1"], abs=1e-6)


@settings(max_examples=30)
@given(st.integers(0, 10**6), st.sampled_from([None, 2, 1, 0]), st.integers(0, 2303), st.booleans())
def test_f1_at_a_given_threshold_against_counted_pixels(seed, decimals, pixel, between) -> None:
    """The threshold is a score of the maps, which is not above it, or lies between two float32."""
    maps, masks = draw(seed, decimals)
    assume(masks.any())
    threshold = float(maps.flat[pixel]) + 1e-9 * between
    got = pixel_metrics(maps, masks, threshold=threshold)
    assert got["pixel_f1_normal_threshold"] == threshold
    assert got["pixel_f1_normal"] == pytest.approx(f1_by_counting(maps, masks, np.float32(threshold).item()), abs=1e-12)


@pytest.mark.parametrize(("threshold", "expected"), [(-1e30, 2 * 4 / (4 + 18)), (-1.0, 1.0), (1.0, 0.0), (1e30, 0.0)])
def test_f1_at_a_threshold_below_and_above_all_scores(threshold, expected) -> None:
    masks = np.zeros((2, 3, 3), bool)
    masks[1, :2, :2] = True
    got = pixel_metrics(np.where(masks, 1, -1).astype(np.float32), masks, threshold=threshold)
    assert got["pixel_f1_normal"] == pytest.approx(expected)


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
    assert [found[k] for k in ("pixel_auroc", "pixel_ap", "pixel_f1", "aupro_30")] == [1, 1, 1, 1]
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


OPTIONAL = ("spro_05", "pixel_f1_normal", "pixel_f1_normal_threshold")


def defects_of(masks: np.ndarray) -> Defects:
    """Two overlapping defects of each image that has any: all that is marked, and half of its rows."""
    image = np.repeat(np.flatnonzero(masks.any((1, 2))), 2)
    mask = masks[image]
    mask[1::2, 3:] = False
    return Defects(image, mask, np.maximum(mask.sum((1, 2)) // 3, 1))


def test_optional_metrics_are_those_whose_input_is_there(scored) -> None:
    image, labels, maps, masks = scored
    none = Defects(np.zeros(0, np.int64), np.zeros((0, 8, 8), bool), np.zeros(0, np.int64))
    for special, present in (
        ({}, ()),
        ({"defects": None, "threshold": None}, ()),
        ({"defects": none}, ()),
        ({"defects": defects_of(masks)}, OPTIONAL[:1]),
        ({"threshold": 0.0}, OPTIONAL[1:]),  # 0 is a threshold like any other
        ({"defects": defects_of(masks), "threshold": 0.5}, OPTIONAL),
    ):
        metrics, _ = evaluate(image, labels, maps, masks, **special)
        assert tuple(name for name in OPTIONAL if name in metrics) == present
        assert None not in metrics.values()
        assert metrics.keys() - {*OPTIONAL} == evaluate(image, labels, maps, masks)[0].keys()


@pytest.mark.parametrize("label", [0, 1])
def test_without_anomalies_or_without_normal_pixels_all_is_undefined(scored, label) -> None:
    image, _, maps, masks = scored
    whole = np.full_like(masks, bool(label))
    special = {"defects": defects_of(whole), "threshold": 0.5}
    metrics, _ = evaluate(image, np.full(12, label), maps, whole, **special)
    assert {*metrics.values()} == {None} and not {*OPTIONAL} & metrics.keys()


def test_metrics_of_a_kind_are_those_of_its_images_and_all_normal_ones(scored) -> None:
    image, labels, maps, masks = scored
    kinds = ["", "dent", "", "", "spot", "", "", "", "", "", "dent", ""]  # image 7 is anomalous, of no kind
    special = {"defects": defects_of(masks), "threshold": 0.5}
    found = by_kind(kinds, image, labels, maps, masks, **special)
    assert [*found] == ["dent", "spot"]
    for kind, kept in {"dent": [0, 1, 2, 3, 5, 6, 8, 9, 10, 11], "spot": [0, 2, 3, 4, 5, 6, 8, 9, 11]}.items():
        part = image[kept], labels[kept], maps[kept], masks[kept]
        assert found[kind] == evaluate(*part, defects=defects_of(masks[kept]), threshold=0.5)[0]
        assert {*OPTIONAL} < found[kind].keys()
        assert by_kind(kinds, image, labels, maps, masks)[kind] == evaluate(*part)[0]
    assert found["dent"]["spro_05"] != found["spot"]["spro_05"]
    assert by_kind([""] * 12, image, labels, maps, masks, **special) == {}


@settings(max_examples=30)
@given(
    st.lists(st.tuples(st.integers(1, 6), st.floats(-100, 100)), min_size=1, max_size=8),
    st.integers(0, 10**6),
    st.sampled_from([1e-3, 1.0, 1e3]),
)
def test_normal_threshold_against_all_pixels_at_once(shapes, seed, scale) -> None:
    """Images of different sizes and levels; each pixel counts alike."""
    rng = np.random.default_rng(seed)
    maps = [(level + scale * rng.random((1, side, side + 1))).astype(np.float32) for side, level in shapes]
    threshold, expected = normal_threshold(iter(maps)), mean_and_three_sd(maps)
    assert threshold == pytest.approx(expected, rel=2e-7, abs=1e-9)
    assert threshold == np.float32(threshold).item()  # so that it is the same number wherever scores are compared


@settings(max_examples=50)
@given(st.floats(-1e6, 1e6, width=32), st.integers(1, 5), st.integers(1, 40))
def test_normal_threshold_of_one_value_is_the_value(value, images, side) -> None:
    maps = np.full((images, side, side), value, np.float32)
    assert normal_threshold(maps) == float(maps[0, 0, 0])


@pytest.mark.parametrize("value", np.linspace(0.1, 2.9, 8).astype(np.float32))
def test_normal_threshold_of_one_value_in_many_pixels(value) -> None:
    """So many that sums of the values and of their squares are rounded."""
    assert normal_threshold(np.full((224, 224), value) for _ in range(60)) == value


@pytest.mark.parametrize("other", [0.0, 1e-30, 1.1, 1e20])
def test_normal_threshold_where_one_pixel_differs(other) -> None:
    """The first one, or the last."""
    maps = np.full((20, 64, 64), 1.1, np.float32)
    maps[0, 0, 0] = other
    expected = mean_and_three_sd([*maps])
    for each in (maps, maps[::-1, ::-1, ::-1]):
        assert normal_threshold(each) == pytest.approx(expected, rel=2e-7)


def test_normal_threshold_without_maps() -> None:
    assert normal_threshold([]) is None
    assert normal_threshold(np.zeros((0, 4, 4), np.float32)) is None


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
        lambda: by_kind([""], two, np.array([0, 1]), np.zeros((2, 2, 2), np.float32), np.ones((2, 2, 2), bool)),
        lambda: normal_threshold([one, np.full((1, 2, 2), np.inf, np.float32)]),
    ):
        with pytest.raises(ReconpatchError):
            call()
