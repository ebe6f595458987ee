import csv
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from drawing import make_record
from safetensors.numpy import save_file
from sklearn.metrics import roc_auc_score

from reconpatch.errors import ReconpatchError
from reconpatch.method.bootstrap import image_wins, pixel_wins, to_tensors
from reconpatch.results.make_table import gather, series, write_table
from reconpatch.results.tables import MISSING

CATEGORIES = ("nut", "bolt")
DIMS = (64, 512)
FLAG = "embedded sample: defects drawn by us"


def place(method: str, dim: int, seed: int = 0) -> dict[str, Any]:
    fields = {"labels": {"dim": dim}, "method": method, "seed": seed, "run": f"{method},dim={dim},seed={seed}"}
    return fields | {"departures": ("epochs = 3 (paper 120)",) if method == "reconpatch" else ()}


def settings_of(**changes: Any) -> dict[str, Any]:
    """Settings of a table as the workflow gives them: both methods, two dimensions, two categories."""
    places = [place(method, dim) for method in ("patchcore", "reconpatch") for dim in DIMS]
    fields = {"title": "A table", "caption": "A caption.", "measure": "auroc", "absent": "", "cells": places}
    fields |= {"targets": [("mine", c) for c in CATEGORIES], "layouts": {"mine": "folder"}}
    return fields | {"resamples": 200, "tolerance": 0.2} | changes


