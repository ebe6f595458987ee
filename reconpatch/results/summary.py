"""One method against another over all categories, or over a group of them: mean gain, wins, ties and losses, ranks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from reconpatch.method.metrics import METRICS
from reconpatch.results.comparison import CONTRAST, EFFECT, Cell, Gain, Labels, over_kinds, provenance_columns
from reconpatch.results.names import ALL, KIND, METHODS, category_name
from reconpatch.results.statistics import LEAST, LEVEL, RANKED, average_ranks
from reconpatch.results.tables import Table, gain_text, label_text

ENDS = ("gain", "gain_low", "gain_high", "gain_p")


@dataclass(frozen=True)
class Summary:
    """A method over another at one place of a table by one metric.

    gain is the mean gain over the categories of a data set, or over those of a group of all data sets; category names
    the mean. wins and losses are the categories with a significant gain of that sign, ties the others with a gain; a
    category whose kinds of anomalies are all in the mean counts once, with the mean of its kinds. ranks are the average
    ranks of the method and of the other among all methods there, None where they are not comparable.
    """

    dataset: str
    category: str
    categories: int
    labels: Mapping[str, Any]
    method: str
    metric: str
    seeds: int
    gain: Gain
    wins: int
    ties: int
    losses: int
    ranks: tuple[float, float] | None
    flags: Sequence[str]  # of the records of both methods
    departures: Sequence[str]  # settings other than the paper's, of both methods


def summaries(cells: Sequence[Cell]) -> list[Summary]:
    """Cells of a table -> a Summary per data set or group, place, pair of methods and metric, where gains have
    intervals.

    A pair whose runs stand at several places is summarised at the first.
    """
    single = {
        (cell.dataset, cell.category, tuple(cell.labels.items()), cell.method, cell.metric): cell
        for cell in cells
        if cell.categories == 1 and cell.dataset != ALL
    }
    means = {(c.dataset, c.category, tuple(c.labels.items()), c.method): c for c in cells if _is_mean(c)}
    methods = list(dict.fromkeys(cell.method for cell in cells))
    rows, seen = [], set()
    for cell in filter(_is_mean, cells):
        labels = tuple(cell.labels.items())
        places = _places(cell)
        of_methods = [[single.get((*place, method, cell.metric)) for method in methods] for place in places]
        ranks = _average_ranks(methods, of_methods, cell.metric)
        for name, gain in cell.gains.items():
            if name in (EFFECT, CONTRAST):  # of a place or of a group, not of a method
                continue
            members = [c for place in places if (c := single.get((*place, cell.method, cell.metric)))]
            over = [member.gains[name] for member in members if name in member.gains]
            clear = [gain.value for gain in over if gain.holm <= LEVEL]
            tested = sum(gain.holm == gain.holm for gain in over)
            other = means[cell.dataset, cell.category, labels, gain.over]
            where = (cell.dataset, cell.category, cell.labels.get(KIND), cell.metric)
            pair = (*where, *cell.runs, "over", *other.runs)
            if not tested or pair in seen:
                continue
            seen.add(pair)
            wins, losses = sum(value > 0 for value in clear), sum(value < 0 for value in clear)
            of_pair = (ranks[cell.method], ranks[gain.over]) if {cell.method, gain.over} <= ranks.keys() else None
            rows.append(
                Summary(
                    dataset=cell.dataset,
                    category=cell.category,
                    categories=cell.categories,
                    labels=cell.labels,
                    method=cell.method,
                    metric=cell.metric,
                    seeds=len(cell.seeds),
                    gain=gain,
                    wins=wins,
                    ties=tested - wins - losses,
                    losses=losses,
                    ranks=of_pair,
                    flags=list(dict.fromkeys([*cell.flags, *other.flags])),
                    departures=list(dict.fromkeys([*cell.departures, *other.departures])),
                )
            )
    return rows


def _is_mean(cell: Cell) -> bool:
    """Whether a cell is summarised: the mean of a data set, or a group of the categories of all, even of one."""
    return cell.dataset == ALL or (cell.category == "mean" and cell.categories > 1)


def _places(cell: Cell) -> list[tuple[str, str, Labels]]:
    """A mean over categories -> data set, category and labels of the cell of each of them."""
    of_category: dict[tuple[str, str], list[Labels]] = {}
    for dataset, category, labels, _ in cell.members:
        of_category.setdefault((dataset, category), []).append(labels)
    return [
        (dataset, category, labels[0] if len(labels) == 1 else over_kinds(labels[0]))
        for (dataset, category), labels in of_category.items()
    ]


def _average_ranks(methods: Sequence[str], cells: Sequence[Sequence[Cell | None]], metric: str) -> dict[str, float]:
    """Methods, for each category its cell of each method, metric -> the average rank of every method, {} where it has
    none.
    """
    ran = [n for n in range(len(methods)) if any(of_category[n] for of_category in cells)]
    methods = [methods[n] for n in ran]
    values = [[cell.value if (cell := of_category[n]) else np.nan for n in ran] for of_category in cells]
    grid = np.array(values).reshape(len(cells), len(ran))
    grid = grid[np.isfinite(grid).all(1)]
    if metric not in RANKED or len(methods) < LEAST or len(grid) < LEAST:
        return {}
    return dict(zip(methods, average_ranks(grid).tolist(), strict=True))


def summary_columns(rows: Sequence[Summary], labels: Sequence[str]) -> tuple[list[dict[str, Any]], list[str]]:
    """Summaries, names of their labels -> rows and columns of their CSV file; it has the columns without rows, too."""
    made = [
        {"dataset": row.dataset, "category": row.category, "categories": row.categories, **row.labels}
        | {"method": row.method, "over": row.gain.over, "metric": row.metric}
        | dict(zip(ENDS, (row.gain.value, row.gain.low, row.gain.high, row.gain.p), strict=True))
        | {"wins": row.wins, "ties": row.ties, "losses": row.losses}
        | dict(zip(("rank", "rank_over"), row.ranks or (None, None), strict=True))
        | provenance_columns(row.flags, row.departures)
        for row in rows
    ]
    counts = ["wins", "ties", "losses", "rank", "rank_over"]
    return made, [
        "dataset",
        "category",
        "categories",
        *labels,
        "method",
        "over",
        "metric",
        *ENDS,
        *counts,
        *provenance_columns([], []),
    ]


def contrast_table(cells: Sequence[Cell], title: str) -> Table | None:
    """Cells of a table by nature -> its groups with what aligned objects gain more than each; None without any."""
    rows = [
        {"group": category_name(cell.category, cell.categories, cell.dataset)}
        | {label: label_text(value) for label, value in cell.labels.items()}
        | {"method": METHODS[cell.method], "metric": METRICS[cell.metric].label}
        | {"aligned objects gain more by": gain_text(cell.gains[CONTRAST])}
        for cell in cells
        if CONTRAST in cell.gains
    ]
    note = (
        "How much more the aligned objects gain over PatchCore than the group, × 100, with the 95 % interval of the "
        "same draws and its p, corrected for the number of groups (Holm). That one gain is significant and another is "
        "not does not show that they differ; this does."
    )
    return Table(title, rows, [note]) if rows else None


def summary_table(rows: Sequence[Summary], title: str, *, count: int) -> Table | None:
    """Summaries, number of bootstrap draws -> their table; None without any."""
    several, grouped = len({row.dataset for row in rows}) > 1, any(row.dataset == ALL for row in rows)
    ranked = any(row.ranks for row in rows)
    shown = []
    for row in rows:
        text = {"dataset": row.dataset} if several else {}
        text |= {"group": category_name(row.category, row.categories, row.dataset)} if grouped else {}
        text |= {k: label_text(v) for k, v in row.labels.items()}
        text |= {"comparison": f"{METHODS[row.method]} over {METHODS[row.gain.over]}"}
        text |= {"metric": METRICS[row.metric].label, "mean gain": gain_text(row.gain)}
        text["wins / ties / losses"] = f"{row.wins} / {row.ties} / {row.losses}"
        if ranked:
            text["average ranks"] = "{:.2f}, {:.2f}".format(*row.ranks) if row.ranks else ""
        shown.append(text)
    return Table(title, shown, _notes(rows, ranked, count)) if shown else None


def _notes(rows: Sequence[Summary], ranked: bool, count: int) -> list[str]:
    """How to read the summaries."""
    percent = f"{100 * LEVEL:g} %"
    lines = [
        "Mean gain: over all categories, × 100, with its 95 % interval and its p.",
        f"Wins and losses: categories whose gain or loss is significant at {percent} after Holm's correction for their "
        "number; all others are ties, which does not show that the methods are equal.",
    ]
    if any(row.dataset == ALL for row in rows):
        lines.append("In a group by nature that correction is for the number of categories of each data set.")
    # A group has categories of several data sets; a data set without a mean has one category.
    most = max((row.wins + row.ties + row.losses for row in rows if row.dataset != ALL), default=1)
    if 2 * most / (1 + count) > LEVEL:
        lines.append(f"{count} draws are too few for a win or a loss among {most} categories: raise `resamples`.")
    if {row.seeds for row in rows} == {1}:
        lines.append("One seed: other seeds may win or lose in other categories.")
    if ranked:
        lines.append(
            "Average ranks: of the two methods among all methods with these settings, over categories; 1 is the best."
        )
    return lines
