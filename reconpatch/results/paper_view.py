"""The paper's form of a table: its rows and columns, our values with the paper's below or beside them.

The long view of a table, `tables.comparison_table`, has every number with its interval; this one has what one prints.
"""

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from reconpatch.data.natures import NATURES, groups_of
from reconpatch.errors import ReconpatchError
from reconpatch.experiments.table_settings import ViewSettings
from reconpatch.method.metrics import METRICS
from reconpatch.results.comparison import ORACLE, Cell
from reconpatch.results.names import ALL, KIND, METHODS
from reconpatch.results.statistics import LEVEL
from reconpatch.results.tables import MISSING, category_text, label_text, untested

BETTER, WORSE = "*", "†"  # marks of a significant gain and loss
PAPER = "Hyun et al., ReConPatch, WACV 2024"
PRINTED_MEANS = ("object", "texture", "mean")  # those of the paper's tables by category
Key = tuple[str, ...]


@dataclass(frozen=True)
class Entry:
    """A number as it is printed: x 100 with two decimals, or a dash. A mark tells a significant gain or loss."""

    text: str
    mark: str = ""
    best: bool = False


@dataclass(frozen=True)
class PaperView:
    """A table to print: entries by the names of their row and column; each name has a part per level.

    `row_levels` and `column_levels` say what the levels are. Rows named in `ruled` begin a new part of the table.
    """

    title: str
    about: str  # what the numbers are, in a sentence
    notes: Sequence[str]
    row_levels: Key
    column_levels: Key
    rows: Sequence[Key]
    columns: Sequence[Key]
    entries: Mapping[tuple[Key, Key], Entry]
    ruled: frozenset[Key] = frozenset()

    @property
    def header(self) -> list[list[tuple[str, int]]]:
        """For each level of the columns: names, and how many columns each spans."""
        levels = []
        for depth in range(1, len(self.column_levels) + 1):
            groups = itertools.groupby(self.columns, key=lambda column: column[:depth])
            levels.append([(name[-1], len(list(columns))) for name, columns in groups])
        return levels

    @property
    def sparse_rows(self) -> list[tuple[Key, Key]]:
        """Each row's name, and the same without what its outer levels repeat of the row above."""
        rows: list[tuple[Key, Key]] = []
        before: Key = ()
        for row in self.rows:
            same = sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(row, before, strict=False)))
            rows.append((row, ("",) * same + row[same:]))
            before = row
        return rows

    def entry(self, row: Key, column: Key) -> Entry:
        """The number at a place; without a text where there is none."""
        return self.entries.get((row, column), Entry(""))


def paper_view(
    cells: Sequence[Cell], settings: ViewSettings, layouts: Mapping[str, str], title: str, notes: Sequence[str]
) -> PaperView | None:
    """Cells of a table, how it is viewed, layout of each data set, title, what else must be known -> its paper view.

    None where it has no cells of this kind. Raises ReconpatchError where two cells have the same row and column.
    """
    several = {cell.dataset for cell in cells if cell.categories > 1}
    shown = _in_order([cell for cell in cells if _is_shown(cell, settings, cell.dataset in several)], layouts)
    if not shown:
        return None
    rows, columns = _axes(shown, settings)
    several_methods = len({cell.method for cell in shown}) > 1
    best = _best(shown, several_methods)
    beside = settings["paper"] == "beside"
    of_source = {n: _column_name(cell, columns) if beside else _name(cell, rows) for n, cell in enumerate(shown)}
    with_paper = {of_source[n] for n, cell in enumerate(shown) if cell.paper is not None}
    entries: dict[tuple[Key, Key], Entry] = {}
    seen: set[tuple[Key, Key]] = set()
    for number, cell in enumerate(shown):
        row, column = _name(cell, rows), _column_name(cell, columns)
        ours = Entry(_percent(cell.value), _mark(cell), number in best)
        if (row, column) in seen:
            raise ReconpatchError(
                f"two numbers at row {', '.join(row)}, column {', '.join(column)}",
                where=f"view of {title}",
                fix="rename one of the variants or axis values",
            )
        seen.add((row, column))
        if not with_paper:
            entries[row, column] = ours
            continue
        theirs = [Entry(_percent(cell.paper))] if of_source[number] in with_paper else []
        for source, entry in zip(settings["sources"], [ours, *theirs], strict=False):
            key = (row, (*column, source)) if beside else ((*row, source), column)
            entries[key] = entry
    last = ("",) if with_paper else ()
    names_of_rows = _nested(row for row, _ in entries)
    return PaperView(
        title=title,
        about=_about(shown, settings, bool(with_paper)),
        notes=[*_reading(shown, settings["sources"], several_methods, bool(best), entries.values()), *notes],
        row_levels=tuple(map(level_text, rows)) + (() if beside else last),
        column_levels=tuple(map(level_text, columns)) + (last if beside else ()),
        rows=names_of_rows,
        columns=_nested(column for _, column in entries),
        entries=entries,
        ruled=_ruled(shown, rows, names_of_rows),
    )


