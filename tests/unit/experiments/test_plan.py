import itertools
import shutil
from pathlib import Path

import pytest
import timm
import yaml
from safetensors.torch import save_file
from snakemake.target_jobs import parse_target_jobs_cli_args
from snakemake_interface_executor_plugins.utils import TargetSpec, encode_target_jobs_cli_args

from reconpatch.cli.replication import check, check_weights, show
from reconpatch.data.published import KNOWN
from reconpatch.errors import ReconpatchError
from reconpatch.experiments.config import read_config
from reconpatch.experiments.costs import Network
from reconpatch.experiments.plan import Plan, load_plan, make_plan, stage_name
from reconpatch.experiments.run import description, of_training

ROOT = Path(__file__).parents[3]


@pytest.fixture
def content(tmp_path, mvtec, monkeypatch) -> dict:
    """Configuration with one experiment on a drawn data set."""
    monkeypatch.chdir(ROOT)
    base = yaml.safe_load((ROOT / "configs/default.yaml").read_text())
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


def test_names_reach_other_machines_as_they_are(planned) -> None:
    """Snakemake hands a job on as rule:wildcard=value,... and parts that at every comma."""
    axes = {"method": ["patchcore", "reconpatch"], "dim": [64, 512], "levels": [[2, 3], [1, 2, 3]]}
    ensemble = {"over": "dim", "combine": ["zscore", "minmax"]}
    plan = planned({"axes": axes, "set": {"epochs": 3, "mask_rule": "official"}, "ensemble": ensemble})
    assert len(plan.ensembles) == 8
    for name in {*plan.runs, *plan.stages, *plan.ensembles}:
        job = TargetSpec("score_run", {"category": "nut", "run": name})
        assert parse_target_jobs_cli_args(encode_target_jobs_cli_args([job])) == [job]


def test_drawn_runs_are_the_chosen_ones_of_the_first_seed(content) -> None:
    plan = make_plan(read_config(content))
    for kind, expected in (
        ("qualitative", [("patchcore", 64, 0.1, 0), ("reconpatch", 64, 0.1, 0)]),
        ("umap", list(itertools.product(["patchcore", "reconpatch"], [64, 512], [0.1, 0.01], [0]))),
        ("sweep", list(itertools.product(["patchcore"], [64, 512], [0.1, 0.01], [0]))),
        ("histogram", []),  # not asked for
    ):
        runs = [plan.runs[name] for name in plan.drawn("nuts", kind)]
        assert sorted((r.method, r.dim, r.coreset, r.seed) for r in runs) == sorted(expected), kind


@pytest.mark.parametrize(
    ("axes", "chosen", "expected"),
    [
        ({"sigma": [1, 3]}, {"sigma": 1}, [{"sigma": 1.0}]),  # a whole number in the file, not in the run
        ({"coreset": [0.1, "1e-2"]}, {"coreset": 0.01}, [{"coreset": 0.01}]),
        ({"coreset": [0.1, 0.01]}, {"coreset": "0.01"}, [{"coreset": 0.01}]),  # as the command line gives it
        ({"levels": [[2, 3], [1, 2, 3]]}, {"levels": [1, 2, 3]}, [{"levels": (1, 2, 3)}]),
        ({"teacher_norm": [True, False]}, {"teacher_norm": False}, [{"teacher_norm": False}]),
        ({"seed": [3, 4]}, {"seed": 4}, [{"seed": 4}]),
        ({"seed": [3, 4]}, {}, [{"seed": 3}]),
        ({"epoch": [40, 120]}, {"epoch": 120}, [{"epoch": 120}]),
        ({"epoch": [40, 120], "method": ["patchcore"]}, {}, [{"method": "patchcore"}]),  # one run, drawn once
        ({"dim": [64, 32], "blur": [1, 2]}, {"dim": 32}, [{"dim": 32, "blur": 1.0}, {"dim": 32, "blur": 2.0}]),
    ],
)
def test_figures_choose_by_values_however_they_are_written(axes, chosen, expected, planned) -> None:
    plan = planned({"axes": axes, "figures": {"umap": chosen}})
    found = [plan.runs[name] for name in plan.drawn("nuts", "umap")]
    assert [{k: getattr(run, k) for k in want} for run, want in zip(found, expected, strict=True)] == expected


