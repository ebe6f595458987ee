import json
from pathlib import Path

import pytest
import yaml
from safetensors.torch import save_file

from reconpatch.backbones import load_backbone
from reconpatch.cli import check, check_weights, load_plan, merge, show
from reconpatch.config import read_config
from reconpatch.errors import ReconpatchError
from reconpatch.plan import check_backbones, gpu_present, make_plan, run_name, stage_name

ROOT = Path(__file__).parents[2]


@pytest.fixture
def content(tmp_path, mvtec, monkeypatch) -> dict:
    """Configuration with one experiment on a drawn data set."""
    monkeypatch.chdir(ROOT)
    base = yaml.safe_load((ROOT / "configs/default.yaml").read_text())
    experiment = {
        "title": "Nuts",
        "datasets": {"mine": "all"},
        "axes": {"method": ["patchcore", "reconpatch"], "coreset": [0.1, 0.01], "dim": [64, 512]},
        "figures": {"dim": 64, "coreset": 0.1},
    }
    (tmp_path / "e.yaml").write_text(yaml.safe_dump(experiment))
    datasets = base["datasets"] | {"mine": {"layout": "mvtec_ad", "root": str(mvtec)}}
    return base | {"datasets": datasets, "experiments": {"nuts": str(tmp_path / "e.yaml")}, "seeds": [0, 1]}


def test_runs_are_every_combination_once(content) -> None:
    plan = make_plan(read_config(content))
    assert plan.targets["nuts"] == [("mine", "nut")]
    assert len(plan.members["nuts"]) == len(set(plan.members["nuts"])) == 2 * 2 * 2 * 2
    assert len({stage_name(r, "features") for r in plan.runs.values()}) == 1
    assert len({stage_name(r, "bank") for r in plan.runs.values()}) == 8  # method x dim x seed: ratios share a bank
    assert set(plan.ratios.values()) == {0.1}
    assert sum(name.startswith("dim=") for name in plan.stages) == 4  # trainings: dim x seed
    assert len(list(plan.rows())) == 16


def test_names_tell_the_difference_from_the_baseline(content) -> None:
    config = read_config(content)
    plan = make_plan(config)
    assert run_name(config.baseline, config.baseline).startswith("base-")
    labels = {name.rsplit("-", 1)[0] for name in plan.members["nuts"]}
    assert {"base", "method=patchcore", "dim=64,coreset=0.1", "seed=1,coreset=0.1"} <= labels
    assert all(len(name) < 80 for name in plan.runs)


def test_drawn_runs_are_the_chosen_ones_of_the_first_seed(content) -> None:
    plan = make_plan(read_config(content))
    drawn = [plan.runs[name] for name in plan.drawn("nuts")]
    assert [(r.method, r.dim, r.coreset, r.seed) for r in drawn] == [
        ("patchcore", 64, 0.1, 0),
        ("reconpatch", 64, 0.1, 0),
    ]


def test_data_not_at_hand_are_named_not_fatal(content) -> None:
    content["datasets"]["mine"]["root"] = None
    plan = make_plan(read_config(content))
    assert plan.absent == {"nuts": "data set mine is not at hand: give its folder as datasets.mine.root"}
    assert not plan.runs


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("datasets", "mine", "root"), "/nowhere/at/all", "data root /nowhere/at/all: no such folder"),
        (("datasets", "mine", "categories"), ["bolt"], "category 'bolt' is not in data set mine; it has nut"),
        (("experiments", "nuts"), "configs/absent.yaml", "configs/absent.yaml: no such file"),
        (("baseline", "weights"), "file", "weight_files has no entry for backbone 'wide_resnet50_2.tv_in1k'"),
    ],
)
def test_mistakes_stop_the_plan(path, value, message, content) -> None:
    part = content
    for key in path[:-1]:
        part = part[key]
    part[path[-1]] = value
    with pytest.raises(ReconpatchError, match=message):
        make_plan(read_config(content))


