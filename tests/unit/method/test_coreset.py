from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reconpatch.errors import ReconpatchError
from reconpatch.method import coreset
from reconpatch.method.coreset import catch_up, greedy_order, greedy_order_on_device, random_projection


def brute_force(points: np.ndarray, wanted: int, first: int) -> list[int]:
    """The rule in float64: always the farthest point not yet picked, the lowest index on a tie."""
    points = points.astype(np.float64)
    picks, distances = [first], ((points - points[first]) ** 2).sum(1)
    while len(picks) < wanted:
        distances[picks[-1]] = -1
        picks.append(int(distances.argmax()))
        distances = np.minimum(distances, ((points - points[picks[-1]]) ** 2).sum(1))
    return picks


@settings(max_examples=40)
@given(st.integers(1, 60), st.integers(1, 5), st.integers(1, 4), st.integers(0, 10**6), st.sampled_from([1, 2]))
def test_same_picks_as_brute_force_with_ties(n, d, values, seed, threads) -> None:
    """Small integers: distances are exact, ties and coinciding points abound, rounds are tiny."""
    rng = np.random.default_rng(seed)
    points = rng.integers(0, values + 1, (n, d)).astype(np.float32)
    wanted, first = int(rng.integers(1, n + 1)), int(rng.integers(n))
    before, coreset.ROUND = coreset.ROUND, 8
    try:
        got = greedy_order(points, wanted, first, threads)
    finally:
        coreset.ROUND = before
    assert got.tolist() == brute_force(points, wanted, first)
    assert np.array_equal(got, greedy_order_on_device(points, wanted, first, "cpu"))


@pytest.mark.parametrize("kind", ["normal", "clustered", "integers"])
def test_same_picks_over_many_rounds(kind, rng) -> None:
    points = {
        "normal": rng.standard_normal((9000, 24)),
        "clustered": rng.standard_normal((40, 24))[rng.integers(40, size=9000)]
        + 0.05 * rng.standard_normal((9000, 24)),
        "integers": rng.integers(0, 4, (9000, 6)),
    }[kind].astype(np.float32)
    picks = greedy_order(points, 700, 3, threads=2)
    assert picks.tolist() == brute_force(points, 700, 3)
    assert np.array_equal(greedy_order_on_device(points, 700, 3, "cpu"), picks)  # none of these points nearly tie
    assert np.array_equal(greedy_order(points, 60, 3), picks[:60])  # a smaller coreset is the beginning of a larger


@pytest.mark.parametrize("select", [greedy_order, partial(greedy_order_on_device, device="cpu")])
def test_bad_input_is_explained(select) -> None:
    points = np.zeros((4, 2), np.float32)
    for wanted in (0, 5):
        with pytest.raises(ReconpatchError, match=f"coreset of {wanted} patches cannot be taken from 4"):
            select(points, wanted, 0)
    points[1, 0] = np.nan
    with pytest.raises(ReconpatchError, match="not finite"):
        select(points, 2, 0)


def test_projection_keeps_distances(rng) -> None:
    points = rng.standard_normal((200, 600))
    matrix = random_projection(600, 128, seed=0)
    assert matrix is not None and np.array_equal(matrix, random_projection(600, 128, seed=0))
    assert not np.array_equal(matrix, random_projection(600, 128, seed=1))
    ratio = np.linalg.norm(points @ matrix, axis=1) ** 2 / np.linalg.norm(points, axis=1) ** 2
    assert ratio.mean() == pytest.approx(1, abs=0.03)
    assert random_projection(128, 128, 0) is None


@pytest.mark.parametrize("kind", ["far from the origin", "one far away", "coinciding"])
def test_bounds_are_lowered_to_the_distance_of_the_nearest_pick(kind, rng) -> None:
    """Whatever rounding does to the products: candidates fill more than one block, picks more than one tile."""
    rows, picked = (rng.standard_normal((n, 12)).astype(np.float32) for n in (coreset.BLOCK + 40, coreset.TILE + 900))
    if kind == "far from the origin":
        rows, picked = rows + 1000, picked + 1000
    elif kind == "one far away":
        picked[7] = 1e6
    elif kind == "coinciding":
        rows[:100], picked[100:200] = picked[-100:], picked[50]
    exact = np.stack([((picked - row) ** 2).sum(1, dtype=np.float64) for row in rows])
    seen = rng.integers(1, len(picked), len(rows))
    bounds = np.array([d[:s].min() for d, s in zip(exact, seen, strict=True)], np.float32)
    mean = picked.mean(0)
    centred = np.column_stack([picked - mean, ((picked - mean) ** 2).sum(1)]).astype(np.float32)
    with ThreadPoolExecutor(2) as pool:
        catch_up(rows, bounds, seen, picked, centred, mean, pool)
    np.testing.assert_allclose(bounds, exact.min(1), rtol=1e-5)
    assert kind != "coinciding" or not bounds[:100].any()
