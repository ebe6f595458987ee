"""Tables of the results that the fixture `real_results` made."""

import csv
import re
from collections.abc import Iterator
from contextlib import chdir
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from real_results import file_of, real_plan

from reconpatch.data.manifest import manifest_json, read_manifest
from reconpatch.errors import ReconpatchError
from reconpatch.experiments.outputs import table_settings
from reconpatch.experiments.plan import Plan
from reconpatch.records.record import content_digest, read_record, write_record
from reconpatch.results.figures.sweeps import series_of
from reconpatch.results.make_table import write_table
from reconpatch.results.tables import MISSING

FOLDER = Path("results")


@pytest.fixture
def plan(real_results_copy: Path) -> Iterator[Plan]:
    """The plan of the results; inside, the folder that the workflow runs in is the current one."""
    with chdir(real_results_copy):
        yield real_plan(real_results_copy)


def rows_of(name: str = "t") -> list[dict[str, str]]:
    with open(f"results/tables/{name}.csv", newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def markdown() -> tuple[str, list[dict[str, str]]]:
    """The text of the tables `t` and the rows of the long one."""
    text = Path("results/tables/t.md").read_text(encoding="utf-8")
    _, first, *more = re.split(r"^\*\*.*\*\*$", text, flags=re.MULTILINE)
    if "all values**" in text:  # the paper view stands above it
        first = more[0]
    header, _, *rows = ([c.strip() for c in li.split("|")[1:-1]] for li in first.splitlines() if li.startswith("|"))
    return text, [dict(zip(header, row, strict=True)) for row in rows]


def test_a_table_has_the_numbers_of_the_records_and_their_means(plan) -> None:
    for name in ("tiny", "combined", "augmented"):
        for row in rows_of(name):
            records = [read_record(FOLDER / link) for link in row["links"].split()]
            if records:  # a mean over categories links to none
                value = np.mean([record.metrics[row["metric"]] for record in records])
                assert float(row["value"]) == pytest.approx(value)
                assert set(row["flags"].split("; ")) == {str(flag) for record in records for flag in record.flags}
    texts = [Path(f"results/tables/combined.{suffix}").read_text(encoding="utf-8") for suffix in ("md", "tex", "html")]
    for row in rows_of("combined"):
        assert all(f"{100 * float(row['value']):.2f}" in text for text in texts)


@pytest.mark.parametrize("file", ["record", "scores"])
def test_a_file_cut_in_half_is_named_and_one_that_lacks_is_a_missing_run(plan, damage, file) -> None:
    settings = table_settings(plan, "augmented")
    (run,) = (cell["run"] for cell in settings["cells"] if cell["labels"]["variant"] == "none")
    path = file_of("score", file, dataset="mine", category="nut", run=run)
    damage(path)
    with pytest.raises(ReconpatchError, match=path.name):
        write_table(settings, None, FOLDER, "t")
    assert not Path("results/tables/t.md").exists()
    path.unlink()
    write_table(settings, None, FOLDER, "t")
    text, rows = markdown()
    assert [row["variant"] for row in rows if row["image AUROC"] == MISSING] == ["none"] and f"mine/nut {run}" in text
    assert {row["variant"] for row in rows_of() if not row["value"]} == {"none"}


def test_the_papers_numbers_and_those_of_others(plan, tmp_path) -> None:
    """The tolerance is in percent; whatever flags a record forbids the comparison."""
    settings = table_settings(plan, "augmented")
    (cell,) = (cell for cell in settings["cells"] if cell["labels"]["variant"] == "none")
    settings |= {"cells": [cell | {"departures": ()}], "tolerance": 0.2}
    file = file_of("score", "record", dataset="mine", category="nut", run=cell["run"])
    record = read_record(file)
    value = record.metrics["pixel_auroc"]
    assert value is not None
    for flags, off, word in (
        (record.flags, 0.15, "not comparable"),
        ([], 0.15, "agrees"),
        ([], 0.25, "below"),
        ([], -0.25, "above"),
    ):
        file.unlink()
        changed = record.model_copy(update={"flags": flags})
        write_record(file, changed.model_copy(update={"digest": content_digest(changed)}))
        lines = [f"none,nut,reconpatch,pixel_auroc,{100 * value + off},", "none,nut,SPADE,image_auroc,91.2,"]
        (tmp_path / "paper.csv").write_text("\n".join(["variant,category,method,metric,value,caveat", *lines, ""]))
        write_table(settings, tmp_path / "paper.csv", FOLDER, "t")
        (known,) = (row for row in rows_of() if row["paper"])
        assert (known["metric"], known["verdict"]) == ("pixel_auroc", word)
        assert known["departures"] == "" and bool(known["flags"]) == bool(flags)
        assert 100 * float(known["difference"]) == pytest.approx(-off)
        assert "91.20" in Path("results/tables/t.md").read_text(encoding="utf-8")


def test_files_of_numbers_keep_what_must_be_known_of_them(plan) -> None:
    """A sheet that is read without the notes says what its numbers are of."""
    (cell, *_) = (cell for cell in plan.cells["tiny"] if cell.method == "reconpatch")
    assert cell.departures
    for name in ("tiny", "tiny_summary", "tiny_defects"):
        rows = [row for row in rows_of(name) if row["method"] == "reconpatch"]
        assert rows and all("untrained" in row["flags"] for row in rows), (name, rows[0])
        assert all(cell.departures[0].split(" =")[0] in row["departures"] for row in rows), (name, rows[0])


def test_cost_is_a_table_of_its_own(plan) -> None:
    write_table(table_settings(plan, "costs"), None, FOLDER, "t")
    text, rows = markdown()
    assert "AUROC" not in text and "bootstrap" not in text and len(rows) == 2
    assert "bank, patches" in rows_of()[0]  # the same rows, not AUROCs


def test_series_of_a_figure(plan) -> None:
    """From the file, as the workflow reads it: the mean over categories at every place, a series a method."""
    table = pd.read_csv("results/tables/tiny.csv", dtype={"category": str})
    shown, x, what = series_of(table, ["coreset"])
    assert sorted(x) == ["0.1", "0.5"] and what == "mean of 2 categories"
    rows = {
        (r["method"], r["coreset"]): r
        for r in rows_of("tiny")
        if r["metric"] == "image_auroc" and r["category"] == "mean"
    }
    names = {"patchcore": "PatchCore", "reconpatch": "ReConPatch"}
    for line, method in zip(shown["image_auroc"], names, strict=True):
        assert line.name == names[method] and np.isnan(np.array(line.paper, float)).all()
        for values, column in ((line.values, "value"), (line.low, "low"), (line.high, "high")):
            assert values == pytest.approx([100 * float(rows[method, at][column]) for at in x])


def test_types_of_defect_come_from_the_manifest_of_the_images_scored(plan) -> None:
    """Two scratched and one bent image a category, against 3 good ones; ensembles and single runs alike."""
    for name in ("tiny", "combined"):
        for row in rows_of(f"{name}_defects"):
            assert (row["defect"], row["images"]) in {("bent", "1"), ("scratch", "2")}
        whole = {
            tuple(row[key] for key in row if key in ("category", "coreset", "backbone", "method")): float(row["value"])
            for row in rows_of(name)
            if row["metric"] == "image_auroc" and row["categories"] == "1"
        }
        for place, value in whole.items():  # the AUROC of all types is their mean, weighted by their images
            parts = [
                r
                for r in rows_of(f"{name}_defects")
                if place == tuple(r[key] for key in r if key in ("category", "coreset", "backbone", "method"))
            ]
            weighted = [float(part["value"]) * int(part["images"]) for part in parts]
            assert len(parts) == 2 and sum(weighted) / 3 == pytest.approx(value)
    manifest = file_of("index", "manifest", dataset="mine", category="nut")
    items, _ = read_manifest(manifest)
    manifest.write_text(manifest_json([replace(item, defect="dent") if item.label else item for item in items]))
    with pytest.raises(ReconpatchError, match="made from other images than"):
        write_table(table_settings(plan, "tiny"), None, FOLDER, "t")


def test_a_table_of_two_categories_has_a_summary(plan) -> None:
    """Each table's text has it, as its CSV; tables of one category and of costs have the columns alone."""
    rows = rows_of("tiny_summary")
    assert [row["coreset"] for row in rows if row["metric"] == "image_auroc"] == ["0.5", "0.1"]
    assert all(int(r["wins"]) + int(r["ties"]) + int(r["losses"]) == 2 and (r["over"] == "patchcore") for r in rows)
    means = {(r["coreset"], r["metric"]): r["gain"] for r in rows_of("tiny") if r["category"] == "mean" and r["gain"]}
    assert {(r["coreset"], r["metric"]): r["gain"] for r in rows}.items() <= means.items()
    for suffix in ("md", "tex", "html"):
        parts = ("tiny.tex", "tiny_more.tex") if suffix == "tex" else (f"tiny.{suffix}",)
        text = "".join(Path(f"results/tables/{part}").read_text(encoding="utf-8") for part in parts)
        assert "over all categories" in text and "ReConPatch over PatchCore" in text
        assert ("by type of defect" in text) == (suffix != "tex")
        assert "over all categories" not in Path(f"results/tables/combined.{suffix}").read_text(encoding="utf-8")
    assert rows_of("combined_summary") == rows_of("costs_summary") == rows_of("costs_defects") == []
