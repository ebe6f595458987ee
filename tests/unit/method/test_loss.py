"""Equations 1 to 8 against literal loops in float64, written from the equations alone.

Two ways are tested: operations of PyTorch, as on an accelerator, and rows, as on a processor.
"""

import math
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import oracles
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from reconpatch.method import fused_loss, rows
from reconpatch.method import loss as recon

batches = st.tuples(st.integers(8, 20), st.integers(2, 6), st.integers(0, 1000))


def draw(n: int, d: int, seed: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal((n, d))).float()


def symmetric(n: int, seed: int) -> torch.Tensor:
    """Similarities, which are symmetric by equation 5."""
    half = torch.rand(n, n, generator=torch.Generator().manual_seed(seed))
    return (half + half.T) / 2


def similarity_by_rows(z, sigma, k, alpha, unit="one", pool=None):
    """As `recon.similarity`, by rows."""
    out = np.full((len(z), fused_loss.pitch(len(z))), np.nan, np.float32)
    means = fused_loss.similarity((z - z.mean(0)).numpy(), sigma, k, alpha, out, unit, pool)
    return torch.from_numpy(out[:, : len(z)]), *map(torch.tensor, means)


def similarity_of_matrices(z, sigma, k, alpha, unit="one"):
    return recon.similarity(z, sigma, k, alpha, None, unit)


def loss_by_rows(z, weights, margin, pool=None):
    """As `recon.relaxed_contrastive_loss`, by rows."""
    n = len(z)
    pairs = np.full((2, n, fused_loss.pitch(n)), np.nan, np.float32)
    pairs[0, :, :n] = weights
    value, gradient = fused_loss.relaxed_contrastive_loss((z - z.mean(0)).numpy(), *(pairs[0], margin, pairs[1]), pool)
    return torch.tensor(value), torch.from_numpy(gradient)


SIMILARITIES = pytest.mark.parametrize("similarity", [similarity_of_matrices, similarity_by_rows])
LOSSES = pytest.mark.parametrize("relaxed_loss", [recon.relaxed_contrastive_loss, loss_by_rows])


def neighbour_sets(z: np.ndarray, k: int) -> list[set[int]]:
    n = len(z)
    return [set(sorted(range(n), key=lambda j: (j != i, math.dist(z[i], z[j])))[:k]) for i in range(n)]