def test_figures_choose_by_variant_and_by_the_network_that_the_file_names(planned) -> None:
    experiment = {
        "variants": {"a": {}, "b": {"set": {"blur": 1}}},
        "axes": {"backbone": ["large", "larger"]},
        "ensemble": {"over": "backbone", "combine": ["zscore"]},
        "figures": {"umap": {"variant": "b"}, "gallery": {"variant": "a", "backbone": "larger"}},
    }
    for stand_ins, names in (({}, ["large", "larger"]), ({"larger": {"backbone": "small"}}, ["large", "small"])):
        plan = planned(experiment, stand_ins=stand_ins)
        runs = [plan.runs[name] for name in plan.drawn("nuts", "umap")]  # no ensemble: it has no features of its own
        assert [(r.backbone, r.blur) for r in runs] == [(name, 1.0) for name in names]
        runs = [plan.runs[name] for name in plan.drawn("nuts", "gallery")]
        assert [(r.backbone, r.blur) for r in runs] == [(names[1], 4.0)]
    plan = planned(experiment, stand_ins={"larger": {"level_dim": 512}})  # the same network, run otherwise
    assert [plan.runs[name].level_dim for name in plan.drawn("nuts", "gallery")] == [512]


def test_data_not_at_hand_are_named_not_fatal(content) -> None:
    content["datasets"]["mine"]["root"] = None
    plan = make_plan(read_config(content))
    assert plan.absent == {"nuts": "data set mine is not at hand: give its folder as datasets.mine.root"}
    assert not plan.runs and not plan.at_hand("nuts") and plan.members("nuts") == plan.drawn("nuts", "umap") == []


def test_a_known_category_not_at_hand_is_named_and_the_rest_runs(planned, mvtec) -> None:
    shutil.copytree(mvtec / "nut", mvtec / "bottle")
    plan = planned({"datasets": {"mine": ["bottle", "pill", "wood"], "btad": "all"}})
    assert plan.absent == {
        "nuts": "mine lacks pill, wood; data set btad is not at hand: give its folder as datasets.btad.root"
    }
    assert plan.targets["nuts"] == [("mine", "bottle")] and plan.at_hand("nuts") and len(plan.runs) == 1
    plan = planned({"datasets": {"mine": ["pill"]}})
    assert plan.absent == {"nuts": "mine lacks pill"} and not plan.at_hand("nuts") and not plan.runs
    assert planned({"datasets": {"mine": ["bottle"]}}).absent == {}


def test_a_partial_copy_of_a_known_data_set_is_named_also_with_all(planned, mvtec, content) -> None:
    """One published category is enough to tell a copy from data of one's own; what a category is, is a folder."""
    published = ("bottle", "grid")
    for name in published:
        shutil.copytree(mvtec / "nut", mvtec / name)
    plan = planned({})
    assert plan.targets["nuts"] == [("mine", c) for c in (*published, "nut")]
    named = plan.absent["nuts"].removeprefix("mine lacks ").split(", ")
    assert sorted([*named, *published]) == sorted(KNOWN["mvtec_ad"]) and len(plan.absent) == 1
    mine = content["datasets"]["mine"]
    own = content["datasets"] | {"mine": mine | {"categories": ["bottle", "nut"]}}
    plan = planned({}, datasets=own)  # what the user keeps, on purpose
    assert plan.targets["nuts"] == [("mine", "bottle"), ("mine", "nut")] and plan.absent == {}
    own = content["datasets"] | {"mine": mine | {"layout": "folder"}}
    assert planned({}, datasets=own).absent == {}  # names alone do not make it MVTec AD


def test_a_data_sets_categories_restrict_experiments_that_list_theirs(planned, mvtec, content) -> None:
    for name in ("bottle", "pill", "bolt"):
        shutil.copytree(mvtec / "nut", mvtec / name)
    for layout, wanted, shut in (
        ("mvtec_ad", ["pill", "bottle", "cable", "bolt"], "pill, cable, bolt"),  # there or not, published or not
        ("folder", ["bolt", "bottle", "pill"], "bolt, pill"),
        ("mvtec_ad", ["bottle"], ""),
        ("mvtec_ad", ["nut", "bottle"], ""),
    ):
        kept = {"layout": layout, "root": str(mvtec), "categories": ["bottle", "nut"]}
        plan = planned({"datasets": {"mine": wanted}}, datasets=content["datasets"] | {"mine": kept})
        assert plan.targets["nuts"] == [("mine", c) for c in wanted if c in ("bottle", "nut")]
        assert plan.absent == ({"nuts": f"datasets.mine.categories leaves out {shut}"} if shut else {})
        with pytest.raises(ReconpatchError, match="category 'bottel' is not in data set mine"):
            planned({"datasets": {"mine": ["bottel"]}}, datasets=content["datasets"] | {"mine": kept})
    plan = planned({"datasets": {"mine": ["pill"]}}, datasets=content["datasets"] | {"mine": kept})
    assert not plan.at_hand("nuts") and plan.runs == {} and plan.ratios == {}


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


