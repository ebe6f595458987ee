"""The workflow as a user calls it: dry runs, mistakes, and whole runs on small drawn data sets."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

ROOT = Path(__file__).parents[2]
SNAKEMAKE = [str(Path(sys.executable).parent / "snakemake")]
PARTS = ["Snakefile", "workflow", "configs", "profiles", "environment.yml"]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of the workflow, without results, that uses the installed package."""
    target = tmp_path / "checkout with a space"
    target.mkdir()
    for part in PARTS:
        copy = shutil.copytree if (ROOT / part).is_dir() else shutil.copy
        copy(ROOT / part, target / part)
    return target


def snakemake(where: Path, *arguments: str, ok: bool = True, **variables: str) -> str:
    """Run Snakemake and return what it printed."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("SNAKEMAKE")} | variables
    done = subprocess.run(
        [*SNAKEMAKE, *arguments], cwd=where, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    assert (done.returncode == 0) == ok, done.stdout[-6000:]
    return done.stdout


def overlay(where: Path, **content: object) -> list[str]:
    (where / "overlay.yaml").write_text(yaml.safe_dump(content))
    return ["--configfile", "overlay.yaml", "--"]


def tiny(where: Path, layout: str, root: Path, axes: dict[str, list[object]], **more: object) -> list[str]:
    """Arguments for an experiment `tiny` on a data set `mine` with a small untrained network."""
    small = {"backbone": "resnet10t", "weights": "random", "resize": 40, "crop": 32, "level_dim": 32, "feature_dim": 32}
    small |= {"dim": 16, "coreset_dim": 8, "coreset": 0.1, "epochs": 2, "batch": 32, "projection_dim": 8}
    small = {key: value for key, value in small.items() if key not in axes}
    (where / "tiny.yaml").write_text(
        yaml.safe_dump({"title": "Tiny", "datasets": {"mine": "all"}, "set": small, "axes": axes, **more})
    )
    return overlay(where, datasets={"mine": {"layout": layout, "root": str(root)}}, experiments={"tiny": "tiny.yaml"})


def read(where: Path) -> list[dict]:
    return [json.loads(p.read_text()) for p in sorted((where / "results/runs").rglob("record.json"))]


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
    arguments = tiny(checkout, "btad", btad, axes, figures={"coreset": 0.5})
    snakemake(checkout, "--cores", "2", *arguments, "tiny")
    records = read(checkout)
    assert len(records) == 8
    for record in records:
        assert record["metrics"]["image_auroc"] is not None and record["metrics"]["aupro_30"] is not None
        assert record["data"] | {"manifest": ""} == {
            **{"layout": "btad", "manifest": "", "train": 4, "test_normal": 3, "test_anomalous": 3, "masks": 3}
        }
        assert record["bank"]["patches"] == {0.5: 32, 0.1: 6}[record["description"]["coreset"]]
        assert record["flags"] == ["untrained (random) weights"] and record["weights"]["source"] == "random"
        trained = {"training"} if record["description"]["method"] == "reconpatch" else set()
        assert set(record["stages"]) == {"features", "bank", "score"} | trained
    table = pd.read_csv(checkout / "results/tables/tiny.csv", dtype={"category": str})
    assert len(table) == 8 and set(table["flags"]) == {"untrained (random) weights"}
    markdown = (checkout / "results/tables/tiny.md").read_text()
    assert "mean of 2" in markdown and "untrained (random) weights" in markdown
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
