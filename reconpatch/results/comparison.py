"""Every number of a table: ours with its interval, the published one, the difference, a verdict, and the gains.

Published is the paper's number or, in tables beyond it, one that others published; ours is compared with the paper's
alone.

There is one cell per place in the table, category (or mean over categories), method and metric. Where the table groups
the categories of all data sets by their nature, there are cells of these groups, too. The bootstrap of a cell
draws test images, and seeds where there are several. All methods use the same draws, so gains are paired.

ReConPatch's gain over PatchCore has two parts: what f costs or brings as it is drawn (`method: untrained`), and what
its training brings.
"""

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reconpatch.data.catalogue import category_counts
from reconpatch.data.natures import ALIGNED, NATURES, groups_of
from reconpatch.method.bootstrap import interval, mean_over_seeds, resamples, seed_resamples
from reconpatch.method.metrics import METRICS, Metric, SavedScores, resampled
from reconpatch.records.record import Record
from reconpatch.results.names import ALL, KIND, MEAN_OF_KINDS, THE_PAPER
from reconpatch.results.paper import Paper, PaperNumber
from reconpatch.results.statistics import holm, p_value
from reconpatch.rng import named_rng

Draws = NDArray[np.float64]
NAN = float("nan")
Labels = tuple[tuple[str, Any], ...]
Key = tuple[str, str, Labels, str]  # data set, category, labels, method
Entries = dict[Key, dict[str, "Entry"]]
EFFECT = "effect"  # a further gain: over the same method at the reference place of the table
NO_NUMBER = "no number"  # verdict where the paper has none
VERDICTS = ("agrees", "above", "below", "not comparable")  # where it has one and our run is there
GAIN_VERDICTS = ("agrees", "smaller", "larger", "not comparable")  # how those on a gain begin
ORACLE = "oracle: uses the test set"  # label of rows that are no results
LOGICAL = "logical"  # the kind that is a nature of its own
CONTRAST = "aligned"  # a further gain, of a group by nature: how much more aligned objects gain over PatchCore than it
# Method -> its gains, by name, and the method each is over.
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
    defects: Sequence[str] = ()  # of every test image its type of defect, "" of a normal one


@dataclass(frozen=True)
class Gain:
    """An improvement over another method, positive whichever way the metric counts; NaN where undefined.

    low and high are the ends of the 95 % interval, p is two-sided, holm the same after Holm's correction for all
    categories; a mean has none. paper is the published gain, None where there is none; verdict says how ours compares.
    """

    over: str
    value: float
    low: float
    high: float
    p: float
    holm: float = NAN
    paper: float | None = None
    verdict: str = ""

    @property
    def shown_p(self) -> float:
        """The p that counts: the corrected one, of a mean its own."""
        return self.p if np.isnan(self.holm) else self.holm


@dataclass(frozen=True)
class Cell:
    """One number of a table with all that is said of it. Numbers are in [0, 1], NaN where undefined.

    category may also name a mean over several `categories`, and dataset ALL, whose categories are groups by nature:
    `members` are the keys of what they average. sd is the standard deviation over seeds, low and high are
    the ends of the 95 % interval. paper is the published number, None where there is none. gains are named as in
    GAINS; one whose other method did not run is left out.
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
    difference: float  # ours - the published
    verdict: str  # NO_NUMBER where the paper has none
    reasons: Sequence[str]  # why ours and the published cannot be compared, or why there is no published number
    seeds: Sequence[int]
    runs: Sequence[str]
    links: Sequence[str]  # records behind a single category
    flags: Sequence[str]  # what must be known of the records: a number never stands without them
    departures: Sequence[str]  # settings other than the paper's
    gains: Mapping[str, Gain] = field(default_factory=dict)
    members: Sequence[Key] = ()
    source: str = ""  # of the published number; "" is the paper


def columns(cells: Sequence[Cell]) -> list[dict[str, Any]]:
    """Cells -> the rows of the CSV file of a table. Columns of a gain are left out where no cell has it."""
    gains = gain_columns([cell.gains for cell in cells])
    return [
        {"dataset": cell.dataset, "category": cell.category, "categories": cell.categories}
        | dict(cell.labels)
        | {"method": cell.method, "metric": cell.metric, "value": cell.value, "sd": cell.sd}
        | {"low": cell.low, "high": cell.high, "paper": cell.paper, "source": _source(cell)}
        | {"difference": cell.difference}
        | {"verdict": cell.verdict, "reasons": " | ".join(cell.reasons), "seeds": " ".join(map(str, cell.seeds))}
        | {"runs": " ".join(cell.runs), "links": " ".join(cell.links)}
        | provenance_columns(cell.flags, cell.departures)
        | of_gains
        for cell, of_gains in zip(cells, gains, strict=True)
    ]


def _source(cell: Cell) -> str:
    """Who published the number beside ours, for a file; "" where there is none."""
    return "" if cell.paper is None else cell.source or THE_PAPER


def provenance_columns(flags: Sequence[str], departures: Sequence[str]) -> dict[str, str]:
    """Flags of records, settings other than the paper's -> the columns of a CSV file that stand beside its numbers."""
    return {"flags": "; ".join(flags), "departures": "; ".join(departures)}


