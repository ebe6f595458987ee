import itertools
import shutil
from pathlib import Path

import pytest
import timm
import yaml
from safetensors.torch import save_file
from snakemake.target_jobs import parse_target_jobs_cli_args
from snakemake_interface_executor_plugins.utils import TargetSpec, encode_target_jobs_cli_args

from reconpatch.cli.checked import check_weights
from reconpatch.errors import ReconpatchError
from reconpatch.experiments.config import read_config
from reconpatch.experiments.plan import Plan, load_plan, make_plan, stage_name
from reconpatch.experiments.run import of_training

ROOT = Path(__file__).parents[3]


@pytest.fixture
def content(tmp_path, mvtec, monkeypatch) -> dict:
    """Configuration with one experiment on a drawn data set."""
    monkeypatch.chdir(ROOT)
    base = yaml.safe_load((ROOT / "configs/default.yaml").read_text())
    base["baseline"] |= {"level_dim": 1024, "feature_dim": 1024, "dim": 512}  # networks named here need not exist
    experiment = {
        "title": "Nuts",
        "datasets": {"mine": "all"},
        "axes": {"method": ["patchcore", "reconpatch"], "coreset": [0.1, 0.01], "dim": [64, 512]},
        "figures": {"qualitative": {"dim": 64, "coreset": 0.1}, "umap": {}, "sweep": {"method": "patchcore"}},
    }
    (tmp_path / "e.yaml").write_text(yaml.safe_dump(experiment))
    datasets = base["datasets"] | {"mine": {"layout": "mvtec_ad", "root": str(mvtec)}}
    return base | {"datasets": datasets, "experiments": {"nuts": str(tmp_path / "e.yaml")}, "seeds": [0, 1]}


@pytest.fixture
def planned(content, tmp_path):
    """Experiment, and changes of the configuration -> the plan of it alone."""

    def make(experiment: dict, **changes) -> Plan:
        merged = {"title": "x", "datasets": {"mine": "all"}} | experiment
        (tmp_path / "e.yaml").write_text(yaml.safe_dump(merged, sort_keys=False))
        return make_plan(read_config(content | {"seeds": [0]} | changes))

    return make


def stages(plan: Plan, stage: str, training: bool = False) -> set[str]:
    """Names of a stage that the plan's runs use, on the side of the training or of the test images."""
    runs = [of_training(r) if training else r for r in plan.runs.values()]
    runs = [r for r in runs if stage != "training" or r.method == "reconpatch"]
    return {stage_name(r, stage) for r in runs}


def test_tables_of_two_experiments_may_not_share_a_file(content) -> None:
    file = content["experiments"]["nuts"]
    make_plan(read_config(content | {"experiments": {"nuts": file, "nuts_2": file, "other_summary": file}}))
    with pytest.raises(ReconpatchError, match="nuts and nuts_summary would both write"):
        make_plan(read_config(content | {"experiments": {"nuts": file, "nuts_summary": file}}))


def test_runs_are_every_combination_once(content) -> None:
    plan = make_plan(read_config(content))
    assert plan.targets["nuts"] == [("mine", "nut")]
    assert len(plan.members("nuts")) == len(set(plan.members("nuts"))) == 2 * 2 * 2 * 2
    assert len({stage_name(r, "features") for r in plan.runs.values()}) == 1
    assert len({stage_name(r, "bank") for r in plan.runs.values()}) == 8  # method x dim x seed: ratios share a bank
    assert set(plan.ratios.values()) == {0.1}
    assert sum(name.startswith("dim=") for name in plan.stages) == 4  # trainings: dim x seed
    assert len(list(plan.rows())) == 16
    assert len(plan.cells["nuts"]) == 16 and {p.run for p in plan.cells["nuts"]} == set(plan.runs)


@pytest.mark.parametrize(
    ("axes", "chosen", "expected"),
    [
        ({"sigma": [1, 3]}, {"sigma": 1}, [{"sigma": 1.0}]),  # a whole number in the file, not in the run
        ({"coreset": [0.1, "1e-2"]}, {"coreset": 0.01}, [{"coreset": 0.01}]),
        ({"coreset": [0.1, 0.01]}, {"coreset": "0.01"}, [{"coreset": 0.01}]),  # as the command line gives it
        ({"seed": [3, 4]}, {}, [{"seed": 3}]),
        ({"epoch": [40, 120], "method": ["patchcore"]}, {}, [{"method": "patchcore"}]),  # one run, drawn once
        ({"dim": [64, 32], "blur": [1, 2]}, {"dim": 32}, [{"dim": 32, "blur": 1.0}, {"dim": 32, "blur": 2.0}]),
    ],
)
def test_figures_choose_by_values_however_they_are_written(axes, chosen, expected, planned) -> None:
    plan = planned({"axes": axes, "figures": {"umap": chosen}})
    found = [plan.runs[name] for name in plan.drawn("nuts", "umap")]
    assert [{k: getattr(run, k) for k in want} for run, want in zip(found, expected, strict=True)] == expected


