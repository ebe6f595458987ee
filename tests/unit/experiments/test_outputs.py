import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import yaml
from drawing import make_record
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from safetensors.numpy import save_file

from reconpatch.data.layouts import Item
from reconpatch.data.manifest import manifest_json
from reconpatch.experiments.config import read_config
from reconpatch.experiments.outputs import (
    figures_of,
    files_of_ensemble,
    files_of_figure,
    files_of_run,
    kept_files,
    lost_files,
    reasons,
    result_folder,
    sections,
    table_settings,
)
from reconpatch.experiments.plan import Plan, make_plan
from reconpatch.experiments.stages import FIGURES, STAGES
from reconpatch.method.bootstrap import image_wins, to_tensors
from reconpatch.results.report import is_current, report_what_is_there

ROOT = Path(__file__).parents[3]
DEFAULT = yaml.safe_load((ROOT / "configs/default.yaml").read_text())
CODES = {"features": "f0", "training": "t0", "bank": "b0", "score": "s0", "ensemble": "e0"}
BOTH = {"axes": {"method": ["patchcore", "reconpatch"]}}
ENSEMBLE = {
    "axes": {"backbone": ["a", "b"], "method": ["patchcore"]},
    "ensemble": {"over": "backbone", "combine": ["zscore"]},
}


@pytest.fixture
def planned(tmp_path, mvtec, monkeypatch) -> Callable[..., Plan]:
    """Experiments by name, and changes of the configuration -> the plan of them on two categories, nut and bolt."""
    monkeypatch.chdir(ROOT)
    shutil.copytree(mvtec / "nut", mvtec / "bolt")

    def make(experiments: dict[str, dict[str, Any]], **changes: Any) -> Plan:
        for name, content in experiments.items():
            merged = {"title": f"Title of {name}", "datasets": {"mine": ["nut", "bolt"]}} | content
            (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(merged, sort_keys=False))
        datasets = DEFAULT["datasets"] | {"mine": {"layout": "mvtec_ad", "root": str(mvtec)}}
        files = {name: str(tmp_path / f"{name}.yaml") for name in experiments}
        return make_plan(
            read_config(DEFAULT | {"datasets": datasets, "experiments": files, "resamples": 100} | changes)
        )

    return make


def write_manifest(folder: Path, category: str, sha: str = "") -> str:
    """Manifest of a category of one image; returns its digest."""
    text = manifest_json([Item("train/good/000.png", "train", 0, "good", None, sha)])
    (folder / "index/mine").mkdir(parents=True, exist_ok=True)
    (folder / f"index/mine/{category}.json").write_text(text)
    return str(json.loads(text)["digest"])


def write_result(plan: Plan, folder: Path, run: str, category: str, **changes: Any) -> Path:
    """The files that a run or an ensemble leaves behind; returns the record's."""
    at = folder / result_folder(plan, run, "mine", category)
    at.mkdir(parents=True)
    labels = np.arange(12) % 2
    scores = np.random.default_rng(len(run)).normal(labels).astype(np.float32)
    save_file(
        {"image": scores, "label": labels} | to_tensors(image_wins(scores, labels), "image"), at / "scores.safetensors"
    )
    single = {stage: {"code": code} for stage, code in CODES.items() if stage != "ensemble"}
    ensemble = {"stages": {"ensemble": {"code": "e0"}}, "members": [make_record(stages=single)] * 2}
    fields = {"category": category, "run": run, "metrics": {"image_auroc": 0.75}, "weights": {"source": "file"}}
    fields |= {"description": {"backbone": "net"}, "data": {"manifest": write_manifest(folder, category)}}
    fields |= ({"stages": single} if run in plan.runs else ensemble) | changes
    (at / "record.json").write_text(make_record(**fields).model_dump_json())
    return at / "record.json"


def write_all(plan: Plan, folder: Path, *names: str) -> list[Path]:
    return [
        write_result(plan, folder, run, category)
        for run in dict.fromkeys(run for name in names for run in plan.members(name))
        for category in ("nut", "bolt")
    ]


def values_of(folder: Path, name: str) -> dict[tuple[str, str], str]:
    """(category, run) -> image AUROC as the table's file gives it."""
    with (folder / f"tables/{name}.csv").open(newline="", encoding="utf-8") as stream:
        rows = [row for row in csv.DictReader(stream) if row["metric"] == "image_auroc"]
    return {(row["category"], row["runs"]): row["value"] for row in rows}


