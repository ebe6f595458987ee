"""Tables of numbers against the records they name: every value computed again, intervals and gains too.

The CSV alone is checked; Markdown, LaTeX and HTML show the same, rounded. The paper's numbers and the verdicts are not:
they come from the configuration.
"""

import csv
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from safetensors.numpy import load_file

from reconpatch.errors import ReconpatchError
from reconpatch.files import NAME
from reconpatch.method.metrics import saved_scores
from reconpatch.records.compare import short
from reconpatch.records.findings import Findings, Source, Unverifiable
from reconpatch.records.locations import KINDS, RECORD, RUN
from reconpatch.records.record_checks import unsealed
from reconpatch.results.comparison import Result, cells
from reconpatch.results.cost import cost_table

KEYS = ("dataset", "category", "categories", "method", "metric")
NUMBERS = ("value", "sd", "gain")
DRAWN = ("low", "high", "gain_low", "gain_high")  # by bootstrap
TEXTS = ("seeds", "runs", "links", "flags")
DERIVED = ("feature_dim", "reweight", "augment")  # settings a description does not hold as they were given
MOST = 100_000  # draws: more would not fit into memory
Rows = list[dict[str, str]]


def check_table(path: Path, source: Source) -> Findings:
    """CSV of a table, its folder of results -> in what the table disagrees with the records there."""
    found = Findings()
    found.attempt(lambda: _check(found, path, source))
    return found


def _rows(path: Path) -> Rows:
    with open(path, newline="", encoding="utf-8") as file:
        rows: list[dict[Any, Any]] = list(csv.DictReader(file, strict=True))
    if not rows or any(None in row or None in row.values() for row in rows):
        raise ValueError("no rows, or rows of unequal length")
    return rows


def _check(found: Findings, path: Path, source: Source) -> None:
    rows = source.read(path, _rows)
    if "images per second" in rows[0]:
        return _check_costs(found, rows, source)
    lack = [name for name in (*KEYS, *NUMBERS[:2], *DRAWN[:2], *TEXTS) if name not in rows[0]]
    if lack:
        raise Unverifiable(f"{source.name(path)} lacks the columns {', '.join(lack)}")
    if not all(re.fullmatch(NAME, row[key]) for row in rows for key in ("dataset", "category")):
        raise Unverifiable(f"{source.name(path)}: a data set or category in it has no possible name")
    if not all(RUN.fullmatch(run) for row in rows for run in row["runs"].split()):
        raise Unverifiable(f"{source.name(path)}: a run in it has no possible name")
    columns = list(rows[0])
    labels = columns[columns.index("categories") + 1 : columns.index("method")]
    keys = (*KEYS, *labels)
    draws = found.attempt(lambda: source.read(path.with_suffix(".md"), _draws))
    results, layouts, lost = _results(found, rows, labels, source)
    frame = cells(results, None, layouts, count=draws or 1, tolerance=0.0)
    made: list[dict[Any, Any]] = frame.to_dict("records")
    again = {tuple(str(row[key]) for key in keys): row for row in made}
    if lack := [name for name in frame.columns if name not in rows[0]]:
        raise Unverifiable(f"{source.name(path)} lacks the columns {', '.join(lack)}")
    shown = {tuple(row[name] for name in keys) for row in rows}
    for key, computed in again.items():
        if key not in shown and _place(computed, labels) not in lost:
            found.differs.append(f"lacks a row that its records give: {_where(computed, labels)}")
    for row in rows:
        key = tuple(row[name] for name in keys)
        where = _where(row, labels)
        if _place(row, labels) in lost:
            continue  # which is said
        if key not in again:
            found.differs.append(f"{where}: no record it names gives this row")
            continue
        computed = again[key]
        for name in (*NUMBERS, *(DRAWN if draws else ())):
            if name in row:
                found.close(f"{where} {name}", _number(row[name]), float(computed.get(name, math.nan)))
        for name in TEXTS:
            found.same(f"{where} {name}", row[name], str(computed[name]))
        if row.get("paper") and row.get("difference"):
            expected = _number(row["value"]) - _number(row["paper"])
            found.close(f"{where} difference", _number(row["difference"]), expected)


def _draws(path: Path) -> int:
    """How many bootstrap draws the notes below a table speak of."""
    said = re.search(r"interval of (\d{1,9}) bootstrap draws", path.read_text(encoding="utf-8"))
    if said is None or not 1 <= int(said[1]) <= MOST:
        raise ValueError(f"does not say how many bootstrap draws, up to {MOST}, its intervals are of")
    return int(said[1])


def _number(text: str) -> float:
    """A cell -> its number; one that is none is not a number, and so differs from any."""
    try:
        return float(text) if text else math.nan
    except ValueError:
        return math.inf