def test_a_known_category_not_at_hand_is_named_and_the_rest_runs(planned, mvtec) -> None:
    shutil.copytree(mvtec / "nut", mvtec / "bottle")
    plan = planned({"datasets": {"mine": ["bottle", "pill", "wood"], "btad": "all"}})
    assert plan.absent == {
        "nuts": ["mine lacks pill, wood", "data set btad is not at hand: give its folder as datasets.btad.root"]
    }
    assert plan.targets["nuts"] == [("mine", "bottle")] and plan.at_hand("nuts") and len(plan.runs) == 1
    plan = planned({"datasets": {"mine": ["pill"]}})
    assert plan.absent == {"nuts": ["mine lacks pill"]} and not plan.at_hand("nuts") and not plan.runs
    assert planned({"datasets": {"mine": ["bottle"]}}).absent == {}


def test_a_data_sets_categories_restrict_experiments_that_list_theirs(planned, mvtec, content) -> None:
    for name in ("bottle", "pill", "bolt"):
        shutil.copytree(mvtec / "nut", mvtec / name)
    kept = {"layout": "mvtec_ad", "root": str(mvtec), "categories": ["bottle", "nut"]}
    datasets = content["datasets"] | {"mine": kept}
    plan = planned({"datasets": {"mine": ["pill", "bottle", "cable", "bolt"]}}, datasets=datasets)
    assert plan.targets["nuts"] == [("mine", "bottle")]
    assert plan.absent == {"nuts": ["datasets.mine.categories leaves out pill, cable, bolt"]}
    plan = planned({"datasets": {"mine": ["pill"]}}, datasets=datasets)
    assert not plan.at_hand("nuts") and plan.runs == {} and plan.ratios == {}
    with pytest.raises(ReconpatchError, match="category 'bottel' is not in data set mine"):
        planned({"datasets": {"mine": ["bottel"]}}, datasets=datasets)


def test_banks_are_as_large_as_wanted_where_they_are_wanted(content, tmp_path, mvtec) -> None:
    """Two experiments share banks; the larger ratio is wanted on one category alone."""
    shutil.copytree(mvtec / "nut", mvtec / "bolt")
    for name, categories, ratios in (("a", "all", [0.01, 0.05]), ("b", ["bolt"], [0.5, 0.2]), ("c", "all", [0.02])):
        chosen = {"title": name, "datasets": {"mine": categories}, "axes": {"coreset": ratios}}
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(chosen))
    content |= {"experiments": {n: str(tmp_path / f"{n}.yaml") for n in "abc"}, "seeds": [0, 1]}
    plan = make_plan(read_config(content))
    banks = {stage_name(of_training(run), "bank") for run in plan.runs.values()}
    assert len(banks) == 2  # one a seed
    assert plan.ratios == {("mine", c, bank): r for bank in banks for c, r in (("nut", 0.05), ("bolt", 0.5))}


def test_an_ensemble_that_lacks_an_epoch_is_left_out(planned) -> None:
    """Fewer members would be another ensemble."""
    experiment = {
        "variants": {"long": {}, "short": {"set": {"epochs": 40}}},
        "axes": {"epoch": [20, 40, 80]},
        "ensemble": {"over": "epoch", "combine": ["zscore"]},
    }
    plan = planned(experiment)
    assert [len(c.members) for c in plan.ensembles.values()] == [3]
    assert [p.labels["variant"] for p in plan.cells["nuts"] if p.run in plan.ensembles] == ["long"]
    assert len(plan.runs) == 3 + 2 and "epochs 80 are beyond the last" in plan.absent["nuts"][0]


def test_weights_not_at_hand_are_named_and_the_rest_runs(planned, tmp_path) -> None:
    file = tmp_path / "w.safetensors"
    file.touch()
    experiment = {
        "set": {"weights": "file"},
        "axes": {"backbone": ["a", "b"], "method": ["patchcore", "reconpatch"]},
        "ensemble": {"over": "backbone", "combine": ["zscore"]},
    }
    plan = planned(experiment, weight_files={"a": str(file), "b": "/nowhere/w.safetensors"})
    assert plan.absent["nuts"][-1].endswith("weight_files.b = /nowhere/w.safetensors: no such file")
    assert [(run.backbone, run.method) for run in plan.runs.values()] == [("a", "patchcore"), ("a", "reconpatch")]
    assert {p.run for p in plan.cells["nuts"]} == set(plan.runs)
    assert plan.ensembles == {} and plan.at_hand("nuts")  # an ensemble without a member would be another one
    plan = planned(experiment, weight_files={"a": str(file), "b": str(file)})
    assert plan.absent == {} and len(plan.runs) == 4 and len(plan.ensembles) == 2
    plan = planned(experiment)
    assert (
        sum("no entry for backbone" in reason for reason in plan.absent["nuts"]) == 2
        and not plan.at_hand("nuts")
        and not plan.runs
    )


