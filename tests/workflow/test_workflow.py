"""The workflow as a user calls it: dry runs, mistakes, and whole runs on small drawn data sets."""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pandas as pd
import pytest
import timm
import yaml
from drawing import write_image
from real_results import EXPERIMENTS
from running import ROOT, SMALL, overlay, read, snakemake, tiny
from safetensors.torch import save_file

from reconpatch.data.miniatures import write_miniature
from reconpatch.experiments.plan import load_plan
from reconpatch.experiments.stages import FIGURES


def test_all_without_data_is_the_smoke_run(checkout: Path) -> None:
    printed = " ".join(snakemake(checkout, "-n", "all").split())
    for rule, count in {"draw_sample": 1, "extract_features": 1, "train_representation": 2, "score_run": 8}.items():
        assert f"{rule} {count}" in printed, rule


@pytest.mark.parametrize(
    ("baseline", "target", "message"),
    [
        ({"corset": 0.1}, "smoke", "baseline.corset"),
        ({}, "table_mvtec", "data set mvtec_ad is not at hand: give its folder as datasets.mvtec_ad.root"),
    ],
)
def test_a_mistake_stops_with_one_message_before_any_job(baseline, target, message, checkout: Path) -> None:
    printed = snakemake(checkout, "--cores", "1", *overlay(checkout, baseline=baseline), target, ok=False)
    assert message in printed and "most recent call last" not in printed and not (checkout / "results").exists()


def test_a_call_from_another_folder_plans_there(checkout: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    command = ["-s", str(checkout / "Snakefile"), *overlay(elsewhere, seeds=[0]), "all"]
    printed = snakemake(elsewhere, "--cores", "1", "-n", *command)
    assert "report_all" in printed and "draw_sample" in printed


AD2 = {"mvtec_ad_2": ("can", "sheet_metal")}


@pytest.fixture
def miniatures(checkout: Path) -> Callable[..., list[str]]:
    """Layout -> categories: miniatures of these in the checkout, and the arguments that tell the workflow of them."""

    def make(categories: Mapping[str, Sequence[str]], **content: object) -> list[str]:
        for layout, names in categories.items():
            write_miniature(layout, checkout / "data" / layout, categories=names)
        network = {"backbone": "tf_efficientnet_lite0", "weights": "embedded"}
        stand_ins = {"wide_resnet50_2.tv_in1k": network}
        datasets = {layout: {"root": f"data/{layout}"} for layout in categories}
        return overlay(checkout, datasets=datasets, stand_ins=stand_ins, **content)

    return make


def counts_of(printed: str) -> dict[str, int]:
    """What a dry run prints -> number of jobs of each rule."""
    found = re.findall(r"^(\w+) +(\d+)$", printed, flags=re.MULTILINE)
    return {rule: int(count) for rule, count in found}


def jobs_of(printed: str) -> dict[str, str]:
    """What a dry run prints -> of each rule the lines that tell of its last job."""
    return dict(re.findall(r"^rule (\w+):\n((?: {4}.*\n)+)", printed, flags=re.MULTILINE))


def test_extraction_comes_after_all_else_that_is_ready(checkout: Path, mvtec: Path) -> None:
    """As the jobs of a dry run ask for it. A core for which there is no other work goes to the extraction."""
    arguments = tiny(checkout, "mvtec_ad", mvtec, {"method": ["patchcore", "reconpatch"]}, figures={"umap": {}})
    one, many = (jobs_of(snakemake(checkout, "-n", "--cores", n, *arguments, "tiny")) for n in ("1", "16"))
    priority = {rule: int(found[1]) for rule, job in one.items() if (found := re.search(r"priority: (\d+)", job))}
    assert {"index_category", "read_masks", "select_coreset", "score_run", "make_table", "draw_umap"} < priority.keys()
    assert max(priority, key=priority.__getitem__) == "index_category"
    assert min(priority, key=priority.__getitem__) == "extract_features"
    assert priority["train_representation"] > priority["score_run"]
    assert ["threads: 2" in jobs["extract_features"] for jobs in (one, many)] == [False, True]


def test_submissions_are_planned_when_they_are_asked_for(checkout: Path, miniatures) -> None:
    """One for every run and category; the target of everything leaves them out."""
    set_small = {"table_ad2": {"set": {"crop": 64}}}
    arguments = miniatures(AD2, overrides=set_small, seeds=[0, 1])
    counts = counts_of(snakemake(checkout, "-n", *arguments, "submission_ad2"))
    assert counts["write_submission"] == 2 * 3 * 2  # categories, methods, seeds
    assert counts["score_run"] == 12 and counts["submission_ad2"] == 1 and "make_table" not in counts
    counts = counts_of(snakemake(checkout, "-n", *arguments, "all"))
    assert counts["score_run"] >= 12 and counts["make_table"] >= 1 and "write_submission" not in counts
    assert not (checkout / "results").exists()


def test_a_submission_that_does_not_fit_is_refused_before_any_job(checkout: Path, miniatures) -> None:
    """It is the largest of these jobs: it holds the network and the bank, and a map as large as an image."""
    small = {"table_ad2": {"set": {"crop": 64}, "axes": {"method": ["patchcore"]}}}
    arguments = miniatures(AD2, overrides=small, memory_gb=0.5)
    printed = snakemake(checkout, "--cores", "1", *arguments, "submission_ad2", ok=False)
    assert "write_submission of mvtec_ad_2/" in printed and "there are 0.5 GB" in printed
    assert "most recent call last" not in printed and not (checkout / "results").exists()


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("submission_ad3", ("submission_ad3: no such target", "submission_ad2")),
        ("submission_ad2", ("table_ad2: data set mvtec_ad_2 is not at hand", "datasets.mvtec_ad_2.root")),
    ],
)
def test_submissions_without_data_and_mistyped(target, words, checkout: Path) -> None:
    printed = snakemake(checkout, "-n", target, ok=False)
    assert all(word in printed for word in words) and "most recent call last" not in printed


