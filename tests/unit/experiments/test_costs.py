"""Formulas of memory and time against networks as they run, loops over every operation, and arrays that must fit."""

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
import timm
import torch
from hypothesis import given
from hypothesis import strategies as st

from reconpatch.experiments import costs
from reconpatch.experiments.costs import Network, Sizes, sizes_of
from reconpatch.experiments.run import BASELINE, vary
from reconpatch.experiments.stages import STAGES
from reconpatch.method.batching import draw_batches
from reconpatch.method.initialisation import principal_directions
from reconpatch.method.search import TorchSearch
from reconpatch.method.training import Trainer
from reconpatch.method.training_settings import TrainingSettings

MB = 1e6
SIZES = Sizes(
    train=40,
    test=20,
    backbone="resnet18",
    parameters=10**7,
    crop=224,
    grid=28,
    width=1024,
    learnt=True,
    dim=512,
    projection_dim=128,
    batch=1024,
    epochs=3,
    coreset_dim=128,
    kept=300,
    used=300,
    results=10,
    panels=12,
)


@pytest.mark.parametrize("name", costs.NETWORKS)
def test_multiply_adds_are_those_of_the_network(name) -> None:
    """Counted in every convolution as it runs, at 224 px: each value it gives is a sum over its weights."""
    counted = [0]

    def count(module, given, out) -> None:
        counted[0] += out.numel() * module.weight[0].numel()

    with torch.device("meta"):
        net = timm.create_model(name, features_only=True, feature_cls="getter", out_indices=(2, 3)).eval()
        for module in net.modules():
            if isinstance(module, torch.nn.Conv2d):
                module.register_forward_hook(count)
        net(torch.empty(1, 3, 224, 224))
    seconds = 2 * counted[0] / costs.NETWORKS[name][1]
    parameters = sum(p.numel() for p in net.parameters())
    assert costs.network_seconds(f"{name}.tv_in1k", parameters, 224**2) == pytest.approx(seconds, rel=1e-3)
    assert costs.network_seconds("another", parameters, 224**2) > 0.9 * seconds