def test_runs_and_ensembles_have_folders_of_their_own(planned) -> None:
    plan = planned({"e": ENSEMBLE})
    found = [result_folder(plan, run, "mine", "nut") for run in plan.members("e")]
    (ensemble,) = plan.ensembles
    assert found == [*(f"runs/mine/nut/{run}" for run in plan.runs), f"ensembles/mine/nut/{ensemble}"]


def test_files_behind_a_table_that_are_gone_are_found(planned, tmp_path, monkeypatch) -> None:
    """All that its runs and ensembles were made from, but features, which may be deleted by plan."""
    plan = planned({"e": ENSEMBLE})
    kept = kept_files(plan, "e")
    assert not [file for file in kept if file.endswith("test.npy") or file.endswith("train.npy")]
    folders = [file.split("/")[1] for file in kept if "/nut" in file]
    counts = {"index": 1, "ensembles": 2, "runs": 2 * 3, "bank": 2 * 2, "masks": 1, "features": 2}
    assert {folder: folders.count(folder) for folder in folders} == counts
    monkeypatch.chdir(tmp_path)
    for file in ("results/tables/e.csv", *kept[1:]):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).touch()
    assert lost_files(plan, ["e"]) == kept[:1]
    (tmp_path / "results/tables/e.csv").unlink()
    assert lost_files(plan, ["e"]) == []  # a table that is not there asks for them itself


def test_what_jobs_read(planned) -> None:
    """An ensemble reads the training images' scores for z-scores alone; a gallery the first run of every category."""
    axes = {"axes": {"dim": [64, 128], "method": ["patchcore"]}, "figures": {"gallery": {}, "histogram": {}}}
    both = axes | {"ensemble": {"over": "dim", "combine": ["zscore", "minmax"]}}
    plan = planned({"e": both})
    where = {"dataset": "mine", "category": "nut"}
    counts = {}
    for key, combination in plan.ensembles.items():
        files = files_of_ensemble(plan, SimpleNamespace(run=key, **where))
        counts[combination.combine] = {name: len(paths) for name, paths in files.items()}
    same = {"manifest": 1, "records": 2, "scores_of_members": 2, "masks": 1}
    assert counts == {"zscore": same | {"training": 2}, "minmax": same | {"training": 0}}
    gallery = files_of_figure(plan, FIGURES["gallery"], SimpleNamespace(experiment="e"))
    first = next(iter(plan.runs))
    assert gallery["runs"] == [f"results/runs/mine/{c}/{first}/record.json" for c in ("nut", "bolt")]
    assert gallery["manifests"] == ["results/index/mine/nut.json", "results/index/mine/bolt.json"]
    histogram = files_of_figure(plan, FIGURES["histogram"], SimpleNamespace(experiment="e", **where))
    assert {name: len(paths) for name, paths in histogram.items()} == {"runs": 2, "scores": 2, "manifest": 1}
    files = files_of_run(plan, STAGES["score"], SimpleNamespace(run=first, **where))
    assert files["training"] == [] and len(files["test"]) == 1  # PatchCore has no training


def test_figures_are_one_a_category_or_one_an_experiment(planned) -> None:
    kinds = ("qualitative", "gallery", "histogram", "umap", "positions", "curve", "sweep")
    plan = planned({"e": BOTH | {"figures": {kind: {} for kind in kinds}}})
    assert figures_of(plan, "e") == [
        *(f"figures/e/mine/{category}/qualitative.png" for category in ("nut", "bolt")),
        "figures/e/gallery.png",
        *(
            f"figures/e/mine/{c}/{kind}.svg"
            for kind in ("histogram", "umap", "positions", "curve")
            for c in ("nut", "bolt")
        ),
        "figures/e/sweep.svg",
    ]
    assert figures_of(planned({"e": BOTH}), "e") == []


