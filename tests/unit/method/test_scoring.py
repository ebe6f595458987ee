import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from reconpatch.errors import ReconpatchError
from reconpatch.method.memory_bank import MemoryBank, Representation
from reconpatch.method.scoring import anomaly_maps, image_scores, patch_scores, score_features
from reconpatch.method.search import FaissSearch


def bank_of(rows: np.ndarray) -> MemoryBank:
    return MemoryBank(rows.astype(np.float32), np.arange(len(rows)), Representation(rows.shape[1]), 10 * len(rows))


def scores_of(
    patches: np.ndarray, bank: MemoryBank, neighbours: int = 1, squared: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    return patch_scores(patches, bank, FaissSearch(bank.patches), neighbours, squared)


@settings(max_examples=30)
@given(st.integers(3, 12), st.integers(1, 4), st.integers(2, 9), st.booleans(), st.integers(0, 999))
def test_eq_9_and_10_in_loops(size, dim, neighbours, squared, seed) -> None:
    def between(one: np.ndarray, other: np.ndarray) -> float:
        return math.dist(one, other) ** (2 if squared else 1)

    rng = np.random.default_rng(seed)
    rows, queries = rng.standard_normal((size, dim)), rng.standard_normal((5, dim))
    b = min(neighbours, size)
    distances, weights = scores_of(queries, bank_of(rows), b, squared)
    for query, distance, weight in zip(queries, distances, weights, strict=True):
        star = min(range(size), key=lambda j: math.dist(query, rows[j]))
        around = sorted(range(size), key=lambda j: math.dist(rows[star], rows[j]))[:b]
        nearest = between(query, rows[star])
        expected = 1 - math.exp(nearest) / sum(math.exp(between(query, rows[j])) for j in around)
        assert float(distance) == pytest.approx(nearest, abs=1e-4)
        assert float(weight) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("squared", [False, True])
def test_large_distances_do_not_overflow(squared) -> None:
    rows = np.array([[0.0], [1.0], [500.0]])
    distances, weights = scores_of(np.array([[-1000.0]]), bank_of(rows), 3, squared)
    assert float(distances[0]) == pytest.approx(1000**2 if squared else 1000) and float(weights[0]) == pytest.approx(1)


def test_squares_keep_the_order_of_images_but_change_maps_and_weighted_scores(rng) -> None:
    features, bank = rng.standard_normal((6, 3, 3, 4)), bank_of(rng.standard_normal((20, 4)))
    plain, squares = (score_features(features, bank, neighbours=1, reweight_map=True, squared=s) for s in (False, True))
    np.testing.assert_allclose(squares.patch, plain.patch**2, rtol=1e-6)
    assert squares.image.argsort().tolist() == plain.image.argsort().tolist()
    assert not np.allclose(anomaly_maps(squares.patch, 24, 4.0), anomaly_maps(plain.patch, 24, 4.0) ** 2, rtol=1e-2)


@pytest.mark.parametrize("neighbours", [0, 5])
def test_neighbours_out_of_range(neighbours) -> None:
    with pytest.raises(ReconpatchError, match="between 1 and the 4") as error:
        scores_of(np.zeros((2, 1)), bank_of(np.zeros((4, 1))), neighbours)
    assert error.value.where == f"neighbours {neighbours}"


def test_image_score_and_map_by_both_readings_of_eq_10() -> None:
    distances = np.array([[[1, 2], [3, 4]]], np.float32)
    weights = np.array([[[1, 1], [0.9, 0.5]]], np.float32)
    image, patch = image_scores(distances, weights, reweight_map=True)
    np.testing.assert_allclose(image, [2.7], rtol=1e-6)
    np.testing.assert_allclose(patch, [[[1, 2], [2.7, 2]]], rtol=1e-6)
    image, patch = image_scores(distances, weights, reweight_map=False)
    np.testing.assert_allclose(image, [2])  # the largest distance, 4, weighted by 0.5
    assert np.array_equal(patch, distances)


@pytest.mark.parametrize(("grid", "size"), [((28, 28), 224), ((3, 3), 50), ((1, 1), 8), ((3, 5), (24, 56))])
@pytest.mark.parametrize("blur", [0.0, 4.0])
def test_maps_are_interpolation_and_filter(grid, size, blur, rng) -> None:
    patch = rng.standard_normal((3, *grid)).astype(np.float32)
    up = torch.nn.functional.interpolate(torch.from_numpy(patch)[None], size=size, mode="bilinear")[0].numpy()
    expected = np.stack([gaussian_filter(m, blur) if blur else m for m in up])
    np.testing.assert_allclose(anomaly_maps(patch, size, blur), expected, atol=1e-5)


@pytest.mark.parametrize("bad", [np.nan, np.inf, 3e38])
def test_features_that_are_not_finite_are_refused(bad) -> None:
    """faiss answers NaN with the largest float, which would pass for a score; 3e38 is too large to be squared."""
    bank = MemoryBank(np.eye(4, dtype=np.float32), np.arange(4), Representation(4), 4)
    patches = np.zeros((5, 4), np.float32)
    patches[3, 1] = bad
    with pytest.raises(ReconpatchError, match="not finite"):
        scores_of(patches, bank)
