import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from reconpatch.experiments.config import read_config
from reconpatch.experiments.outputs import (
    figure_files,
    figures_of,
    files_of_ensemble,
    files_of_figure,
    files_of_run,
    files_of_thumbnails,
    kept_files,
    lost_files,
    outputs_of,
    reasons,
    thumbnails_of,
)
from reconpatch.experiments.plan import Plan, make_plan
from reconpatch.experiments.stages import FIGURES, STAGES

ROOT = Path(__file__).parents[3]
DEFAULT = yaml.safe_load((ROOT / "configs/default.yaml").read_text())
DEFAULT["baseline"] |= {"level_dim": 1024, "feature_dim": 1024, "dim": 512}  # networks named here need not exist
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


def test_files_behind_a_table_that_are_gone_are_found(planned, tmp_path, monkeypatch) -> None:
    """All that its runs and ensembles were made from, but features, which may be deleted by plan."""
    plan = planned({"e": ENSEMBLE})
    kept = kept_files(plan, "e")
    assert not [file for file in kept if file.endswith(("train.npy", "test.npy", "validation.npy"))]
    folders = [file.split("/")[1] for file in kept if "/nut" in file]
    counts = {"index": 1, "ensembles": 2, "runs": 2 * 3, "bank": 2 * 2, "masks": 2, "features": 2}
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
    same = {"manifest": 1, "records": 2, "scores_of_members": 2, "masks": 1, "defects": 1}
    assert counts == {"zscore": same | {"training": 2}, "minmax": same | {"training": 0}}
    gallery = files_of_figure(plan, FIGURES["gallery"], SimpleNamespace(experiment="e"))
    first = next(iter(plan.runs))
    assert gallery["runs"] == [f"results/runs/mine/{c}/{first}/record.json" for c in ("nut", "bolt")]
    assert gallery["manifests"] == ["results/index/mine/nut.json", "results/index/mine/bolt.json"]
    histogram = files_of_figure(plan, FIGURES["histogram"], SimpleNamespace(experiment="e", **where))
    assert {name: len(paths) for name, paths in histogram.items()} == {"runs": 2, "scores": 2, "manifest": 1}
    files = files_of_run(plan, STAGES["score"], SimpleNamespace(run=first, **where))
    assert files["training"] == []  # PatchCore has none
    assert [len(files[name]) for name in ("test", "validation", "masks", "defects")] == [1] * 4


def test_figures_that_would_draw_nothing_are_none(planned) -> None:
    """Their runs lack their weights, or their epoch is not kept; those of the others are drawn."""
    variants = {"with": {"set": {"weights": "random"}}, "without": {"set": {"weights": "file"}}}
    figures = {"umap": {"variant": "without"}, "sweep": {}, "gallery": {"variant": "with"}}
    plan = planned({"e": {"variants": variants, "figures": figures}})
    assert figures_of(plan, "e") == ["figures/e/sweep.svg", "figures/e/gallery.png"]
    assert figure_files(plan, "e") == [
        [f"figures/e/sweep.{suffix}" for suffix in ("svg", "pdf", "png", "txt", "tex")],
        [f"figures/e/gallery.{suffix}" for suffix in ("png", "pdf", "svg", "txt", "tex")],
    ]
    assert {f"results/figures/e/{name}" for name in ("sweep.pdf", "gallery.txt")} <= {*outputs_of(plan, ["e"])}
    plan = planned({"e": {"axes": {"epoch": [3, 40]}, "figures": {"umap": {"epoch": 3}, "gallery": {"epoch": 40}}}})
    assert figures_of(plan, "e") == ["figures/e/gallery.png"]
    plan = planned({"e": {"set": {"weights": "file"}, "figures": {"umap": {}, "sweep": {}}}})
    assert figures_of(plan, "e") == []


def test_the_report_shows_images_of_each_category_once_by_both_methods_if_it_can(planned) -> None:
    """Of the first pair with the same settings, though another experiment comes first."""
    alone = {"datasets": {"mine": ["nut"]}, "axes": {"method": ["reconpatch"]}}
    pair = {"datasets": {"mine": ["nut"]}, "axes": {"dim": [64, 128], "method": ["patchcore", "reconpatch"]}}
    other = {"datasets": {"mine": ["bolt"]}, "axes": {"method": ["patchcore"]}}
    plan = planned({"alone": alone, "pair": pair, "other": other})

    def shown(*names: str) -> dict[str, list[str]]:
        files = [Path(file) for file in thumbnails_of(plan, names)]
        assert len(files) == len({file.parent for file in files})
        stage = {
            file.parent.name: SimpleNamespace(dataset="mine", category=file.parent.name, run=file.stem)
            for file in files
        }
        return {name: [Path(f).parent.name for f in files_of_thumbnails(plan, w)["runs"]] for name, w in stage.items()}

    both, single = shown("alone", "pair", "other"), shown("other")
    assert [plan.runs[run].method for run in both["nut"]] == ["patchcore", "reconpatch"]
    assert {plan.runs[run].dim for run in both["nut"]} == {64} and both["nut"][1] in plan.members("pair")
    assert [plan.runs[run].method for run in both["bolt"]] == ["patchcore"] and both["bolt"] == single["bolt"]
    assert thumbnails_of(planned({"pair": pair}, report_images="none"), ["pair"]) == []


def test_gains_read_the_records_of_the_runs_they_show(planned) -> None:
    """Of all seeds; other figures of a whole table read the records of all its runs."""
    axes = {"dim": [64, 128], "method": ["patchcore", "reconpatch"], "seed": [0, 1]}
    plan = planned({"e": {"axes": axes, "figures": {"gains": {"dim": 64}, "sweep": {"dim": 64}}}})
    counts = {
        kind: len(files_of_figure(plan, FIGURES[kind], SimpleNamespace(experiment="e"))["records"])
        for kind in ("gains", "sweep")
    }
    assert counts == {"gains": 2 * 4, "sweep": 2 * 8}


def test_reasons_are_named_once_with_all_they_are_of() -> None:
    absent = {"a": ["no data"], "b": ["no weights"], "c": ["no data", "no weights"]}
    assert reasons(absent) == {"no data": ["a", "c"], "no weights": ["b", "c"]}
