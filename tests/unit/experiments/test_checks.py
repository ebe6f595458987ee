import json
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
import yaml

from reconpatch.cli.replication import write_backbones
from reconpatch.errors import ReconpatchError
from reconpatch.experiments.checks import check_backbones, check_targets, gpu_wanted, stray_weights
from reconpatch.experiments.config import read_config
from reconpatch.experiments.costs import Network
from reconpatch.experiments.networks import Networks
from reconpatch.experiments.plan import Plan, TableCell
from reconpatch.experiments.run import BASELINE, vary
from reconpatch.method.memory_bank import coreset_size
from reconpatch.method.training import train
from reconpatch.method.training_settings import TrainingSettings

DEFAULT = yaml.safe_load((Path(__file__).parents[3] / "configs/default.yaml").read_text())


def plan_of(**experiments: dict) -> Plan:
    """A plan with one run per experiment, which changes the baseline."""
    config = read_config(DEFAULT)
    plan = Plan(config)
    for name, changes in experiments.items():
        run = vary(BASELINE, changes, name)
        plan.runs[f"{name}'s run"] = run
        plan.cells[name] = [TableCell({}, run.method, run.seed, f"{name}'s run", ())]
    return plan


@pytest.fixture
def asked(monkeypatch) -> list[tuple]:
    """The networks timm is asked about."""
    calls: list[tuple] = []

    def answer(backbone: str, levels: tuple[int, ...], side: int, _: str) -> int:
        calls.append((backbone, levels, side))
        return side // 8

    monkeypatch.setattr("reconpatch.method.levels.check_levels", lambda *_: [{"channels": 20}, {"channels": 30}])
    monkeypatch.setattr("reconpatch.method.levels.count_parameters", lambda *_: 100)
    monkeypatch.setattr("reconpatch.method.levels.patch_grid", answer)
    return calls


def test_networks_are_asked_about_once(tmp_path, asked) -> None:
    cache = tmp_path / "new folder/cache.json"
    plan = plan_of(a={}, b={"dim": 64}, c={"levels": [1, 2]}, d={"backbone": "resnet18"}, e={"weights": "random"})
    network = plan.config.baseline.backbone
    said = check_backbones(plan, Networks(cache))
    assert asked == [(network, (2, 3), 224), (network, (1, 2), 224), ("resnet18", (2, 3), 224)]
    assert len(json.loads(cache.read_text())) == 3
    assert check_backbones(plan, Networks(cache)) == said == dict.fromkeys(plan.runs, Network(28, 100, (20, 30)))
    assert len(asked) == 3
    check_backbones(plan_of(f={"backbone": "resnet34"}, g={"crop": 160}), Networks(cache))
    assert asked[3:] == [("resnet34", (2, 3), 224), (network, (2, 3), 160)]
    check_backbones(plan, Networks(cache))  # with every size that was asked for
    assert len(asked) == 5
    whole = cache.read_text()
    for damaged in ("[" * 10**5, '{"a": [8, 100, [20]]}', whole.replace("28", "0"), whole.replace("28", '"28"')):
        cache.write_text(damaged)  # asked for again
        count = len(asked)
        check_backbones(plan, Networks(cache))
        assert len(asked) == count + 3


def test_the_experiment_is_named_and_nothing_wrong_is_remembered(tmp_path) -> None:
    cache = tmp_path / "cache.json"
    plan = plan_of(a={"backbone": "resnet10t"}, b={"backbone": "resnet10t", "levels": [2, 7]})
    for _ in range(2):
        with pytest.raises(ReconpatchError, match="experiment b: backbone 'resnet10t' has no level 7"):
            check_backbones(plan, Networks(cache))
    assert len(json.loads(cache.read_text())) == 1  # a's, which is right


