import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconpatch.errors import ReconpatchError
from reconpatch.experiments.run import BASELINE
from reconpatch.method.coreset import greedy_order, random_projection
from reconpatch.method.memory_bank import MemoryBank, Representation, build_bank, coreset_size
from reconpatch.method.training import train
from reconpatch.method.training_settings import TrainingSettings
from reconpatch.rng import named_rng


@given(st.integers(1, 10**6), st.floats(0, 1, exclude_min=True))
def test_coreset_size(n: int, ratio: float) -> None:
    size = coreset_size(n, ratio)
    assert 1 <= size <= n and (size == int(n * ratio) or size == 1)


@pytest.mark.parametrize("trained", [False, True])
def test_round_trip(trained, tmp_path, rng) -> None:
    f = Representation(4, *((np.ones((4, 8), np.float32), np.zeros(4, np.float32)) if trained else ()))
    bank = MemoryBank(rng.standard_normal((6, 4)).astype(np.float32), np.arange(6), f, 600)
    bank.save(tmp_path / "b.safetensors")
    again = MemoryBank.load(tmp_path / "b.safetensors")
    assert np.array_equal(again.patches, bank.patches) and again.training_patches == 600
    patches = rng.standard_normal((3, 8))
    assert np.array_equal(again.representation(patches), f(patches))
    assert np.array_equal(again.first(2).patches, bank.patches[:2])
    with pytest.raises(ReconpatchError, match="6 patches cannot give 7"):
        again.first(7)


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


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("init", ["uniform", "orthogonal", "pca"])
def test_the_untrained_f_is_that_of_the_first_step(init, bias, rng) -> None:
    """A training at a rate of almost nothing leaves f where it began."""
    patches = rng.standard_normal((64, 12)).astype(np.float16)
    still = {"dim": 8, "projection_dim": 4, "epochs": 1, "batch": 64, "learning_rate": 1e-30, "weight_decay": 0.0}
    f, _ = train(patches, TrainingSettings.of(BASELINE.model_dump() | still | {"seed": 7, "init": init, "bias": bias}))
    drawn = Representation.untrained(patches, 8, 7, init, bias)
    assert drawn.dim == 8 and np.array_equal(drawn.weight, f["1.weight"].numpy())
    assert np.array_equal(drawn.bias, f["1.bias"].numpy())
    assert not np.array_equal(drawn.weight, Representation.untrained(patches[::2], 8, 8, init, bias).weight)
