"""Tables as text, with notes that say how to read them.

AUROCs are printed x 100, published numbers beside ours.
"""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from reconpatch.method.metrics import METRICS
from reconpatch.records.record import Record
from reconpatch.results.comparison import EFFECT, ORACLE, Cell, Gain, Result, of_others
from reconpatch.results.names import ALL, KIND, METHODS, category_name
from reconpatch.results.paper import Key, Paper, PaperNumber

MISSING = "–"
GAIN_COLUMNS = {"gain": "gain over PatchCore", "training": "gain of training", EFFECT: "effect"}
FEW_SEEDS = 6  # below it the spread over seeds is uncertain
COST_STAGES = {"features": "features", "training": "training", "bank": "coreset", "score": "scores"}


@dataclass(frozen=True)
class Table:
    """A table of strings: rows of column -> text; `links` names, per row and column, the records behind a cell."""

    title: str
    rows: Sequence[Mapping[str, str]]
    notes: Sequence[str] = ()
    links: Sequence[Mapping[str, Sequence[str]]] = field(default_factory=list)

    @property
    def columns(self) -> list[str]:
        """All columns of all rows, in order of appearance."""
        return list(dict.fromkeys(column for row in self.rows for column in row))


# --- numbers beside published ones -----------------------------------------------------------------------------------


def comparison_table(cells: Sequence[Cell], title: str, notes: Sequence[str], theirs: str = "paper") -> Table:
    """Cells -> a row per data set, category, place and method, columns per metric.

    Ours with its 95 % interval; where the paper, or who is called `theirs`, has numbers, these and the verdict with the
    difference; where PatchCore, or the untrained f, ran too, the gain over it with its interval. A row of these two is
    not repeated where a place changes only what they do not have.
    """
    labels = list(dict.fromkeys(label for cell in cells for label in cell.labels))
    several = len({cell.dataset for cell in cells}) > 1
    with_paper = {cell.metric for cell in cells if cell.paper is not None}
    with_verdict = {cell.metric for cell in cells if cell.paper is not None and not cell.source}
    # Without an interval a gain says little.
    with_gain = {(c.metric, name) for c in cells for name, gain in c.gains.items() if gain.low == gain.low}
    with_paper_gain = {(c.metric, name) for c in cells for name, gain in c.gains.items() if gain.paper is not None}
    rows, links, seen = [], [], set()
    for _, group in itertools.groupby(cells, lambda c: (c.dataset, c.category, tuple(c.labels.items()), c.method)):
        part = list(group)
        first = part[0]
        same = (first.dataset, first.category, first.labels.get(KIND), tuple(first.runs))
        if first.method != "reconpatch" and same in seen:
            continue
        seen.add(same)
        row = ({"dataset": first.dataset} if several else {}) | {"category": category_text(first)}
        row |= {label: label_text(first.labels.get(label)) for label in labels} | {"method": METHODS[first.method]}
        for cell in part:
            label = METRICS[cell.metric].label
            row[label] = value_text(cell.value, cell.low, cell.high)
            if cell.metric in with_paper:
                row |= _paper_columns(cell, label, theirs, cell.metric in with_verdict)
            for name, column in GAIN_COLUMNS.items():
                gain = cell.gains.get(name)
                if (cell.metric, name) in with_gain:
                    row[f"{label}, {column}"] = gain_text(gain)
                if (cell.metric, name) in with_paper_gain:
                    texts = ("", "")
                    if gain is not None and gain.paper is not None:
                        texts = (f"{100 * gain.paper:+.2f}", gain.verdict)
                    whose = "paper's" if theirs == "paper" else theirs
                    row[f"{label}, {whose} {column}"] = texts[0]
                    if cell.metric in with_verdict:
                        row[f"{label}, verdict on the {column}"] = texts[1]
        rows.append(row)
        links.append({METRICS[cell.metric].label: cell.links for cell in part})
    return Table(title, rows, notes, links)