def flags_of(results: Sequence[Result]) -> list[str]:
    """Results -> every flag of their records, once."""
    return list(dict.fromkeys(str(flag) for r in results if r.record for flag in r.record.flags))


def departures_of(results: Sequence[Result]) -> list[str]:
    """Results -> every setting other than the paper's, once."""
    return list(dict.fromkeys(departure for r in results for departure in r.departures))


def gain_columns(gains: Sequence[Mapping[str, Gain]]) -> list[dict[str, Any]]:
    """Gains of each row, by name -> columns of each row; those of a name that no row has are left out."""
    names = dict.fromkeys(name for each in gains for name in each)
    with_paper = {name for each in gains for name, gain in each.items() if gain.paper is not None}
    rows: list[dict[str, Any]] = []
    for each in gains:
        row: dict[str, Any] = {}
        for name in names:
            gain = each.get(name)
            row[name] = gain and gain.value
            row |= {f"{name}_{part}": gain and getattr(gain, part) for part in ("low", "high", "p", "holm")}
            if name in with_paper:
                row |= {f"paper_{name}": gain and gain.paper, f"{name}_verdict": gain and gain.verdict}
        rows.append(row)
    return rows


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
        """The unweighted mean over categories: images are drawn for each, seeds for all."""
        if len(entries) == 1:
            return entries[0]
        every = [entry.draws for entry in entries if entry.draws is not None]
        draws = np.mean(every, axis=0) if len(every) == len(entries) else None
        return Entry(float(np.mean([entry.value for entry in entries])), NAN, draws)

    def over(self, other: "Entry", metric: Metric, name: str) -> Gain:
        """The improvement over the entry of another method, `name`, from paired draws."""
        better, worse = (self, other) if metric.higher_is_better else (other, self)
        paired = None if better.draws is None or worse.draws is None else better.draws - worse.draws
        gain = Entry(better.value - worse.value, NAN, paired)
        return Gain(name, gain.value, *gain.ends, NAN if paired is None else p_value(paired))


def entry(results: Sequence[Result], metric: Metric, count: int) -> Entry:
    """Results of all seeds of one place, method and category -> an Entry; NaN where a run is missing."""
    values = [_number(r.record.metrics.get(metric.name)) if r.record is not None else NAN for r in results]
    saved = [r.saved for r in results if r.saved is not None]
    draws = None
    if metric.interval is not None and len(saved) == len(results) and not np.isnan(values).any():
        # The same draws for both methods and at every place of the table.
        name = f"bootstrap/{results[0].dataset}/{results[0].category}"
        images = resamples(saved[0].labels, count, named_rng(0, f"{name}/images"))
        # One draw of seeds for all categories: the coreset's projection and the first f are the same in all.
        seeds = seed_resamples(len(saved), count, named_rng(0, "bootstrap/seeds"))
        draws = mean_over_seeds([resampled(metric, scores, images) for scores in saved], seeds)
    return Entry(float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else NAN, draws)