def test_natures_of_the_only_data_set_at_hand(checkout: Path, miniatures, monkeypatch) -> None:
    """The table is made of what is there, and says what is not."""
    arguments = miniatures({"mpdd": ("bracket_black", "tubes")})
    printed = snakemake(checkout, "-n", *arguments, "table_nature")
    counts = counts_of(printed)
    assert counts["index_category"] == 2 and counts["score_run"] == 2 * 3 * 3 and counts["make_table"] == 1
    monkeypatch.chdir(checkout)
    absent = load_plan([Path("overlay.yaml")], ["table_nature"]).absent["table_nature"]
    for dataset in ("mvtec_ad", "btad", "visa", "mvtec_loco", "mvtec_ad_2", "dtd_synthetic"):
        assert sum(f"data set {dataset} is not at hand" in reason for reason in absent) == 1
    printed = snakemake(checkout, "-n", *arguments, "all")
    assert "Left out: data set visa is not at hand" in printed and "table_nature" in printed


def test_damaged_data_stop_before_any_work_on_them(checkout: Path, mvtec: Path, damage) -> None:
    damage(mvtec / "nut/test/bent/001.png")
    damage(mvtec / "nut/train/good/002.png")
    arguments = tiny(checkout, "mvtec_ad", mvtec, {"method": ["patchcore"]})
    printed = snakemake(checkout, "--cores", "2", *arguments, "tiny", ok=False)
    assert "nut: 2 problem(s) in the data" in printed
    assert "bent/001.png" in printed and "good/002.png" in printed and "Traceback" not in printed
    assert not (checkout / "results/features").exists()


def test_the_workflow_continues_from_results_of_the_steps(real_checkout: Path) -> None:
    """It plans the same files from the same inputs, so it has figures left to draw, of every kind."""
    command = ["--rerun-triggers", "mtime", "--configfile", "overlay.yaml", "--", *EXPERIMENTS]
    printed = snakemake(real_checkout, "--cores", "2", *command)
    made = {line.split()[1].rstrip(":") for line in printed.splitlines() if line.startswith(("rule ", "localrule "))}
    kinds = {kind for content in EXPERIMENTS.values() for kind in content.get("figures", {})}
    assert kinds == {*FIGURES} and made - {*EXPERIMENTS} == {f"draw_{kind}" for kind in kinds}
    for suffix, least in (("pdf", 1000), ("svg", 1000), ("png", 1000), ("txt", 100), ("tex", 100)):
        figures = {file.stem: file for file in (real_checkout / "results/figures").rglob(f"*.{suffix}")}
        assert set(figures) == kinds and all(file.stat().st_size > least for file in figures.values())
    assert "Nothing to be done" in snakemake(real_checkout, "-n", *command)