def contextual(z: np.ndarray, k: int) -> np.ndarray:
    n = len(z)
    N, H = neighbour_sets(z, k), neighbour_sets(z, max(1, k // 2))
    eq2 = [[len(N[i] & N[j]) / len(N[i]) if j in N[i] else 0.0 for j in range(n)] for i in range(n)]
    R = [{j for j in H[i] if i in H[j]} for i in range(n)]  # eq. 3
    eq4 = [[sum(eq2[m][j] for m in R[i]) / len(R[i]) for j in range(n)] for i in range(n)]
    return np.array([[(eq4[i][j] + eq4[j][i]) / 2 for j in range(n)] for i in range(n)])  # eq. 5


def loss(z: np.ndarray, w: np.ndarray, margin: float) -> float:
    n, total = len(z), 0.0
    for i in range(n):
        mean = sum(math.dist(z[i], z[m]) for m in range(n)) / n
        for j in range(n):
            delta = math.dist(z[i], z[j]) / mean
            total += w[i, j] * delta**2 + (1 - w[i, j]) * max(margin - delta, 0) ** 2
    return total / n


@given(batches, st.floats(0.1, 10))
def test_pairwise_similarity_eq_1(batch, sigma) -> None:
    z = draw(*batch)
    got = recon.pairwise_similarity(recon.squared_distances(z), sigma)
    assert float(got.min()) >= torch.finfo(torch.float32).tiny  # subnormal numbers are slow
    for i, j in [(0, 0), (0, 1), (3, 5), (5, 3)]:
        assert float(got[i, j]) == pytest.approx(math.exp(-(math.dist(z[i], z[j]) ** 2) / sigma), rel=1e-3, abs=1e-6)


@SIMILARITIES
@given(batches, st.integers(1, 7), st.floats(0, 1), st.floats(0.02, 5))
def test_similarity_eq_1_to_6(similarity, batch, k, alpha, sigma) -> None:
    z = draw(*batch)
    got, mean_pairwise, mean_contextual = similarity(z, sigma, k, alpha)
    exact = z.double().numpy()
    pairwise = np.exp(-((exact[:, None] - exact) ** 2).sum(-1) / sigma)
    context = contextual(exact, k)
    np.testing.assert_allclose(got.numpy(), alpha * pairwise + (1 - alpha) * context, atol=1e-5)
    assert float(mean_pairwise) == pytest.approx(pairwise.mean(), abs=1e-5)
    assert float(mean_contextual) == pytest.approx(context.mean(), abs=1e-5)


@SIMILARITIES
@given(batches, st.floats(0.1, 5))
def test_sigma_in_medians_of_the_squared_distances(similarity, batch, sigma) -> None:
    z = draw(*batch)
    n = len(z)
    between = sorted(math.dist(z[i], z[j]) ** 2 for i in range(n) for j in range(i))
    bandwidth = sigma * between[(len(between) - 1) // 2]
    for got, want in zip(similarity(z, sigma, 2, 0.7, "median"), similarity(z, bandwidth, 2, 0.7), strict=True):
        torch.testing.assert_close(got, want, atol=1e-4, rtol=1e-3)


@given(st.integers(2, 25), st.integers(1, 700), st.integers(0, 999))
def test_the_median_of_many_pairs_is_that_of_the_stated_ones(n, pairs, seed) -> None:
    distances = recon.squared_distances(draw(n, 3, seed))
    stride = max(1, n * (n - 1) // pairs)
    stride += 1 - stride % 2
    chosen = [
        float(distances[i, j])
        for d in range(1, n + 1, stride)
        for i in range(n)
        for j in range(n)
        if i != j and (j - i == d or i - j == n + 1 - d)
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recon, "PAIRS", pairs)
        assert float(recon.median_of_pairs(distances)) == sorted(chosen)[(len(chosen) - 1) // 2]


@SIMILARITIES
@pytest.mark.parametrize("sigma", [1e-9, 1.0])
def test_a_median_of_0_leaves_only_what_coincides_similar(sigma, similarity) -> None:
    z = torch.zeros(12, 3)
    z[11] = 5
    got = similarity(z, sigma, 5, 1.0, "median")[0]
    expected = torch.ones(12, 12)
    expected[11, :11] = expected[:11, 11] = 0
    torch.testing.assert_close(got, expected, atol=1e-30, rtol=0)


@given(st.integers(2, 200), st.integers(1, 8), st.integers(0, 999))
def test_the_nearest_by_rows_are_the_sorted_ones(n, k, seed) -> None:
    """With many equal distances: of these the lower index comes first, and the patch itself before all."""
    distances = np.random.default_rng(seed).integers(0, 6, (n, n)).astype(np.float32)
    np.fill_diagonal(distances, 0)
    neighbours, k = np.empty((n, min(k, n)), np.int64), min(k, n)
    before = distances.copy()
    fused_loss.nearest(distances, 0, n, neighbours)
    for i in range(n):
        assert neighbours[i].tolist() == sorted(range(n), key=lambda j: (j != i, before[i, j], j))[:k]
    assert (distances == before).all()


def test_means_of_many_similarities_are_exact() -> None:
    """In float32, one sum of so many values would be off by 1e-4."""
    z = draw(700, 8, 0)
    plain, by_rows = (f(z, 1.0, 60, 0.5)[1:] for f in (similarity_of_matrices, similarity_by_rows))
    for got, want in zip(by_rows, plain, strict=True):
        assert float(got) == pytest.approx(float(want), rel=5e-6)


@pytest.mark.parametrize("block", [1, 5, 19])
def test_blocks_and_threads_change_no_byte(block, monkeypatch) -> None:
    z, w = draw(19, 4, 0), symmetric(19, 0)
    monkeypatch.setattr(rows, "BLOCK_ROWS", block)
    alone = [*similarity_by_rows(z, 1.0, 5, 0.5), *loss_by_rows(z, w, 1.0)]
    with ThreadPoolExecutor(3) as pool:
        shared = [*similarity_by_rows(z, 1.0, 5, 0.5, pool=pool), *loss_by_rows(z, w, 1.0, pool)]
    assert all(map(torch.equal, alone, shared))
    plain = [*similarity_of_matrices(z, 1.0, 5, 0.5), *recon.relaxed_contrastive_loss(z, w.clone(), 1.0)]
    for got, want in zip(alone, plain, strict=True):
        torch.testing.assert_close(got, want, atol=1e-6, rtol=1e-4)


@given(st.integers(0, 40), st.integers(1, 45))
def test_by_rows_covers_all_rows_once(n, block) -> None:
    with pytest.MonkeyPatch.context() as patch, ThreadPoolExecutor(2) as pool:
        patch.setattr(rows, "BLOCK_ROWS", block)
        for threads in (None, pool):
            seen: list[int] = []
            rows.by_rows(lambda first, last, seen=seen: seen.extend(range(first, last)), n, threads)
            assert sorted(seen) == list(range(n))


def test_an_error_in_a_block_is_raised() -> None:
    def fail(first: int, last: int) -> None:
        raise ValueError(first, last)

    with ThreadPoolExecutor(2) as pool, pytest.raises(ValueError, match="256"):
        rows.by_rows(lambda first, last: fail(first, last) if first else None, 300, pool)


@SIMILARITIES
def test_what_is_not_a_number_stays_so(similarity) -> None:
    z = torch.full((9, 3), torch.nan)
    assert similarity(z, 1.0, 5, 0.5)[1].isnan()
    for relaxed_loss in (loss_by_rows, recon.relaxed_contrastive_loss):
        value, gradient = relaxed_loss(z, torch.rand(9, 9), 1.0)
        assert bool(value.isnan()) and bool(gradient.isnan().all())


@SIMILARITIES
def test_contextual_similarity_separates_what_distance_cannot(similarity) -> None:
    """Fig. 2: two pairs equally far apart, one within a group, one between two groups."""
    group = torch.tensor([[-0.5, 0], [0.5, 0], [0, 0.1], [0, -0.1], [0.1, 0]])
    left, right = 0.1 * group + torch.tensor([10.0, 0]), 0.1 * group + torch.tensor([11.0, 0])
    z = torch.cat([group, left, right])
    assert float((z[0] - z[1]).norm()) == pytest.approx(float((z[5] - z[10]).norm()), rel=1e-5)
    weights, _, _ = similarity(z, 1.0, 5, alpha=0.0)
    assert float(weights[0, 1]) == pytest.approx(1) and float(weights[5, 10]) == 0


@LOSSES
@given(batches, st.floats(0.2, 2))
def test_loss_eq_7_and_its_gradient(relaxed_loss, batch, margin) -> None:
    z = draw(*batch)
    w = symmetric(len(z), batch[2])
    expected = loss(z.double().numpy(), w.double().numpy(), margin)
    leaf = z.clone().requires_grad_()
    plain = oracles.relaxed_contrastive_loss(leaf, w, margin)
    plain.backward()
    fast, gradient = relaxed_loss(z, w.clone(), margin)
    assert float(plain.detach()) == pytest.approx(expected, rel=1e-4)
    assert float(fast) == pytest.approx(expected, rel=1e-4)
    assert leaf.grad is not None
    scale = float(leaf.grad.abs().max()) + 1e-6
    torch.testing.assert_close(gradient / scale, leaf.grad / scale, atol=2e-3, rtol=0)


@LOSSES
def test_gradient_is_finite_for_coinciding_patches(relaxed_loss) -> None:
    z = draw(10, 4, 0)
    z[3] = z[7]
    weights = torch.rand(10, 10, generator=torch.Generator().manual_seed(0))
    weights = weights + weights.T  # two copies then differ in nothing ...
    weights[3], weights[:, 3] = weights[7].clone(), weights[:, 7].clone()
    weights[3, 3] = weights[7, 7] = weights[3, 7] = weights[7, 3] = 1
    loss_value, gradient = relaxed_loss(z, weights, 1.0)
    assert bool(torch.isfinite(loss_value)) and bool(torch.isfinite(gradient).all())
    torch.testing.assert_close(gradient[3], gradient[7], atol=1e-5, rtol=1e-3)  # ... so nothing may part them


def test_ema_eq_8() -> None:
    teacher, student = [torch.tensor([1.0, 2.0])], [torch.tensor([3.0, 6.0])]
    recon.ema_update(teacher, student, 0.75)
    assert teacher[0].tolist() == [1.5, 3.0] and student[0].tolist() == [3.0, 6.0]
