"""Tables of the results that the fixture `real_results` made."""

import csv
from collections.abc import Iterator
from contextlib import chdir
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from real_results import file_of, real_plan

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
    """The text of the table `t` and its rows."""
    text = Path("results/tables/t.md").read_text(encoding="utf-8")
    header, _, *rows = ([c.strip() for c in li.split("|")[1:-1]] for li in text.splitlines() if li.startswith("|"))
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
        assert 100 * float(known["difference"]) == pytest.approx(-off)
        assert "91.20" in Path("results/tables/t.md").read_text(encoding="utf-8")


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
