"""Equations 1 to 8 against literal loops in float64, written from the equations alone."""

import math

import numpy as np
import oracles
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from reconpatch import recon

batches = st.tuples(st.integers(8, 20), st.integers(2, 6), st.integers(0, 1000))


def draw(n: int, d: int, seed: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal((n, d))).float()


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
    for i, j in [(0, 0), (0, 1), (3, 5), (5, 3)]:
        assert float(got[i, j]) == pytest.approx(math.exp(-(math.dist(z[i], z[j]) ** 2) / sigma), rel=1e-3, abs=1e-6)


@settings(deadline=None)
@given(batches, st.integers(2, 7), st.floats(0, 1), st.floats(0.5, 5))
def test_similarity_eq_2_to_6(batch, k, alpha, sigma) -> None:
    z = draw(*batch)
    got, mean_pairwise, mean_contextual = recon.similarity(z, sigma, k, alpha)
    exact = z.double().numpy()
    pairwise = np.exp(-((exact[:, None] - exact) ** 2).sum(-1) / sigma)
    context = contextual(exact, k)
    np.testing.assert_allclose(got.numpy(), alpha * pairwise + (1 - alpha) * context, atol=1e-5)
    assert float(mean_pairwise) == pytest.approx(pairwise.mean(), abs=1e-5)
    assert float(mean_contextual) == pytest.approx(context.mean(), abs=1e-5)


def test_contextual_similarity_separates_what_distance_cannot() -> None:
    """Fig. 2: two pairs equally far apart, one within a group, one between two groups."""
    group = torch.tensor([[-0.5, 0], [0.5, 0], [0, 0.1], [0, -0.1], [0.1, 0]])
    left, right = 0.1 * group + torch.tensor([10.0, 0]), 0.1 * group + torch.tensor([11.0, 0])
    z = torch.cat([group, left, right])
    assert float((z[0] - z[1]).norm()) == pytest.approx(float((z[5] - z[10]).norm()), rel=1e-5)
    weights, _, _ = recon.similarity(z, 1.0, 5, alpha=0.0)
    assert float(weights[0, 1]) == pytest.approx(1) and float(weights[5, 10]) == 0


def test_a_patch_is_its_own_nearest_neighbour_among_copies() -> None:
    z = torch.zeros(6, 3)
    assert recon.nearest(recon.squared_distances(z), 3)[:, 0].tolist() == list(range(6))
    weights, _, _ = recon.similarity(z, 1.0, 3, 0.5)
    assert bool(torch.isfinite(weights).all())


@settings(deadline=None)
@given(batches, st.floats(0.2, 2))
def test_loss_eq_7_and_its_gradient(batch, margin) -> None:
    z = draw(*batch)
    w = torch.rand(len(z), len(z), generator=torch.Generator().manual_seed(batch[2]))
    expected = loss(z.double().numpy(), w.double().numpy(), margin)
    leaf = z.clone().requires_grad_()
    plain = oracles.relaxed_contrastive_loss(leaf, w, margin)
    plain.backward()
    fast, gradient = recon.relaxed_contrastive_loss(z, w, margin)
    assert float(plain.detach()) == pytest.approx(expected, rel=1e-4)
    assert float(fast) == pytest.approx(expected, rel=1e-4)
    assert leaf.grad is not None
    scale = float(leaf.grad.abs().max()) + 1e-6
    torch.testing.assert_close(gradient / scale, leaf.grad / scale, atol=2e-3, rtol=0)


def test_gradient_by_finite_differences() -> None:
    z, w = draw(9, 3, 1).double(), torch.rand(9, 9, dtype=torch.float64)
    _, gradient = recon.relaxed_contrastive_loss(z, w, 1.0)
    step = 1e-5
    for i, j in [(0, 0), (4, 1), (8, 2)]:
        moved = []
        for sign in (1, -1):
            other = z.clone()
            other[i, j] += sign * step
            moved.append(loss(other.numpy(), w.numpy(), 1.0))
        assert float(gradient[i, j]) == pytest.approx((moved[0] - moved[1]) / (2 * step), rel=1e-4)


def test_gradient_is_finite_for_coinciding_patches() -> None:
    z = draw(10, 4, 0)
    z[3] = z[7]
    loss_value, gradient = recon.relaxed_contrastive_loss(z, torch.rand(10, 10), 1.0)
    assert bool(torch.isfinite(loss_value)) and bool(torch.isfinite(gradient).all())


def test_ema_eq_8() -> None:
    teacher, student = [torch.tensor([1.0, 2.0])], [torch.tensor([3.0, 6.0])]
    recon.ema_update(teacher, student, 0.75)
    assert teacher[0].tolist() == [1.5, 3.0] and student[0].tolist() == [3.0, 6.0]