def value_text(value: float, low: float, high: float) -> str:
    """A value and the ends of its interval, in [0, 1] -> both x 100."""
    if value != value:  # NaN differs from itself
        return MISSING
    ends = "" if low != low else f" [{100 * low:.1f}, {100 * high:.1f}]"
    return f"{100 * value:.2f}{ends}"


def _paper_columns(cell: Cell, label: str, theirs: str, with_verdict: bool) -> dict[str, str]:
    """The published number of a cell and, unless all of the metric are others' than the paper's, the verdict."""
    verdict, number = MISSING, MISSING if cell.paper is None else f"{100 * cell.paper:.2f}"
    if cell.paper is not None:
        difference = "" if cell.difference != cell.difference else f" ({100 * cell.difference:+.2f})"
        verdict = f"{cell.verdict}{difference}"
    return {f"{label}, {theirs}": number} | ({f"{label}, verdict": verdict} if with_verdict else {})


def gain_text(gain: Gain | None) -> str:
    """A gain -> it and its interval x 100, and its p; nothing where there is none."""
    if gain is None or gain.value != gain.value:
        return ""
    ends = f" [{100 * gain.low:+.1f}, {100 * gain.high:+.1f}]" if gain.low == gain.low else ""
    p = f", {'p' if gain.holm != gain.holm else 'corrected p'} {gain.shown_p:.3f}" if gain.p == gain.p else ""
    return f"{100 * gain.value:+.2f}{ends}{p}"


def notes(results: Sequence[Result], cells: Sequence[Cell], *, count: int, tolerance: float) -> list[str]:
    """How to read the numbers of a table: units, intervals, gains, verdicts and what forbids a comparison."""
    seeds = {r.seed for r in results}
    drawn = (
        f"test images and {len(seeds)} seeds"
        if len(seeds) > 1
        else "test images (one seed: the interval does not cover other seeds)"
    )
    lines = [f"Values × 100, in brackets the 95 % interval of {count} bootstrap draws of {drawn}."]
    if 1 < len(seeds) < FEW_SEEDS:
        lines.append("So few seeds do not tell how far seeds scatter: as to them, intervals are rather too narrow.")
    metrics = [METRICS[name] for name in dict.fromkeys(cell.metric for cell in cells)]
    lower = [metric.label for metric in metrics if not metric.higher_is_better]
    gains = [(name, gain) for cell in cells for name, gain in cell.gains.items() if gain.value == gain.value]
    if any(name == "gain" for name, _ in gains):
        lines.append("Gain: ReConPatch − PatchCore, paired; an interval that contains 0 does not show which is better.")
    if any(gain.p == gain.p for _, gain in gains):
        lines.append(
            "p: twice the share of draws without the gain's sign. The corrected p of a category counts the number of "
            "categories (Holm); the p of a mean is its own. Intervals are not corrected."
        )
    if any(name == "training" for name, _ in gains):
        lines.append(
            "Untrained f: a linear map as it is drawn, before any training. Its gain over PatchCore is what the map "
            "costs, the gain of training is ReConPatch − untrained f; both are together ReConPatch's over PatchCore."
        )
    if any(name == EFFECT for name, _ in gains):
        lines.append(
            "Effect: the improvement over the same method in the reference row, the one without an effect; paired. Its "
            "p is corrected for the number of rows of the table (Holm)."
        )
    if any(ORACLE in cell.labels.values() for cell in cells):
        lines.append(
            "Oracle: for each category and seed the value with the best image AUROC on the test set. It is no result: "
            "it shows what a choice on the test set inflates. Its gains have no p, which would not count the choice."
        )
    if lower:
        lines.append(f"Lower is better: {', '.join(lower)}; gains are PatchCore − ReConPatch there.")
    with_number = [cell for cell in cells if cell.paper is not None]
    if any(not cell.source for cell in with_number):
        lines.append(f"Verdict: agrees within ±{100 * tolerance:g} of the paper's number, else above or below.")
    if sources := dict.fromkeys(cell.source for cell in with_number if cell.source):
        lines.append(f"Published numbers, not the paper's and so not compared with ours: {'; '.join(sources)}.")
    if any(KIND in cell.labels for cell in cells):
        lines.append(
            "Kind: the images with this kind of anomaly and all normal test images; its mean is that of the kinds, as "
            "the data set's authors report it."
        )
    if any(cell.dataset == ALL for cell in cells):
        lines.append(
            "Groups by nature: unweighted means over categories of all data sets. Logical anomalies, where they are "
            "measured apart, are a group of their own; the other anomalies of their categories count in the group of "
            "the category. Among all, a category counts once, with the mean of its kinds. The p of a group is "
            "corrected for the number of groups (Holm). Intervals cover other test images and seeds of these "
            "categories, not other categories."
        )
        if lacking := sorted(_without_nature(cells)):
            lines.append(f"No nature is known of {', '.join(lacking)}; they count among all alone.")
    if any(gain.paper is not None for cell in with_number if not cell.source for gain in cell.gains.values()):
        lines.append(
            "Verdict on the gain: agrees if the paper's gain, the difference of its two numbers, lies in the interval "
            "of ours (and with none, if 0 does, too), else smaller or larger; not comparable if one number is not."
        )
    lines += [*untested(cells), *comparability(results, cells)]
    if any(cell.category in ("aligned", "rotated") and cell.categories > 1 for cell in cells):
        lines.append("Aligned objects lie nearly the same way in all images, rotated ones in any way.")
    if any(cell.value != cell.value for cell in cells):
        lines.append("A dash: undefined (no masks, or no normal or no anomalous test images), or not run.")
    return lines


