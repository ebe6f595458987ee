"""What the report says first: what was run, what came out, how complete it is, and how long it took.

Everything is read from the files of the tables (cells, summary and settings) and from the records behind them.
"""

import csv
import json
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from reconpatch.errors import ReconpatchError, listed
from reconpatch.experiments.outputs import Section
from reconpatch.experiments.rows import same
from reconpatch.experiments.stages import RECORD, RESULT_FOLDERS, STAGES
from reconpatch.experiments.table_settings import TableSettings
from reconpatch.method.metrics import METRICS
from reconpatch.records.record import Record, read_record
from reconpatch.results.comparison import VERDICTS
from reconpatch.results.names import ALL, KIND, MEAN_OF_KINDS, THE_PAPER

LEADING = "image_auroc"  # the metric that the verdict is about
MOST_DEPARTURES = 12  # named on top; the notes of each table have all of its own
Row = Mapping[str, str]
Ends = tuple[float, float, float]  # a gain and the ends of its 95 % interval, NaN without one


@dataclass(frozen=True)
class Comparison:
    """ReConPatch against PatchCore on one data set at one place of a table, by image AUROC.

    gain, low and high are the mean gain over the categories and its 95 % interval, x 100; NaN without an interval, and
    where a category of the mean is missing.
    """

    dataset: str
    place: str  # variant and axis values
    gains: Mapping[tuple[str, str], Ends]  # by category and the runs behind it
    gain: float
    low: float
    high: float
    wins: int | None = None  # categories with a significant gain, None where that was not tested
    losses: int | None = None

    @property
    def ahead(self) -> int:
        """Categories in which the gain is above 0."""
        return sum(gain > 0 for gain, _, _ in self.gains.values())

    @property
    def categories(self) -> int:
        """Categories in which both methods ran."""
        return len(self.gains)

    @property
    def points(self) -> str:
        """The gain with its interval."""
        if self.gain != self.gain:
            return "undefined, because results are missing"
        interval = f" [{self.low:+.2f}, {self.high:+.2f}]" if self.low == self.low else ""
        return f"{self.gain:+.2f}{interval}"

    @property
    def shows(self) -> str:
        """What the interval of the gain says."""
        if not self.low <= 0 <= self.high:
            return ""
        return ", which does not show which is better"

    @property
    def text(self) -> str:
        """The comparison in a sentence."""
        where = f"{self.dataset}, {self.place}" if self.place else self.dataset
        mean = "mean gain" if self.categories > 1 else "gain"
        tested = "" if self.wins is None else f"; significantly better in {self.wins}, worse in {self.losses}"
        return (
            f"{self.ahead} of {self.categories} {'category' if self.categories == 1 else 'categories'} "
            f"({where}{tested}), {mean} in points: {self.points}{self.shows}"
        )


@dataclass(frozen=True)
class Part:
    """One experiment: its results at hand and planned, its comparisons, and by verdict its cells that the paper itself
    has a number for.
    """

    name: str
    title: str
    made: int
    planned: int
    comparisons: Sequence[Comparison]
    verdicts: Mapping[str, int]

    @property
    def gains(self) -> dict[tuple[str, str, str], Ends]:
        """Gains by data set, category and the runs behind them, each once, though several places may share them."""
        return {(c.dataset, *key): gain for c in self.comparisons for key, gain in c.gains.items()}

    @property
    def ahead(self) -> int:
        """Comparisons of one category in which ReConPatch is ahead."""
        return sum(gain > 0 for gain, _, _ in self.gains.values())

    @property
    def compared(self) -> int:
        """Comparisons of one category in which both methods ran."""
        return len(self.gains)


