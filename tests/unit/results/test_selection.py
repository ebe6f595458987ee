"""The oracle's rows against a choice by hand, and effects against differences of plain AUROCs."""

from typing import Any

import numpy as np
import pytest
from drawing import make_record
from sklearn.metrics import roc_auc_score

from reconpatch.method.bootstrap import image_wins
from reconpatch.method.metrics import SavedScores, image_metrics
from reconpatch.results.comparison import Result, cells, columns
from reconpatch.results.selection import ORACLE, with_oracle
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


def test_there_is_no_oracle_over_a_missing_run() -> None:
    results = [
        result("1/3", 0, "a", 1.0),
        result("1/1", 0, "a", None),
        *(result(e, 0, "b", 1.0) for e in ("1/3", "1/1")),
    ]
    assert [r.category for r in with_oracle(results, "epoch")[4:]] == ["b"]


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
            assert epoch != ORACLE or effect.value >= 0
    text = "\n".join(notes(results, made, count=200, tolerance=0.002))
    assert "Oracle: " in text and "Effect: " in text
    table = comparison_table(made, "x", ())
    assert "image AUROC, effect" in table.columns
    assert {row["effect"] is None for row in columns(made)} == {True, False}
