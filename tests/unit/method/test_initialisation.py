"""How f begins, against Gram-Schmidt by loops and scikit-learn's PCA."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.decomposition import PCA
from threadpoolctl import threadpool_limits

from reconpatch.errors import ReconpatchError
from reconpatch.method import initialisation
from reconpatch.method.initialisation import draw_layer, first_layer, orthonormal_rows
from reconpatch.rng import named_rng

INITS = ["uniform", "orthogonal", "pca"]


@pytest.fixture
def patches(rng) -> np.ndarray:
    """Off centre, of very different variances along directions that are no axes."""
    scales, turn = 2.0 ** -np.arange(12), np.linalg.qr(rng.standard_normal((12, 12)))[0]
    return (5 + rng.standard_normal((500, 12)) * scales @ turn).astype(np.float16)


def first(patches: np.ndarray, dim: int, init: str, bias: bool = True) -> tuple[np.ndarray, np.ndarray]:
    return first_layer(named_rng(3, "x"), patches, dim, init, bias)


@given(st.integers(1, 30), st.integers(0, 20), st.integers(0, 999))
def test_orthonormal_rows_are_gram_schmidt_of_a_gaussian(dim, more, seed) -> None:
    rows = orthonormal_rows(np.random.default_rng(seed), dim + more, dim)
    assert rows.shape == (dim, dim + more) and rows.dtype == np.float32 and rows.flags.c_contiguous
    np.testing.assert_allclose(rows @ rows.T, np.eye(dim), atol=1e-5)
    done: list[np.ndarray] = []
    for column in np.random.default_rng(seed).standard_normal((dim + more, dim)).T[:5]:  # later ones lose precision
        for _ in range(2):
            for other in done:
                column = column - (column @ other) * other
        done.append(column / np.linalg.norm(column))
    np.testing.assert_allclose(rows[:5], done, atol=1e-3)


@pytest.mark.parametrize("block", [7, 8192])
@pytest.mark.parametrize("dim", [1, 5, 12])
def test_pca_is_scikit_learns_and_the_mean_maps_to_0(dim, block, patches, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(initialisation, "BLOCK", block)
    np.save(tmp_path / "p.npy", patches)
    weight, bias = first(np.load(tmp_path / "p.npy", mmap_mode="r"), dim, "pca")
    assert weight.dtype == bias.dtype == np.float32
    exact = patches.astype(np.float64)
    expected = PCA(dim, svd_solver="full").fit(exact).components_ / np.sqrt(3)
    for row, component in zip(weight, expected, strict=True):
        assert row[np.abs(row).argmax()] > 0
        np.testing.assert_allclose(row * np.sign(row @ component), component, atol=1e-4)
    np.testing.assert_allclose(weight @ exact.mean(0) + bias, 0, atol=1e-5)
    variances = (exact @ weight.T).var(0)
    assert (np.diff(variances) < 0).all()
    without = first(patches, dim, "pca", bias=False)
    assert np.array_equal(without[0], weight) and not without[1].any()


@pytest.mark.parametrize("init", INITS)
def test_rows_are_equally_long_whatever_their_directions(init) -> None:
    """So the distances of isotropic patches, and with them what sigma means, do not depend on how f begins."""
    patches = np.random.default_rng(0).standard_normal((4000, 60)).astype(np.float16)
    weight, bias = first(patches, 60, init)
    projected = patches.astype(np.float64) @ weight.T + bias
    assert projected.var(0).sum() == pytest.approx(60 / 3, rel=0.05)


@pytest.mark.parametrize("init", INITS)
def test_only_f_depends_on_how_it_begins(init, patches) -> None:
    """What is drawn after it, g and the order of batches, is the same, and the bias changes no weight."""
    plain = named_rng(3, "x")
    draw_layer(plain, 12, 5)
    expected = plain.random()
    for bias in (True, False):
        rng = named_rng(3, "x")
        weight, offset = first_layer(rng, patches, 5, init, bias)
        assert rng.random() == expected
        assert np.array_equal(weight, first(patches, 5, init)[0]) and offset.any() == bias
    with threadpool_limits(2, "blas"):
        assert np.array_equal(first(patches, 5, init)[0], weight)
    other_seed = first_layer(named_rng(4, "x"), patches, 5, init)[0]
    assert np.array_equal(other_seed, weight) == (init == "pca")


def test_what_cannot_begin_so_is_explained(patches) -> None:
    assert first(patches, 13, "uniform")[0].shape == (13, 12)
    for init in ("orthogonal", "pca"):
        with pytest.raises(ReconpatchError, match=rf"dim 13: of 12 values, init: {init} makes at most 12.*lower dim"):
            first(patches, 13, init)
    patches[400, 3] = np.inf
    with pytest.raises(ReconpatchError, match="init pca: some patch features are not finite"):
        first(patches, 5, "pca")