def test_figures_that_would_draw_nothing_are_none(planned) -> None:
    """Their runs lack their weights, or their epoch is not kept; those of the others are drawn."""
    variants = {"with": {"set": {"weights": "random"}}, "without": {"set": {"weights": "file"}}}
    figures = {"umap": {"variant": "without"}, "sweep": {}, "gallery": {"variant": "with"}}
    plan = planned({"e": {"variants": variants, "figures": figures}})
    assert figures_of(plan, "e") == ["figures/e/sweep.svg", "figures/e/gallery.png"]
    plan = planned({"e": {"axes": {"epoch": [3, 40]}, "figures": {"umap": {"epoch": 3}, "gallery": {"epoch": 40}}}})
    assert figures_of(plan, "e") == ["figures/e/gallery.png"]
    plan = planned({"e": {"set": {"weights": "file"}, "figures": {"umap": {}, "sweep": {}}}})
    assert figures_of(plan, "e") == []


def test_what_a_table_needs_is_plain_values(planned) -> None:
    """They are a parameter of the job: a change of any of them makes the table anew."""
    content = BOTH | {"caption": "A caption.", "measure": "cost", "datasets": {"mine": ["nut"], "btad": "all"}}
    plan = planned({"e": content}, tolerance=0.3)
    settings = table_settings(plan, "e")
    absent = "data set btad is not at hand: give its folder as datasets.btad.root"
    expected = {"title": "Title of e", "caption": "A caption.", "measure": "cost", "absent": absent}
    expected |= {"layouts": {"mine": "mvtec_ad"}, "resamples": 100, "tolerance": 0.3}
    assert {k: v for k, v in settings.items() if k in expected} == expected
    assert settings["targets"] == [("mine", "nut")]
    assert [(p["method"], p["run"], p["seed"]) for p in settings["cells"]] == [
        (run.method, name, 0) for name, run in plan.runs.items()
    ]
    assert json.loads(json.dumps(settings))["cells"][0]["departures"] == []
    assert set(settings) == {*expected, "targets", "cells"}


def test_sections_are_of_what_can_be_run(planned) -> None:
    plan = planned(
        {
            "a": BOTH | {"figures": {"sweep": {}}},
            "nodata": {"datasets": {"btad": "all"}},
            "noweights": {"set": {"weights": "file"}},
            "part": {"axes": {"epoch": [3, 40]}},
        }
    )
    expected = {"name": "a", "title": "Title of a", "table": "tables/a.html", "figures": ["figures/a/sweep.svg"]}
    assert sections(plan, ["a"]) == [expected]
    assert [s["name"] for s in sections(plan, plan.experiments)] == ["a", "part"]
    assert [s["name"] for s in sections(plan, ["part", "elsewhere", "nodata", "a"])] == ["part", "a"]
    assert set(plan.absent) == {"nodata", "noweights", "part"}


@given(st.dictionaries(st.text(max_size=3), st.sampled_from(["no data", "no weights", ""])))
def test_reasons_are_named_once_with_all_they_are_of(absent) -> None:
    found = reasons(absent)
    assert {name: why for why, names in found.items() for name in names} == absent
    assert sum(map(len, found.values())) == len(absent) and all(found.values())


def test_a_record_is_current_until_its_code_or_its_data_change(planned, tmp_path) -> None:
    plan, folder = planned({"e": BOTH}), tmp_path / "results"
    record = write_result(plan, folder, next(iter(plan.runs)), "nut")
    assert is_current(record, folder, CODES)
    assert is_current(record, folder, CODES | {"ensemble": "e1"})  # it is none
    for stage in ("features", "training", "bank", "score"):
        assert not is_current(record, folder, CODES | {stage: "other"}), stage
    write_manifest(folder, "bolt", "another image")
    assert is_current(record, folder, CODES)  # another category's
    write_manifest(folder, "nut", "another image")
    assert not is_current(record, folder, CODES)
    write_manifest(folder, "nut")
    assert is_current(record, folder, CODES)
    (folder / "index/mine/nut.json").unlink()
    assert not is_current(record, folder, CODES)
    write_manifest(folder, "nut")
    record.write_text('{"schema_version": 1}')  # of an earlier version, to be made anew
    assert not is_current(record, folder, CODES)
    record.unlink()
    assert not is_current(record, folder, CODES)


def test_an_ensemble_is_as_current_as_its_members(planned, tmp_path) -> None:
    plan, folder = planned({"e": ENSEMBLE}), tmp_path / "results"
    (name,) = plan.ensembles
    record = write_result(plan, folder, name, "nut")
    assert is_current(record, folder, CODES)
    for stage in CODES:
        assert not is_current(record, folder, CODES | {stage: "other"}), stage


