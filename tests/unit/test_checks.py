import json
from pathlib import Path

import pytest
import yaml

from reconpatch.checks import check_backbones, gpu_present
from reconpatch.cli import write_backbones
from reconpatch.config import read_config, vary
from reconpatch.errors import ReconpatchError
from reconpatch.plan import Place, Plan

DEFAULT = yaml.safe_load((Path(__file__).parents[2] / "configs/default.yaml").read_text())


def plan_of(**experiments: dict) -> Plan:
    """A plan with one run per experiment, which changes the baseline."""
    config = read_config(DEFAULT)
    plan = Plan(config)
    for name, changes in experiments.items():
        run = vary(config.baseline, changes, name)
        plan.runs[f"{name}'s run"] = run
        plan.places[name] = [Place({}, run.method, run.seed, f"{name}'s run", ())]
    return plan


@pytest.fixture
def asked(monkeypatch) -> list[tuple]:
    """The networks timm is asked about."""
    calls: list[tuple] = []

    def answer(*call: object) -> int:
        calls.append(call)
        return 8

    monkeypatch.setattr("reconpatch.backbones.check_levels", answer)
    return calls


def test_networks_are_asked_about_once(tmp_path, asked) -> None:
    cache = tmp_path / "new folder/cache.json"
    plan = plan_of(a={}, b={"dim": 64}, c={"levels": [1, 2]}, d={"backbone": "resnet18"}, e={"weights": "random"})
    network = plan.config.baseline.backbone
    check_backbones(plan, cache)
    assert asked == [(network, (2, 3)), (network, (1, 2)), ("resnet18", (2, 3)), (network, (2, 3))]
    assert len(json.loads(cache.read_text())) == 4
    check_backbones(plan, cache)
    assert len(asked) == 4
    check_backbones(plan_of(f={"backbone": "resnet34"}), cache)
    assert asked[4:] == [("resnet34", (2, 3))]


def test_another_timm_is_asked_again(tmp_path, asked, monkeypatch) -> None:
    check_backbones(plan_of(a={}), tmp_path / "cache.json")
    monkeypatch.setattr("importlib.metadata.version", lambda _: "99")
    check_backbones(plan_of(a={}), tmp_path / "cache.json")
    assert len(asked) == 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"backbone": "resnet10tt"}, "experiment b: backbone 'resnet10tt': timm has no such model .*resnet10t"),
        ({"backbone": "resnet10t", "levels": [2, 7]}, "experiment b: backbone 'resnet10t' has no level 7"),
        ({"backbone": "resnet10t", "weights": "embedded"}, "experiment b: .*embedded weights exist for tf_efficient"),
    ],
)
def test_the_experiment_is_named_and_nothing_wrong_is_remembered(changes, message, tmp_path) -> None:
    cache = tmp_path / "cache.json"
    plan = plan_of(a={"backbone": "resnet10t"}, b=changes)
    for _ in range(2):
        with pytest.raises(ReconpatchError, match=message):
            check_backbones(plan, cache)
    assert len(json.loads(cache.read_text())) == 1  # a's, which is right


def test_every_experiment_with_the_run_is_named(tmp_path) -> None:
    plan = plan_of(a={"backbone": "resnet10tt"})
    plan.places["again"] = plan.places["a"]
    with pytest.raises(ReconpatchError, match="experiment a, again: backbone 'resnet10tt'"):
        check_backbones(plan, tmp_path / "cache.json")


def test_what_is_shipped_need_not_be_asked(tmp_path, asked) -> None:
    check_backbones(plan_of(a={}, b={"levels": [1, 2]}), tmp_path / "shipped.json")
    asked.clear()
    known = {"a": {}, "b": {"levels": [1, 2]}}
    check_backbones(plan_of(**known), tmp_path / "cache.json", tmp_path / "shipped.json")
    assert not asked and not (tmp_path / "cache.json").exists()
    check_backbones(plan_of(**known, c={"backbone": "resnet18"}), tmp_path / "cache.json", tmp_path / "shipped.json")
    assert asked == [("resnet18", (2, 3))]
    check_backbones(plan_of(c={"backbone": "resnet18"}), tmp_path / "cache.json", tmp_path / "none.json")
    assert len(asked) == 1


def test_shipped_answers_are_what_timm_says(tmp_path, monkeypatch) -> None:
    """`reconpatch schemas` has been run since the default plan's networks, or timm, changed."""
    root = Path(__file__).parents[2]
    monkeypatch.chdir(root)
    write_backbones(tmp_path / "backbones.json")
    assert (tmp_path / "backbones.json").read_text() == (root / "workflow/backbones.json").read_text()


def test_gpu_is_asked_for_only_where_wanted(monkeypatch) -> None:
    monkeypatch.setattr("shutil.which", lambda _: "/usr/bin/nvidia-smi")
    assert gpu_present("auto") and gpu_present("cuda") and not gpu_present("cpu")
    monkeypatch.setattr("shutil.which", lambda _: None)
    assert not gpu_present("auto") and not gpu_present("cpu")
    with pytest.raises(ReconpatchError, match="device: cuda, but no NVIDIA driver"):
        gpu_present("cuda")