def _is_shown(cell: Cell, settings: ViewSettings, several: bool) -> bool:
    """Whether a cell belongs to the view, where its data set has several categories or one."""
    by_category = "category" in (*settings["rows"], *settings["columns"])
    if (cell.dataset == ALL) != (settings["categories"] == "natures"):
        return False
    if cell.dataset == ALL and not by_category and cell.category != "mean":
        return False
    if several and cell.categories == 1 and (not by_category or settings["categories"] == "means"):
        return False
    is_mean = cell.categories > 1 and cell.dataset != ALL
    if is_mean and cell.category not in (PRINTED_MEANS if by_category else ("mean",)):
        return False
    for key in ("method", "metric"):
        chosen = settings["methods"] if key == "method" else settings["metrics"]
        if chosen is not None and getattr(cell, key) not in chosen:
            return False
    return all(cell.labels.get(key) in values for key, values in settings["where"].items())


def _axes(shown: Sequence[Cell], settings: ViewSettings) -> tuple[list[str], list[str]]:
    """The cells of a view -> what tells its rows apart, and its columns; what the settings forget makes rows."""
    columns = settings["columns"]
    named = [*settings["rows"], *columns]
    labels = dict.fromkeys(label for cell in shown for label in cell.labels)
    more = [
        key
        for key in ("dataset", "category", *labels, "method", "metric")
        if key not in named and len({str(_value(cell, key)) for cell in shown}) > 1
    ]
    first = [key for key in more if key in ("dataset", "category")]
    return [*first, *settings["rows"], *(key for key in more if key not in first)], list(columns)


def _value(cell: Cell, key: str) -> Any:
    """What a cell is of: its data set, category, method or metric, or a label."""
    return getattr(cell, key) if key in ("dataset", "category", "method", "metric") else cell.labels.get(key)


def _name(cell: Cell, keys: Sequence[str]) -> Key:
    """A cell -> the name of its row or column."""
    texts = {"category": category_text(cell), "method": METHODS[cell.method], "metric": METRICS[cell.metric].label}
    return tuple(texts[key] if key in texts else label_text(_value(cell, key)) for key in keys)


def _column_name(cell: Cell, keys: Sequence[str]) -> Key:
    """A cell -> the name of its column; values of an axis stand beside the name of the axis."""
    axes = [key in cell.labels and key not in ("variant", KIND) for key in keys]
    return tuple(
        f"{key} {text}" if axis else text for key, axis, text in zip(keys, axes, _name(cell, keys), strict=True)
    )


def level_text(key: str) -> str:
    """What rows or columns are told apart by -> what the table calls it."""
    return {"dataset": "data set", "metric": ""}.get(key, key)


def _percent(value: float | None) -> str:
    return MISSING if value is None or value != value else f"{100 * value:.2f}"


def _mark(cell: Cell) -> str:
    gain = cell.gains.get("gain")
    if gain is None or not gain.shown_p <= LEVEL:
        return ""
    return BETTER if gain.value > 0 else WORSE


def _best(shown: Sequence[Cell], several_methods: bool) -> set[int]:
    """The cells of a view -> those with the best value as printed: of the methods with the same settings, or, of one
    method, of the settings. Kinds of anomalies do not compete, and values chosen on the test set do not take part.
    """
    groups: dict[tuple[Any, ...], list[int]] = {}
    for number, cell in enumerate(shown):
        labels = sorted((key, str(value)) for key, value in cell.labels.items() if several_methods or key == KIND)
        if cell.value == cell.value and ORACLE not in cell.labels.values():
            key = (cell.dataset, cell.category, cell.categories, cell.metric, *labels)
            groups.setdefault(key, []).append(number)
    best: set[int] = set()
    for numbers in groups.values():
        choose = max if METRICS[shown[numbers[0]].metric].higher_is_better else min
        printed = {number: float(_percent(shown[number].value)) for number in numbers}
        if len(numbers) > 1:
            best |= {number for number, value in printed.items() if value == choose(printed.values())}
    return best