def test_runs_from_images_to_tables_and_figures(
    checkout: Path, btad: Path, own: Path, rng: np.random.Generator
) -> None:
    """Table 7 on a drawn product of BTAD's layout, both methods; and a user's folder without masks, with an ensemble of
    two dimensions. Features are deleted once used. Then there is nothing to be done until an image changes.
    """
    axes = {"method": ["patchcore"], "dim": [8, 16]}
    mine = {"title": "Mine", "datasets": {"own": "all"}, "set": {k: v for k, v in SMALL.items() if k not in axes}}
    mine |= {"axes": axes, "ensemble": {"over": "dim", "combine": ["zscore"]}}
    (checkout / "mine.yaml").write_text(yaml.safe_dump(mine))
    target = overlay(
        checkout,
        datasets={"btad": {"root": str(btad)}, "own": {"layout": "folder", "root": str(own)}},
        experiments={"mine": "mine.yaml"},
        overrides={"table_btad": {"datasets": {"btad": ["01"]}, "set": SMALL, "figures": {"histogram": {}}}},
        features_gb=0,
    )
    command = ["--cores", "2", *target, "table_btad", "mine"]
    snakemake(checkout, *command)
    assert not list((checkout / "results/features").rglob("*.npy"))
    of_btad = [record for record in read(checkout) if record["dataset"] == "btad"]
    assert len(of_btad) == 3 and len(read(checkout)) == 5
    for record in read(checkout):
        assert record["metrics"]["image_auroc"] is not None
        assert (record["metrics"]["aupro_30"] is not None) == (record["dataset"] == "btad")
    for record in of_btad:
        counts = {"layout": "btad", "train": 4, "test_normal": 3, "test_anomalous": 3, "validation": 0, "masks": 3}
        assert counts.items() <= record["data"].items() and record["weights"]["source"] == "random"
        kinds = [flag["kind"] for flag in record["flags"]]
        assert "weights" in kinds and "altered" in kinds, "a drawn data set must not pass for BTAD"
    cells = pd.read_csv(checkout / "results/tables/table_btad.csv", dtype={"category": str})
    assert set(cells["category"]) == {"01"} and set(cells["verdict"]) == {"not comparable", "no number"}
    first = cells[(cells["category"] == "01") & (cells["metric"] == "image_auroc")].set_index("method")
    assert (first["low"] <= first["value"]).all() and (first["value"] <= first["high"]).all()
    assert first["paper"].dropna().to_dict() == pytest.approx({"patchcore": 0.98, "reconpatch": 0.997})
    markdown = (checkout / "results/tables/table_btad.md").read_text()
    for words in ("backbone = resnet10t (paper wide_resnet101_2.tv_in1k)", "untrained", "VT-ADL"):
        assert words in markdown, words
    assert "ensemble" in (checkout / "results/tables/mine.md").read_text()
    assert len(list((checkout / "results/figures/table_btad").rglob("*.svg"))) == 1
    assert "Nothing to be done" in snakemake(checkout, *command)
    snakemake(checkout, "--report", "own.zip", *target, "table_btad", "mine")  # which needs no network
    with ZipFile(checkout / "own.zip") as archive:
        held = {Path(name).name for name in archive.namelist()}
    figures = {file.name for file in (checkout / "results/figures").rglob("*.*") if file.suffix not in (".txt", ".tex")}
    tables = {file.name for file in (checkout / "results/tables").iterdir()}
    assert held - {"report.html"} == (tables - {"table_btad.json", "mine.json"}) | figures
    write_image(own / "train/0.png", rng)
    printed = " ".join(snakemake(checkout, "-n", *command).split())
    assert "index_category 1" in printed and "score_run 2" in printed


def test_real_bottle_agrees_with_the_official_code(checkout: Path, real: Path) -> None:
    """ResNet-18, 512 dimensions, 1 %: the official code gives image AUROC 100.00 and pixel AUROC 97.94."""
    (checkout / "e.yaml").write_text(
        "title: Bottle\ndatasets: {mvtec_ad: [bottle]}\nset: {method: patchcore}\naxes: {seed: [0]}\n"
    )
    content = yaml.safe_load((ROOT / "configs/real_small.yaml").read_text()) | {"experiments": {"bottle": "e.yaml"}}
    snakemake(checkout, "--cores", "2", *overlay(checkout, **content), "bottle", RECONPATCH_DATA=str(real))
    (record,) = read(checkout)
    assert record["bank"] == {"patches": 1638, "of": 163856, "grid": [28, 28]}
    assert record["metrics"]["image_auroc"] == pytest.approx(1.0, abs=0.01)
    assert record["metrics"]["pixel_auroc"] == pytest.approx(0.9794, abs=0.003)


def test_one_failed_run_stops_neither_the_others_nor_the_report(checkout: Path, mvtec: Path) -> None:
    """A network whose weights are damaged fails when loaded; the table shows a dash there and the report says so."""
    axes = {"backbone": ["resnet10t", "resnet14t"], "weights": ["file"], "method": ["patchcore"]}
    files = {name: checkout / f"{name}.safetensors" for name in axes["backbone"]}
    save_file(timm.create_model("resnet10t").state_dict(), files["resnet10t"])
    files["resnet14t"].write_bytes(files["resnet10t"].read_bytes()[:1000])
    config = {"weight_files": {name: str(file) for name, file in files.items()}}
    arguments = tiny(checkout, "mvtec_ad", mvtec, axes, config=config)
    printed = snakemake(checkout, "--cores", "2", *arguments, "tiny", ok=False)
    assert "resnet14t.safetensors: cannot be read safely" in printed
    (record,) = read(checkout)
    page = (checkout / "results/report.html").read_text()
    assert "Planned results are missing" in page and "smoke: all 8" in page
    assert (
        page.count("tiny: runs/mine/nut/method=patchcore") == 1 and f"tiny: runs/mine/nut/{record['run']}" not in page
    )
    assert page.count(f'href="runs/mine/nut/{record["run"]}/record.json"') == 3  # its number in every metric
    assert "Missing, because the run failed" in (checkout / "results/tables/tiny.md").read_text()
    cells = pd.read_csv(checkout / "results/tables/tiny.csv")
    value = cells[cells["metric"] == "image_auroc"].set_index("backbone")["value"]
    assert value.notna()["resnet10t"] and value.isna()["resnet14t"]
    # what was written in the failure's wake does not pass for the workflow's own
    alone = tiny(checkout, "mvtec_ad", mvtec, axes | {"backbone": ["resnet10t"]}, config=config)
    assert "make_table 1" in " ".join(snakemake(checkout, "-n", *alone, "tiny").split())
