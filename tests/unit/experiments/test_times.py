import itertools
import math
from pathlib import Path

import pytest
import timm
import torch
from hypothesis import given
from hypothesis import strategies as st

from reconpatch.experiments import needs, times
from reconpatch.experiments.times import Time, minutes

sizes = st.integers(1, 10**5)
widths = st.integers(8, 1024)


@pytest.mark.parametrize("name", times.NETWORKS)
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
    adds, rate = times.NETWORKS[name]
    assert counted[0] / 224**2 == pytest.approx(adds, rel=1e-3)
    parameters = sum(p.numel() for p in net.parameters())
    assert times.network(name, parameters, 224) == pytest.approx(2 * counted[0] / rate, rel=1e-3)
    assert times.network(f"{name}.tv_in1k", parameters, 224) == times.network(name, parameters, 224)
    assert times.network("another", parameters, 224) > 0.9 * times.network(name, parameters, 224)


def test_products_of_a_training_step_counted_by_loops() -> None:
    """Every multiply-add of a step, one at a time: W = g f and back, z = p W and back, distances and their gradient."""
    n, c, d, p = 3, 5, 4, 2
    adds = 0
    for _ in ("student", "teacher"):
        adds += sum(1 for _ in range(p) for _ in range(d) for _ in range(c))  # g f
        adds += sum(1 for _ in range(n) for _ in range(c) for _ in range(p))  # p W
        adds += sum(1 for _ in range(n) for _ in range(n) for _ in range(p))  # z z^T
    adds += sum(1 for _ in range(n) for _ in range(n) for _ in range(p))  # S z
    adds += sum(1 for _ in range(p) for _ in range(n) for _ in range(c))  # dz^T p
    adds += 2 * sum(1 for _ in range(p) for _ in range(d) for _ in range(c))  # g^T dW, dW f^T
    passes = n**2 * times.PAIR + (c + p) * d * times.PARAMETER + n * (c + 8 * p) * times.VALUE
    time = times.training(n, c, d, p, batch=n, epochs=7)
    assert time.work == pytest.approx(7 * (2 * adds / times.STEPS + passes))
    assert time.dense == time.work


@given(sizes, st.integers(1, 4096), st.integers(1, 100))
def test_an_epoch_is_as_many_steps_as_training_makes(patches, batch, epochs) -> None:
    steps = max(1, round(patches / batch))
    whole, step = (
        times.training(n, 64, 32, 16, b, e).work for n, b, e in ((patches, batch, epochs), (patches, patches, 1))
    )
    assert times.training(patches, 64, 32, 16, batch, 2 * epochs).work == pytest.approx(2 * whole)
    if steps == 1:
        assert whole == pytest.approx(epochs * step)


def test_a_search_compares_every_patch_with_every_row() -> None:
    rest = times.represented(7, 6, 5, learnt=False)
    adds = sum(1 for _ in range(7) for _ in range(4) for _ in range(5))
    assert times.search(7, 6, 5, 4, 1, learnt=False) - rest == pytest.approx(2 * adds / times.PRODUCTS)
    learnt = sum(1 for _ in range(7) for _ in range(6) for _ in range(5))
    assert times.represented(7, 6, 5, learnt=True) - 7 * 6 * 2 * times.READ == pytest.approx(
        2 * learnt / times.PRODUCTS
    )


@given(sizes, widths, widths, st.floats(0.001, 0.5), st.booleans())
def test_more_of_anything_takes_longer(patches, width, dim, ratio, learnt) -> None:
    kept = max(1, int(patches * ratio))

    def each(n, w, d, m):
        yield times.bank(n, w, d, 128, m, learnt)
        yield times.score(n, w, d, m, 1, learnt, 10, 224)
        yield times.training_scores(n, w, d, m, 1, learnt)
        yield times.training(n, w, d, 128, n, 3)
        yield times.extraction("resnet18", n, 224, 28, w, n, 10**6)

    for changed in ((2 * patches, width, dim, kept), (patches, 2 * width, dim, kept), (patches, width, dim, 2 * kept)):
        for more, less in zip(each(*changed), each(patches, width, dim, kept), strict=True):
            assert more.work >= less.work and 0 <= more.dense <= more.work and more.start == less.start


def test_more_images_pixels_and_results() -> None:
    for more, less in (
        (times.index(20, 10**6), times.index(10, 10**6)),
        (times.masks(10, 224, 10**6), times.masks(10, 224, 10**5)),
        (times.ensemble(10, 480, 3), times.ensemble(10, 224, 3)),
        (times.ensemble(10, 224, 3), times.ensemble(10, 224, 2)),
        (times.table(20, 100), times.table(10, 100)),
        (times.pictures("draw_gallery", 20, 224), times.pictures("draw_gallery", 10, 224)),
        (times.extraction("resnet18", 1, 480, 28, 64, 5, 1), times.extraction("resnet18", 1, 224, 28, 64, 5, 1)),
        (times.training_scores(9, 8, 8, 3, 2, False), times.training_scores(9, 8, 8, 3, 1, False)),
    ):
        assert more.work > less.work


def test_threads_share_the_work_alone() -> None:
    assert Time(3, 8).wall(4) == 5 and Time(3, 8).wall() == Time(3, 8).cpu == 11


@given(st.floats(0, 10**6))
def test_limits_leave_room(seconds) -> None:
    limit = minutes(seconds)
    assert limit * 60 >= times.SAFETY * seconds and limit >= times.LEAST_MINUTES
    assert limit == times.LEAST_MINUTES or limit - 1 < times.SAFETY * seconds / 60
    assert limit == math.ceil(limit)


def test_every_rule_of_the_workflow_has_a_memory_and_a_runtime() -> None:
    root = Path(__file__).parents[3] / "workflow"
    for file in (root / "Snakefile", *(root / "rules").glob("*.smk")):
        lines = file.read_text().splitlines()
        for line, following in itertools.pairwise(lines):
            if "mem_mb=memory(" in line:
                assert following == line.replace("mem_mb=memory", "runtime=runtime")
    assert times.SMALL.keys() == needs.SMALL.keys()
    assert all(times.small(rule) == Time(seconds, 0) for rule, seconds in times.SMALL.items())
    assert times.small("score_run") is None