def groups(layout: str, categories: Sequence[str]) -> dict[str, list[str]]:
    """Categories of a table -> the means it shows: of the groups of its data set and of all, where they are several."""
    if len(categories) < 2:
        return {}
    parts = {name: [c for c in categories if c in members] for name, members in groups_of(layout).items()}
    means = {name: members for name, members in parts.items() if 1 < len(members) < len(categories)}
    return means | {"mean": list(categories)}


def published(
    paper: Paper | None,
    labels: Mapping[str, Any],
    group: str,
    members: Sequence[str],
    layout: str,
    key: tuple[str, str],
) -> PaperNumber | None:
    """The paper's number for a category or a mean, its caveat being why it cannot be compared, if there is a reason.

    `group` is the category's or the mean's name, `members` its categories, `key` (method, metric). A mean that the
    paper does not print is compared with the mean of what it prints of the same categories, where it gives them.
    """
    if paper is None or not category_counts(layout):  # someone's own "bottle" is not the paper's
        return None
    means = {"mean": frozenset(category_counts(layout)), **groups_of(layout)}
    whole = group if group in members else next((m for m, all_ in means.items() if all_ == set(members)), None)
    number = paper.number(labels, whole or group, *key)
    if whole is not None and number is not None:
        return number
    if unknown := sorted(set(members) - means["mean"]):
        whose = "the publication" if number and number.source else "the paper"
        return number and replace(number, caveat=f"{whose} does not have {', '.join(unknown)}")
    if (mean := paper.mean(labels, members, *key)) is not None or number is None:
        return mean
    whose = "the published" if number.source else "the paper's"
    part = f"{len(members)} of {whose} {len(means[group])} categories. {number.caveat}"
    return replace(number, caveat=part.strip())


def _no_number(paper: Paper | None, labels: Mapping[str, Any], group: str, layout: str, key: tuple[str, str]) -> str:
    """Why the paper has no number where `published` finds none, arguments as there."""
    if paper is None:
        return "the paper has no such table"
    if not category_counts(layout):
        return "the paper does not have this data set"
    whose = "the paper's table has" if "" in paper.sources else "the published numbers have"
    return f"{whose} no: {paper.lacks(labels, group, *key)}"


def verdict(value: float, paper: float, tolerance: float, reasons: Sequence[str]) -> str:
    """(ours, paper's, tolerance), all in [0, 1], and what forbids a comparison -> the word for it."""
    if np.isnan(value):
        return "not run"
    if reasons:
        return "not comparable"
    # rounded, so that a difference of exactly the tolerance agrees in spite of binary fractions
    difference = round(value - paper, 9)
    return "agrees" if abs(difference) <= tolerance else "above" if difference > 0 else "below"


def gain_verdict(gain: Gain, paper: float, reasons: Sequence[str]) -> str:
    """Our gain and its interval, the paper's gain, and what forbids a comparison -> the word for it."""
    if np.isnan(gain.value):
        return "not run"
    if reasons:
        return "not comparable"
    if np.isnan(gain.low):
        return "no interval"
    if round(gain.low, 9) <= round(paper, 9) <= round(gain.high, 9):
        return "agrees with the paper's gain" + (" and with none" if gain.low <= 0 <= gain.high else "")
    return "smaller" if gain.value < paper else "larger"


def holm_corrected(
    gains: Sequence[Mapping[str, Gain]], family_of: Callable[[int, str], Hashable | None]
) -> list[Mapping[str, Gain]]:
    """Gains of each row, by name, and what tells the family of a row's gain -> the same with p corrected within each
    family.

    Gains without a family, and undefined p, are left as they are.
    """
    corrected = [dict(each) for each in gains]
    members: dict[Hashable, list[tuple[int, str]]] = {}
    for n, each in enumerate(gains):
        for name, gain in each.items():
            family = family_of(n, name)
            if family is not None and not np.isnan(gain.p):
                members.setdefault((name, family), []).append((n, name))
    for places in members.values():
        for (n, name), p in zip(places, holm([gains[n][name].p for n, name in places]), strict=True):
            corrected[n][name] = replace(gains[n][name], holm=p)
    return list(corrected)


