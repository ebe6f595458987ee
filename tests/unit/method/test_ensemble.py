import statistics
import weakref

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reconpatch.errors import ReconpatchError
from reconpatch.method.ensemble import combine_maps, combine_runs, combine_scores, min_max, modified_z
from reconpatch.method.scoring import anomaly_maps

SHAPES = {1: (9,), 3: (4, 5, 6)}
COMBINE = {1: combine_scores, 3: combine_maps}


def members(seed: int, axes: int, count: int = 3) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Skewed scores on scales that differ between members, and references of different sizes."""
    rng = np.random.default_rng(seed)
    scales = 10.0 ** np.arange(-1, count - 1)
    scores = [(rng.gamma(2, s, SHAPES[axes]) + s).astype(np.float32) for s in scales]
    return scores, [rng.gamma(2, s, (7 + m, 3)).astype(np.float32) for m, s in enumerate(scales)]


def plain_z(value: float, reference: list[float]) -> float:
    median = statistics.median(reference)
    return (value - median) / (1.4826 * statistics.median([abs(r - median) for r in reference]))


def test_modified_z_closed_form() -> None:
    reference = np.array([1, 2, 3, 4, 100])  # median 3, deviations 2 1 0 1 97: the outlier does not matter
    got = modified_z(np.array([[3, 4], [1, 3 + 1.4826]]), reference)
    assert got.dtype == np.float32
    assert got == pytest.approx(np.array([[0, 1 / 1.4826], [-2 / 1.4826, 1]]))


def test_min_max_closed_form() -> None:
    got = min_max(np.array([[-1, 3], [1, 0]]))
    assert got.dtype == np.float32 and got.tolist() == [[0, 1], [0.5, 0.25]]
    assert min_max(np.full((2, 3), 0.7)).tolist() == [[0] * 3] * 2


@pytest.mark.parametrize("axes", [1, 3])
def test_combination_against_loops(axes: int) -> None:
    scores, references = members(1, axes)
    plain = [r.ravel().tolist() for r in references]
    z, unit = COMBINE[axes](scores, references, "zscore"), COMBINE[axes](iter(scores), None, "minmax")
    assert z.dtype == unit.dtype == np.float32
    for index in np.ndindex(*SHAPES[axes]):
        values = [float(s[index]) for s in scores]
        assert z[index] == pytest.approx(np.mean([plain_z(v, r) for v, r in zip(values, plain, strict=True)]), 1e-4)
        low, high = [float(min(s.ravel())) for s in scores], [float(max(s.ravel())) for s in scores]
        scaled = [(v - a) / (b - a) for v, a, b in zip(values, low, high, strict=True)]
        assert unit[index] == pytest.approx(sum(scaled) / 3, 1e-5, 1e-7)


@pytest.mark.parametrize("axes", [1, 3])
@pytest.mark.parametrize("how", ["zscore", "minmax"])
@settings(deadline=None)
@given(seed=st.integers(0, 10**6), scale=st.floats(0.01, 100), shift=st.floats(-10, 10), which=st.integers(0, 2))
def test_positive_affine_maps_of_a_member_change_nothing(axes, how, seed, scale, shift, which) -> None:
    scores, references = members(seed, axes)
    before = COMBINE[axes](scores, references, how)
    # In double precision, as rounding the shifted scores would be a change.
    scores[which], references[which] = (v[which].astype(np.float64) * scale + shift for v in (scores, references))
    assert np.allclose(COMBINE[axes](scores, references, how), before, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("how", ["zscore", "minmax"])
@settings(deadline=None)
@given(st.lists(st.integers(-50, 50), min_size=2, max_size=30))
def test_a_single_member_keeps_order_and_ties(how, values) -> None:
    scores, reference = np.array(values, np.float32), np.array([0, 1, 2, 3, 5], np.float32)
    got = combine_scores([scores], [reference], how)
    assert np.array_equal(np.sign(got[:, None] - got), np.sign(scores[:, None] - scores))


def test_a_constant_member_adds_nothing_to_min_max() -> None:
    scores, _ = members(3, 1, 1)
    assert combine_scores([*scores, np.full(9, 4.0)], None, "minmax") == pytest.approx(min_max(scores[0]) / 2)


def test_members_are_left_alone_and_held_one_at_a_time() -> None:
    scores, references = members(4, 3)
    copies, alive = [s.copy() for s in scores], []

    def one_by_one():
        for s in scores:
            assert not any(a() is not None for a in alive)
            made = [s.copy()]
            alive.append(weakref.ref(made[0]))
            yield made.pop()  # no variable of the generator keeps it

    combine_maps(one_by_one(), references, "zscore")
    assert len(alive) == 3
    combine_maps(scores, references, "minmax")
    assert all(np.array_equal(a, b) for a, b in zip(scores, copies, strict=True))


@pytest.mark.parametrize(
    ("scores", "references", "how", "message"),
    [
        ([np.arange(3.0)], None, "median", "'median': unknown normalisation.*zscore, minmax"),
        ([np.arange(3.0)], None, "zscore", "needs scores of the training images"),
        ([], None, "minmax", "no members"),
        ([np.arange(3.0), np.arange(4.0)], None, "minmax", r"member 1: shape \(4,\) differs from \(3,\)"),
        ([np.zeros((2, 3))], None, "minmax", r"member 0: has shape \(2, 3\), 1 axes"),
        ([np.arange(3.0)] * 2, [np.arange(5)], "zscore", "more members than the 1 references"),
        ([np.arange(3.0)], [np.arange(5)] * 2, "zscore", "2 references for 1 members"),
        ([np.arange(3.0)], [np.array([1, 1, 1, 9])], "zscore", 'equal 1, .* use "minmax"'),
        ([np.arange(3.0)], [np.array([])], "zscore", "reference scores of training images are missing"),
        ([np.arange(3.0)], [np.array([1, 2, np.nan])], "zscore", "are not finite"),
        ([np.array([1, np.inf])], None, "minmax", "scores are not finite"),
        ([np.array([])], None, "minmax", "scores are missing"),
    ],
)
def test_bad_input_is_explained(scores, references, how, message) -> None:
    with pytest.raises(ReconpatchError, match=message):
        combine_scores(scores, references, how)


@pytest.mark.parametrize("how", ["zscore", "minmax"])
def test_saved_scores_of_runs_are_combined_as_images_and_as_maps(how) -> None:
    """Members may differ in grid and blur, their maps not in size."""
    rng = np.random.default_rng(1)
    saved = [{"image": rng.random(4, np.float32), "patch": rng.random((4, n, n), np.float32)} for n in (3, 5)]
    trained = [{"image": rng.random(6, np.float32), "patch": rng.random((6, n, n), np.float32)} for n in (3, 5)]
    sizes = [(16, 1.0), (16, 2.0)]
    image, maps = combine_runs(saved, trained if how == "zscore" else [], sizes, how)
    each = [s["image"] for s in saved], [anomaly_maps(s["patch"], *z) for s, z in zip(saved, sizes, strict=True)]
    for found, members, key in zip((image, maps), each, ("image", "patch"), strict=True):
        scaled = [
            modified_z(m, t[key]) if how == "zscore" else min_max(m) for m, t in zip(members, trained, strict=True)
        ]
        np.testing.assert_allclose(found, (scaled[0] + scaled[1]) / 2, rtol=1e-5, atol=1e-6)
    if how == "zscore":
        with pytest.raises(ReconpatchError, match='"zscore" needs scores of the training images'):
            combine_runs(saved, [], sizes, how)
