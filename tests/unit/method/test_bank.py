import numpy as np
import pytest

from reconpatch.method.coreset import greedy_order, random_projection
from reconpatch.method.memory_bank import Representation, build_bank
from reconpatch.rng import named_rng


@pytest.fixture
def patches(rng) -> np.ndarray:
    return rng.standard_normal((900, 32)).astype(np.float16)


@pytest.mark.parametrize("dim", [32, 8])
def test_rows_are_representations_of_the_picks(dim, patches) -> None:
    bank = build_bank(patches, Representation(dim), ratio=0.1, coreset_dim=16, seed=3)
    r = Representation(dim)(patches)
    matrix = random_projection(dim, 16, 3)
    first = int(named_rng(3, "coreset/first").integers(900))
    assert np.array_equal(bank.order, greedy_order(r if matrix is None else r @ matrix, 90, first))
    np.testing.assert_allclose(bank.patches, r[bank.order], rtol=1e-6)
    assert bank.training_patches == 900


def test_rows_of_a_trained_representation(patches, rng) -> None:
    """With f, both the selection and the rows kept are f of the patches, one at a time here."""
    weight, bias = rng.standard_normal((8, 32)).astype(np.float32), rng.standard_normal(8).astype(np.float32)
    bank = build_bank(patches, Representation(8, weight, bias), ratio=0.05, coreset_dim=16, seed=3)
    r = np.stack([weight @ p.astype(np.float32) + bias for p in patches])
    np.testing.assert_allclose(bank.patches, r[bank.order], rtol=1e-4, atol=1e-4)
    picked = [int(named_rng(3, "coreset/first").integers(900))]
    for _ in range(len(bank.order) - 1):  # the plain rule: the patch farthest from all picked
        picked.append(int(np.linalg.norm(r[:, None] - r[picked], axis=2).min(1).argmax()))
    assert bank.order.tolist() == picked
    pooled = build_bank(patches, Representation(8), ratio=0.05, coreset_dim=16, seed=3)
    assert pooled.order[0] == bank.order[0] and not np.array_equal(pooled.order, bank.order)


def test_smaller_ratio_is_a_prefix_and_seeds_differ(patches) -> None:
    build = lambda ratio, seed: build_bank(patches, Representation(16), ratio=ratio, coreset_dim=16, seed=seed)  # noqa: E731
    large = build(0.25, 0)
    assert np.array_equal(build(0.01, 0).patches, large.first(9).patches)
    assert np.array_equal(build(0.25, 0).patches, large.patches)
    assert not np.array_equal(build(0.25, 1).order, large.order)


def test_chunks_do_not_matter(patches, monkeypatch) -> None:
    whole = build_bank(patches, Representation(16), ratio=0.1, coreset_dim=8, seed=0)
    monkeypatch.setattr("reconpatch.method.memory_bank.CHUNK", 37)
    parts = build_bank(patches, Representation(16), ratio=0.1, coreset_dim=8, seed=0)
    assert np.array_equal(whole.order, parts.order)
    np.testing.assert_allclose(whole.patches, parts.patches, rtol=1e-6)