def test_what_is_missing_is_listed_and_the_rest_is_shown(planned, tmp_path) -> None:
    """Of three experiments one is whole, one lacks a run and has one of older code, one has nothing."""
    figures = {"figures": {"gallery": {}}}
    plan = planned(
        {
            "whole": {"axes": {"dim": [64]}} | figures,
            "part": {"axes": {"dim": [128, 256]}} | figures,
            "none": {"axes": {"dim": [32]}},
            "nodata": {"datasets": {"btad": "all"}},
        }
    )
    folder = tmp_path / "results"
    write_all(plan, folder, "whole")
    first, second = plan.members("part")
    write_result(plan, folder, first, "nut")
    stages = {stage: {"code": "older"} for stage in ("features", "training", "bank", "score")}
    write_result(plan, folder, first, "bolt", stages=stages)
    write_result(plan, folder, second, "bolt")
    for name in ("whole", "part"):
        (folder / f"figures/{name}").mkdir(parents=True)
        Image.new("L", (2, 2)).save(folder / f"figures/{name}/gallery.png")
    lost = report_what_is_there(plan, folder, CODES)
    assert lost == [f"part: runs/mine/bolt/{first}", f"part: runs/mine/nut/{second}", "none: all 2"]
    values = values_of(folder, "part")
    assert values["nut", first] and values["bolt", second]
    assert not values["bolt", first] and not values["nut", second]  # the older record is no number of this table
    assert all(values_of(folder, "whole").values())
    assert not (folder / "tables/none.csv").exists() and not (folder / "tables/nodata.csv").exists()
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "Planned results are missing" in page and all(line in page for line in lost)
    assert "Title of whole" in page and "Title of part" in page and "Title of none" not in page
    assert "data set btad is not at hand" in page
    assert page.count("<img") == 1 and 'alt="gallery of whole"' in page  # a figure may be of what is missing


def test_what_is_written_is_dated_so_that_the_workflow_makes_it_anew(planned, tmp_path) -> None:
    plan, folder = planned({"a": {"axes": {"dim": [64]}}, "b": {"axes": {"dim": [128]}}}), tmp_path / "results"
    records = write_all(plan, folder, "a", "b")
    records[0].unlink()
    report_what_is_there(plan, folder, CODES)
    made = [folder / "report.html", *(folder / f"tables/{n}.{s}" for n in "ab" for s in ("csv", "md", "tex", "html"))]
    assert [file.stat().st_mtime for file in made] == [0] * 9
    assert all(record.stat().st_mtime > 0 for record in records[1:])
    assert {file for file in folder.rglob("*") if file.is_file() and not file.stat().st_mtime} == set(made)


def test_a_whole_table_is_left_alone_and_one_without_its_last_records_is_not(planned, tmp_path) -> None:
    plan, folder = planned({"a": {"axes": {"dim": [64]}}, "b": {"axes": {"dim": [128]}}}), tmp_path / "results"
    records = write_all(plan, folder, "a", "b")
    (folder / "tables").mkdir()
    table = folder / "tables/a.html"
    table.write_text("<table><tr><td>as the workflow made it</td></tr></table>")
    made = table.stat().st_mtime_ns
    records[-1].unlink()  # one of b's
    for _ in range(2):
        assert report_what_is_there(plan, folder, CODES) == [f"b: {records[-1].parent.relative_to(folder)}"]
        assert table.stat().st_mtime_ns == made and "as the workflow made it" in table.read_text()
        assert "as the workflow made it" in (folder / "report.html").read_text()
        assert {p.name for p in (folder / "tables").glob("a.*")} == {"a.html"}
    # b's last record comes, but its table's job does not run: the table of the failure before must not stay
    assert not values_of(folder, "b")["bolt", plan.members("b")[0]]
    write_result_again(plan, folder, records[-1])
    assert report_what_is_there(plan, folder, CODES) == []
    assert all(values_of(folder, "b").values())
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "missing" not in page and "Missing" not in page


def write_result_again(plan: Plan, folder: Path, record: Path) -> None:
    shutil.rmtree(record.parent)
    write_result(plan, folder, record.parent.name, record.parent.parent.name)
