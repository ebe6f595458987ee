from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy.stats import rankdata

from reconpatch.results.comparison import Cell, Gain
from reconpatch.results.summary import summaries, summary_columns, summary_table

NAN = float("nan")
VALUES = {  # category -> of PatchCore, the untrained f, ReConPatch; of gains over PatchCore the value and Holm's p
    "a": (0.90, 0.80, 0.95, 0.01),
    "b": (0.90, 0.85, 0.85, 0.04),
    "c": (0.90, 0.90, 0.91, 0.05),
    "d": (0.70, 0.60, 0.90, 0.06),
}
METHODS = ("patchcore", "untrained", "reconpatch")


def cell(category: str, method: str, value: float, gains: dict[str, Gain], **changes: Any) -> Cell:
    fields = {"dataset": "mine", "category": category, "categories": 1, "labels": {"dim": 64}, "method": method}
    fields |= {"metric": "image_auroc", "value": value, "sd": NAN, "low": NAN, "high": NAN, "paper": None}
    members = changes.pop("members", [category])
    fields |= {
        "difference": NAN,
        "verdict": "",
        "reasons": [],
        "seeds": [0],
        "runs": [f"{method}{changes.pop('run', '')}"],
        "links": [],
    }
    made = Cell(**(fields | {"flags": [], "departures": [], "gains": gains} | changes))
    keys = [(made.dataset, member, tuple(made.labels.items()), method) for member in members]
    return replace(made, members=keys)


def made(methods: tuple[str, ...] = METHODS, categories: tuple[str, ...] = tuple(VALUES), **changes: Any) -> list[Cell]:
    """Cells of single categories and their means; the untrained f gains nothing that is significant."""
    cells = []
    for category in (*categories, "mean"):
        mean = category == "mean"
        for method in methods:
            n = METHODS.index(method)
            values = [VALUES[c][n] for c in (categories if mean else (category,))]
            theirs = [VALUES[c][0] for c in (categories if mean else (category,))]
            value, gain = float(np.mean(values)), float(np.mean(values) - np.mean(theirs))
            holm = NAN if mean else VALUES[category][3] if method == "reconpatch" else 0.9
            gains = (
                {} if method == "patchcore" else {"gain": Gain("patchcore", gain, gain - 0.1, gain + 0.1, 0.03, holm)}
            )
            fields = {"categories": len(values), "members": categories if mean else [category]}
            cells.append(cell(category, method, value, gains, **(fields | changes)))
    return cells


def test_wins_ties_and_losses_by_hand() -> None:
    """Wins: a, and c, whose p is 5 %. b loses; d is a tie for all its gain."""
    rows = {row.method: row for row in summaries(made())}
    ours, drawn = rows["reconpatch"], rows["untrained"]
    assert (ours.wins, ours.ties, ours.losses) == (2, 1, 1) and (drawn.wins, drawn.ties, drawn.losses) == (0, 4, 0)
    assert ours.gain.value == pytest.approx(0.0525) and ours.gain.p == 0.03
    table = summary_table(list(rows.values()), "Title", count=2000)
    assert table is not None and table.rows[1] == {
        **{"dim": "64", "comparison": "ReConPatch over PatchCore", "metric": "image AUROC"},
        **{"mean gain": "+5.25 [-4.8, +15.2], p 0.030", "wins / ties / losses": "2 / 1 / 1"},
        "average ranks": "1.38, 1.88",
    }
    ranks = np.mean([rankdata([-v for v in values[:3]]) for values in VALUES.values()], axis=0)
    assert ours.ranks == pytest.approx((ranks[2], ranks[0])) and drawn.ranks == pytest.approx((ranks[1], ranks[0]))


def test_ranks_need_three_methods_and_three_categories() -> None:
    for cells in (made(("patchcore", "reconpatch")), made(categories=("a", "b")), made(metric="aupro_30")):
        assert all(row.ranks is None for row in summaries(cells))
    assert summaries(made(categories=("a", "b", "c")))[0].ranks
    lost = [c for c in made(categories=("a", "b", "c")) if (c.category, c.method) != ("a", "untrained")]
    assert all(row.ranks is None for row in summaries(lost))


def test_nothing_to_summarise() -> None:
    """One category has no mean; without intervals nothing wins. The CSV then has its columns alone."""
    for cells in ([c for c in made() if c.category == "a"], [c for c in made() if not c.gains], []):
        assert summaries(cells) == [] and summary_table([], "Title", count=100) is None
    rows, columns = summary_columns([], ["dim"])
    assert rows == [] and columns[:5] == ["dataset", "category", "categories", "dim", "method"]
    filled, columns = summary_columns(summaries(made()), ["dim"])
    assert all(list(row) == columns for row in filled)


def test_runs_that_stand_at_several_places_are_summarised_once() -> None:
    cells = [c for sigma in (1, 2) for c in made(labels={"sigma": sigma})]
    assert [row.labels["sigma"] for row in summaries(cells)] == [1, 1]
    cells = [c for dim in (1, 2) for c in made(labels={"dim": dim}, run=dim)]
    assert [row.labels["dim"] for row in summaries(cells)] == [1, 1, 2, 2]


@pytest.mark.parametrize(("count", "told"), [(100, True), (158, True), (159, False), (2000, False)])
def test_too_few_draws_for_a_win_are_said(count, told) -> None:
    """The least p is 2 / (1 + draws), times 4 categories: at 159 draws just 5 %."""
    table = summary_table(summaries(made()), "Title", count=count)
    assert table is not None and any("too few" in note for note in table.notes) == told
