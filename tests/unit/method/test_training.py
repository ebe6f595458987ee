import threading
from functools import partial

import numpy as np
import pytest
import timm.optim
import torch
import torch.nn.functional as F
from oracles import relaxed_contrastive_loss

from reconpatch.errors import ReconpatchError
from reconpatch.method import fused_training
from reconpatch.method.cuda_graph import captured
from reconpatch.method.feature_files import read_rows
from reconpatch.method.fused_training import FusedTrainer
from reconpatch.method.initialisation import first_layer
from reconpatch.method.loss import similarity
from reconpatch.method.training import Trainer, gradients, linear, on_device, project, train
from reconpatch.method.training_settings import TrainingSettings
from reconpatch.rng import named_rng

SETTINGS = {
    **{"dim": 8, "projection_dim": 4, "epochs": 6, "batch": 64, "learning_rate": 1e-2, "weight_decay": 1e-2},
    **{"alpha": 0.5, "k": 5, "sigma": 1.0, "margin": 1.0, "gamma": 0.9, "teacher_norm": False, "seed": 0},
    **{"init": "uniform", "bias": True, "sigma_unit": "one", "batches": "all"},
}
IMAGES = (100, 60, 140)  # patches of each image


@pytest.fixture
def clustered(rng) -> np.ndarray:
    centres = rng.standard_normal((6, 12)) * 3
    return (centres[rng.integers(6, size=300)] + 0.1 * rng.standard_normal((300, 12))).astype(np.float16)


def layer_by_layer(layers, p):
    return F.linear(F.linear(p, *layers[:2]), *layers[2:])


def fit(patches, seed=0, checkpoints=(), threads=1, **changes):
    settings = TrainingSettings(**(SETTINGS | changes | {"seed": seed}))
    images = IMAGES if settings.batches == "image" else ()
    return train(patches, settings, images=images, checkpoints=checkpoints, threads=threads)


def batches_of(rng, kind):
    """The batches of an epoch."""
    if kind == "all":
        return np.array_split(rng.permutation(300), round(300 / 64))
    batches = []
    for image in rng.permutation(3):
        rows = sum(IMAGES[:image]) + rng.permutation(IMAGES[image])
        batches += np.array_split(rows, {100: 2, 60: 1, 140: 2}[IMAGES[image]])
    return batches


def median_of_different(z):
    """The lower of the two in the middle."""
    squared = ((z[:, None] - z) ** 2).sum(-1)
    return float(squared[~np.eye(len(z), dtype=bool)].median())


@pytest.mark.parametrize(
    "choice",
    [
        {},
        {"init": "pca", "bias": False},
        {"sigma_unit": "median"},
        {"batches": "image"},
        {"teacher_norm": True, "bias": False},
        {"teacher_norm": True, "learning_rate": 1e-6},  # biases, which rounding moves, matter here
    ],
)
def test_training_follows_the_equations_step_by_step(choice, clustered) -> None:
    """Epochs against autograd on the plain loss and unfused layers, with plain torch for everything else.

    f is kept after the first and the last: the rate of the second follows from the closed form of the cosine. Biases
    are not compared: a shift of all patches leaves the loss as it is, so their gradient is rounding. Losses agree to
    1e-6 but where rounding decides which of two patches is the k-th neighbour: one such changes a mean by 4e-4.
    """
    f_got, history = fit(clustered, epochs=2, checkpoints=[1], **choice)
    bias, kind, rate = choice.get("bias", True), choice.get("batches", "all"), choice.get("learning_rate", 1e-2)
    assert set(f_got) == {"1.weight", "1.bias", "2.weight", "2.bias"}
    rng = named_rng(0, "training")
    student = [p.requires_grad_(n % 2 == 0 or bias) for n, p in enumerate(drawn_layers(rng, clustered, choice))]
    teacher = [p.detach().clone() for p in student]
    optimiser = timm.optim.AdamP([p for p in student if p.requires_grad], lr=rate, weight_decay=1e-2, nesterov=True)
    for epoch in (1, 2):
        for group in optimiser.param_groups:
            group["lr"] = rate * (1 + np.cos(np.pi * (epoch - 1) / 2)) / 2
        losses = []
        for chosen in batches_of(rng, kind):
            p = torch.from_numpy(clustered[np.sort(chosen)]).float()
            z = layer_by_layer(teacher, p)
            z = z / z.norm(dim=1, keepdim=True) if "teacher_norm" in choice else z
            weights = similarity(z, median_of_different(z) if "sigma_unit" in choice else 1.0, 5, 0.5)[0]
            loss = relaxed_contrastive_loss(layer_by_layer(student, p), weights, 1.0)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            for old, new in zip(teacher, student, strict=True):
                old.copy_(0.9 * old + 0.1 * new.detach())
            losses.append(float(loss.detach()))
        assert history[epoch - 1].loss == pytest.approx(np.mean(losses), rel=1e-3)
        torch.testing.assert_close(f_got[f"{epoch}.weight"], student[0].detach(), atol=1e-4, rtol=1e-3)
        assert bool(f_got[f"{epoch}.bias"].any()) == bias