def write_run(
    folder: Path, category: str, run: str, *, seed: int = 0, kind: str = "runs", masks: bool = True, **changes: Any
) -> tuple[np.ndarray, np.ndarray]:
    """The two files of a run, drawn, as the workflow leaves them; returns its image scores and labels."""
    rng = np.random.default_rng([seed, len(category), *map(ord, run)])
    labels = np.arange(12) % 3 % 2
    truth = np.zeros((12, 6, 6), bool)
    truth[labels == 1, 2:4, 1:4] = masks
    maps = (rng.standard_normal(truth.shape) + truth).astype(np.float32)
    image = (rng.standard_normal(12) + labels).astype(np.float32)
    at = folder / kind / "mine" / category / run
    at.mkdir(parents=True)
    wins = to_tensors(image_wins(image, labels), "image") | to_tensors(pixel_wins(maps, truth), "pixel")
    save_file({"image": image, "label": labels} | wins, at / "scores.safetensors")
    metrics = {"image_auroc": roc_auc_score(labels, image), "pixel_auroc": None, "aupro_30": None}
    metrics |= {"pixel_auroc": roc_auc_score(truth.ravel(), maps.ravel()), "aupro_30": 0.75} if masks else {}
    facts = {"wall_s": 2.0, "peak_mb": 100.0, "threads": 1, "device": "cpu", "processor": "a processor", "cores": 2}
    fields = {"description": {"backbone": "net", "dim": 64}, "weights": {"source": "file"}, "flags": [FLAG]}
    fields |= {"bank": {"patches": 10, "of": 100}, "category": category, "run": run, "seed": seed, "metrics": metrics}
    fields |= {
        "stages": {"features": facts | {"s_per_image": {"test": 0.1}}, "score": facts | {"s_per_image": {"test": 0.1}}}
    }
    (at / "record.json").write_text(make_record(**(fields | changes)).model_dump_json())
    return image, labels


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Results of every run of `settings_of`."""
    for category in CATEGORIES:
        for made in settings_of()["cells"]:
            write_run(tmp_path, category, made["run"])
    return tmp_path


def read(file: Path) -> list[dict[str, str]]:
    with file.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def markdown_rows(text: str) -> list[list[str]]:
    return [[c.strip() for c in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("|")]


def test_every_place_of_every_category_is_gathered(folder) -> None:
    results = gather(settings_of(), folder)
    assert [(r.category, r.method, r.labels["dim"]) for r in results] == [
        (c, m, dim) for c in CATEGORIES for m in ("patchcore", "reconpatch") for dim in DIMS
    ]
    for r in results:
        assert r.record is not None and (r.record.run, r.record.category) == (r.run, r.category)
        assert r.link == f"runs/mine/{r.category}/{r.run}/record.json" and (folder / r.link).is_file()
        assert r.saved is not None and r.saved.labels.tolist() == (np.arange(12) % 3 % 2).tolist()
        wins = r.saved.wins["pixel"]
        assert wins.pairs.sum() / wins.positives.sum() / wins.negatives.sum() == pytest.approx(
            r.record.metrics["pixel_auroc"]
        )


def test_ensembles_are_found_beside_runs(tmp_path) -> None:
    write_run(tmp_path, "nut", "both", kind="ensembles")
    settings = settings_of(targets=[("mine", "nut")], places=[place("reconpatch", 64) | {"run": "both"}])
    (result,) = gather(settings, tmp_path)
    assert result.record is not None and result.link == "ensembles/mine/nut/both/record.json"


@pytest.mark.parametrize("lost", ["record.json", "scores.safetensors"])
def test_a_run_without_both_files_is_missing(folder, lost) -> None:
    run = place("reconpatch", 64)["run"]
    (folder / "runs/mine/bolt" / run / lost).unlink()
    missing = [r for r in gather(settings_of(), folder) if r.record is None]
    assert [(r.category, r.run, r.link, r.saved) for r in missing] == [("bolt", run, "", None)]


def test_undefined_metrics_have_no_bootstrap(tmp_path) -> None:
    write_run(tmp_path, "nut", place("patchcore", 64)["run"], masks=False)
    settings = settings_of(targets=[("mine", "nut")], places=[place("patchcore", 64)])
    (result,) = gather(settings, tmp_path)
    assert result.saved is not None and set(result.saved.wins) == {"image"}
    write_table(settings, None, tmp_path, "t")
    header, _, row = markdown_rows((tmp_path / "tables/t.md").read_text(encoding="utf-8"))
    shown = dict(zip(header, row, strict=True))
    assert shown["pixel AUROC"] == shown["AUPRO (30 %)"] == MISSING and "[" in shown["image AUROC"]


@pytest.mark.parametrize("name", ["record.json", "scores.safetensors"])
def test_a_file_cut_in_half_is_named(folder, damage, name) -> None:
    file = folder / "runs/mine/bolt" / place("patchcore", 512)["run"] / name
    damage(file)
    with pytest.raises(ReconpatchError) as caught:
        write_table(settings_of(), None, folder, "t")
    assert str(file) in str(caught.value)
    assert not (folder / "tables").exists()


def test_csv_has_every_cell_with_flags(folder) -> None:
    write_table(settings_of(), None, folder, "t")
    rows = read(folder / "tables/t.csv")
    assert len(rows) == (len(CATEGORIES) + 1) * 2 * len(DIMS) * 3
    assert {row["flags"] for row in rows} == {FLAG}
    found = {(r["category"], r["method"], int(r["dim"]), r["metric"]): float(r["value"]) for r in rows}
    assert len(found) == len(rows)
    for r in gather(settings_of(), folder):
        for metric in ("image_auroc", "pixel_auroc", "aupro_30"):
            assert r.record is not None
            key = (r.method, r.labels["dim"], metric)
            assert found[r.category, *key] == pytest.approx(r.record.metrics[metric])
            mean = np.mean([found[c, *key] for c in CATEGORIES])
            assert found["mean", *key] == pytest.approx(mean)


def test_flags_stand_at_the_cells_of_their_runs(tmp_path) -> None:
    """The same run on three categories, of which some are flagged; the mean has the flags of all."""
    given = {"nut": ["data altered", "x"], "bolt": [], "screw": ["x"]}
    for category, flags in given.items():
        write_run(tmp_path, category, "r", flags=flags)
    settings = settings_of(targets=[("mine", c) for c in given], places=[place("reconpatch", 64) | {"run": "r"}])
    write_table(settings, None, tmp_path, "t")
    found = {(row["category"], row["flags"]) for row in read(tmp_path / "tables/t.csv")}
    assert found == {("nut", "data altered; x"), ("bolt", ""), ("screw", "x"), ("mean", "data altered; x")}


def test_four_files_say_the_same(folder) -> None:
    write_table(settings_of(absent="mine lacks screw"), None, folder, "t")
    texts = {s: (folder / f"tables/t.{s}").read_text(encoding="utf-8") for s in ("md", "tex", "html")}
    assert {p.name for p in (folder / "tables").iterdir()} == {"t.csv", "t.md", "t.tex", "t.html"}
    for text in texts.values():
        for part in ("A table", "A caption.", FLAG, "epochs = 3 (paper 120)", "Seeds: 0.", "mine lacks screw"):
            assert part in text
    header, _, *rows = markdown_rows(texts["md"])
    assert len(rows) == (len(CATEGORIES) + 1) * 2 * len(DIMS) and {len(row) for row in rows} == {len(header)}
    for r in gather(settings_of(), folder):
        assert r.record is not None
        number = f"{100 * r.record.metrics['image_auroc']:.2f}"
        assert all(number in text for text in texts.values())
        assert f'<a href="{r.link}">' in texts["html"]


def test_seeds_of_a_place_are_one_row(tmp_path) -> None:
    places = [place("reconpatch", 64, seed) for seed in (0, 1)]
    values = []
    for made in places:
        image, labels = write_run(tmp_path, "nut", made["run"], seed=made["seed"])
        values.append(roc_auc_score(labels, image))
    write_table(settings_of(targets=[("mine", "nut")], places=places), None, tmp_path, "t")
    row = next(r for r in read(tmp_path / "tables/t.csv") if r["metric"] == "image_auroc")
    assert float(row["value"]) == pytest.approx(np.mean(values)) and row["seeds"] == "0 1"
    assert float(row["sd"]) == pytest.approx(abs(values[0] - values[1]) / 2**0.5)
    assert "Seeds: 0, 1 (means)." in (tmp_path / "tables/t.md").read_text(encoding="utf-8")


def test_a_missing_run_is_a_dash_in_its_row_and_its_mean(folder) -> None:
    run = place("reconpatch", 64)["run"]
    (folder / "runs/mine/bolt" / run / "record.json").unlink()
    write_table(settings_of(), None, folder, "t")
    text = (folder / "tables/t.md").read_text(encoding="utf-8")
    header, _, *rows = markdown_rows(text)
    at = header.index("image AUROC")
    dashes = [(row[0], *row[1:3]) for row in rows if row[at] == MISSING]
    assert dashes == [(c, "64", "ReConPatch") for c in ("bolt", "mean of 2")]
    assert f"Missing, because the run failed or has not ended: mine/bolt {run}." in text
    empty = [r for r in read(folder / "tables/t.csv") if not r["value"]]
    assert {(r["category"], r["method"], r["dim"]) for r in empty} == {
        (c, "reconpatch", "64") for c in ("bolt", "mean")
    }


def test_the_papers_numbers_and_those_of_others(folder, tmp_path) -> None:
    paper = tmp_path / "paper.csv"
    lines = [
        "dim,category,method,metric,value,caveat",
        "64,nut,patchcore,image_auroc,50,",
        "64,nut,SPADE,image_auroc,91.2,",
    ]
    paper.write_text("\n".join([*lines, ""]))
    write_table(settings_of(layouts={"mine": "mvtec_ad"}), paper, folder, "t")
    text = (folder / "tables/t.md").read_text(encoding="utf-8")
    assert "image AUROC, paper" in text and "pixel AUROC, paper" not in text
    assert "**A table: published by others**" in text and "91.20" in text
    known = [r for r in read(folder / "tables/t.csv") if r["paper"]]
    assert [(r["category"], r["method"], r["dim"], r["paper"]) for r in known] == [("nut", "patchcore", "64", "0.5")]
    assert float(known[0]["difference"]) == pytest.approx(float(known[0]["value"]) - 0.5)
    assert (known[0]["verdict"], known[0]["reasons"]) == ("not comparable", FLAG)


@pytest.mark.parametrize(("off", "said"), [(0.15, "agrees"), (0.25, "below"), (-0.25, "above")])
def test_tolerance_is_in_percent(tmp_path, off, said) -> None:
    write_run(tmp_path, "nut", "r", flags=[])
    settings = settings_of(targets=[("mine", "nut")], places=[place("patchcore", 64) | {"run": "r"}])
    settings["layouts"] = {"mine": "mvtec_ad"}
    (result,) = gather(settings, tmp_path)
    assert result.record is not None
    value = 100 * result.record.metrics["pixel_auroc"] + off
    paper = tmp_path / "paper.csv"
    paper.write_text(f"category,method,metric,value,caveat\nnut,patchcore,pixel_auroc,{value},\n")
    write_table(settings, paper, tmp_path, "t")
    (known,) = (r for r in read(tmp_path / "tables/t.csv") if r["paper"])
    assert (known["verdict"], known["reasons"]) == (said, "")
    assert f"{said} ({-off:+.2f})" in (tmp_path / "tables/t.md").read_text(encoding="utf-8")


def test_stale_records_are_missing(folder) -> None:
    """Each by its own file: the same run of another category stays, as does a file that is not there to be stale."""
    runs = [place("patchcore", 64)["run"], place("reconpatch", 512)["run"]]
    stale = [folder / f"runs/mine/{c}/{r}/record.json" for c, r in zip(CATEGORIES, runs, strict=True)]
    lost = [r for r in gather(settings_of(), folder, [*stale, folder / "x"]) if r.record is None]
    assert [(r.category, r.run, r.link) for r in lost] == [("nut", runs[0], ""), ("bolt", runs[1], "")]
    files = write_table(settings_of(), None, folder, "t", stale)
    text = (folder / "tables/t.md").read_text(encoding="utf-8")
    assert f"Missing, because the run failed or has not ended: mine/nut {runs[0]}, mine/bolt {runs[1]}." in text
    empty = {(r["category"], r["runs"]) for r in read(folder / "tables/t.csv") if not r["value"]}
    assert empty == {("nut", runs[0]), ("bolt", runs[1]), ("mean", runs[0]), ("mean", runs[1])}
    assert sorted(files) == sorted((folder / "tables").iterdir()) and len(files) == 4


def test_cost_is_a_table_of_its_own(folder) -> None:
    write_table(settings_of(measure="cost", absent="mine lacks screw"), None, folder, "t")
    text = (folder / "tables/t.md").read_text(encoding="utf-8")
    header, _, *rows = markdown_rows(text)
    assert "images per second" in header and len(rows) == len(CATEGORIES) * 2 * len(DIMS)
    assert "A caption." in text and "AUROC" not in text and "bootstrap" not in text
    for part in ("Seeds: 0.", "Backbone (weights): net (file).", FLAG, "epochs = 3 (paper 120)", "mine lacks screw"):
        assert part in text
    costs = read(folder / "tables/t.csv")  # the same rows, not AUROCs
    assert len(costs) == len(rows) and "bank, patches" in costs[0] and "metric" not in costs[0]


def test_series_of_a_figure(folder) -> None:
    """From the file, as the workflow reads it: the mean over categories at every place, a series a method."""
    write_table(settings_of(), None, folder, "t")
    cells = pd.read_csv(folder / "tables/t.csv", dtype={"category": str})
    found, x, what = series(cells, ["dim"])
    assert x == ["64", "512"] and what == "mean of 2 categories"
    assert set(found) == {"image_auroc", "pixel_auroc", "aupro_30"}
    rows = {
        (r["method"], r["dim"]): r
        for r in read(folder / "tables/t.csv")
        if r["metric"] == "image_auroc" and r["category"] == "mean"
    }
    for shown, method in zip(found["image_auroc"], ("patchcore", "reconpatch"), strict=True):
        assert shown.name == {"patchcore": "PatchCore", "reconpatch": "ReConPatch"}[method]
        for values, column in ((shown.values, "value"), (shown.low, "low"), (shown.high, "high")):
            assert values == pytest.approx([100 * float(rows[method, dim][column]) for dim in x])
        assert np.isnan(np.array(shown.paper, float)).all()


def frame(*rows: tuple[str, str, int, str, float]) -> pd.DataFrame:
    cells = pd.DataFrame(rows, columns=["dataset", "category", "categories", "variant", "value"])
    fields = {"method": "reconpatch", "metric": "image_auroc", "low": np.nan, "high": np.nan, "paper": 0.99}
    return cells.assign(dim=64, **fields)


def test_series_of_one_category() -> None:
    cells = frame(("mine", "01", 1, "s = 3", 0.9), ("mine", "01", 1, "s = 5", np.nan))
    found, x, what = series(cells, ["variant", "dim"])
    assert x == ["s = 3, 64", "s = 5, 64"] and what == "01"
    (shown,) = found["image_auroc"]
    assert shown.values == pytest.approx([90, np.nan], nan_ok=True) and shown.paper == pytest.approx([99, 99])


def test_series_of_several_data_sets_are_of_the_first_with_most_categories() -> None:
    single = frame(("a", "nut", 1, "", 0.9), ("b", "bolt", 1, "", 0.8))
    found, _, what = series(single, ["variant"])
    assert found["image_auroc"][0].values == pytest.approx([90]) and what == "nut"
    means = (
        ("a", "nut", 1, "", 0.9),
        ("b", "mean", 2, "", 0.8),
        ("c", "object", 2, "", 0.1),
        ("c", "mean", 4, "", 0.7),
    )
    found, _, what = series(frame(*means), ["variant"])
    assert found["image_auroc"][0].values == pytest.approx([70]) and what == "mean of 4 categories"