def cells(
    results: Sequence[Result],
    paper: Paper | None,
    layouts: Mapping[str, str],
    *,
    count: int,
    tolerance: float,
    reference: Mapping[str, Any] | None = None,
    metrics: Sequence[str] = (),
    by_nature: bool = False,
) -> list[Cell]:
    """Results -> one cell per data set, category or mean, place, method and metric.

    `layouts` names the layout of every data set, `count` is the number of bootstrap draws, `metrics` are those of the
    table, by default those that tables have. Values that differ from the paper's by at most `tolerance`, in [0, 1],
    agree. `reference` names labels of the place that every other place is compared with, method by method: the gain
    `effect`. With `by_nature` there are also cells of the groups of all data sets' categories by their nature.
    """
    chosen = metrics or [name for name, metric in METRICS.items() if metric.in_tables]
    shown = {name: METRICS[name] for name in chosen}
    placed = by_key(results)
    entries = entries_of(placed, lambda part: {name: entry(part, metric, count) for name, metric in shown.items()})
    made = []
    of_natures = list(_rows_by_nature(placed, layouts)) if by_nature else []
    aligned = {row[3:]: row[2] for row in of_natures if row[1] == ALIGNED}
    rows = [*_rows(placed, layouts), *of_natures]
    for dataset, category, keys, labels, method in rows:
        behind = [r for key in keys for r in placed[key]]
        members, layout = list(dict.fromkeys(key[1] for key in keys)), layouts.get(dataset, "")
        count_of_categories = len({key[:2] for key in keys})
        for name, metric in shown.items():
            ours = _mean(entries, keys, name)
            number = published(paper, dict(labels), category, members, layout, (method, name))
            if number is None:
                reasons = [_no_number(paper, dict(labels), category, layout, (method, name))]
            else:
                reasons = _reasons(behind, number)
            printed = None if number is None else number.value / 100
            gains = gains_of(entries, keys, name, metric)
            if number is not None:
                for label, gain in gains.items():
                    theirs = published(paper, dict(labels), category, members, layout, (gain.over, name))
                    others = [r for key in keys for r in placed[*key[:3], gain.over]]
                    gains[label] = _beside_paper(gain, metric, number, theirs, [*reasons, *_reasons(others, theirs)])
            if effect := effect_of(entries, keys, name, metric, reference or {}):
                gains[EFFECT] = effect
            if dataset == ALL and category not in (ALIGNED, "mean") and (labels, method) in aligned:
                gains |= contrast_of(entries, aligned[labels, method], keys, name, metric)
            if ORACLE in dict(labels).values():  # a p would not count the choice
                gains = {label: replace(gain, p=NAN) for label, gain in gains.items()}
            made.append(
                Cell(
                    dataset=dataset,
                    category=category,
                    categories=count_of_categories,
                    labels=dict(labels),
                    method=method,
                    metric=name,
                    value=ours.value,
                    sd=ours.sd,
                    low=ours.ends[0],
                    high=ours.ends[1],
                    paper=printed,
                    difference=NAN if printed is None else ours.value - printed,
                    verdict=NO_NUMBER if printed is None else verdict(ours.value, printed, tolerance, reasons),
                    reasons=reasons,
                    seeds=sorted({r.seed for r in behind}),
                    runs=list(dict.fromkeys(r.run for r in behind)),
                    links=list(dict.fromkeys(r.link for r in behind if r.record)) if count_of_categories == 1 else [],
                    flags=flags_of(behind),
                    departures=departures_of(behind),
                    gains=gains,
                    members=keys,
                    source="" if number is None else number.source,
                )
            )

    def family_of(row: int, name: str) -> Hashable | None:
        """Effects of all places are one family, of each kind of anomaly its own; other gains those of all categories
        at a place, or of all groups by nature; of a mean none.
        """
        cell = made[row]
        if name == EFFECT:
            return (cell.dataset, cell.category, cell.labels.get(KIND), cell.method, cell.metric)
        place = (cell.dataset, tuple(cell.labels.items()), cell.method, cell.metric)
        alone = cell.category != "mean" if cell.dataset == ALL else cell.categories == 1
        return place if alone else None

    corrected = holm_corrected([cell.gains for cell in made], family_of)
    return [replace(cell, gains=gains) for cell, gains in zip(made, corrected, strict=True)]