def drawn_layers(rng, patches, choice):
    """Weight and bias of f and of g."""
    f = first_layer(rng, patches, 8, choice.get("init", "uniform"), choice.get("bias", True))
    return [*map(torch.from_numpy, f), *linear(rng, 8, 4, "cpu", choice.get("bias", True))]


def test_a_bias_changes_nothing_but_rounding(clustered) -> None:
    """No distance sees a shift of all patches, so the weights learn the same with it and without it."""
    with_bias, without = (fit(clustered, epochs=2, bias=bias)[0]["2.weight"] for bias in (True, False))
    torch.testing.assert_close(with_bias, without, atol=1e-3, rtol=1e-3)


def test_keeping_epochs_changes_nothing(clustered) -> None:
    """Whatever else is kept, f after an epoch is the same to the bit, and after the last it is always kept."""
    every = fit(clustered, checkpoints=range(1, 7))[0]
    assert set(every) == {f"{epoch}.{name}" for epoch in range(1, 7) for name in ("weight", "bias")}
    for checkpoints, epochs in (([], {6}), ([6], {6}), ([2, 5], {2, 5, 6}), ([4, 99], {4, 6})):
        some = fit(clustered, checkpoints=checkpoints)[0]
        assert set(some) == {f"{epoch}.{name}" for epoch in epochs for name in ("weight", "bias")}
        assert all(torch.equal(value, every[key]) for key, value in some.items())


def test_projection_is_g_of_f_and_its_gradients_are_autograds() -> None:
    rng = named_rng(0, "x")
    layers = [p.requires_grad_() for shape in ((12, 8), (8, 4)) for p in linear(rng, *shape, "cpu")]
    p, dz = (torch.from_numpy(rng.standard_normal((5, width))).float() for width in (12, 4))
    z = layer_by_layer(layers, p)
    torch.testing.assert_close(project(layers, p), z)
    expected = torch.autograd.grad(z, layers, dz)
    torch.testing.assert_close(gradients([v.detach() for v in layers], p, dz), list(expected))


def test_layers_are_drawn_as_torch_draws_them() -> None:
    weight, bias = linear(named_rng(0, "x"), 16, 500, "cpu")
    assert weight.shape == (500, 16) and bias.shape == (500,) and weight.dtype == bias.dtype == torch.float32
    for values in (weight, bias):  # uniform in +-1/4
        assert 0.24 < float(values.abs().max()) <= 0.25 and float(values.var()) == pytest.approx(0.25 / 12, rel=0.1)


@pytest.mark.parametrize("resident", [0, 2**40])
def test_a_memory_map_trains_to_the_same_bytes(clustered, tmp_path, monkeypatch, resident) -> None:
    np.save(tmp_path / "p.npy", clustered)
    monkeypatch.setattr(fused_training, "read_rows", partial(read_rows, resident=resident))
    mapped = fit(np.load(tmp_path / "p.npy", mmap_mode="r"), epochs=2)[0]
    assert torch.equal(mapped["2.weight"], fit(clustered, epochs=2)[0]["2.weight"])


def test_loss_falls_with_a_fixed_teacher(clustered) -> None:
    """gamma = 1 keeps the teacher, so the target stands still and the loss must fall."""
    _, history = fit(clustered, gamma=1.0, epochs=20)
    assert history[-1].loss < 0.85 * history[0].loss


def test_same_seed_same_bytes(clustered) -> None:
    a, b, c = fit(clustered)[0], fit(clustered)[0], fit(clustered, seed=1)[0]
    assert torch.equal(a["6.weight"], b["6.weight"]) and torch.equal(a["6.bias"], b["6.bias"])
    assert not torch.equal(a["6.weight"], c["6.weight"])
    assert a["6.weight"].shape == (8, 12) and a["6.bias"].shape == (8,)


@pytest.mark.parametrize("choice", [{}, {"init": "pca", "sigma_unit": "median"}, {"teacher_norm": True}])
def test_the_number_of_threads_changes_no_byte(choice, rng) -> None:
    """Blocks of 256 rows, of which the last is smaller, and columns; BLAS has as many threads as it likes outside."""
    patches, sizes = rng.standard_normal((900, 300)).astype(np.float16), {"dim": 280, "projection_dim": 9}
    alone, *more = [fit(patches, threads=threads, batch=450, epochs=2, **sizes, **choice) for threads in (1, 2, 3)]
    other: list[object] = []
    thread = threading.Thread(target=lambda: other.append(fit(patches, batch=450, epochs=2, **sizes, **choice)))
    thread.start()
    thread.join()
    for f, history in [*more, *other]:
        assert history == alone[1] and all(torch.equal(f[key], value) for key, value in alone[0].items())


