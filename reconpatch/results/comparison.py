"""Every number of a table: ours with its interval, the paper's, the difference, a verdict, and the gains.

There is one cell per place in the table, category (or mean over categories), method and metric. The bootstrap of a cell
draws test images, and seeds where there are several. All methods use the same draws, so gains are paired.

ReConPatch's gain over PatchCore has two parts: what f costs or brings as it is drawn (`method: untrained`), and what
its training brings.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reconpatch.data.published import KNOWN, TEXTURES
from reconpatch.method.bootstrap import interval, mean_over_seeds, resamples, seed_resamples
from reconpatch.method.metrics import METRICS, Metric, SavedScores, resampled
from reconpatch.records.record import Record
from reconpatch.results.paper import Paper, PaperNumber
from reconpatch.rng import named_rng

Draws = NDArray[np.float64]
NAN = float("nan")
Labels = tuple[tuple[str, Any], ...]
Key = tuple[str, str, Labels, str]  # data set, category, labels, method
# Method -> its gains, each over another method.
GAINS: dict[str, dict[str, str]] = {
    "patchcore": {},
    "untrained": {"gain": "patchcore"},
    "reconpatch": {"gain": "patchcore", "training": "untrained"},
}


@dataclass(frozen=True)
class Result:
    """One run on one category at its place in a table. Without a record the run is missing."""

    labels: Mapping[str, Any]
    method: str
    seed: int
    dataset: str
    category: str
    run: str
    departures: Sequence[str]  # settings other than the paper's
    remarks: Sequence[str] = ()  # on the embedding
    record: Record | None = None
    link: str = ""  # where the record lies, relative to the report
    saved: SavedScores | None = None  # what its intervals are drawn from


@dataclass(frozen=True)
class Cell:
    """One number of a table with all that is said of it. Numbers are in [0, 1], NaN where undefined.

    category may also name a mean over several `categories`. sd is the standard deviation over seeds, low and high are
    the ends of the 95 % interval. paper is None where the paper has no number. gain, over PatchCore, and training,
    ReConPatch's over the untrained f, are None where there is no such cell. A positive gain is always an improvement.
    """

    dataset: str
    category: str
    categories: int
    labels: Mapping[str, Any]
    method: str
    metric: str
    value: float
    sd: float
    low: float
    high: float
    paper: float | None
    difference: float  # ours - the paper's
    verdict: str  # "" where the paper has no number
    reasons: Sequence[str]  # why ours and the paper's cannot be compared
    gain: float | None
    gain_low: float
    gain_high: float
    training: float | None
    training_low: float
    training_high: float
    seeds: Sequence[int]
    runs: Sequence[str]
    links: Sequence[str]  # records behind a single category
    flags: Sequence[str]  # what must be known of the records: a number never stands without them


def columns(cells: Sequence[Cell]) -> list[dict[str, Any]]:
    """Cells -> the rows of the CSV file of a table. Columns of a gain are left out where no cell has it."""
    some = [name for name in ("gain", "training") if any(getattr(cell, name) is not None for cell in cells)]
    gains = [f"{name}{end}" for name in some for end in ("", "_low", "_high")]
    return [
        {"dataset": cell.dataset, "category": cell.category, "categories": cell.categories}
        | dict(cell.labels)
        | {"method": cell.method, "metric": cell.metric, "value": cell.value, "sd": cell.sd}
        | {"low": cell.low, "high": cell.high, "paper": cell.paper, "difference": cell.difference}
        | {"verdict": cell.verdict, "reasons": " | ".join(cell.reasons), "seeds": " ".join(map(str, cell.seeds))}
        | {"runs": " ".join(cell.runs), "links": " ".join(cell.links), "flags": "; ".join(cell.flags)}
        | {name: getattr(cell, name) for name in gains}
        for cell in cells
    ]


@dataclass(frozen=True)
class Entry:
    """Value of one group of seeds on one category, or a mean of such: in [0, 1], with its bootstrap draws."""

    value: float
    sd: float
    draws: Draws | None

    @property
    def ends(self) -> tuple[float, float]:
        """Ends of the 95 % interval, NaN without draws."""
        return (NAN, NAN) if self.draws is None else interval(self.draws)

    @staticmethod
    def mean(entries: Sequence["Entry"]) -> "Entry":
        """The unweighted mean over categories, whose draws are independent."""
        if len(entries) == 1:
            return entries[0]
        every = [entry.draws for entry in entries if entry.draws is not None]
        draws = np.mean(every, axis=0) if len(every) == len(entries) else None
        return Entry(float(np.mean([entry.value for entry in entries])), NAN, draws)

    def over(self, other: "Entry", metric: Metric) -> "Entry":
        """The improvement over another entry, from paired draws."""
        better, worse = (self, other) if metric.higher_is_better else (other, self)
        paired = None if better.draws is None or worse.draws is None else better.draws - worse.draws
        return Entry(better.value - worse.value, NAN, paired)


def entry(results: Sequence[Result], metric: Metric, count: int) -> Entry:
    """Results of all seeds of one place, method and category -> an Entry; NaN where a run is missing."""
    values = [_number(r.record.metrics.get(metric.name)) if r.record is not None else NAN for r in results]
    saved = [r.saved for r in results if r.saved is not None]
    draws = None
    if metric.interval is not None and len(saved) == len(results) and not np.isnan(values).any():
        # The same draws for both methods and at every place of the table.
        name = f"bootstrap/{results[0].dataset}/{results[0].category}"
        images = resamples(saved[0].labels, count, named_rng(0, f"{name}/images"))
        seeds = seed_resamples(len(saved), count, named_rng(0, f"{name}/seeds"))
        draws = mean_over_seeds([resampled(metric, scores, images) for scores in saved], seeds)
    return Entry(float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else NAN, draws)


def groups(layout: str, categories: Sequence[str]) -> dict[str, list[str]]:
    """Categories of a table -> the means it shows: object, texture and all, as the paper, where they are several."""
    if len(categories) < 2:
        return {}
    means = {"mean": list(categories)}
    if layout == "mvtec_ad":
        parts = {"object": [c for c in categories if c not in TEXTURES]}
        parts["texture"] = [c for c in categories if c in TEXTURES]
        means = {name: members for name, members in parts.items() if 1 < len(members) < len(categories)} | means
    return means


def published(
    paper: Paper | None,
    labels: Mapping[str, Any],
    group: str,
    members: Sequence[str],
    layout: str,
    key: tuple[str, str],
) -> PaperNumber | None:
    """The paper's number for a category or a mean, its caveat being why it cannot be compared, if there is a reason.

    `group` is the category's or the mean's name, `members` its categories, `key` (method, metric). A mean over some of
    the categories is compared with the paper's over the same, where it gives them.
    """
    if paper is None or layout not in KNOWN:  # someone's own "bottle" is not the paper's
        return None
    textures = {c for c in KNOWN[layout] if c in TEXTURES}
    means = {"mean": set(KNOWN[layout]), "texture": textures, "object": set(KNOWN[layout]) - textures}
    whole = group if group in members else next((m for m, all_ in means.items() if all_ == set(members)), None)
    if whole is not None:
        return paper.number(labels, whole, *key)
    number = paper.number(labels, group, *key)
    if unknown := sorted(set(members) - means["mean"]):
        return number and PaperNumber(number.value, f"the paper does not have {', '.join(unknown)}")
    part = f"{len(members)} of the paper's {len(means[group])} categories."
    return paper.mean(labels, members, *key) or (
        number and PaperNumber(number.value, f"{part} {number.caveat}".strip())
    )


def verdict(value: float, paper: float, tolerance: float, reasons: Sequence[str]) -> str:
    """(ours, paper's, tolerance), all in [0, 1], and what forbids a comparison -> the word for it."""
    if np.isnan(value):
        return "not run"
    if reasons:
        return "not comparable"
    # rounded, so that a difference of exactly the tolerance agrees in spite of binary fractions
    difference = round(value - paper, 9)
    return "agrees" if abs(difference) <= tolerance else "above" if difference > 0 else "below"


def cells(
    results: Sequence[Result], paper: Paper | None, layouts: Mapping[str, str], *, count: int, tolerance: float
) -> list[Cell]:
    """Results -> one cell per data set, category or mean, place, method and metric.

    `layouts` names the layout of every data set, `count` is the number of bootstrap draws. Values that differ from the
    paper's by at most `tolerance`, in [0, 1], agree.
    """
    placed: dict[Key, list[Result]] = {}
    for r in results:
        placed.setdefault((r.dataset, r.category, tuple(r.labels.items()), r.method), []).append(r)
    entries = _entries(placed, count)
    made = []
    for dataset, category, members, labels, method in _rows(placed, layouts):
        keys = [(dataset, c, labels, method) for c in members]
        behind = [r for key in keys for r in placed[key]]
        for name, metric in METRICS.items():
            if not metric.in_tables:
                continue
            ours = Entry.mean([entries[key][name] for key in keys])
            gains: dict[str, tuple[float | None, float, float]] = {}
            for label, other in GAINS[method].items():
                theirs = [entries[k][name] for c in members if (k := (dataset, c, labels, other)) in entries]
                if len(theirs) == len(members):
                    over = ours.over(Entry.mean(theirs), metric)
                    gains[label] = (over.value, *over.ends)
            gain, training = (gains.get(label, (None, NAN, NAN)) for label in ("gain", "training"))
            number = published(paper, dict(labels), category, members, layouts[dataset], (method, name))
            reasons = [] if number is None else _reasons(behind, number)
            printed = None if number is None else number.value / 100
            made.append(
                Cell(
                    dataset=dataset,
                    category=category,
                    categories=len(members),
                    labels=dict(labels),
                    method=method,
                    metric=name,
                    value=ours.value,
                    sd=ours.sd,
                    low=ours.ends[0],
                    high=ours.ends[1],
                    paper=printed,
                    difference=NAN if printed is None else ours.value - printed,
                    verdict="" if printed is None else verdict(ours.value, printed, tolerance, reasons),
                    reasons=reasons,
                    gain=gain[0],
                    gain_low=gain[1],
                    gain_high=gain[2],
                    training=training[0],
                    training_low=training[1],
                    training_high=training[2],
                    seeds=sorted({r.seed for r in behind}),
                    runs=list(dict.fromkeys(r.run for r in behind)),
                    links=[r.link for r in behind if r.record is not None] if len(members) == 1 else [],
                    flags=list(dict.fromkeys(str(flag) for r in behind if r.record for flag in r.record.flags)),
                )
            )
    return made


def _entries(placed: Mapping[Key, Sequence[Result]], count: int) -> dict[Key, dict[str, Entry]]:
    """The entry of every metric in tables. Places that share their runs share the work."""
    computed: dict[tuple[str, ...], dict[str, Entry]] = {}
    entries = {}
    for key, results in placed.items():
        runs = (key[0], key[1], *(r.run for r in results))
        if runs not in computed:
            computed[runs] = {n: entry(results, metric, count) for n, metric in METRICS.items() if metric.in_tables}
        entries[key] = computed[runs]
    return entries


def _rows(
    placed: Mapping[Key, Sequence[Result]], layouts: Mapping[str, str]
) -> Iterator[tuple[str, str, list[str], Labels, str]]:
    """Data set, category or mean, its categories, labels and method of every row of a table, in their order."""
    for dataset, layout in layouts.items():
        names = list(dict.fromkeys(key[1] for key in placed if key[0] == dataset))
        places = dict.fromkeys(key[2:] for key in placed if key[0] == dataset)
        for category, members in ({name: [name] for name in names} | groups(layout, names)).items():
            for labels, method in places:
                yield dataset, category, members, labels, method


def _reasons(results: Sequence[Result], number: PaperNumber) -> list[str]:
    """Why ours cannot be compared with the paper's number: settings, flags, and the number's own caveat."""
    departures = [departure for r in results for departure in r.departures]
    flags = [flag.text for r in results if r.record for flag in r.record.flags if flag.forbids_comparison]
    return list(dict.fromkeys([*departures, *flags, *([number.caveat] if number.caveat else [])]))


def _number(value: float | None) -> float:
    return NAN if value is None else value
