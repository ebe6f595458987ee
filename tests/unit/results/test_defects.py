from dataclasses import replace

import numpy as np
import pytest
from drawing import make_record
from sklearn.metrics import roc_auc_score

from reconpatch.method.bootstrap import image_wins
from reconpatch.method.metrics import SavedScores, image_metrics
from reconpatch.results.comparison import Result
from reconpatch.results.defects import MOST_ROWS, defect_cells, defect_columns, defect_table

TYPES = {"nut": ("bent", "scratch"), "bolt": ("bent", "stain", "worn_off")}


def result(category: str, method: str, seed: int = 0, **changes) -> Result:
    """Scores of 12 normal test images and 8 of every type; `bent` is easy, and ReConPatch finds more of each."""
    rng = np.random.default_rng(list(map(ord, f"{category}{method}{seed}")))
    defects = ["", *TYPES[category]] * 8 + [""] * 4
    ease = [0 if not d else (2.0 if d == "bent" else 0.4) + 0.5 * (method == "reconpatch") for d in defects]
    scores, labels = np.float32(rng.normal(ease, 1)), np.array([bool(d) for d in defects], np.int64)
    record = make_record(metrics=image_metrics(scores, labels))
    fields = {
        "labels": {},
        "method": method,
        "seed": seed,
        "dataset": "mine",
        "category": category,
        "run": f"{method}{seed}",
    }
    saved = SavedScores(scores, labels, {"image": image_wins(scores, labels)})
    return Result(**(fields | {"departures": (), "record": record, "saved": saved, "defects": defects} | changes))


def results(**changes) -> list[Result]:
    return [
        result(category, method, seed, **changes)
        for category in TYPES
        for method in ("patchcore", "reconpatch")
        for seed in (0, 1)
    ]


def of_type(each: Result, defect: str) -> float:
    """scikit-learn's AUROC of the normal images and one type."""
    assert each.saved is not None
    pairs = [(s, bool(d)) for s, d in zip(each.saved.image, each.defects, strict=True) if d in ("", defect)]
    return float(roc_auc_score([label for _, label in pairs], [score for score, _ in pairs]))


def test_auroc_of_every_type_and_its_gain() -> None:
    runs = results()
    cells = defect_cells(runs, 500)
    assert [(c.category, c.method, c.defect) for c in cells] == [
        (category, method, defect)
        for category, types in TYPES.items()
        for method in ("patchcore", "reconpatch")
        for defect in types
    ]
    values = {}
    for cell in cells:
        of_seeds = [of_type(r, cell.defect) for r in runs if (r.category, r.method) == (cell.category, cell.method)]
        values[cell.category, cell.defect, cell.method] = np.mean(of_seeds)
        assert cell.entry.value == pytest.approx(np.mean(of_seeds)) and cell.images == 8
        low, high = cell.entry.ends
        assert low < cell.entry.value < high or cell.entry.value == high == 1
    for cell in (c for c in cells if c.method == "reconpatch"):
        gain, place = cell.gains["gain"], (cell.category, cell.defect)
        assert gain.value == pytest.approx(values[*place, "reconpatch"] - values[*place, "patchcore"])
        assert gain.low <= gain.value <= gain.high and gain.holm >= gain.p
    least = min((c.gains["gain"] for c in cells if c.gains), key=lambda gain: gain.p)
    assert least.holm == pytest.approx(min(1, 5 * least.p))  # of all five types


def test_a_missing_run_is_no_number() -> None:
    runs = [replace(r, record=None, saved=None) if r.method == "reconpatch" and r.seed else r for r in results()]
    cells = defect_cells(runs, 100)
    assert {cell.method for cell in cells if np.isnan(cell.entry.value)} == {"reconpatch"} and len(cells) == 10
    assert all(np.isnan(cell.gains["gain"].value) for cell in cells if cell.gains)


def test_the_table_has_a_row_a_type_and_a_column_a_method() -> None:
    cells = defect_cells(results(), 100)
    table = defect_table(cells, "Title")
    assert table is not None and [row["type of defect"] for row in table.rows] == [
        *("bent", "scratch", "bent", "stain", "worn off")
    ]
    assert table.columns == [
        "category",
        "type of defect",
        "images",
        "PatchCore",
        "ReConPatch",
        "ReConPatch over PatchCore",
    ]
    rows, columns = defect_columns(cells, [])
    assert len(rows) == 10 and list(rows[0]) == columns
    assert defect_columns([], ["dim"])[1][:5] == ["dataset", "category", "defect", "images", "dim"]


def test_a_long_table_of_several_places_is_left_to_its_csv() -> None:
    def places(count: int) -> list[Result]:
        return [r for dim in range(count) for r in results(labels={"dim": dim})]

    assert MOST_ROWS == 40
    for count, shown in ((8, True), (9, False)):  # 5 types each
        assert (defect_table(defect_cells(places(count), 10), "Title") is not None) == shown
    assert defect_table([], "Title") is None