def _without_nature(cells: Sequence[Cell]) -> set[str]:
    """Cells of a table by nature -> the categories that stand in none of its groups."""
    of_groups = {cell.category: {key[:2] for key in cell.members} for cell in cells if cell.dataset == ALL}
    every = of_groups.pop("mean", set())
    return {f"{dataset}/{category}" for dataset, category in every.difference(*of_groups.values())}


def untested(cells: Sequence[Cell]) -> list[str]:
    """What must be known of metrics that have no interval, and so no test."""
    metrics = [METRICS[name] for name in dict.fromkeys(cell.metric for cell in cells)]
    labels = [metric.label for metric in metrics if metric.interval is None]
    return [f"{', '.join(labels)}: no interval and no test of the gain."] if labels else []


def comparability(results: Sequence[Result], cells: Sequence[Cell]) -> list[str]:
    """What forbids to compare cells with published numbers, and why others have no such number."""
    lines = _caveats(results, cells) if any(cell.paper is not None for cell in cells) else []
    without: dict[str, list[str]] = {}  # how a reason begins -> what it is about
    for reason in dict.fromkeys(reason for cell in cells if cell.paper is None for reason in cell.reasons):
        opening, _, what = reason.partition(": ")
        without.setdefault(opening, []).append(what)
    parts = [f"{opening}: {', '.join(what)}" if any(what) else opening for opening, what in without.items()]
    return [*lines, *(f"No comparison, because {part}." for part in parts)]


def _caveats(results: Sequence[Result], cells: Sequence[Cell]) -> list[str]:
    """Why cells are not comparable: settings and flags in general, caveats with the methods they are on. That a number
    is not the paper's goes without saying where its source stands.
    """
    named = {d for r in results for d in r.departures} | {flag.text for r in _records(results) for flag in r.flags}
    methods: dict[str, set[str]] = {}  # reason, "" for those that other notes name -> methods
    for cell in cells:
        for reason in cell.reasons if cell.paper is not None else ():
            if reason != of_others(cell.source):
                methods.setdefault("" if reason in named else reason, set()).add(METHODS[cell.method])
    lines = ["Not comparable: rows with settings, weights or data other than the paper's, named below."]
    return (lines if "" in methods else []) + [
        f"Not comparable, {' and '.join(sorted(of))}: {reason.rstrip('.')}." for reason, of in methods.items() if reason
    ]