def _beside_paper(
    gain: Gain, metric: Metric, ours: PaperNumber, theirs: PaperNumber | None, reasons: Sequence[str]
) -> Gain:
    """A gain, the published numbers of the method and of the other, why they cannot be compared -> the gain with the
    published one and the verdict.
    """
    if theirs is None:
        return gain
    printed = (ours.value - theirs.value) / 100 * (1 if metric.higher_is_better else -1)
    return replace(gain, paper=printed, verdict=gain_verdict(gain, printed, reasons))


def by_key(results: Sequence[Result]) -> dict[Key, list[Result]]:
    """Results -> those of all seeds of each data set, category, place and method."""
    placed: dict[Key, list[Result]] = {}
    for r in results:
        placed.setdefault((r.dataset, r.category, tuple(r.labels.items()), r.method), []).append(r)
    return placed


def gains_of(entries: Entries, keys: Sequence[Key], name: str, metric: Metric) -> dict[str, Gain]:
    """All entries, the keys of a category or of those of a mean, which entry of them -> the gains of the (mean) entry.

    A gain over a method that did not run everywhere there is left out.
    """
    ours, gains = _mean(entries, keys, name), {}
    for label, other in GAINS[keys[0][3]].items():
        others = [(*key[:3], other) for key in keys]
        if all(key in entries for key in others):
            gains[label] = ours.over(_mean(entries, others, name), metric, other)
    return gains


def contrast_of(
    entries: Entries, aligned: Sequence[Key], keys: Sequence[Key], name: str, metric: Metric
) -> dict[str, Gain]:
    """All entries, the keys of the aligned objects and of another group by nature, which entry of them -> the
    difference of their gains over PatchCore, positive where the aligned objects gain more; nothing where they have
    none.
    """
    differences = []
    for group in (aligned, keys):
        others = [(*key[:3], "patchcore") for key in group]
        if others == list(group) or not all(key in entries for key in others):
            return {}
        ours, theirs = _mean(entries, group, name), _mean(entries, others, name)
        if not metric.higher_is_better:
            ours, theirs = theirs, ours
        paired = None if ours.draws is None or theirs.draws is None else ours.draws - theirs.draws
        differences.append(Entry(ours.value - theirs.value, NAN, paired))
    more, less = differences
    return {CONTRAST: more.over(less, replace(metric, higher_is_better=True), CONTRAST)}


def _mean(entries: Entries, keys: Sequence[Key], name: str) -> Entry:
    """All entries, the keys of a category or of those of a mean, which entry of them -> the mean over categories, each
    counted once, whether its kinds of anomalies have keys of their own or not.
    """
    of_category: dict[tuple[str, str], list[Entry]] = {}
    for key in keys:
        of_category.setdefault(key[:2], []).append(entries[key][name])
    return Entry.mean([Entry.mean(of_kinds) for of_kinds in of_category.values()])


def effect_of(
    entries: Entries, keys: Sequence[Key], name: str, metric: Metric, reference: Mapping[str, Any]
) -> Gain | None:
    """All entries, the keys of a category or of those of a mean, which entry of them, labels of the reference place ->
    the improvement over the same method there; None where that has the same runs, and where it did not run.
    """
    others = [(*key[:2], tuple({**dict(key[2]), **reference}.items()), key[3]) for key in keys]
    if not all(other in entries for other in others):
        return None
    if all(entries[key] is entries[other] for key, other in zip(keys, others, strict=True)):
        return None
    ours, theirs = (_mean(entries, each, name) for each in (keys, others))
    return ours.over(theirs, metric, keys[0][3])