def test_epochs_that_fall_out_are_named_and_the_rest_runs(planned) -> None:
    plan = planned({"axes": {"epoch": [1, 3, 40, 121]}})
    assert [run.epoch for run in plan.runs.values()] == [1, 40]
    assert plan.at_hand("nuts") and plan.absent["nuts"].count("epochs 3, 121 are beyond the last") == 1
    plan = planned({"set": {"epoch": 40}}, overrides={"nuts": {"set": {"epochs": 4}}})
    assert not plan.at_hand("nuts") and "epochs 40 are beyond the last" in plan.absent["nuts"]
    assert plan.members("nuts") == plan.drawn("nuts", "umap") == []


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
    assert len(plan.runs) == 3 + 2 and "epochs 80 are beyond the last" in plan.absent["nuts"]


def test_a_category_that_the_user_promised_must_be_there(planned, content, mvtec) -> None:
    """Known or not: the data set's own list is what the user says is on the disk."""
    mine = {"layout": "mvtec_ad", "root": str(mvtec), "categories": ["nut", "pill"]}
    with pytest.raises(ReconpatchError, match="category 'pill' is not in data set mine; it has nut"):
        planned({}, datasets=content["datasets"] | {"mine": mine})


@pytest.mark.parametrize("given", [{}, {"b": "/nowhere/w.safetensors"}])
def test_weights_not_at_hand_are_named_and_the_rest_runs(given, planned, tmp_path) -> None:
    file = tmp_path / "w.safetensors"
    file.touch()
    experiment = {
        "set": {"weights": "file"},
        "axes": {"backbone": ["a", "b"], "method": ["patchcore", "reconpatch"]},
        "ensemble": {"over": "backbone", "combine": ["zscore"]},
    }
    plan = planned(experiment, weight_files={"a": str(file)} | given)
    assert list(plan.absent) == ["nuts"]
    reason = "weight_files.b = /nowhere/w.safetensors: no such file" if given else "no entry for backbone 'b'"
    assert plan.absent["nuts"].endswith(reason) and plan.absent["nuts"].count("weight_files") == 1
    assert [(run.backbone, run.method) for run in plan.runs.values()] == [("a", "patchcore"), ("a", "reconpatch")]
    assert {p.run for p in plan.cells["nuts"]} == set(plan.runs)
    assert plan.ensembles == {} and plan.at_hand("nuts")  # an ensemble without a member would be another one
    assert plan.weight_file(next(iter(plan.runs.values()))) == file
    plan = planned(experiment, weight_files={"a": str(file), "b": str(file)})
    assert plan.absent == {} and len(plan.runs) == 4 and len(plan.ensembles) == 2
    plan = planned(experiment)
    assert plan.absent["nuts"].count("no entry for backbone") == 2 and not plan.at_hand("nuts") and not plan.runs


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


@pytest.mark.parametrize("augment", [["test"], ["both"], ["none", "test", "both"]])
def test_every_stage_that_a_run_needs_is_entered(augment, planned) -> None:
    """What a job is told of its stage is what the run that needs it would say."""
    axes = {"augment": augment, "epoch": [40, 120], "method": ["patchcore", "reconpatch"]}
    plan = planned({"axes": axes | {"dim": [512, 384], "coreset": [0.1, 0.01]}})
    for run in plan.runs.values():
        needed = [(run, "features"), (run, "masks"), (of_training(run), "features"), (of_training(run), "bank")]
        needed += [(of_training(run), "training")] if run.method == "reconpatch" else []
        for side, stage in needed:
            entered = plan.stages[stage_name(side, stage)]
            assert description(entered, stage) == description(side, stage)
        assert plan.ratios["mine", "nut", stage_name(of_training(run), "bank")] == 0.1


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