def _where(row: Mapping[str, Any], labels: Sequence[str]) -> str:
    return f"{', '.join(str(row[key]) for key in ('category', *labels, 'method') if row[key] != '')} {row['metric']}"


Place = tuple[str, ...]


def _place(row: Mapping[str, Any], labels: Sequence[str]) -> Place:
    """Where in a table a row stands: data set and labels. Methods and categories there depend on each other."""
    return (str(row["dataset"]), *(str(row[label]) for label in labels))


def _results(
    found: Findings, rows: Rows, labels: Sequence[str], source: Source
) -> tuple[list[Result], dict[str, str], set[Place]]:
    """Rows of a table -> a result for every run of its single categories, as the table was made from; layouts of the
    data sets; places with a record that cannot be read.
    """
    lost: set[Place] = set()
    results: dict[tuple[str, ...], Result] = {}
    layouts = {row["dataset"]: "" for row in rows}
    cache: dict[Path, Result | None] = {}
    for row in (r for r in rows if r["categories"] == "1"):
        for run in row["runs"].split():
            place = (row["dataset"], row["category"], *(row[k] for k in labels), row["method"], run)
            if place in results:
                continue
            at = {k: row[k] for k in labels}
            empty = Result(at, row["method"], _seed(row, run), row["dataset"], row["category"], run, ())
            results[place] = empty
            there = {f"{kind}/{row['dataset']}/{row['category']}/{run}/{RECORD}" for kind in KINDS}
            links = there.intersection(row["links"].split())
            if not links and any((source.root / link).is_file() for link in there):
                found.differs.append(
                    f"{row['category']}, {', '.join(row[k] for k in labels)}: leaves out the record of {run}"
                )
            for link in links:
                file = source.root / link
                if file not in cache:
                    cache[file] = found.attempt(lambda e=empty, f=file: _filled(e, f, source))  # type: ignore[misc]
                full = cache[file]
                if full is None or full.record is None:
                    lost.add(_place(row, labels))
                else:
                    for key, shown in (at | {"method": row["method"]}).items():
                        if not is_at_place(full.record.description, key, shown):
                            held = short(full.record.description[key])
                            found.differs.append(f"{row['category']}, {key} {shown}: the record of {run} has {held}")
                    results[place] = replace(full, labels=at, method=row["method"])
                    layouts[row["dataset"]] = str(full.record.data.layout)
    return list(results.values()), layouts, lost


def is_at_place(description: Mapping[str, Any], key: str, shown: str) -> bool:
    """Whether a run's description, where it has a setting at all, has it as the label of its place in a table says."""
    if key not in description or key in DERIVED or (key != "method" and " + " in str(description.get("backbone"))):
        return True
    value = description[key]
    try:
        return shown == str(value) or float(shown) == float(value)
    except (TypeError, ValueError):
        return False


def _seed(row: Mapping[str, str], run: str) -> int:
    """The seed of a run that is missing: one of the row's, by its place, where each seed has a run."""
    runs, seeds = row["runs"].split(), row["seeds"].split()
    seed = seeds[runs.index(run)] if len(runs) == len(seeds) else seeds[0] if seeds else "0"
    return int(seed) if seed.isdecimal() and len(seed) < 19 else -1


def _filled(result: Result, file: Path, source: Source) -> Result:
    """A result with what its record and saved scores hold."""
    record = source.read(file, unsealed)
    scores = source.read(file.with_name("scores.safetensors"), load_file)
    return replace(
        result,
        seed=record.seed,
        record=record,
        link=source.name(file),
        saved=saved_scores(scores, record.metrics),
    )


def _check_costs(found: Findings, rows: Rows, source: Source) -> None:
    """A table of costs names no records: every row must be some run's."""
    costs = [cost for file in sorted(source.root.glob(f"runs/*/*/*/{RECORD}")) for cost in _cost_rows(file)]
    for n, row in enumerate(rows):
        if row["images per second"] and not any(all(row.get(k) == v for k, v in cost.items()) for cost in costs):
            found.differs.append(f"row {n + 1}: no record has these costs")


def _cost_rows(file: Path) -> Rows:
    """What a table of costs says of a record, but for the place's labels; nothing where the record does not tell."""
    try:
        record = unsealed(file)
        method = str(record.description["method"])
        result = Result({}, method, record.seed, record.dataset, record.category, record.run, (), record)
        return [dict(row) for row in cost_table([result], "", ()).rows]
    except (ReconpatchError, KeyError, TypeError, ValueError, ZeroDivisionError):
        return []  # the record's own line says what is wrong with it
