import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from running import ROOT

from reconpatch.cli import replication
from reconpatch.cli.checked import check
from reconpatch.data.catalogue import CONTENTS
from reconpatch.data.layouts import categories
from reconpatch.experiments.config import read_config
from reconpatch.experiments.networks import Networks
from reconpatch.experiments.plan import Plan, TableCell
from reconpatch.experiments.run import Run

DEFAULT = yaml.safe_load((ROOT / "configs/default.yaml").read_text())


@pytest.mark.parametrize(("resizes", "times"), [((80,), 0), ((48, 100), 2.5)])
def test_check_remarks_on_images_far_smaller_than_what_a_run_sees(resizes, times, mvtec: Path, tmp_path: Path) -> None:
    """Those of `nut` have 48x40 px."""
    plan = Plan(read_config(DEFAULT | {"datasets": {"mvtec_ad": {"root": str(mvtec), "layout": "mvtec_ad"}}}))
    plan.targets["a"], plan.cells["a"] = [("mvtec_ad", "nut")], []
    for resize in resizes:
        run = Run(backbone="resnet18", resize=resize, crop=48)
        plan.runs[f"{resize}"] = run
        plan.cells["a"].append(TableCell({}, run.method, run.seed, f"{resize}", ()))
    told: list[str] = []
    found = check(plan, Networks(), tmp_path, told.append)
    words = f"images that are enlarged more than 2 times for the network, up to {times} times"
    images = found.images["mvtec_ad/nut"]
    assert not found.problems and images.training == 4
    assert any(words in remark for remark in images.remarks) == bool(times)
    assert any("nut: 4 training" in line and (words in line) == bool(times) for line in told)


def test_plan_and_check_print_one_json_object(call: Callable[..., tuple[int, str, str]], tmp_path) -> None:
    status, printed, _ = call("plan", "smoke", "--json")
    facts = json.loads(printed)
    (smoke,) = facts["experiments"]
    assert status == 0 and smoke["on"] == ["sample/brick"] and facts["needs"]["runs"] == len(smoke["runs"]) == 8
    time = facts["needs"]["time"]
    assert time["core_seconds"] == pytest.approx(sum(rule["core_seconds"] for rule in time["rules"].values()))
    text = call("plan", "smoke")[1]
    assert all(run in text for run in smoke["runs"]) and f"on {time['cores']} cores" in text
    sound = json.loads(call("check", "smoke", "--json")[1])
    (weights,) = sound["weights"]
    assert (weights["backbone"], weights["levels"], weights["weights"]) == ("tf_efficientnet_lite0", [2, 3], "embedded")
    assert len(weights["sha256"]) == 64 and not weights["pinned"]
    others = tmp_path / "others.yaml"
    others.write_text(f"weight_digests: {{tf_efficientnet_lite0: ['{64 * '0'}']}}")
    status, printed, told = call("check", "smoke", "--json", "--configfile", others)
    found = json.loads(printed)
    assert status == 1 and found["problems"] and all(problem in told for problem in found["problems"])
    assert not found["weights"] and found["computes"] == sound["computes"]


def test_a_miniature_is_written_once_and_its_configuration_printed(call, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    status, printed, told = call("miniature", "visa", "ü b/v", "--category", "candle", "pcb1", "--seed", 3)
    assert status == 0 and not told
    (dataset,) = yaml.safe_load(printed.split(":\n", 1)[1])["datasets"].items()
    assert dataset == ("visa", {"layout": "visa", "root": str(tmp_path / "ü b/v")})
    assert {path.name for path in (tmp_path / "ü b/v").iterdir()} == {"candle", "pcb1", "split_csv"}
    status, printed, told = call("miniature", "visa", "ü b/v")
    assert status == 1 and not printed and "ü b/v: exists already; give another folder, or remove it" in told
    status, printed, told = call("miniature", "mpdd", "m", "--category", "candle")
    assert status == 1 and not printed and "'candle'" in told and "bracket_black" in told and not Path("m").exists()


def test_miniatures_of_all_data_sets_lie_side_by_side(call, tmp_path, monkeypatch) -> None:
    """Each can be used as it is printed, and nothing is written where the question makes no sense."""
    monkeypatch.chdir(tmp_path)
    status, printed, told = call("miniature", "all", "m", "--category", "candle")
    assert status == 1 and not printed and "--category" in told and not Path("m").exists()
    status, printed, told = call("miniature", "all", "m")
    assert status == 0 and not told
    datasets = yaml.safe_load(printed.split(":\n", 1)[1])["datasets"]
    layouts = ["mvtec_ad", "btad", "visa", "mvtec_loco", "mpdd", "mvtec_ad_2", "dtd_synthetic"]
    assert datasets == {name: {"layout": name, "root": str(tmp_path / "m" / name)} for name in layouts}
    assert sorted(path.name for path in Path("m").iterdir()) == sorted(layouts)
    for name in layouts:
        assert set(categories(name, Path("m") / name)) == {*CONTENTS[name].categories}
    status, printed, told = call("miniature", "all", "m")
    assert status == 1 and "m: exists already" in told


def test_compare_and_verify_print_one_json_object(call, real_results: Path, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(real_results)
    records = sorted(real_results.glob("results/runs/mine/nut/*/record.json"))
    status, printed, _ = call("compare", records[0], records[0], "--json")
    assert status == 0 and json.loads(printed) == {
        "same_metrics": True,
        "differences": [],
        "verdict": call("compare", records[0], records[0])[1].strip(),
    }
    status, printed, _ = call("compare", *records[:2], "--json")
    groups = {each["group"] for each in json.loads(printed)["differences"]}
    assert status == 1 and {"settings", "metrics"} <= groups <= {"settings", "intermediate", "metrics", "machine"}
    edited = tmp_path / "record.json"
    edited.write_text(records[0].read_text().replace('"seed":0', '"seed":7').replace('"seed": 0', '"seed": 7'))
    found = json.loads(call("compare", records[0], edited, "--json")[1])
    assert "edited" in {each["group"] for each in found["differences"]}
    status, printed, told = call("verify", "results/tables", "--json", "--configfile", "overlay.yaml")
    found = json.loads(printed)
    assert status == 0 and not told and found["problems"] == 0
    assert {result["status"] for result in found["results"]} == {"ok"}
    shutil.copytree(real_results / "results/tables", tmp_path / "results/tables")
    status, printed, told = call("verify", tmp_path / "results", "--json", "--configfile", "overlay.yaml")
    assert status == 1 and "cannot be checked" in told
    found = json.loads(printed)
    assert found["problems"] == len(found["results"]) > 0
    assert {result["status"] for result in found["results"]} == {"DIFFERS", "cannot be checked"}


def test_a_missing_package_is_named_and_a_package_without_a_part_is_not(call, monkeypatch) -> None:
    def lacks(name: str) -> Callable[[object], None]:
        def show_plan(_: object) -> None:
            raise ModuleNotFoundError(name=name)

        return show_plan

    monkeypatch.setattr(replication, "show_plan", lacks("no_such_package.part"))
    status, _, told = call("plan")
    assert status == 1 and told == "error: no_such_package is not installed; pip install 'reconpatch[workflow]'\n"
    monkeypatch.setattr(replication, "show_plan", lacks("timm.no_such_part"))
    with pytest.raises(ModuleNotFoundError):
        call("plan")