@dataclass(frozen=True)
class Overview:
    """The whole report in a few facts."""

    parts: Sequence[Part]
    datasets: Mapping[str, Sequence[str]]  # data set -> categories
    backbones: Sequence[str]  # with where their weights come from
    flags: Sequence[str]  # why results are none of the paper, or what must be known of the data
    departures: Sequence[str]  # settings other than the paper's, in any table
    reasons: Mapping[str, int]  # why cells cannot be compared with the paper -> number of cells, most first
    hours: float  # wall time of all stages, each counted once
    problems: Sequence[str] = field(default_factory=list)  # records that cannot be read

    @property
    def made(self) -> int:
        """Results that are there."""
        return sum(part.made for part in self.parts)

    @property
    def planned(self) -> int:
        """Results that the tables of this report have a place for."""
        return sum(part.planned for part in self.parts)

    @property
    def verdicts(self) -> dict[str, int]:
        """Cells by verdict, over all tables."""
        counts: Counter[str] = Counter()
        for part in self.parts:
            counts.update(part.verdicts)
        return dict(counts)

    @property
    def headlines(self) -> dict[str, Comparison]:
        """Data set -> the first comparison on it: that of the first table, at its first place."""
        first: dict[str, Comparison] = {}
        for comparison in (c for part in self.parts for c in part.comparisons):
            first.setdefault(comparison.dataset, comparison)
        return first

    @property
    def verdict(self) -> str:
        """What came out, in one paragraph."""
        label = METRICS[LEADING].label
        first = [f"By {label}, ReConPatch is ahead of PatchCore in {c.text}." for c in self.headlines.values()]
        sentences = first or ["No table holds both methods with the same settings, so none says which is better."]
        gains = {key: gain for part in self.parts for key, gain in part.gains.items()}
        ahead, compared = sum(gain > 0 for gain, _, _ in gains.values()), len(gains)
        clear = [sum(low > 0 for _, low, _ in gains.values()), sum(high < 0 for _, _, high in gains.values())]
        if compared > sum(comparison.categories for comparison in self.headlines.values()):
            sentences = [  # all settings come first: one of them alone may look better than the rest
                f"By {label}, over all settings of all tables, ReConPatch is ahead of PatchCore in {ahead} of "
                f"{compared} comparisons of one category. The interval of the gain lies above 0 in {clear[0]} and "
                f"below 0 in {clear[1]} of them.",
                *(f"At the first setting it is ahead in {c.text}." for c in self.headlines.values()),
            ]
        cells = sum(self.verdicts.values())
        if not cells:
            sentences.append("The paper has no number for any cell of these tables.")
            return " ".join(sentences)
        counts = [f"{count} {name}" for name in VERDICTS if (count := self.verdicts.get(name))]
        sentences.append(f"Beside the {cells} cells that the paper has a number for: {', '.join(counts)}.")
        if self.reasons:
            reason, count = next(iter(self.reasons.items()))
            sentences.append(f"The chief reason why cells are not comparable: {reason.rstrip('.')} ({count} cells).")
        return " ".join(sentences)


def overview(folder: Path, shown: Sequence[Section], stale: Collection[Path] = ()) -> Overview:
    """Folder of results, sections of the report, records that do not count -> what the report says first.

    Raises ReconpatchError for a table's file that is missing or not what the workflow wrote.
    """
    parts: list[Part] = []
    departures: list[str] = []
    records: dict[Path, Record] = {}
    problems: list[str] = []
    reasons: Counter[str] = Counter()
    datasets: dict[str, list[str]] = {}
    for section in shown:
        settings = _settings(folder, section["name"])
        for dataset, category in settings["targets"]:
            datasets.setdefault(dataset, [])
            datasets[dataset] += [category] if category not in datasets[dataset] else []
        planned = {
            (dataset, category, cell["run"]) for dataset, category in settings["targets"] for cell in settings["cells"]
        }
        departures += [text for cell in settings["cells"] for text in cell["departures"]]
        found = (_record_file(folder, *result) for result in sorted(planned))
        files = [file for file in found if file and file not in stale]
        for file in files:
            if file not in records:
                try:
                    records[file] = read_record(file)
                except ReconpatchError as error:
                    problems.append(str(error))
        rows = list(_rows(folder, "cells", section["name"])) if settings["measure"] == "auroc" else []
        beside_paper = [row for row in rows if row["source"] == THE_PAPER]  # others' numbers are not compared
        verdicts = Counter(row["verdict"] for row in beside_paper if row["verdict"] in VERDICTS)
        for row in beside_paper:
            if row["verdict"] == "not comparable":
                reasons.update(row["reasons"].split(" | "))
        parts.append(
            Part(
                name=section["name"],
                title=section["title"],
                made=len(files),
                planned=len(planned),
                comparisons=list(comparisons(rows, list(_rows(folder, "summary", section["name"])), settings)),
                verdicts=verdicts,
            )
        )
    every = records.values()
    return Overview(
        parts=parts,
        datasets=datasets,
        backbones=sorted({f"{r.description['backbone']} ({r.weights.source} weights)" for r in every}),
        flags=sorted({str(flag) for record in every for flag in record.flags}),
        departures=listed(list(dict.fromkeys(departures)), MOST_DEPARTURES),
        reasons=dict(reasons.most_common()),
        hours=hours(every),
        problems=listed(problems, 5),
    )