def test_augmented_test_images_share_all_that_is_trained(planned) -> None:
    plan = planned({"axes": {"augment": ["none", "test", "both"], "method": ["patchcore", "reconpatch"]}})
    runs = {(r.augment, r.method): r for r in plan.runs.values()}
    assert len(runs) == 6
    for method in ("patchcore", "reconpatch"):
        none, test, both = (runs[augment, method] for augment in ("none", "test", "both"))
        for stage in ("features", "training", "bank"):
            names = [stage_name(of_training(run), stage) for run in (none, test, both)]
            assert names[0] == names[1] != names[2], (method, stage)
        for stage in ("features", "masks"):
            names = [stage_name(run, stage) for run in (none, test, both)]
            assert names[0] != names[1] == names[2], (method, stage)  # either reading augments the same test images
    assert len(stages(plan, "features") | stages(plan, "features", training=True)) == 2
    assert len(stages(plan, "training", training=True)) == 2 and len(stages(plan, "bank", training=True)) == 4


def test_epochs_share_one_training(planned) -> None:
    plan = planned({"axes": {"epoch": [1, 40, 58, 120, None]}})
    assert len(plan.runs) == 4  # the 120th is the last, so it needs no run of its own
    assert len(stages(plan, "training")) == 1 and len(stages(plan, "bank")) == 4
    assert len(plan.cells["nuts"]) == 5 and plan.cells["nuts"][3].run == plan.cells["nuts"][4].run
    assert len(stages(planned({"axes": {"epochs": [60, 120]}}), "training")) == 2  # other schedules


ENSEMBLE = {
    "variants": {"small": {}, "large": {"set": {"crop": 256}}},
    "axes": {"method": ["patchcore", "reconpatch"], "backbone": ["a", "b", "c"]},
    "ensemble": {"over": "backbone", "combine": ["zscore", "minmax"]},
}


def test_one_ensemble_for_every_group_and_way(planned) -> None:
    plan = planned(ENSEMBLE, seeds=[0, 1])
    assert len(plan.runs) == 2 * 2 * 3 * 2 and len(plan.ensembles) == 2 * 2 * 2 * 2
    found = []
    for combination in plan.ensembles.values():
        members = [plan.runs[name] for name in combination.members]
        assert [m.backbone for m in members] == ["a", "b", "c"]
        rest = {(m.crop, m.method, m.seed) for m in members}
        assert len(rest) == 1
        found.append((*rest.pop(), combination.combine))
    expected = itertools.product([224, 256], ["patchcore", "reconpatch"], [0, 1], ["zscore", "minmax"])
    assert sorted(found) == sorted(expected)
    assert plan.members("nuts") == [*plan.runs, *plan.ensembles]


def test_an_ensemble_of_a_run_with_itself_is_refused(planned) -> None:
    with pytest.raises(ReconpatchError, match=r"experiment nuts: two members .* backbone have the same stand-in"):
        planned(ENSEMBLE, stand_ins={name: {"backbone": "small"} for name in ("a", "b")})


def test_check_opens_weight_files(content, tmp_path) -> None:
    """A file that belongs to another network is found before anything runs."""
    save_file(timm.create_model("resnet10t").state_dict(), tmp_path / "w.safetensors")
    content["baseline"] |= {"backbone": "resnet18", "weights": "file", "levels": [2]}
    content["weight_files"] = {"resnet18": str(tmp_path / "w.safetensors")}
    found, (problem,) = check_weights(make_plan(read_config(content)))
    assert not found and "weights of resnet18" in problem
    content["baseline"]["backbone"] = "resnet10t"
    content["weight_files"] = {"resnet10t": str(tmp_path / "w.safetensors")}
    found, problems = check_weights(make_plan(read_config(content)))
    (weights,) = found
    assert not problems and str(weights).startswith("resnet10t, levels (2,): file weights fit; SHA-256 ")


def test_names_reach_other_machines_as_they_are(planned) -> None:
    """Snakemake hands a job on as rule:wildcard=value,... and parts that at every comma."""
    axes = {"method": ["patchcore", "reconpatch"], "dim": [64, 512], "levels": [[2, 3], [1, 2, 3]]}
    ensemble = {"over": "dim", "combine": ["zscore", "minmax"]}
    plan = planned({"axes": axes, "set": {"epochs": 3, "mask_rule": "official"}, "ensemble": ensemble})
    assert len(plan.ensembles) == 8
    for name in {*plan.runs, *plan.stages, *plan.ensembles}:
        job = TargetSpec("score_run", {"category": "nut", "run": name})
        assert parse_target_jobs_cli_args(encode_target_jobs_cli_args([job])) == [job]


def test_a_plan_is_made_in_any_folder(tmp_path, monkeypatch) -> None:
    """The default configuration is that of the suite; other files are seen from the folder."""
    here = load_plan([])
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ReconpatchError, match=r"^data\.yaml: no such file"):
        load_plan([Path("data.yaml")])
    (tmp_path / "data.yaml").touch()
    assert load_plan([Path("data.yaml")]).runs == here.runs
