"""The oracle's rows against a choice by hand, and effects against differences of plain AUROCs."""

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from drawing import make_record
from sklearn.metrics import roc_auc_score
from statsmodels.stats.multitest import multipletests

from reconpatch.method.bootstrap import image_wins
from reconpatch.method.metrics import SavedScores, image_metrics
from reconpatch.results.comparison import Result, cells, columns
from reconpatch.results.figures.effects import effects_of
from reconpatch.results.selection import ORACLE, with_oracle
from reconpatch.results.summary import summaries
from reconpatch.results.tables import comparison_table, notes

LABELS = np.repeat([0, 1], [12, 20])


def result(epoch: str, seed: int, category: str, shift: float | None, method: str = "reconpatch") -> Result:
    """A run whose scores are drawn anew for every place; without a record if there is no shift."""
    fields: dict[str, Any] = {"labels": {"epoch": epoch}, "method": method, "seed": seed, "dataset": "d"}
    fields |= {
        "category": category,
        "run": f"{epoch} {seed} {category}",
        "departures": (f"epoch = {epoch} (x)", "k = 7"),
    }
    if shift is None:
        return Result(**fields)
    rng = np.random.default_rng([ord(epoch[0]), seed, ord(category[0])])
    scores = (rng.normal(0, 1, len(LABELS)) + shift * LABELS).astype(np.float32)
    saved = SavedScores(scores, LABELS, {"image": image_wins(scores, LABELS)})
    return Result(**fields, record=make_record(metrics=image_metrics(scores, LABELS)), saved=saved)


def auroc(r: Result) -> float:
    assert r.saved is not None
    return float(roc_auc_score(LABELS, r.saved.image))


def test_the_oracle_takes_the_best_epoch_of_every_category_and_seed() -> None:
    results = [result(e, s, c, 1.0) for e in ("1/3", "2/3", "1/1") for s in (0, 1) for c in "ab"]
    made = with_oracle(results, "epoch")
    oracle = made[len(results) :]
    assert made[: len(results)] == results and len(oracle) == 4
    for chosen in oracle:
        rivals = [r for r in results if (r.seed, r.category) == (chosen.seed, chosen.category)]
        assert chosen.labels == {"epoch": ORACLE} and auroc(chosen) == max(map(auroc, rivals))
        assert chosen.departures == ("k = 7", "epoch chosen on the test set (oracle)")
    assert len({chosen.run.split()[0] for chosen in oracle}) > 1  # not one epoch for all


def test_where_a_run_is_missing_the_oracle_is_too() -> None:
    """Else it would be of fewer seeds than what it is compared with."""
    results = [result(epoch, seed, category, 1.0) for epoch in ("1/3", "1/1") for seed in (0, 1) for category in "ab"]
    results[0] = result("1/3", 0, "a", None)
    made = with_oracle(results, "epoch")
    assert [(r.category, r.seed) for r in made[8:] if r.record is None] == [("a", 0)]
    cell = next(c for c in cells(made, None, {"d": "folder"}, count=50, tolerance=0.1) if c.labels["epoch"] == ORACLE)
    assert cell.category == "a" and np.isnan(cell.value)


def test_effects_are_differences_from_the_reference_row() -> None:
    results = [result(e, s, c, 1.0) for e in ("1/3", "1/1") for s in (0, 1) for c in "ab"]
    results = with_oracle(results, "epoch")
    made = cells(results, None, {"d": "folder"}, count=200, tolerance=0.002, reference={"epoch": "1/1"})
    made = [cell for cell in made if cell.metric == "image_auroc"]

    def mean(epoch: str, categories: str) -> float:
        return float(np.mean([auroc(r) for r in results if r.labels["epoch"] == epoch and r.category in categories]))

    for cell in made:
        epoch, categories = cell.labels["epoch"], "ab" if cell.category == "mean" else cell.category
        if epoch == "1/1":
            assert "effect" not in cell.gains
        else:
            effect = cell.gains["effect"]
            assert effect.value == pytest.approx(mean(epoch, categories) - mean("1/1", categories))
            assert effect.low <= effect.value <= effect.high
            if epoch == ORACLE:
                assert effect.value >= 0 and np.isnan(effect.p) and np.isnan(effect.holm)
            else:
                assert effect.holm == effect.p  # the only other row
    text = "\n".join(notes(results, made, count=200, tolerance=0.002))
    assert "Oracle: " in text and "Effect: " in text
    table = comparison_table(made, "x", ())
    assert "image AUROC, effect" in table.columns
    assert {row["effect"] is None for row in columns(made)} == {True, False}


def test_effects_are_corrected_for_the_rows_of_the_table() -> None:
    """Of every category and of the mean, against statsmodels' own correction of the rows' p."""
    results = [result(e, 0, c, s) for e, s in (("1/1", 1.0), ("2/3", 1.2), ("1/2", 1.6), ("1/3", 0.6)) for c in "ab"]
    made = cells(results, None, {"d": "folder"}, count=400, tolerance=0.1, reference={"epoch": "1/1"})
    for category in ("a", "b", "mean"):
        effects = [c.gains["effect"] for c in made if c.category == category and "effect" in c.gains]
        effects = [effect for effect in effects if not np.isnan(effect.p)]
        assert len(effects) == 3
        assert [e.holm for e in effects] == pytest.approx(multipletests([e.p for e in effects], method="holm")[1])


def test_rows_of_the_same_run_as_the_reference_have_no_effect() -> None:
    """As PatchCore has at every epoch: a 0 would look measured."""
    results = [replace(result(e, 0, "a", 1.0, "patchcore"), run="same") for e in ("1/3", "1/1")]
    made = cells(results, None, {"d": "folder"}, count=50, tolerance=0.1, reference={"epoch": "1/1"})
    assert not any(cell.gains for cell in made)


def test_summaries_compare_methods_not_rows() -> None:
    results = [result(e, 0, c, 1.0, m) for e in ("1/3", "1/1") for c in "abc" for m in ("patchcore", "reconpatch")]
    results = [replace(r, run=f"{r.run} {r.method}") for r in results]
    made = cells(
        with_oracle(results, "epoch"), None, {"d": "folder"}, count=50, tolerance=0.1, reference={"epoch": "1/1"}
    )
    rows = summaries(made)
    assert rows and all(row.method != row.gain.over and row.labels["epoch"] != ORACLE for row in rows)


def test_effects_of_a_figure_are_those_the_table_has() -> None:
    """Rows without one, the reference and what is undefined, are left out; a metric of nothing has no panel."""
    cells_of = {"dataset": "d", "category": "a", "categories": 1, "method": "reconpatch"}
    ends = {"effect_low": -0.01, "effect_high": 0.02, "effect_p": 0.01, "effect_holm": 0.06}
    rows = [
        {"epoch": "1/1", "metric": "image_auroc", "effect": np.nan},
        {"epoch": "1/2", "metric": "image_auroc", "effect": 0.01} | ends,
        {"epoch": "1/3", "metric": "image_auroc", "effect": np.nan},
        {"epoch": "1/2", "metric": "pixel_auroc", "effect": np.nan},
    ]
    shown, what = effects_of(pd.DataFrame([cells_of | row for row in rows]), ["epoch"])
    assert what == "a" and list(shown) == ["image_auroc"]
    (only,) = shown["image_auroc"]
    assert (only.row, only.value, only.low, only.high) == ("1/2", 1.0, -1.0, 2.0)
    assert not only.significant  # the corrected p counts