def test_global_random_state_is_left_alone_and_unused(clustered) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    before = np.random.get_state()[1].copy()
    first = fit(clustered, epochs=1)[0]["1.weight"]
    assert torch.equal(torch.rand(3), expected)
    assert np.array_equal(before, np.random.get_state()[1])
    assert torch.equal(first, fit(clustered, epochs=1)[0]["1.weight"])


def test_teacher_norm_bounds_the_pairwise_similarity(clustered) -> None:
    """Unit vectors are at most 2 apart, so eq. 1 cannot fall below exp(-4 / sigma)."""
    history = fit(clustered * 50, epochs=1, teacher_norm=True)[1]
    assert history[0].pairwise > np.exp(-4)
    assert fit(clustered * 50, epochs=1)[1][0].pairwise < 0.3


def test_too_few_patches_and_divergence_are_explained(clustered) -> None:
    with pytest.raises(ReconpatchError, match="4 training patches in batches of 64 cannot have 5 neighbours"):
        fit(clustered[:4])
    with pytest.raises(ReconpatchError, match=r"batches of 64 of one image cannot have 51 .* set batches: all"):
        fit(clustered, k=51, batches="image")  # an image of 100 patches makes two batches of 50
    assert len(fit(clustered, k=50, epochs=1, batches="image")[1]) == 1
    with pytest.raises(ReconpatchError, match=r"diverged in epoch 1.*learning_rate"):
        fit(np.full_like(clustered, np.nan))


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.filterwarnings("error")
def test_a_rate_that_is_far_too_large_is_explained(threads, rng) -> None:
    patches = rng.standard_normal((600, 20)).astype(np.float16)
    with pytest.raises(ReconpatchError, match=r"diverged in epoch \d.*learning_rate"):
        fit(patches, threads=threads, batch=300, learning_rate=1e20)


def drawn():
    """Weight and bias of f and of g."""
    rng = named_rng(0, "training")
    return [*linear(rng, 12, 8, "cpu"), *linear(rng, 8, 4, "cpu")]


def epochs_of(trainer):
    """Three epochs in batches of 75 and 74 -> the means of every epoch."""
    means, rng = [], np.random.default_rng(4)
    for epoch in range(3):
        order = [np.sort(part) for part in np.array_split(rng.permutation(299), 4)]
        means.append(trainer.epoch(order, 1e-2 / (epoch + 1)))
    return means


SMALL = TrainingSettings(**(SETTINGS | {"k": 3}))


def trained(patches, rows=None, capture=None, note=pytest.fail):
    """As on a GPU -> the trainer, and the means of every epoch."""
    trainer = Trainer(drawn(), SMALL, 75, patches, rows, capture, note)
    return trainer, epochs_of(trainer)


def test_an_accelerator_takes_the_steps_of_the_processor(clustered) -> None:
    """With rows on the device, and with each batch sent there; on the processor by rows.

    Rounding may decide which of two patches is the k-th neighbour: one such changes a mean by 4e-4.
    """
    student = drawn()
    fused = FusedTrainer(student, SMALL, 75, clustered)
    expected = epochs_of(fused)
    assert len({mean for means in expected for mean in means}) == 9
    for on_the_device in (None, torch.from_numpy(clustered)):
        trainer, means = trained(clustered, on_the_device)
        np.testing.assert_allclose(means, expected, rtol=1e-3)
        for got, wanted in zip(trainer.student[::2], student[::2], strict=True):
            torch.testing.assert_close(got, wanted, atol=1e-4, rtol=1e-3)
        for got, parameter in zip(trainer.teacher[::2], fused.parameters[::2], strict=True):
            torch.testing.assert_close(got, torch.from_numpy(parameter.teacher), atol=1e-4, rtol=1e-3)


def test_a_recorded_step_is_used_for_each_size_of_batches(clustered) -> None:
    calls = []

    def recorder(step):
        return lambda: (calls.append(step), step())

    capture = partial(captured, recorder=recorder)
    recorded, means = trained(clustered, torch.from_numpy(clustered), capture)
    plain, expected = trained(clustered, torch.from_numpy(clustered))
    assert means == expected and all(map(torch.equal, recorded.student, plain.student))
    assert recorded.steps.keys() == {75, 74} and len(calls) == 12 + 2  # each is tried once


def test_a_refused_recording_is_noted_once_and_the_step_taken(clustered) -> None:
    notes = []
    capture = partial(captured, recorder=lambda step: lambda: None)
    refused, means = trained(clustered, torch.from_numpy(clustered), capture, notes.append)
    assert means == trained(clustered, torch.from_numpy(clustered))[1]
    assert len(notes) == 1 and "goes on without one" in notes[0] and refused.steps.keys() == {75, 74}


def test_patches_go_to_a_device_that_has_room_for_them(clustered, tmp_path) -> None:
    np.save(tmp_path / "p.npy", clustered)
    mapped = np.load(tmp_path / "p.npy", mmap_mode="r")
    assert on_device(mapped, "cpu") is None and on_device(mapped, "meta", free=clustered.nbytes) is None
    assert on_device(mapped, "meta", free=2 * clustered.nbytes).shape == clustered.shape
