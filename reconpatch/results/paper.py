"""The published numbers beside ours: configs/paper/<experiment>.csv, one value of one table of the paper per row.

Columns: the table's own labels (a setting, as in "dim"), then category, method, metric, value, caveat. Values are in
percent, as printed. A caveat says why the number cannot be compared as it stands.
"""

import csv
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from reconpatch.errors import ReconpatchError
from reconpatch.method.metrics import METRICS

COLUMNS = ("category", "method", "metric", "value", "caveat")


def read_paper(file: Path) -> pd.DataFrame:
    """CSV file -> one row per published number: labels, category, method, metric and caveat as text, value as float.

    Raises ReconpatchError, naming file and line, for a missing column, a row of another length, an unknown metric, a
    value that is no number in [0, 100] and a number given twice.
    """
    try:
        with file.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.reader(stream, strict=True)
            header = next(reader, [])
            lines = [(reader.line_num, row) for row in reader if row]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ReconpatchError(f"{file}: cannot be read as CSV in UTF-8 ({error})") from None
    if missing := [c for c in COLUMNS if c not in header]:
        raise ReconpatchError(f"{file}, line 1: no column {', '.join(missing)}; add it to the header")
    if len(set(header)) < len(header):
        raise ReconpatchError(f"{file}, line 1: the columns {', '.join(header)} repeat a name; rename one")
    seen: dict[tuple[object, ...], int] = {}
    for line, cells in lines:
        where = f"{file}, line {line}"
        if len(cells) != len(header):
            raise ReconpatchError(f"{where}: {len(cells)} cells for {len(header)} columns; quote text with commas")
        row = dict(zip(header, cells, strict=True))
        _check_value(where, row["metric"], row["value"])
        key = (row["category"], row["method"], row["metric"], *(_comparable(row[c]) for c in _labels(header)))
        if key in seen:
            raise ReconpatchError(f"{where}: the number of line {seen[key]} again ({', '.join(cells)}); remove one")
        seen[key] = line
    return pd.DataFrame([cells for _, cells in lines], columns=header, dtype="str").astype({"value": "float64"})


def paper_value(
    frame: pd.DataFrame, labels: Mapping[str, object], category: str, method: str, metric: str
) -> tuple[float, str] | None:
    """(read_paper, a run's labels, which number) -> (value in percent, caveat), or None where the paper has none.

    Every label column must equal the run's label of that name, numbers as numbers (0.1 is "0.10"); labels of the run
    that the table lacks do not matter.
    """
    columns = _labels(list(frame.columns))
    for row in frame.to_dict("records"):
        if (row["category"], row["method"], row["metric"]) == (category, method, metric) and all(
            c in labels and _comparable(row[c]) == _comparable(labels[c]) for c in columns
        ):
            return float(row["value"]), str(row["caveat"])
    return None


def paper_mean(
    frame: pd.DataFrame, labels: Mapping[str, object], categories: Sequence[str], method: str, metric: str
) -> tuple[float, str] | None:
    """(read_paper, a run's labels, categories) -> (mean over exactly these in percent, their caveats, each once).

    None where the paper lacks one of them, or `categories` is empty. The mean is over the printed, rounded values.
    """
    found = [paper_value(frame, labels, category, method, metric) for category in categories]
    given = [number for number in found if number is not None]
    if not given or len(given) < len(found):
        return None
    caveats = dict.fromkeys(caveat for _, caveat in given if caveat)
    return sum(value for value, _ in given) / len(given), " ".join(caveats)


def _labels(header: Sequence[str]) -> list[str]:
    return [c for c in header if c not in COLUMNS]


def _check_value(where: str, metric: str, text: str) -> None:
    names = [name for name, known in METRICS.items() if known.in_tables]
    if metric not in names:
        raise ReconpatchError(f"unknown metric {metric!r}", where=where, fix=f"choose from {', '.join(names)}")
    value = _comparable(text)
    if isinstance(value, str):
        raise ReconpatchError(f"{where}: value {text!r} is not a number; leave the row out where the paper has none")
    if not 0 <= value <= 100:
        raise ReconpatchError(f"{where}: value {text} of {metric} must be between 0 and 100; give it in percent")


def _comparable(value: object) -> float | str:
    """A label as a number where its text is one, so that 0.1, "0.10" and "1e-1" agree; otherwise its text."""
    text = str(value)
    try:
        number = float(text)
    except ValueError:
        return text
    return number if math.isfinite(number) else text