def test_mistakes_in_an_experiment_name_it(content, tmp_path) -> None:
    for change, message in (
        ({"axes": {"ratio": [1]}}, "experiment nuts: 'ratio' is no parameter of a run"),
        ({"axes": {"dim": [0]}}, "experiment nuts: dim = 0"),
        ({"set": {"dim": 8}, "axes": {"dim": [8]}}, "'dim' is both set and an axis"),
        ({"datasets": {"yours": "all"}}, "data set 'yours' is not under datasets"),
        ({"axes": {"dim": [8]}, "figures": {"dmi": 8}}, "figures: 'dmi' is no axis"),
        ({"axes": {"dim": [8]}, "figures": {"dim": 9}}, "figures: dim = 9 is not among its axis"),
    ):
        (tmp_path / "e.yaml").write_text(yaml.safe_dump({"title": "x", "datasets": {"mine": "all"}} | change))
        with pytest.raises(ReconpatchError, match=message):
            make_plan(read_config(content))


def test_backbones_are_checked_once(content, tmp_path, monkeypatch) -> None:
    plan, cache = make_plan(read_config(content)), tmp_path / "cache.json"
    check_backbones(plan, cache)
    assert len(json.loads(cache.read_text())) == 1
    monkeypatch.setattr("reconpatch.backbones.check_levels", lambda *_: pytest.fail("asked again"))
    check_backbones(plan, cache)


def test_differences_from_the_paper_are_listed(content) -> None:
    content["baseline"]["epochs"] = 3
    assert make_plan(read_config(content)).differences("nuts") == ["epochs = 3 (paper 120)"]


def test_gpu_is_asked_for_only_where_wanted(monkeypatch) -> None:
    monkeypatch.setattr("shutil.which", lambda _: "/usr/bin/nvidia-smi")
    assert gpu_present("auto") and gpu_present("cuda") and not gpu_present("cpu")
    monkeypatch.setattr("shutil.which", lambda _: None)
    assert not gpu_present("auto")
    with pytest.raises(ReconpatchError, match="device: cuda, but no NVIDIA driver"):
        gpu_present("cuda")


def test_check_opens_weight_files(content, tmp_path, capsys) -> None:
    """A file that belongs to another network is found before anything runs."""
    state = {
        k.removeprefix("model."): v.contiguous()
        for k, v in load_backbone("resnet10t", [2], "random").net.state_dict().items()
    }
    save_file(state, tmp_path / "w.safetensors")
    content["baseline"] |= {"backbone": "resnet18", "weights": "file", "levels": [2]}
    content["weight_files"] = {"resnet18": str(tmp_path / "w.safetensors")}
    assert "weights of resnet18" in check_weights(make_plan(read_config(content)))[0]
    content["baseline"]["backbone"] = "resnet10t"
    content["weight_files"] = {"resnet10t": str(tmp_path / "w.safetensors")}
    assert check_weights(make_plan(read_config(content))) == []
    assert "resnet10t: file weights fit" in capsys.readouterr().out


def test_merge_is_deep() -> None:
    assert merge({"a": {"b": 1, "c": 2}, "d": [1]}, {"a": {"b": 3}, "d": [2]}) == {"a": {"b": 3, "c": 2}, "d": [2]}


def test_plan_and_check_print_what_a_user_needs(content, tmp_path, capsys, monkeypatch, damage, mvtec) -> None:
    overlay = tmp_path / "overlay.yaml"
    overlay.write_text(yaml.safe_dump({k: content[k] for k in ("datasets", "seeds")} | {"experiments": {}}))
    show(load_plan([overlay]))
    assert "table_btad: not run, data set btad is not at hand" in capsys.readouterr().out
    plan = make_plan(read_config(content))
    monkeypatch.setattr("reconpatch.cli.check_backbones", lambda *_: None)
    monkeypatch.setattr("reconpatch.cli.check_weights", lambda _: [])
    assert check(plan) == []
    assert "4 training, 2 normal and 5 anomalous test images, 5 masks" in capsys.readouterr().out
    damage(mvtec / "nut/train/good/000.png")
    assert "train/good/000.png" in check(plan)[0]


def test_the_papers_settings_stand_apart_from_the_baseline() -> None:
    """The file that deviations are measured against holds what configs/default.yaml ships with."""
    shipped = yaml.safe_load((ROOT / "configs/default.yaml").read_text())["baseline"]
    paper = yaml.safe_load((ROOT / "configs/paper/baseline.yaml").read_text())
    assert paper == {k: v for k, v in shipped.items() if k not in ("method", "seed")}


def test_table_7_is_compared_with_its_own_settings(content, btad) -> None:
    content["datasets"]["btad"]["root"] = str(btad)
    content["experiments"] = {"table_btad": "configs/ablations/table_btad.yaml"}
    assert make_plan(read_config(content)).differences("table_btad") == []