def provenance(results: Sequence[Result], absent: Sequence[str]) -> list[str]:
    """What every table says of its runs: seeds, weights, flags, departures from the paper, what is missing."""
    seeds = sorted({r.seed for r in results})
    lines = [f"Seeds: {', '.join(map(str, seeds))}{' (means)' if len(seeds) > 1 else ''}."]
    backbones = sorted({f"{r.description['backbone']} ({r.weights.source})" for r in _records(results)})
    lines += [f"Backbone (weights): {', '.join(backbones)}."] if backbones else []
    for opening, forbids in (("Not a result of the paper", True), ("Remarks on the data", False)):
        lines += [f"{opening}{where}: {'; '.join(flags)}." for where, flags in _flags(results, forbids).items()]
    for opening, places in (
        ("Settings other than the paper's", _places(results, lambda r: r.departures)),
        ("Embedding", _places(results, lambda r: r.remarks)),
    ):
        lines += [f"{opening}{where}: {'; '.join(texts)}." for where, texts in places.items()]
    missing = [f"{r.dataset}/{r.category} {r.run}" for r in results if r.record is None]
    if missing:
        lines.append(f"Missing, because the run failed or has not ended: {', '.join(dict.fromkeys(missing))}.")
    return lines + ([f"Not run: {'; '.join(absent)}."] if absent else [])


def _flags(results: Sequence[Result], forbids: bool) -> dict[str, list[str]]:
    """Where -> flags of the records there that forbid a comparison, or the others; "" is everywhere."""
    every = {record.category for record in _records(results)}
    categories: dict[str, set[str]] = {}
    for record in _records(results):
        for flag in record.flags:
            if flag.forbids_comparison == forbids:
                categories.setdefault(flag.text, set()).add(record.category)
    by_place: dict[str, list[str]] = {}
    for text, where in categories.items():
        by_place.setdefault("" if where == every else f", {', '.join(sorted(where))}", []).append(text)
    return by_place


def _places(results: Sequence[Result], texts: Callable[[Result], Sequence[str]]) -> dict[str, list[str]]:
    """Results, what is said of each -> where in the table -> what is said there; "" is everywhere."""
    places = {tuple(r.labels.items()) for r in results}
    labels_of: dict[str, set[tuple[tuple[str, Any], ...]]] = {}
    for r in results:
        for text in texts(r):
            labels_of.setdefault(text, set()).add(tuple(r.labels.items()))
    by_place: dict[str, list[str]] = {}
    for text, where in labels_of.items():
        names = sorted(", ".join(label_text(value) for _, value in labels) for labels in where)
        by_place.setdefault("" if len(where) == len(places) else f" ({' | '.join(names)})", []).append(text)
    return by_place


def _records(results: Sequence[Result]) -> Iterator[Record]:
    return (r.record for r in results if r.record is not None)


def published_table(paper: Paper, title: str) -> Table | None:
    """The published numbers of other methods: a column a method, in it the metrics one after the other."""
    others = {key: number for key, number in paper.numbers.items() if key[1] not in METHODS}
    methods = list(dict.fromkeys(method for _, method, _, _ in others))
    metrics = list(dict.fromkeys(metric for _, _, metric, _ in others))
    rows = []
    for category, place in dict.fromkeys((key[0], key[3]) for key in others):
        texts = (value if isinstance(value, str) else f"{value:g}" for value in place)
        row = {"category": category.replace("_", " ")} | dict(zip(paper.labels, texts, strict=True))
        for method in methods:
            numbers = [others.get((category, method, metric, place)) for metric in metrics]
            row[method] = ", ".join(MISSING if number is None else f"{number.value:.2f}" for number in numbers)
        rows.append(row)
    sources = dict.fromkeys(number.source or "the paper" for number in others.values())
    labels = ", ".join(METRICS[metric].label for metric in metrics)
    note = f"{labels[:1].upper()}{labels[1:]} of other methods, as published: {'; '.join(sources)}."
    return Table(title, rows, [note, *_caveats_of_others(others)]) if rows else None