@pytest.mark.parametrize("block", [1, 2, 4, 8, 12])
def test_products_of_a_training_step_counted_by_loops(block, monkeypatch) -> None:
    """Every multiply-add of a step, one at a time: W = g f and back, z = p W and back, distances and their gradient.

    The distances of a block of rows are those to all patches from the block's first on.
    """
    n, c, d, p = 8, 5, 4, 2
    monkeypatch.setattr(costs, "BLOCK_ROWS", block)
    adds = 0
    for _ in ("student", "teacher"):
        adds += sum(1 for _ in range(p) for _ in range(d) for _ in range(c))  # g f
        adds += sum(1 for _ in range(n) for _ in range(c) for _ in range(p))  # p W
        adds += sum(1 for i in range(n) for j in range(n) for _ in range(p) if j >= i // block * block)  # z z^T
    adds += sum(1 for _ in range(n) for _ in range(n) for _ in range(p))  # S z
    adds += sum(1 for _ in range(p) for _ in range(n) for _ in range(c))  # dz^T p
    adds += 2 * sum(1 for _ in range(p) for _ in range(d) for _ in range(c))  # g^T dW, dW f^T
    passes = (
        costs.STEP + n**2 * costs.STEP_PAIR + (c + p) * d * costs.STEP_PARAMETER + n * (c + 8 * p) * costs.STEP_VALUE
    )
    sizes = Sizes(train=n, grid=1, width=c, dim=d, projection_dim=p, batch=n, epochs=7)
    assert costs.training_work(sizes)[0] == pytest.approx(7 * (2 * adds / costs.TRAINING_RATE + passes))


@pytest.mark.parametrize(("batch", "in_an_image"), [(100, 8), (500, 2), (2000, 1)])
def test_a_training_within_images_has_the_steps_that_are_drawn(batch, in_an_image) -> None:
    """As many steps as an epoch has batches, each as long as a training on one batch alone."""
    run = vary(BASELINE, {"batches": "image", "batch": batch}, "")
    sizes = sizes_of(run, Network(28, 10**6, (512, 1024)), (40, 10), ratio=0.01, batch_images=8)
    assert sizes.grid == 28 and len(draw_batches(np.random.default_rng(0), [28**2] * 40, batch)) == 40 * in_an_image
    size = 28**2 // in_an_image
    step = replace(sizes, train=size, grid=1, batch=size, epochs=1)
    assert costs.training_work(sizes)[0] == pytest.approx(120 * 40 * in_an_image * costs.training_work(step)[0])


@pytest.mark.parametrize("method", ["reconpatch", "untrained", "patchcore"])
def test_principal_directions_take_time_where_there_is_an_f(method) -> None:
    runs = [vary(BASELINE, {"init": init, "method": method}, "") for init in ("uniform", "pca")]
    plain, pca = (sizes_of(run, Network(28, 10**6, (512, 1024)), (40, 10), ratio=0.01, batch_images=8) for run in runs)
    for work in (costs.training_work, costs.bank_work):
        assert (work(pca)[0] > work(plain)[0]) == (method != "patchcore")


def test_principal_directions_hold_their_arrays() -> None:
    """And two square matrices of LAPACK, which Python does not count, and the block of a large file as it is read."""
    patches = np.zeros((20_000, 256), np.float16)
    tracemalloc.start()
    principal_directions(patches, 8)
    peak = tracemalloc.get_traced_memory()[1] / MB
    tracemalloc.stop()
    assert peak < costs.principal_mb(Sizes(width=256, principal=True)) < 1.4 * peak


@pytest.mark.parametrize("field", ["train", "test", "pixels", "crop", "grid", "width", "dim", "kept", "members"])
def test_more_of_anything_needs_no_less(field) -> None:
    """And some stage needs more."""
    change = {field: 2 * getattr(SIZES, field)}
    more = replace(SIZES, **change, **({"used": 600} if field == "kept" else {}))
    pairs = [(stage.memory_of(more), stage.memory_of(SIZES)) for stage in STAGES.values()]
    times = [(stage.time_of(more), stage.time_of(SIZES)) for stage in STAGES.values()]
    assert all(a.held >= b.held and a.mapped >= b.mapped for a, b in pairs)
    assert all(a.work >= b.work and 0 <= a.dense <= a.work for a, b in times)
    assert any(a.mb > b.mb for a, b in pairs) and any(a.work > b.work for a, b in times)


@given(st.integers(1, 300), st.integers(1, 2048), st.integers(1, 1024), st.integers(1, 1024), st.floats(0.001, 1))
def test_a_coreset_holds_its_arrays(images, width, dim, coreset_dim, ratio) -> None:
    """The projected patches with bounds, indices and picks, and later the bank."""
    patches = images * 28**2
    kept = max(1, int(patches * ratio))
    sizes = Sizes(train=images, grid=28, width=width, dim=dim, coreset_dim=coreset_dim, kept=kept, used=kept)
    d = min(dim, coreset_dim)
    selecting = patches * d * 4 + 2 * kept * d * 4 + patches * (8 + 8 + 4 + 4)
    assert costs.bank_memory(sizes).held > max(selecting, kept * dim * 4) / MB


def nbytes(*holders: object) -> int:
    """Bytes of all tensors that objects hold."""
    values = [value for holder in holders for value in vars(holder).values()]
    return sum(t.nbytes for v in values for t in (v if isinstance(v, list) else [v]) if isinstance(t, torch.Tensor))


def test_a_gpu_holds_the_tensors_of_a_search() -> None:
    bank = np.ones((3000, 256), np.float32)
    products = 28**2 * len(bank) * 4
    predicted = costs.search_gpu(Sizes(grid=28, dim=256, used=len(bank)))
    assert predicted == pytest.approx((nbytes(TorchSearch(bank, "cpu")) + products) / MB, rel=0.02)


def test_a_gpu_holds_the_tensors_of_a_training() -> None:
    """With room for what a step makes on the way: up to five more matrices of pairs, gradients and directions."""
    patches = torch.zeros(40_000, 512, dtype=torch.float16)
    settings = TrainingSettings.of(BASELINE.model_dump() | {"dim": 256, "projection_dim": 64, "batch": 512})
    student = [torch.zeros(shape) for shape in ((256, 512), (256,), (64, 256), (64,))]
    trainer = Trainer(student, settings, 512, patches.numpy(), patches)
    held = nbytes(trainer, trainer.optimiser)
    predicted = MB * costs.training_gpu(Sizes(train=400, grid=10, width=512, dim=256, projection_dim=64, batch=512))
    assert held < predicted < held + 5 * 512**2 * 4 + 2 * sum(value.nbytes for value in student)


def test_a_gpu_holds_the_points_of_a_coreset_and_their_differences() -> None:
    assert costs.bank_gpu(Sizes(train=10, grid=28, dim=512, coreset_dim=128)) == 2 * 10 * 28**2 * 128 * 4 / MB