def _nested(names: Iterable[Key]) -> list[Key]:
    """Names of rows or columns -> each once in order of appearance, those alike at an outer level side by side."""
    once = list(dict.fromkeys(names))
    order: dict[Key, dict[str, int]] = {}  # by the outer levels: place of each name at the next one
    for name in once:
        for depth, text in enumerate(name):
            places = order.setdefault(name[:depth], {})
            places.setdefault(text, len(places))
    return sorted(once, key=lambda name: [order[name[:depth]][text] for depth, text in enumerate(name)])


def _ruled(shown: Sequence[Cell], keys: Sequence[str], rows: Sequence[Key]) -> frozenset[Key]:
    """The rows before which the table has a rule: where the outermost of several levels changes, and around means."""
    means = {_name(cell, keys) for cell in shown if _is_mean(cell)} if "category" in keys else set()
    ruled = set()
    for before, row in itertools.pairwise(rows):
        is_mean, was_mean = row[: len(keys)] in means, before[: len(keys)] in means
        if is_mean != was_mean or (len(keys) > 1 and before[0] != row[0]):
            ruled.add(row)
    return frozenset(ruled)


def _is_mean(cell: Cell) -> bool:
    """Whether a cell is a mean of other rows; groups by nature, even of several categories, are rows themselves."""
    return cell.category == "mean" if cell.dataset == ALL else cell.categories > 1


def _in_order(shown: Sequence[Cell], layouts: Mapping[str, str]) -> list[Cell]:
    """The cells of a view in the paper's order: the categories of a group, then their mean; last the mean of all."""
    datasets = list(layouts)

    def place(cell: Cell) -> tuple[int, int, bool]:
        if cell.dataset == ALL:
            return len(datasets), [*NATURES, "mean"].index(cell.category), cell.category == "mean"
        groups = groups_of(layouts[cell.dataset])
        printed = [name for name in PRINTED_MEANS if cell.category == name or cell.category in groups.get(name, ())]
        return datasets.index(cell.dataset), PRINTED_MEANS.index(printed[0]) if printed else 0, cell.categories > 1

    return sorted(shown, key=place)


def _about(shown: Sequence[Cell], settings: ViewSettings, with_paper: bool) -> str:
    """What the numbers of a view are, in a sentence."""
    metrics = ", ".join(dict.fromkeys(METRICS[cell.metric].label for cell in shown))
    what = dict.fromkeys(category_text(cell) for cell in shown)
    of = f", {next(iter(what))}" if len(what) == 1 else ""
    ours, paper = settings["sources"]
    place = f", {paper} {settings['paper']} {ours}" if with_paper else ""
    return f"{metrics[0].upper()}{metrics[1:]} × 100{of}{place}."


def _reading(
    shown: Sequence[Cell], sources: Sequence[str], several_methods: bool, any_best: bool, entries: Iterable[Entry]
) -> Iterator[str]:
    """How to read the view, whose sources of numbers are called as given."""
    ours, paper = sources
    with_paper = any(cell.paper is not None for cell in shown)
    if with_paper:
        published = dict.fromkeys(cell.source or PAPER for cell in shown if cell.paper is not None)
        yield f"{ours}: an independent replication; {paper}: {'; '.join(published)}."
    if any_best:
        which = f", of {ours}" if with_paper else ""
        yield f"Bold: the best among {'the methods' if several_methods else 'the settings'}{which}, as printed."
    marks = {_mark(cell) for cell in shown} - {""}
    for mark, word in ((BETTER, "better"), (WORSE, "worse")):
        if mark in marks:
            what = "groups" if all(cell.dataset == ALL for cell in shown) else "categories"
            corrected = f" corrected for the number of {what} (Holm)" if any(map(_is_corrected, shown)) else ""
            seeds = "" if len({seed for cell in shown for seed in cell.seeds}) > 1 else "; other seeds are not covered"
            p = f"p of the paired gain{corrected} is at most {LEVEL:g}{seeds}"
            yield f"{mark}: significantly {word} than PatchCore: {p}."
    yield from untested(shown)
    if any(entry.text == MISSING for entry in entries):
        reasons = [f"{ours}: undefined, or not run"] if any(cell.value != cell.value for cell in shown) else []
        reasons += [f"{paper}: it has no number"] if with_paper else []
        yield f"{MISSING} {'; '.join(reasons)}."


def _is_corrected(cell: Cell) -> bool:
    """Whether the p behind the mark of a cell is corrected; that of a mean never is."""
    return bool(_mark(cell)) and cell.gains["gain"].holm == cell.gains["gain"].holm