def comparisons(rows: Iterable[Row], summary: Iterable[Row], settings: TableSettings) -> Iterator[Comparison]:
    """Rows of the cells and of the summary of a table, its settings -> ReConPatch over PatchCore at every place.

    Rows that take their settings from the test set (the oracle) are no places of the plan and do not count; nor do
    groups of all data sets' categories, and kinds of anomalies other than their mean.
    """
    rows, summary = (filter(_is_counted, each) for each in (rows, summary))
    names = list(dict.fromkeys(label for cell in settings["cells"] for label in cell["labels"]))
    planned = [[cell["labels"].get(name) for name in names] for cell in settings["cells"]]
    tested = {
        (row["dataset"], *(row[name] for name in names)): row
        for row in summary
        if (row["method"], row["over"], row["metric"]) == ("reconpatch", "patchcore", LEADING)
    }
    places: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        values = [row[name] or None for name in names]
        ours = row["method"] == "reconpatch" and row["metric"] == LEADING and "gain" in row
        if ours and any(all(map(same, values, labels)) for labels in planned):
            places.setdefault((row["dataset"], *(row[name] for name in names)), []).append(row)
    for place, group in places.items():
        single = [row for row in group if row["categories"] == "1" and row["gain"]]
        if not single:
            continue
        whole = next((row for row in group if row["category"] == "mean" and row["categories"] != "1"), single[0])
        gain, low, high = (100 * value for value in _ends(whole))
        test = tested.get(place)
        yield Comparison(
            dataset=place[0],
            place=", ".join(f"{name} {value}" for name, value in zip(names, place[1:], strict=True) if value),
            gains={(row["category"], row["runs"]): _ends(row) for row in single},
            gain=gain,
            low=low,
            high=high,
            wins=int(test["wins"]) if test else None,
            losses=int(test["losses"]) if test else None,
        )


def _is_counted(row: Row) -> bool:
    """Whether a row of the cells or of the summary is of one data set, and of all anomalies there."""
    return row["dataset"] != ALL and row.get(KIND, "") in ("", MEAN_OF_KINDS)


def _ends(row: Row) -> Ends:
    """A row of the cells -> its gain and the ends of its interval, NaN where it has none."""
    gain, low, high = (float(row[key] or "nan") for key in ("gain", "gain_low", "gain_high"))
    return gain, low, high


def hours(records: Iterable[Record]) -> float:
    """Records -> hours of wall time of all stages behind them; a stage that several share counts once."""
    seconds: dict[tuple[str, str, str, str], float] = {}
    for record in records:
        for _, stage, facts in record.all_stages():
            seconds[record.dataset, record.category, stage, facts.folder] = facts.wall_s
    return sum(seconds.values()) / 3600


def _record_file(folder: Path, dataset: str, category: str, run: str) -> Path | None:
    """Where the record of a run or an ensemble lies, if it is there."""
    files = (folder / kind / dataset / category / run / RECORD for kind in RESULT_FOLDERS)
    return next((file for file in files if file.is_file()), None)


def _settings(folder: Path, experiment: str) -> TableSettings:
    file = folder / STAGES["table"].files["settings"].format(experiment=experiment)
    try:
        settings: TableSettings = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ReconpatchError(
            f"not the settings of a table ({error})", where=file, fix="make the table again"
        ) from None
    return settings


def _rows(folder: Path, file: str, experiment: str) -> Iterator[Row]:
    """The rows of one of the CSV files of a table."""
    path = folder / STAGES["table"].files[file].format(experiment=experiment)
    try:
        with open(path, newline="", encoding="utf-8") as stream:
            yield from csv.DictReader(stream)
    except OSError as error:
        raise ReconpatchError(f"cannot be read ({error})", where=path, fix="make the table again") from None
