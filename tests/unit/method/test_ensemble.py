import statistics
import weakref

import numpy as np
import pytest

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


def test_a_constant_member_and_members_that_do_not_fit() -> None:
    scores, reference = np.arange(3.0), np.array([1, 1, 1, 9])
    assert combine_scores([scores, np.full(3, 4.0)], None, "minmax").tolist() == [0, 0.25, 0.5]
    for members_of, references, how in [
        *(([], None, "minmax"), ([scores, np.arange(4.0)], None, "minmax"), ([scores], None, "zscore")),
        *(([scores], [reference], "zscore"), ([scores] * 2, [scores], "zscore"), ([scores * np.nan], None, "minmax")),
    ]:
        with pytest.raises(ReconpatchError):
            combine_scores(members_of, references, how)


@pytest.mark.parametrize("how", ["zscore", "minmax"])
def test_saved_scores_of_runs_are_combined_as_images_and_as_maps(how) -> None:
    """Members may differ in grid and blur, their maps not in size."""
    rng = np.random.default_rng(1)
    saved = [{"image": rng.random(4, np.float32), "patch": rng.random((4, n, n), np.float32)} for n in (3, 5)]
    trained = [{"image": rng.random(6, np.float32), "patch": rng.random((6, n, n), np.float32)} for n in (3, 5)]
    sizes = [((16, 16), 1.0), ((16, 16), 2.0)]
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
