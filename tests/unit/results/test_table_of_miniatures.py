"""A table of real results on miniatures: kinds of anomalies, natures and metrics of one's own, down to its files."""

import csv
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from miniature_results import make_miniature_results
from safetensors.numpy import load_file
from sklearn.metrics import roc_auc_score

from reconpatch.cli.verify_tables import check_table
from reconpatch.data.manifest import read_manifest
from reconpatch.experiments.plan import Plan
from reconpatch.records.record import read_record
from reconpatch.records.verify import verify
from reconpatch.results.names import ALL

CATEGORIES = {"mvtec_loco": ["juice_bottle", "pushpins"], "mpdd": ["bracket_black"]}
CONTENT = {
    "axes": {"method": ["patchcore", "reconpatch"], "seed": [0]},
    "metrics": ["spro_05", "image_auroc"],
    "by_nature": True,
    "view": {"rows": ["category"], "where": {"kind": ["mean"]}},
    "figures": {"gains": {}, "ranks": {}},
}
KINDS = {"logical": "logical_anomalies", "structural": "structural_anomalies"}


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> tuple[Path, Plan]:
    folder = tmp_path_factory.mktemp("miniatures")
    return folder, make_miniature_results(folder, CATEGORIES, {"t": CONTENT})


def rows_of(folder: Path, name: str = "t") -> list[dict[str, str]]:
    with open(folder / f"results/tables/{name}.csv", newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def test_kinds_in_the_csv_are_those_of_the_images_in_the_manifest(made) -> None:
    """Against the saved scores and the folders of the images, by another AUROC; sPRO as the records have it."""
    folder, _ = made
    checked = 0
    for row in rows_of(folder):
        if row["dataset"] != "mvtec_loco" or row["categories"] != "1" or row["kind"] == "mean":
            continue
        place = folder / "results/runs/mvtec_loco" / row["category"] / row["runs"]
        record, scores = read_record(place / "record.json"), load_file(place / "scores.safetensors")
        items, _ = read_manifest(folder / f"results/index/mvtec_loco/{row['category']}.json")
        types = np.array([item.path.split("/")[1] for item in items if item.split == "test"])
        chosen = np.isin(types, ["good", KINDS[row["kind"]]])
        assert chosen.sum() == 6
        if row["metric"] == "image_auroc":
            value = roc_auc_score(types[chosen] != "good", scores["image"][chosen])
        else:
            value = record.kinds[row["kind"]]["spro_05"]
        assert float(row["value"]) == pytest.approx(value)
        checked += 1
    assert checked == 2 * 2 * 2 * 2  # categories, kinds, methods, metrics
    by_place = {(r["category"], r["kind"], r["method"], r["metric"]): r["value"] for r in rows_of(folder)}
    spro = {kind: by_place["juice_bottle", kind, "patchcore", "spro_05"] for kind in KINDS}
    assert spro["logical"] != spro["structural"]


def test_files_have_the_metrics_of_the_experiment_alone(made) -> None:
    """In its order; where a data set does not have one, there is a dash."""
    folder, _ = made
    rows = rows_of(folder)
    assert list(dict.fromkeys(row["metric"] for row in rows)) == ["spro_05", "image_auroc"]
    text = (folder / "results/tables/t.md").read_text(encoding="utf-8")
    header = next(line for line in text.split("all values**")[1].splitlines() if line.startswith("|"))
    assert "pixel AUROC" not in text and "AUPRO" not in text
    assert header.index("sPRO (5 %)") < header.index("image AUROC")
    assert {row["value"] for row in rows if row["dataset"] == "mpdd" and row["metric"] == "spro_05"} == {""}
    assert {row["value"] for row in rows if row["dataset"] == ALL and row["metric"] == "spro_05"} != {""}


def test_files_have_kinds_and_natures(made) -> None:
    folder, _ = made
    rows = rows_of(folder)
    assert {row["kind"] for row in rows if row["dataset"] == "mvtec_loco"} == {*KINDS, "mean"}
    assert {row["kind"] for row in rows if row["dataset"] != "mvtec_loco"} == {""}
    groups = {row["category"]: row["categories"] for row in rows if row["dataset"] == ALL}
    assert groups == {"aligned": "1", "rotated": "1", "several": "1", "logical": "2", "mean": "3"}
    summary = rows_of(folder, "t_summary")
    assert [*summary[0]][:4] == ["dataset", "category", "categories", "kind"]
    assert {(row["dataset"], row["kind"]) for row in summary} == {
        *(("mvtec_loco", kind) for kind in (*KINDS, "mean")),
        (ALL, ""),
    }
    assert all(int(row["wins"]) + int(row["ties"]) + int(row["losses"]) == int(row["categories"]) for row in summary)
    frame = pd.read_parquet(folder / "results/tables/t.parquet")
    assert frame["kind"].dropna().isin([*KINDS, "mean"]).all() and len(frame) == len(rows)
    for suffix in ("md", "html", "tex"):
        parts = ("t.tex", "t_more.tex") if suffix == "tex" else (f"t.{suffix}",)
        text = "".join((folder / f"results/tables/{part}").read_text(encoding="utf-8") for part in parts)
        assert "logical anomalies (2)" in text and "all (3)" in text, suffix


def test_such_a_table_is_verified(made, tmp_path) -> None:
    """It is made again from its settings; a number of one kind that was changed is found."""
    root = made[0] / "results"
    (verdict,) = verify(root / "tables/t.csv", check_table=check_table)
    assert verdict.status == "ok", verdict
    copy = tmp_path / "results"
    for part in ("tables", "runs", "index"):
        shutil.copytree(root / part, copy / part)
    file = copy / "tables/t.csv"
    rows = rows_of(tmp_path)
    wanted = {"category": "pushpins", "kind": "logical", "method": "reconpatch", "metric": "image_auroc"}
    (changed,) = (row for row in rows if wanted.items() <= row.items())
    changed["value"] = "0.123"
    pd.DataFrame(rows).to_csv(file, index=False)
    (verdict,) = verify(file, check_table=check_table)
    assert verdict.status == "DIFFERS" and "logical" in str(verdict) and "0.123" in str(verdict)
