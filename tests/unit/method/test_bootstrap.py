import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import ndimage
from scipy.stats import bootstrap
from sklearn.metrics import roc_auc_score

from reconpatch.errors import ReconpatchError
from reconpatch.method.bootstrap import (
    auroc,
    from_tensors,
    image_aurocs,
    image_wins,
    interval,
    mean_over_seeds,
    pixel_wins,
    resamples,
    seed_resamples,
    to_tensors,
)

seeds = st.integers(0, 10**6)


def draw_images(seed: int, count: int = 12, levels: int = 6) -> tuple[np.ndarray, np.ndarray]:
    """Scores on a few levels, so full of ties, and labels of both classes."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(count) % 3 == 0).astype(np.int64)
    return (rng.integers(0, levels, count) + labels).astype(np.float32), labels


def draw_maps(seed: int, count: int, size: int, decimals: int | None) -> tuple[np.ndarray, np.ndarray]:
    """Smooth maps, half of them with a defect that only partly stands out; rounded, they are full of ties."""
    rng = np.random.default_rng(seed)
    masks = ndimage.gaussian_filter(rng.standard_normal((count, size, size)), (0, size / 8, size / 8))
    masks = masks > np.quantile(masks, 0.9)
    masks[::2] = False
    maps = ndimage.gaussian_filter(rng.standard_normal(masks.shape), (0, 1, 1)) + 0.5 * masks * rng.random(masks.shape)
    maps += rng.normal(0, 0.1, (count, 1, 1))  # images differ, or resampling them would change nothing
    return (maps if decimals is None else maps.round(decimals)).astype(np.float32), masks


def pairs_by_loop(scores: list[np.ndarray], labels: list[np.ndarray]) -> np.ndarray:
    """Every positive of one image against every negative of another."""
    pairs = np.zeros((len(scores), len(scores)))
    for i in range(len(scores)):
        for j in range(len(scores)):
            for positive in scores[i][labels[i]]:
                for negative in scores[j][~labels[j]]:
                    pairs[i, j] += 1 if positive > negative else 0.5 if positive == negative else 0
    return pairs


def repeated(values: np.ndarray, times: np.ndarray) -> np.ndarray:
    return np.repeat(values, times, axis=0).ravel()


@settings(max_examples=20)
@given(seeds, st.sampled_from([None, 1, 0]))
def test_pixel_wins_of_few_pixels_are_exact(seed, decimals) -> None:
    maps, masks = draw_maps(seed, 4, 6, decimals)
    wins = pixel_wins(maps, masks)
    assert np.array_equal(wins.pairs, pairs_by_loop(list(maps), list(masks)))
    assert np.array_equal(wins.positives, masks.sum((1, 2))) and np.array_equal(wins.negatives, (~masks).sum((1, 2)))
    assert (wins.pairs.dtype, wins.positives.dtype, wins.negatives.dtype) == (np.float32, np.float64, np.float64)


@settings(max_examples=20)
@given(seeds, st.sampled_from([None, 0]))
def test_pixels_that_do_not_count_win_and_lose_nothing(seed, decimals) -> None:
    """Against a loop over the pixels that count, whatever the map says elsewhere."""
    maps, masks = draw_maps(seed, 4, 6, decimals)
    counted = masks | (np.random.default_rng(seed).random(masks.shape) < 0.6)
    apart = [[each[on] for each, on in zip(of, counted, strict=True)] for of in (maps, masks)]
    for outside in (-9, 9):
        wins = pixel_wins(np.where(counted, maps, np.float32(outside)), masks, counted=counted)
        assert np.array_equal(wins.pairs, pairs_by_loop(*apart))
        assert np.array_equal(wins.negatives, (counted & ~masks).sum((1, 2)))


@settings(max_examples=20)
@given(seeds, st.sampled_from([4, 8, 16, 64]), st.sampled_from([None, 1]), st.booleans())
def test_binning_errs_within_its_bound(seed, bins, decimals, spread) -> None:
    """Also for scores of very different magnitudes: bins follow ranks, not values."""
    maps, masks = draw_maps(seed, 4, 24, decimals)
    assume(masks.any())
    maps = np.exp(20 * maps) if spread else maps
    got = auroc(pixel_wins(maps, masks, bins), np.ones((1, 4)))[0]
    assert abs(got - roc_auc_score(masks.ravel(), maps.ravel())) < 1 / (bins - 2) + 1e-6


def test_few_defect_pixels_with_the_highest_scores_are_resolved() -> None:
    """One pixel in 90000 is positive: 64 bins by quantiles of all pixels together would put them all in the last."""
    rng = np.random.default_rng(0)
    maps, masks = rng.standard_normal((10, 300, 300)).astype(np.float32), np.zeros((10, 300, 300), bool)
    masks[:, 7, 7] = True
    maps[masks] = np.linspace(3.3, 4.2, 10)
    assert (roc := roc_auc_score(masks.ravel(), maps.ravel())) < 0.9999
    assert auroc(pixel_wins(maps, masks, 64), np.ones((1, 10)))[0] == pytest.approx(roc, abs=1e-9)


def test_resamples_draw_each_class_with_replacement() -> None:
    labels = np.array([0, 1, 0, 0, 1, 0, 0])
    weights = resamples(labels, 20000, np.random.default_rng(1))
    assert weights.shape == (20000, 7) and weights.dtype == np.float32
    assert (weights[:, labels == 0].sum(1) == 5).all() and (weights[:, labels == 1].sum(1) == 2).all()
    for image, size in enumerate(np.where(labels == 1, 2, 5)):  # binomial(n, 1 / n), within five standard errors
        missed = (1 - 1 / size) ** size
        assert abs(weights[:, image].mean() - 1) < 5 * np.sqrt((1 - 1 / size) / 20000)
        assert abs((weights[:, image] == 0).mean() - missed) < 5 * np.sqrt(missed * (1 - missed) / 20000)
    assert np.array_equal(weights, resamples(labels, 20000, np.random.default_rng(1)))
    assert (resamples(np.zeros(3, np.int64), 5, np.random.default_rng(1)).sum(1) == 3).all()


@pytest.mark.parametrize("count", [2, 3, 5])
def test_means_over_seeds_scatter_as_far_as_seeds_do(count) -> None:
    """Over many sets of seeds, the variance of the draws is that of a mean of as many independent seeds."""
    rng = np.random.default_rng(0)
    of_seeds = seed_resamples(count, 2000, rng)
    variances = [
        mean_over_seeds([np.full(2000, v) for v in rng.standard_normal(count)], of_seeds).var() for _ in range(600)
    ]
    assert np.mean(variances) == pytest.approx(1 / count, rel=0.12)


def test_mean_over_seeds_against_loops() -> None:
    rng = np.random.default_rng(3)
    labels = draw_images(0)[1]
    scores = [(rng.integers(0, 6, 12) + labels).astype(np.float32) for _ in range(3)]
    images, of_seeds = resamples(labels, 20, rng), seed_resamples(3, 20, rng)
    got = mean_over_seeds([auroc(image_wins(s, labels), images) for s in scores], of_seeds)
    for value, w, times in zip(got, images.astype(int), of_seeds.astype(int), strict=True):
        each = [roc_auc_score(repeated(labels, w), repeated(s, w)) for s in scores]
        plain, drawn = np.mean(each), np.mean([each[s] for s in np.repeat(np.arange(3), times)])
        assert value == pytest.approx(plain + np.sqrt(3 / 2) * (drawn - plain))


def test_paired_difference_of_identical_runs_is_zero() -> None:
    rng = np.random.default_rng(4)
    maps, masks = draw_maps(4, 10, 24, None)
    runs = [maps, maps + rng.normal(0, 0.1, maps.shape).astype(np.float32)]
    images, of_seeds = resamples(masks.any((1, 2)).astype(np.int64), 200, rng), seed_resamples(2, 200, rng)
    first, second, worse = (
        mean_over_seeds([auroc(pixel_wins(run - drop * masks, masks), images) for run in runs], of_seeds)
        for drop in np.array([0, 0, 0.05], np.float32)
    )
    assert first.std() > 0 and (first == second).all() and interval(first - second) == (0, 0)
    assert (first > worse).all()  # every defect scores lower, so every resample is worse: only pairing can show that
    assert interval(first - worse)[0] > 0 > interval(first - rng.permutation(worse))[0]


def test_interval_agrees_with_scipy() -> None:
    """Both ends, up to what two Monte Carlo quantiles of as many resamples may differ by (five standard errors)."""
    rng = np.random.default_rng(5)
    normal, anomalous, count = rng.normal(0, 1, 25), rng.normal(1, 1, 20), 5000

    def statistic(n, a, axis):
        return np.mean(a[..., :, None] > n[..., None, :], axis=(-2, -1))

    expected = bootstrap(
        (normal, anomalous), statistic, n_resamples=count, method="percentile", vectorized=True, batch=500, rng=rng
    ).confidence_interval
    labels = np.repeat([0, 1], [25, 20])
    wins = image_wins(np.concatenate([normal, anomalous]).astype(np.float32), labels)
    values = auroc(wins, resamples(labels, count, rng))
    slack = 5 * np.sqrt(2 * 0.025 * 0.975 / count)
    for got, oracle, level in zip(interval(values), expected, (0.025, 0.975), strict=True):
        low, high = np.quantile(values, np.clip([level - slack, level + slack], 0, 1))
        assert low <= got <= high and low <= oracle <= high


def test_what_would_give_a_wrong_number_is_refused() -> None:
    """Scores that are not finite, weights of other images, and tensors that are damaged."""
    scores, labels = np.array([0, 1], np.float32), np.array([0, 1])
    wins = image_wins(scores, labels)
    for call in (
        lambda: image_wins(np.array([1, np.nan], np.float32), labels),
        lambda: pixel_wins(np.zeros((1, 2, 2), np.float32), np.ones((1, 2, 3), bool)),
        lambda: auroc(wins, np.ones((1, 3))),
        lambda: auroc(wins, -np.ones((3, 2))),
        lambda: from_tensors(to_tensors(wins, "image") | {"image_pairs": wins.pairs[:1]}, "image"),
    ):
        with pytest.raises(ReconpatchError):
            call()


@given(seeds, st.integers(1, 25), st.integers(1, 8))
def test_aurocs_without_pairs_are_those_of_the_pairs(seed, count, levels) -> None:
    """Bit for bit, as all sums are of halves; also where a resample, or all, lack one class."""
    rng = np.random.default_rng(seed)
    scores, labels = rng.integers(0, levels, count).astype(np.float32), rng.integers(0, 2, count)
    weights = np.concatenate([resamples(labels, 5, rng), rng.integers(0, 3, (5, count)), np.ones((1, count))])
    got = image_aurocs(scores, labels, weights)
    np.testing.assert_array_equal(got, auroc(image_wins(scores, labels), weights))
    if 0 < labels.sum() < count:
        assert got[-1] == pytest.approx(roc_auc_score(labels, scores))
