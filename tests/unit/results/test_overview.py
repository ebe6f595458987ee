"""What the report says first, against tables written by hand."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from reconpatch.errors import ReconpatchError
from reconpatch.experiments.outputs import Section
from reconpatch.results.overview import overview

PLACES: list[tuple[str, str]] = [
    ("1/2", "reconpatch"),
    ("1/4", "reconpatch"),
    ("1/2", "patchcore"),
    ("1/4", "patchcore"),
]


def write_csv(file: Path, rows: list[dict[str, Any]], columns: list[str]) -> None:
    with open(file, "w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, columns, restval="")
        writer.writeheader()
        writer.writerows(rows)


def section(folder: Path, name: str, rows: list[dict[str, Any]], summary: list[dict[str, Any]]) -> Section:
    """A table of two categories and two dimensions, written as the workflow does."""
    (folder / "tables").mkdir(exist_ok=True)
    given = [
        "dataset",
        "category",
        "categories",
        "dim",
        "method",
        "metric",
        "value",
        "paper",
        "source",
        "verdict",
        "reasons",
        "runs",
    ]
    write_csv(folder / f"tables/{name}.csv", rows, [*given, "runs", "gain", "gain_low", "gain_high"])
    counts = ["dataset", "dim", "method", "over", "metric", "wins", "ties", "losses"]
    write_csv(folder / f"tables/{name}_summary.csv", summary, counts)
    cells = [
        {
            "labels": {"dim": dim},
            "method": method,
            "seed": 0,
            "run": f"{method}_{dim[-1]}",
            "departures": [f"dim = {dim}"],
        }
        for dim, method in PLACES
    ]
    settings = {"measure": "auroc", "targets": [["mine", "nut"], ["mine", "bolt"]], "cells": cells, "oracle": None}
    (folder / f"tables/{name}.json").write_text(json.dumps(settings))
    return {"name": name, "title": f"Title of {name}", "table": f"tables/{name}.html", "figures": []}


def row(category: str, dim: str, gain: float, **more: Any) -> dict[str, Any]:
    whole = {"dataset": "mine", "category": category, "categories": 2 if category == "mean" else 1, "dim": dim}
    whole |= {"method": "reconpatch", "metric": "image_auroc", "value": 0.9, "gain": gain, "runs": f"r{dim}"}
    return whole | {"gain_low": gain - 0.02, "gain_high": gain + 0.02} | more


OF_PAPER = {"paper": 0.9, "source": "paper"}
ROWS = [
    row("nut", "1/2", 0.03, verdict="agrees", **OF_PAPER),
    row("bolt", "1/2", -0.01, verdict="not comparable", **OF_PAPER, reasons="epochs = 2 | untrained weights"),
    row("mean", "1/2", 0.01, verdict="not comparable", **OF_PAPER, reasons="untrained weights"),
    row("nut", "1/4", 0.02),
    row("bolt", "1/4", 0.04),
    row("mean", "1/4", 0.03),
    row("nut", "1/2", 0.5, metric="pixel_auroc"),
    row("nut", "oracle: uses the test set", 0.5),
]
SUMMARY = [
    {"dataset": "mine", "dim": "1/2", "method": "reconpatch", "over": over, "metric": "image_auroc"}
    | {"wins": wins, "ties": 1, "losses": 0}
    for over, wins in (("patchcore", 1), ("untrained", 2))
]


def test_the_verdict_counts_categories_cells_and_reasons(tmp_path: Path) -> None:
    made = overview(tmp_path, [section(tmp_path, "e", ROWS, SUMMARY)])
    (first, second) = made.parts[0].comparisons
    assert (first.ahead, first.categories, first.wins, first.losses) == (1, 2, 1, 0)
    assert (second.ahead, second.categories, second.wins) == (2, 2, None)
    assert (first.gain, first.low, first.high) == pytest.approx((1, -1, 3))
    assert made.verdicts == {"agrees": 1, "not comparable": 2}
    assert list(made.reasons.items()) == [("untrained weights", 2), ("epochs = 2", 1)]
    for words in (
        "By image AUROC, over all settings of all tables, ReConPatch is ahead of PatchCore in 3 of 4 comparisons",
        "At the first setting it is ahead in 1 of 2 categories (mine, dim 1/2; significantly better in 1, worse in 0)",
        "mean gain in points: +1.00 [-1.00, +3.00], which does not show",
        "3 cells that the paper has a number for: 1 agrees, 2 not comparable",
        "untrained weights (2 cells)",
    ):
        assert words in made.verdict, words
    assert (made.made, made.planned) == (0, 8)
    assert made.datasets == {"mine": ["nut", "bolt"]}


def test_without_a_pair_and_without_the_papers_numbers_it_says_so(tmp_path: Path) -> None:
    made = overview(tmp_path, [section(tmp_path, "e", [], [])])
    assert "none says which is better" in made.verdict and "no number" in made.verdict


def test_numbers_that_others_published_do_not_count(tmp_path: Path) -> None:
    """Neither in the verdict of the report nor among the reasons why cells are not comparable."""
    rows = [row("nut", "1/2", 0.1, verdict="not comparable", paper=0.9, source="Somebody", reasons="of Somebody")]
    made = overview(tmp_path, [section(tmp_path, "e", rows, [])])
    assert made.verdicts == {} and made.reasons == {} and "no number for any cell" in made.verdict
    made = overview(tmp_path, [section(tmp_path, "e", [*rows, *ROWS], [])])
    assert made.verdicts == {"agrees": 1, "not comparable": 2} and "of Somebody" not in made.reasons


def test_one_category_has_a_gain_of_its_own(tmp_path: Path) -> None:
    made = overview(tmp_path, [section(tmp_path, "e", ROWS[:1], [])])
    said = "By image AUROC, ReConPatch is ahead of PatchCore in 1 of 1 category (mine, dim 1/2), gain in points: +3.00"
    assert f"{said} [+1.00, +5.00]." in made.verdict and "all settings" not in made.verdict


def test_a_file_that_is_missing_is_named(tmp_path: Path) -> None:
    shown = section(tmp_path, "e", ROWS, SUMMARY)
    (tmp_path / "tables/e_summary.csv").unlink()
    with pytest.raises(ReconpatchError, match=r"e_summary\.csv"):
        overview(tmp_path, [shown])


def test_hours_count_a_shared_stage_once(real_results: Path) -> None:
    """Runs share features; their records repeat what features took."""
    folder = real_results / "results"
    title: Section = {"name": "tiny", "title": "Tiny", "table": "tables/tiny.html", "figures": []}
    once, twice = overview(folder, [title]), overview(folder, [title, title])
    assert once.hours == twice.hours and once.made == once.planned and twice.made == 2 * once.made
    records = [json.loads(file.read_text()) for file in folder.glob("runs/mine/*/*/record.json")]
    every = {
        (record["category"], stage, facts["folder"]): facts["wall_s"]
        for record in records
        if any(cell in record["run"] for cell in _runs(folder))
        for stage, facts in record["stages"].items()
    }
    assert once.hours == pytest.approx(sum(every.values()) / 3600)


def _runs(folder: Path) -> set[str]:
    return {cell["run"] for cell in json.loads((folder / "tables/tiny.json").read_text())["cells"]}


def test_a_mean_that_lacks_a_category_is_undefined(tmp_path) -> None:
    """The gain of one category must not stand for it."""
    lost = dict.fromkeys(("gain", "gain_low", "gain_high"), "")
    rows = [row("nut", "1/2", 0.1), row("bolt", "1/2", -0.3), row("mean", "1/2", 0.0) | lost]
    (first,) = overview(tmp_path, [section(tmp_path, "t", rows, [])]).parts[0].comparisons
    assert first.gain != first.gain and (first.ahead, first.categories) == (1, 2) and "undefined" in first.text


def test_runs_that_tables_share_count_once(tmp_path) -> None:
    rows = [row("nut", "1/2", 0.1), row("nut", "1/4", 0.1, runs="r1/2"), row("bolt", "1/2", -0.1)]
    parts = [section(tmp_path, name, rows, []) for name in ("a", "b")]
    found = overview(tmp_path, parts)
    assert [(part.ahead, part.compared) for part in found.parts] == [(1, 2), (1, 2)]
    assert "of 4" not in found.verdict