def test_ensembles_stand_where_their_members_do(planned) -> None:
    plan = planned(ENSEMBLE, seeds=[0, 1])
    places = [p for p in plan.cells["nuts"] if p.run in plan.ensembles]
    assert len({(*p.labels.values(), p.method, p.seed) for p in places}) == 16
    for place in places:
        combination = plan.ensembles[place.run]
        first = plan.runs[combination.members[0]]
        assert place.labels == {
            "variant": {224: "small", 256: "large"}[first.crop],
            "backbone": {"zscore": "ensemble", "minmax": "ensemble, minmax"}[combination.combine],
        }
        assert (place.method, place.seed) == (first.method, first.seed)
        assert place.run.startswith(f"{first.method}_ensemble={combination.combine}_seed={first.seed}-")
    rows = [row for row in plan.rows() if "ensemble" in row]
    assert {row["run"] for row in rows} == set(plan.ensembles)
    assert all(row["ensemble"] == " + ".join(plan.ensembles[row["run"]].members) for row in rows)


def test_an_ensemble_of_a_run_with_itself_is_refused(planned) -> None:
    stand_ins = {name: {"backbone": "small"} for name in ("a", "b")}
    with pytest.raises(ReconpatchError, match=r"experiment nuts: two members .* backbone have the same stand-in"):
        planned(ENSEMBLE, stand_ins=stand_ins)
    with pytest.raises(ReconpatchError, match="experiment nuts: two members of an ensemble are the same run"):
        planned(
            {
                "axes": {"sigma": [1, 3]},
                "set": {"method": "patchcore"},
                "ensemble": ENSEMBLE["ensemble"] | {"over": "sigma"},
            }
        )


def test_check_opens_weight_files(content, tmp_path, capsys) -> None:
    """A file that belongs to another network is found before anything runs."""
    save_file(timm.create_model("resnet10t").state_dict(), tmp_path / "w.safetensors")
    content["baseline"] |= {"backbone": "resnet18", "weights": "file", "levels": [2]}
    content["weight_files"] = {"resnet18": str(tmp_path / "w.safetensors")}
    assert "weights of resnet18" in check_weights(make_plan(read_config(content)))[0]
    content["baseline"]["backbone"] = "resnet10t"
    content["weight_files"] = {"resnet10t": str(tmp_path / "w.safetensors")}
    assert check_weights(make_plan(read_config(content))) == []
    assert "resnet10t, levels (2,): file weights fit; SHA-256 " in capsys.readouterr().out


def test_plan_and_check_print_what_a_user_needs(content, tmp_path, capsys, monkeypatch, damage, mvtec) -> None:
    overlay = tmp_path / "overlay.yaml"
    overlay.write_text(yaml.safe_dump({k: content[k] for k in ("datasets", "seeds")} | {"experiments": {}}))
    plan = load_plan([overlay])
    show(plan, dict.fromkeys(plan.runs, Network(8, 10**7)))
    assert (
        "left out: data set btad is not at hand: give its folder as datasets.btad.root (table_btad)"
        in capsys.readouterr().out
    )
    plan = make_plan(read_config(content))
    monkeypatch.setattr("reconpatch.cli.replication.check_backbones", lambda *_: None)
    monkeypatch.setattr("reconpatch.cli.replication.check_weights", lambda _: [])
    assert check(plan) == []
    assert "4 training, 2 normal and 5 anomalous test images, 5 masks" in capsys.readouterr().out
    damage(mvtec / "nut/train/good/000.png")
    assert "train/good/000.png" in check(plan)[0]


def test_categories_whose_results_would_be_mixed_up(planned, mvtec) -> None:
    for name, message in (
        ("mean", "tables call the mean"),
        ("Nut", "'Nut' and 'nut' would be one file"),
    ):
        shutil.copytree(mvtec / "nut", mvtec / name)
        with pytest.raises(ReconpatchError, match=rf"datasets\.mine\.root = .*{message}"):
            planned({})
        planned({"datasets": {"mine": ["nut"]}})  # what no experiment uses does no harm
        shutil.rmtree(mvtec / name)
    planned({})


def test_a_pin_of_a_network_that_nothing_uses_is_a_mistake(planned, content) -> None:
    pin, used = {"weight_digests": {}}, content["baseline"]["backbone"]
    names = {*planned({}, **pin).runs}
    assert {*planned({}, weight_digests={used: "ab" * 32}).runs} == names
    with pytest.raises(ReconpatchError, match=rf"weight_digests\.wide: no experiment uses it; they use {used}"):
        planned({}, weight_digests={"wide": "ab" * 32})
    planned({}, weight_digests={used: "ab" * 32, "b": "ab" * 32}, stand_ins={used: {"backbone": "b"}})