def _caveats_of_others(numbers: Mapping[Key, PaperNumber]) -> Iterator[str]:
    """Numbers of other methods -> what is said of each method; where it is said of some of its metrics, of which."""
    metrics: dict[str, set[str]] = {}
    said: dict[tuple[str, str], dict[str, None]] = {}
    for (_, method, metric, _), number in numbers.items():
        metrics.setdefault(method, set()).add(metric)
        if number.caveat:
            said.setdefault((method, number.caveat), {})[metric] = None
    for (method, caveat), of in said.items():
        labels = [METRICS[metric].label for metric in of if of.keys() != metrics[method]]
        yield f"{', '.join([method, *labels])}: {caveat.rstrip('.')}."


# --- costs -----------------------------------------------------------------------------------------------------------


def cost_table(results: Sequence[Result], title: str, notes: Sequence[str]) -> Table:
    """Results -> a row per run: seconds of every stage, the largest process, bank and images per second.

    Images per second counts the features and the scores of a test image, each in the bulk of the test set.
    """
    rows: list[dict[str, str]] = []
    links: list[dict[str, list[str]]] = []
    for r in results:
        row = {"category": r.category.replace("_", " ")} | {k: str(v) for k, v in r.labels.items()}
        row |= {"method": METHODS[r.method], "seed": str(r.seed)}
        row["backbone"] = MISSING if r.record is None else str(r.record.description["backbone"])
        if r.record is None or r.record.members:  # an ensemble's members have rows of their own
            rows.append(row)
            links.append({})
        else:
            rows.append(row | _costs(r.record))
            links.append({"all, s": [r.link]})
    machines = {f"{s.processor}, {s.cores} cores" for record in _records(results) for _, _, s in record.all_stages()}
    return Table(title, rows, [*notes, *(f"Machine: {machine}." for machine in sorted(machines))], links)


def without_constants(table: Table) -> Table:
    """A table -> the same without columns that say one thing in all rows; notes say it."""
    said = {column: {row.get(column, "") for row in table.rows} for column in table.columns}
    constant = {column: texts.pop() for column, texts in said.items() if len(texts) == 1 and len(table.rows) > 1}
    rows = [{column: text for column, text in row.items() if column not in constant} for row in table.rows]
    note = [f"In all rows: {'; '.join(f'{column} {text}' for column, text in constant.items())}."] if constant else []
    return Table(table.title, rows, [*table.notes, *note])


def _costs(record: Record) -> dict[str, str]:
    """Record of a run -> time, memory and sizes."""
    stages, bank = record.stages, record.bank
    row = {f"{n}, s": f"{stages[s].wall_s:.1f}" if s in stages else MISSING for s, n in COST_STAGES.items()}
    row["all, s"] = f"{sum(stages[s].wall_s for s in COST_STAGES if s in stages):.1f}"
    row["largest process, MB"] = f"{max(stages[s].peak_mb for s in COST_STAGES if s in stages):.0f}"
    row["bank, patches"] = f"{bank.patches} of {bank.of}"
    row["bank, MB"] = f"{bank.patches * record.description['dim'] * 4 / 1e6:.1f}"
    taken = stages["features"].s_per_image["test"] + stages["score"].s_per_image["test"]
    row["images per second"] = f"{1 / taken:.1f}"
    threads = stages["features"].threads
    row["on"] = f"{stages['score'].device}, {threads} thread{'s' if threads > 1 else ''}"
    return row


def label_text(value: Any) -> str:
    """The value of a label -> what tables print."""
    return MISSING if value is None or value != value else str(value)


def category_text(cell: Cell) -> str:
    """The category of a cell, or the mean that it is -> what tables print."""
    return category_name(cell.category, cell.categories, cell.dataset)
