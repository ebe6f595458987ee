import csv
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from drawing import make_record
from safetensors.numpy import save_file

from reconpatch.errors import ReconpatchError
from reconpatch.experiments.table_settings import CellSettings, TableSettings
from reconpatch.method.metrics import evaluate
from reconpatch.results.figures.sweeps import series_of
from reconpatch.results.make_table import gather, write_table
from reconpatch.results.tables import MISSING

CATEGORIES = ("nut", "bolt")
DIMS = (64, 512)
FLAG = "embedded sample: defects drawn by us"


def place(method: str, dim: int, seed: int = 0, **changes: Any) -> CellSettings:
    fields = {"labels": {"dim": dim}, "method": method, "seed": seed, "run": f"{method},dim={dim},seed={seed}"}
    fields |= {"departures": ("epochs = 3 (paper 120)",) if method == "reconpatch" else ()}
    return CellSettings(**(fields | changes))


def settings_of(**changes: Any) -> TableSettings:
    """Settings of a table as the workflow gives them: both methods, two dimensions, two categories."""
    places = [place(method, dim) for method in ("patchcore", "reconpatch") for dim in DIMS]
    fields = {"title": "A table", "caption": "A caption.", "measure": "auroc", "absent": "", "cells": places}
    fields |= {"targets": [("mine", c) for c in CATEGORIES], "layouts": {"mine": "folder"}}
    return TableSettings(**(fields | {"resamples": 200, "tolerance": 0.2} | changes))