@pytest.mark.parametrize("n", [2, 5, 31, 32, 63, 64, 65, 100])
@pytest.mark.parametrize(("batch", "k"), [(8, 4), (64, 32)])
@pytest.mark.parametrize("kind", ["all", "image"])
def test_training_and_bank_refuse_exactly_what_is_refused_before(n, batch, k, kind) -> None:
    """Against the code that runs: a training of one epoch and the size of a coreset."""
    run = vary(BASELINE, {"batch": batch, "k": k, "coreset": 1, "sigma": 1, "batches": kind}, "")
    images = [n - n // 3, n // 3]
    settings = {"learning_rate": 1e-4, "weight_decay": 0.0, "alpha": 0.5, "sigma": 1.0, "margin": 1.0, "gamma": 0.9}
    patches = np.random.default_rng(0).standard_normal((n, 4)).astype(np.float16)
    settings |= {"dim": 2, "projection_dim": 2, "epochs": 1, "batch": batch, "k": k}
    try:
        train(patches, TrainingSettings.of(BASELINE.model_dump() | settings | {"batches": kind}), images=images)
        refused = False
    except ReconpatchError:
        refused = True
    assert (run.problem_with(images) is not None) == refused
    for ratio in (1e-4, 0.01, 1 / n, 0.3, 1.0):
        one = run.model_copy(update={"coreset": ratio, "neighbours": 1, "method": "patchcore"})
        more = one.model_copy(update={"neighbours": coreset_size(n, ratio) + 1})
        assert (one.problem_with(images) is None) == (n * ratio >= 1) and more.problem_with(images) is not None


def test_what_is_shipped_need_not_be_asked(tmp_path, asked) -> None:
    check_backbones(plan_of(a={}, b={"levels": [1, 2]}), Networks(tmp_path / "shipped.json"))
    asked.clear()
    known = {"a": {}, "b": {"levels": [1, 2]}}
    check_backbones(plan_of(**known), Networks(tmp_path / "cache.json", tmp_path / "shipped.json"))
    assert not asked and not (tmp_path / "cache.json").exists()
    more = plan_of(**known, c={"backbone": "resnet18"})
    check_backbones(more, Networks(tmp_path / "cache.json", tmp_path / "shipped.json"))
    assert asked == [("resnet18", (2, 3), 224)]
    check_backbones(plan_of(c={"backbone": "resnet18"}), Networks(tmp_path / "cache.json", tmp_path / "none.json"))
    assert len(asked) == 1


def test_gpu_is_asked_for_only_where_wanted(monkeypatch) -> None:
    monkeypatch.setattr("shutil.which", lambda _: "/usr/bin/nvidia-smi")
    assert gpu_wanted("auto") and gpu_wanted("cuda") and not gpu_wanted("cpu")
    monkeypatch.setattr("shutil.which", lambda _: None)
    assert not gpu_wanted("auto") and not gpu_wanted("cpu")
    with pytest.raises(ReconpatchError, match="device: cuda, but no NVIDIA driver"):
        gpu_wanted("cuda")
    assert gpu_wanted("cuda", elsewhere=True) and not gpu_wanted("auto", elsewhere=True)  # of a cluster, asked or not


def test_features_of_other_weights_than_pinned_are_named(tmp_path) -> None:
    plan = plan_of(a={"backbone": "resnet18", "weights": "file"}, b={"backbone": "resnet34", "weights": "file"})
    plan.config = read_config(DEFAULT | {"weight_digests": {"resnet18": "a" * 64}})
    for name, run in plan.runs.items():
        plan.stages[name.split("'")[0]] = run
    for stage, used in (("a", "b" * 64), ("b", "c" * 64)):
        folder = tmp_path / "features/mine/nut" / stage
        folder.mkdir(parents=True)
        (folder / "features.json").write_text(json.dumps({"weights": {"sha256": used}}))
    (said,) = stray_weights(plan, tmp_path)
    plan.config = read_config(DEFAULT | {"weight_digests": {"resnet18": ["a" * 64, "b" * 64]}})
    assert stray_weights(plan, tmp_path) == []
    plan.config = read_config(DEFAULT | {"weight_digests": {"resnet18": "a" * 64}})
    assert said.startswith(f"{tmp_path}/features/mine/nut/a: made with weights bbbb")
    assert "weight_digests.resnet18 pins aaaa" in said and "remove this folder" in said
    (tmp_path / "features/mine/nut/a/features.json").write_text(json.dumps({"weights": {"sha256": "a" * 64}}))
    assert stray_weights(plan, tmp_path) == []
    for damaged in ('{"weights": {"sha', "[]", '{"weights": null}', "[" * 10**5):
        (tmp_path / "features/mine/nut/a/features.json").write_text(damaged)
        assert len(stray_weights(plan, tmp_path)) == 1


@pytest.mark.parametrize(
    ("changes", "millions"),
    [
        ({"backbone": "vit_tiny_patch16_224", "levels": [4, 6]}, 3.3),  # 7 blocks of 0.445, and what comes before
        ({"backbone": "convnext_tiny", "levels": [1, 2]}, 12.35),
        ({"backbone": "swin_tiny_patch4_window7_224", "levels": [1, 2]}, None),
        ({"backbone": "vit_small_patch16_dinov3", "levels": [3, 5], "crop": 160}, None),
        ({"backbone": "inception_v3", "levels": [2, 3], "crop": 200}, None),  # which loses rows at the edges
        ({"backbone": "wide_resnet50_2", "levels": [2, 3], "crop": 225}, 24.86),
    ],
)
def test_what_is_said_of_networks_is_what_an_image_meets(changes, millions) -> None:
    """Patches and channels of an image that passes, and the parameters it meets."""
    plan = plan_of(a={"weights": "random", "resize": 256, "crop": 224} | changes)
    (run,), (said,) = plan.runs.values(), check_backbones(plan, Networks()).values()
    net = timm.create_model(run.backbone, features_only=True, feature_cls="getter", out_indices=run.levels).eval()
    with torch.inference_mode():
        passed = net(torch.zeros(1, 3, run.crop, run.crop))
    assert passed[0].shape[2:] == (said.grid, said.grid)
    assert said.channels == tuple(level.shape[1] for level in passed)
    assert millions is None or said.parameters / 1e6 == pytest.approx(millions, 0.05)


@pytest.mark.parametrize(
    ("changes", "size"),
    [
        ({"backbone": "vit_tiny_patch16_224", "levels": [5, 8], "crop": 256}, 224),
        ({"backbone": "swin_tiny_patch4_window7_224", "levels": [1, 2], "crop": 200}, 224),
        ({"backbone": "vit_small_patch14_dinov2", "levels": [5, 8], "crop": 224}, 518),
        ({"backbone": "vit_small_patch16_dinov3", "levels": [5, 8], "crop": 230}, 224),
        ({"backbone": "inception_v3", "levels": [2, 3], "crop": 20}, 299),
    ],
)
def test_a_size_that_a_network_does_not_take_is_said_before_any_work(changes, size) -> None:
    plan = plan_of(a={"weights": "random"} | changes)
    with pytest.raises(ReconpatchError, match=f"takes no images of {changes['crop']} px; set crop to .*{size}"):
        check_backbones(plan, Networks())
    right = plan_of(a={"weights": "random", "resize": size} | changes | {"crop": size})
    assert check_backbones(right, Networks())


def test_shipped_answers_are_what_timm_says(tmp_path, monkeypatch) -> None:
    """`reconpatch schemas` has been run since the default plan's networks, or timm, changed."""
    root = Path(__file__).parents[3]
    monkeypatch.chdir(root)
    write_backbones(tmp_path / "backbones.json")
    assert (tmp_path / "backbones.json").read_text() == (root / "workflow/backbones.json").read_text()


def test_a_mistyped_target_names_the_nearest() -> None:
    """Files are Snakemake's own business."""
    rules = ["all", "table_dimension", "table_mvtec", "score_run"]
    check_targets(["all", "table_mvtec", "results/tables/table_x.md", "plan.csv"], rules)
    with pytest.raises(ReconpatchError, match=r"table_dimensoin.*table_dimension"):
        check_targets(["all", "table_dimensoin"], rules)
    with pytest.raises(ReconpatchError, match=r"nonsense.*table_dimension, table_mvtec"):
        check_targets(["nonsense"], rules)
