"""The workflow as a user calls it: dry runs, mistakes, and whole runs on small drawn data sets."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import timm
import yaml
from running import ROOT, SMALL, overlay, read, snakemake, tiny
from safetensors.numpy import load_file
from safetensors.torch import save_file

from reconpatch.records.verify import verify


def test_smoke_plans_the_whole_chain(checkout: Path) -> None:
    printed = snakemake(checkout, "-n", "smoke")
    for rule, count in {"draw_sample": 1, "extract_features": 1, "train_representation": 2, "score_run": 8}.items():
        assert f"{rule} {count}" in " ".join(printed.split()), rule


def test_all_without_data_is_the_smoke_run_and_says_what_is_missing(checkout: Path) -> None:
    assert "score_run 8" in " ".join(snakemake(checkout, "-n", "all").split())
    printed = snakemake(checkout, "-n", "table_mvtec", ok=False)
    assert "data set mvtec_ad is not at hand: give its folder as datasets.mvtec_ad.root" in printed


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"datasets": {"mvtec_ad": {"root": "/nowhere"}}}, "data root /nowhere: no such folder"),
        ({"datasets": {"mvtec_ad": {"root": "$NOT_SET_X/a"}}}, "the environment variable in it is not set"),
        ({"baseline": {"coreset": 0}}, "baseline.coreset = 0: Input should be greater than 0"),
        ({"baseline": {"coreset": 2}}, "baseline.coreset = 2: Input should be less than or equal to 1"),
        ({"baseline": {"corset": 0.1}}, "unknown key baseline.corset; check its spelling"),
        ({"seed": [1]}, "unknown key seed; check its spelling"),
        ({"baseline": {"levels": [2, 9]}}, "has no level 9; its levels are"),
    ],
)
def test_mistakes_stop_with_one_message_before_any_job(content, message, checkout: Path) -> None:
    printed = snakemake(checkout, "--cores", "1", *overlay(checkout, **content), "smoke", ok=False)
    assert message in printed
    assert "Traceback" not in printed and not (checkout / "results").exists()


def test_unknown_backbone_stops_before_any_job(checkout: Path, mvtec: Path) -> None:
    arguments = tiny(checkout, "mvtec_ad", mvtec, {"backbone": ["wide_resnet50"]})
    printed = snakemake(checkout, "--cores", "1", *arguments, "tiny", ok=False)
    assert "'wide_resnet50': timm has no such model (similar: wide_resnet50_2" in printed


def test_damaged_data_stop_before_any_work_on_them(checkout: Path, mvtec: Path, damage) -> None:
    damage(mvtec / "nut/test/bent/001.png")
    damage(mvtec / "nut/train/good/002.png")
    arguments = tiny(checkout, "mvtec_ad", mvtec, {"method": ["patchcore"]})
    printed = snakemake(checkout, "--cores", "2", *arguments, "tiny", ok=False)
    assert "nut: 2 problem(s) in the data" in printed
    assert "bent/001.png" in printed and "good/002.png" in printed and "Traceback" not in printed
    assert not (checkout / "results/features").exists()


def test_btad_run_from_images_to_report(checkout: Path, btad: Path) -> None:
    """Both products, both methods: records, table, figures, report; then nothing to be done; same bytes again."""
    axes = {"method": ["patchcore", "reconpatch"], "coreset": [0.5, 0.1]}
    kinds = {kind: {"coreset": 0.5} for kind in ("qualitative", "histogram", "umap")} | {"sweep": {}}
    arguments = tiny(checkout, "btad", btad, axes, figures=kinds)
    snakemake(checkout, "--cores", "2", *arguments, "tiny")
    records = read(checkout)
    assert len(records) == 8
    for record in records:
        assert record["metrics"]["image_auroc"] is not None and record["metrics"]["aupro_30"] is not None
        assert record["data"] | {"manifest": ""} == {
            **{"layout": "btad", "manifest": "", "train": 4, "test_normal": 3, "test_anomalous": 3, "masks": 3}
        }
        assert record["bank"]["patches"] == {0.5: 32, 0.1: 6}[record["description"]["coreset"]]
        assert record["flags"][0] == {"kind": "weights", "text": "untrained (random) weights"}
        assert record["weights"]["source"] == "random"
        assert any("published" in flag["text"] for flag in record["flags"]), "a drawn data set must not pass for BTAD"
        trained = {"training"} if record["description"]["method"] == "reconpatch" else set()
        assert set(record["stages"]) == {"features", "bank", "score"} | trained
    cells = pd.read_csv(checkout / "results/tables/tiny.csv", dtype={"category": str})
    assert len(cells) == 3 * 3 * 2 * 2  # two products and their mean, metrics, methods, ratios
    assert cells["flags"].str.contains("untrained").all()
    image = cells[(cells["metric"] == "image_auroc") & (cells["category"] != "mean")]
    assert (image["low"] <= image["value"]).all() and (image["value"] <= image["high"]).all()
    markdown = (checkout / "results/tables/tiny.md").read_text()
    assert "mean of 2" in markdown and "untrained (random) weights" in markdown
    assert (checkout / "results/figures/tiny/sweep.svg").stat().st_size > 1000
    for figure in ("qualitative.png", "histogram.svg", "umap.svg"):
        assert (checkout / "results/figures/tiny/mine/03" / figure).stat().st_size > 1000
    assert "Nothing to be done" in snakemake(checkout, "--cores", "1", *arguments, "tiny")
    metrics = [r["metrics"] for r in records]
    shutil.rmtree(checkout / "results")
    snakemake(checkout, "--cores", "1", *arguments, "tiny")
    assert [r["metrics"] for r in read(checkout)] == metrics


def test_own_images_without_masks_report_image_metrics_only(checkout: Path, own: Path) -> None:
    snakemake(checkout, "--cores", "2", *tiny(checkout, "folder", own, {"method": ["patchcore"]}), "tiny")
    (record,) = read(checkout)
    assert record["metrics"]["image_auroc"] is not None and record["metrics"]["pixel_auroc"] is None
    assert record["category"] == "own"


def test_a_changed_image_is_noticed(checkout: Path, mvtec: Path, rng: np.random.Generator) -> None:
    from drawing import write_image

    arguments = tiny(checkout, "mvtec_ad", mvtec, {"method": ["patchcore"]})
    snakemake(checkout, "--cores", "2", *arguments, "tiny")
    write_image(mvtec / "nut/train/good/000.png", rng)
    printed = " ".join(snakemake(checkout, "-n", *arguments, "tiny").split())
    assert "index_category 1" in printed and "score_run 1" in printed


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


def test_ensemble_combines_the_scores_of_its_members(checkout: Path, mvtec: Path) -> None:
    axes = {"method": ["patchcore"], "backbone": ["resnet10t", "resnet14t"]}
    ensemble = {"over": "backbone", "combine": ["zscore", "minmax"]}
    arguments = tiny(checkout, "mvtec_ad", mvtec, axes, ensemble=ensemble)
    snakemake(checkout, "--cores", "2", *arguments, "tiny")
    folder = checkout / "results/runs/mine/nut"
    members = [(load_file(p / "scores.safetensors"), load_file(p / "training.safetensors")) for p in folder.iterdir()]
    assert len(members) == 2
    expected = {"zscore": 0.0, "minmax": 0.0}
    for test, train in members:
        image, middle = test["image"].astype(float), np.median(train["image"].astype(float))
        deviation = 1.4826 * np.median(abs(train["image"] - middle))
        expected["zscore"] += (image - middle) / deviation / 2
        expected["minmax"] += (image - image.min()) / np.ptp(image) / 2
    for file in (checkout / "results/ensembles/mine/nut").glob("*/record.json"):
        record = json.loads(file.read_text())
        scores = load_file(file.parent / "scores.safetensors")["image"]
        np.testing.assert_allclose(scores, expected.pop(record["combine"]), rtol=1e-4, atol=1e-5)
        assert [m["description"]["backbone"] for m in record["members"]] == axes["backbone"]
    assert not expected
    assert "| resnet14t" in (text := (checkout / "results/tables/tiny.md").read_text()) and "ensemble, minmax" in text


def test_features_beyond_the_limit_are_deleted_once_used(checkout: Path, mvtec: Path) -> None:
    axes = {"method": ["patchcore", "reconpatch"]}
    arguments = tiny(checkout, "mvtec_ad", mvtec, axes, config={"features_gb": 0})
    snakemake(checkout, "--cores", "2", *arguments, "tiny")
    assert len(read(checkout)) == 2 and not list((checkout / "results/features").rglob("*.npy"))
    assert "Nothing to be done" in snakemake(checkout, "--cores", "1", *arguments, "tiny")


def test_augmented_test_images_share_the_training(checkout: Path, mvtec: Path) -> None:
    variants = {v: {"set": {"augment": v}} for v in ("none", "test", "both")}
    arguments = tiny(checkout, "mvtec_ad", mvtec, {"method": ["reconpatch"]}, variants=variants)
    snakemake(checkout, "--cores", "2", *arguments, "tiny")
    assert len(list((checkout / "results/training").rglob("f.safetensors"))) == 2
    records = {r["description"].get("augment", "none"): r for r in read(checkout)}
    assert records["none"]["stages"]["training"] == records["test"]["stages"]["training"]
    assert records["both"]["stages"]["training"] != records["test"]["stages"]["training"]
    assert len({r["metrics"]["pixel_auroc"] for r in records.values()}) == 3
    made_from = {name: record["digests"] for name, record in records.items()}
    assert made_from["none"]["train_features"] == made_from["test"]["train_features"]
    assert made_from["both"]["test_features"] == made_from["test"]["test_features"]
    assert made_from["none"]["bank"] == made_from["test"]["bank"] and made_from["none"]["f"] == made_from["test"]["f"]
    assert records["test"]["training_features"] and not records["none"]["training_features"]
    assert verify(checkout / "results", print) == []


def test_a_table_of_the_paper_compares_and_says_why_it_cannot(checkout: Path, btad: Path) -> None:
    """Two drawn products stand for BTAD: the paper's numbers are beside ours, and the reasons why neither is judged."""
    config = {"datasets": {"btad": {"root": str(btad)}}, "overrides": {"table_btad": {"set": SMALL, "figures": {}}}}
    snakemake(checkout, "--cores", "2", *overlay(checkout, **config), "table_btad")
    cells = pd.read_csv(checkout / "results/tables/table_btad.csv", dtype={"category": str})
    first = cells[(cells["category"] == "01") & (cells["metric"] == "image_auroc")].set_index("method")
    assert first["paper"].to_dict() == pytest.approx({"patchcore": 0.98, "reconpatch": 0.997})
    assert set(cells["verdict"].dropna()) == {"not comparable"}
    markdown = (checkout / "results/tables/table_btad.md").read_text()
    for said in ("backbone = resnet10t (paper wide_resnet101_2.tv_in1k)", "untrained", "published by others", "VT-ADL"):
        assert said in markdown, said
    mean = cells[(cells["category"] == "mean") & (cells["metric"] == "pixel_auroc")].set_index("method")
    assert mean["paper"]["reconpatch"] == pytest.approx((0.968 + 0.99) / 2)  # the paper's over the same two products