def write_run(
    folder: Path, category: str, run: str, *, seed: int = 0, kind: str = "runs", masks: bool = True, **changes: Any
) -> dict[str, float | None]:
    """The two files of a run on random scores, as the workflow leaves them; returns the metrics."""
    rng = np.random.default_rng([seed, len(category), *map(ord, run)])
    labels = np.arange(12) % 3 % 2
    truth = np.zeros((12, 6, 6), bool)
    truth[labels == 1, 2:4, 1:4] = masks
    maps = (rng.standard_normal(truth.shape) + truth).astype(np.float32)
    image = (rng.standard_normal(12) + labels).astype(np.float32)
    run_folder = folder / kind / "mine" / category / run
    run_folder.mkdir(parents=True)
    metrics, wins = evaluate(image, labels, maps, truth)
    save_file({"image": image, "label": labels} | wins, run_folder / "scores.safetensors")
    facts = {"wall_s": 2.0, "peak_mb": 100.0, "threads": 1, "s_per_image": {"test": 0.1}}
    fields = {"description": {"backbone": "net", "dim": 64}, "weights": {"source": "file"}, "flags": [FLAG]}
    fields |= {"category": category, "run": run, "seed": seed, "metrics": metrics}
    fields |= {"stages": {"features": facts, "score": facts}}
    (run_folder / "record.json").write_text(make_record(**(fields | changes)).model_dump_json())
    return metrics


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Results of every run of `settings_of`."""
    for category in CATEGORIES:
        for made in settings_of()["cells"]:
            write_run(tmp_path, category, made["run"])
    return tmp_path


def rows_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "tables/t.csv").open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def markdown(folder: Path) -> tuple[str, list[dict[str, str]]]:
    """The text of a table and its rows."""
    text = (folder / "tables/t.md").read_text(encoding="utf-8")
    header, _, *rows = ([c.strip() for c in li.split("|")[1:-1]] for li in text.splitlines() if li.startswith("|"))
    return text, [dict(zip(header, row, strict=True)) for row in rows]


def test_ensembles_are_found_beside_runs_and_undefined_metrics_are_dashes(tmp_path) -> None:
    write_run(tmp_path, "nut", "both", kind="ensembles", masks=False)
    write_table(
        settings_of(targets=[("mine", "nut")], cells=[place("reconpatch", 64, run="both")]), None, tmp_path, "t"
    )
    (row,) = markdown(tmp_path)[1]
    assert row["pixel AUROC"] == row["AUPRO (30 %)"] == MISSING and "[" in row["image AUROC"]
    assert {r["links"] for r in rows_of(tmp_path)} == {"ensembles/mine/nut/both/record.json"}


@pytest.mark.parametrize("name", ["record.json", "scores.safetensors"])
def test_a_file_cut_in_half_is_named_and_one_that_lacks_is_a_missing_run(folder, damage, name) -> None:
    run = place("reconpatch", 64)["run"]
    file = folder / "runs/mine/bolt" / run / name
    damage(file)
    with pytest.raises(ReconpatchError, match=name):
        write_table(settings_of(), None, folder, "t")
    assert not (folder / "tables").exists()
    file.unlink()
    write_table(settings_of(), None, folder, "t")
    text, rows = markdown(folder)
    dashes = [(row["category"], row["dim"], row["method"]) for row in rows if row["image AUROC"] == MISSING]
    assert dashes == [(c, "64", "ReConPatch") for c in ("bolt", "mean of 2")] and f"mine/bolt {run}" in text
    assert {(r["category"], r["dim"]) for r in rows_of(folder) if not r["value"]} == {("bolt", "64"), ("mean", "64")}


def test_csv_has_every_cell_with_the_flags_of_its_runs(tmp_path) -> None:
    """The same run on three categories, of which some are flagged; the mean has the flags of all."""
    given = {"nut": ["altered", "x"], "bolt": [], "screw": ["x"]}
    metrics = {category: write_run(tmp_path, category, "r", flags=flags) for category, flags in given.items()}
    settings = settings_of(targets=[("mine", c) for c in given], cells=[place("reconpatch", 64, run="r")])
    write_table(settings, None, tmp_path, "t")
    rows = rows_of(tmp_path)
    assert {(row["category"], row["flags"]) for row in rows} == {
        *(("nut", "altered; x"), ("bolt", ""), ("screw", "x"), ("mean", "altered; x"))
    }
    values = {(row["category"], row["metric"]): float(row["value"]) for row in rows}
    assert len(values) == len(rows) == 4 * 3
    for (category, metric), value in values.items():
        of = [metrics[c][metric] for c in (given if category == "mean" else [category])]
        assert value == pytest.approx(np.mean(of))


def test_four_files_say_the_same(folder) -> None:
    write_table(settings_of(absent="mine lacks screw"), None, folder, "t")
    texts = {s: (folder / f"tables/t.{s}").read_text(encoding="utf-8") for s in ("md", "tex", "html")}
    for text in texts.values():
        for part in ("A table", "A caption.", FLAG, "epochs = 3 (paper 120)", "Seeds: 0.", "mine lacks screw"):
            assert part in text
    assert len(markdown(folder)[1]) == (len(CATEGORIES) + 1) * 2 * len(DIMS)
    for r in gather(settings_of(), folder):
        assert r.record is not None
        number = f"{100 * r.record.metrics['image_auroc']:.2f}"
        assert all(number in text for text in texts.values()) and f'<a href="{r.link}">' in texts["html"]


def test_the_papers_numbers_and_those_of_others(folder, tmp_path) -> None:
    paper = tmp_path / "paper.csv"
    lines = ["64,nut,patchcore,image_auroc,50,", "64,nut,SPADE,image_auroc,91.2,"]
    paper.write_text("\n".join(["dim,category,method,metric,value,caveat", *lines, ""]))
    write_table(settings_of(layouts={"mine": "mvtec_ad"}), paper, folder, "t")
    text = (folder / "tables/t.md").read_text(encoding="utf-8")  # two tables
    assert "image AUROC, paper" in text and "pixel AUROC, paper" not in text and "91.20" in text
    (known,) = (r for r in rows_of(folder) if r["paper"])
    assert (known["category"], known["method"], known["dim"], known["paper"]) == ("nut", "patchcore", "64", "0.5")
    assert float(known["difference"]) == pytest.approx(float(known["value"]) - 0.5)
    assert (known["verdict"], known["reasons"]) == ("not comparable", FLAG)


@pytest.mark.parametrize(("off", "word"), [(0.15, "agrees"), (0.25, "below"), (-0.25, "above")])
def test_tolerance_is_in_percent(tmp_path, off, word) -> None:
    value = write_run(tmp_path, "nut", "r", flags=[])["pixel_auroc"]
    assert value is not None
    paper = tmp_path / "paper.csv"
    paper.write_text(f"category,method,metric,value,caveat\nnut,patchcore,pixel_auroc,{100 * value + off},\n")
    places = [place("patchcore", 64, run="r")]
    settings = settings_of(targets=[("mine", "nut")], cells=places, layouts={"mine": "mvtec_ad"})
    write_table(settings, paper, tmp_path, "t")
    (row,) = markdown(tmp_path)[1]
    assert row["pixel AUROC, verdict"] == f"{word} ({-off:+.2f})"


def test_cost_is_a_table_of_its_own(folder) -> None:
    write_table(settings_of(measure="cost", absent="mine lacks screw"), None, folder, "t")
    text, rows = markdown(folder)
    assert "AUROC" not in text and "bootstrap" not in text
    for part in ("A caption.", "Seeds: 0.", "Backbone (weights): net (file).", FLAG, "mine lacks screw"):
        assert part in text
    costs = rows_of(folder)  # the same rows, not AUROCs
    assert len(costs) == len(rows) == len(CATEGORIES) * 2 * len(DIMS) and "bank, patches" in costs[0]


def test_series_of_a_figure(folder) -> None:
    """From the file, as the workflow reads it: the mean over categories at every place, a series a method."""
    write_table(settings_of(), None, folder, "t")
    shown, x, what = series_of(pd.read_csv(folder / "tables/t.csv", dtype={"category": str}), ["dim"])
    assert x == ["64", "512"] and what == "mean of 2 categories"
    rows = {
        (r["method"], r["dim"]): r for r in rows_of(folder) if r["metric"] == "image_auroc" and r["category"] == "mean"
    }
    names = {"patchcore": "PatchCore", "reconpatch": "ReConPatch"}
    for line, method in zip(shown["image_auroc"], names, strict=True):
        assert line.name == names[method] and np.isnan(np.array(line.paper, float)).all()
        for values, column in ((line.values, "value"), (line.low, "low"), (line.high, "high")):
            assert values == pytest.approx([100 * float(rows[method, dim][column]) for dim in x])