def entries_of(
    placed: Mapping[Key, Sequence[Result]], compute: Callable[[Sequence[Result]], dict[str, Entry]]
) -> Entries:
    """Results by key, what computes their entries -> these by key. Places that share their runs share the work."""
    computed: dict[tuple[str, ...], dict[str, Entry]] = {}
    entries = {}
    for key, results in placed.items():
        runs = (key[0], key[1], str(dict(key[2]).get(KIND)), *(r.run for r in results))
        if runs not in computed:
            computed[runs] = compute(results)
        entries[key] = computed[runs]
    return entries


Row = tuple[str, str, list[Key], Labels, str]  # data set, category or mean, what it averages, labels, method


def _rows(placed: Mapping[Key, Sequence[Result]], layouts: Mapping[str, str]) -> Iterator[Row]:
    """The rows of a table by data set, in their order. Where there are kinds of anomalies, their mean follows them."""
    for dataset, layout in layouts.items():
        names = list(dict.fromkeys(key[1] for key in placed if key[0] == dataset))
        places = dict.fromkeys(key[2:] for key in placed if key[0] == dataset)
        for category, members in ({name: [name] for name in names} | groups(layout, names)).items():
            for labels, method in places:
                yield dataset, category, [(dataset, c, labels, method) for c in members], labels, method
            for labels, method, of_kinds in _means_of_kinds(list(places)):
                keys = [(dataset, c, each, method) for c in members for each in of_kinds]
                yield dataset, category, keys, labels, method


def _means_of_kinds(places: Sequence[tuple[Labels, str]]) -> list[tuple[Labels, str, list[Labels]]]:
    """Labels and method of every place -> those of the means of kinds, and the labels that each averages."""
    means: dict[tuple[Labels, str], list[Labels]] = {}
    for labels, method in places:
        if KIND in dict(labels):
            means.setdefault((over_kinds(labels), method), []).append(labels)
    return [(labels, method, of_kinds) for (labels, method), of_kinds in means.items()]


def over_kinds(labels: Labels) -> Labels:
    """Labels of a place with a kind of anomaly -> those of the mean over kinds there."""
    return tuple((key, MEAN_OF_KINDS if key == KIND else value) for key, value in labels)


def _rows_by_nature(placed: Mapping[Key, Sequence[Result]], layouts: Mapping[str, str]) -> Iterator[Row]:
    """The rows of the groups of categories by nature, over all data sets, and the row of all.

    Categories whose logical anomalies are measured apart stand in their own group with the others, and among the
    logical ones with these.
    """
    natures: dict[tuple[Labels, str], dict[str, list[Key]]] = {}
    for dataset, category, labels, method in placed:
        rest = tuple((key, value) for key, value in labels if key != KIND)
        named = groups_of(layouts[dataset])
        mine = [n for n in NATURES if category in named.get(n, ())]
        nature = LOGICAL if dict(labels).get(KIND) == LOGICAL else next(iter(mine), "")
        natures.setdefault((rest, method), {}).setdefault(nature, []).append((dataset, category, labels, method))
    for nature in NATURES:
        for (labels, method), keys in natures.items():
            if nature in keys:
                yield ALL, nature, keys[nature], labels, method
    for (labels, method), keys in natures.items():
        yield ALL, "mean", [key for of_nature in keys.values() for key in of_nature], labels, method


def of_others(source: str) -> str:
    """Who published a number -> the reason why ours is never compared with it; "" where that is the paper."""
    return source and f"published by {source}, not by the paper"


def _reasons(results: Sequence[Result], number: PaperNumber | None) -> list[str]:
    """Why ours cannot be compared with a published number: settings, flags, the number's own caveat, and that it is
    not the paper's.
    """
    flags = [flag.text for r in results if r.record for flag in r.record.flags if flag.forbids_comparison]
    own = [number.caveat, of_others(number.source)] if number else []
    return list(dict.fromkeys([*departures_of(results), *flags, *filter(None, own)]))


def _number(value: float | None) -> float:
    return NAN if value is None else value
