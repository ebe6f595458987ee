"""The published numbers beside ours: `configs/paper/<experiment>.csv`, one value of one table of the paper per row.

Columns: the labels of our table, for example "dim", then category, method, metric, value, caveat and, where numbers are
not the paper's, source. Values are in percent, as printed. A caveat says why the number cannot be compared as it
stands.
"""

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from reconpatch.errors import ReconpatchError
from reconpatch.method.metrics import METRICS
from reconpatch.results.names import MEANS, METHODS

COLUMNS = ("category", "method", "metric", "value", "caveat")
SOURCE = "source"  # a further column
Key = tuple[str, str, str, tuple[float | str, ...]]  # category, method, metric, labels


@dataclass(frozen=True)
class PaperNumber:
    """A published value in percent, why it cannot be compared, or "", and who published it; "" is the paper."""

    value: float
    caveat: str
    source: str = ""


@dataclass(frozen=True)
class Paper:
    """The numbers of one table: `labels` names its label columns, `numbers` is keyed by their values, too."""

    labels: Sequence[str]
    numbers: Mapping[Key, PaperNumber]

    def number(self, labels: Mapping[str, object], category: str, method: str, metric: str) -> PaperNumber | None:
        """A run's labels, which number -> the number, or None where the paper has none.

        Every label column must equal the run's label of that name, numbers as numbers (0.1 is "0.10"); labels of the
        run that the table lacks do not matter.
        """
        if any(name not in labels for name in self.labels):
            return None
        return self.numbers.get((category, method, metric, tuple(_comparable(labels[name]) for name in self.labels)))

    @property
    def sources(self) -> list[str]:
        """Who published its numbers; "" is the paper."""
        return list(dict.fromkeys(number.source for number in self.numbers.values()))

    def lacks(self, labels: Mapping[str, object], category: str, method: str, metric: str) -> str:
        """A run's labels, which number, of those that are not here -> what the table does not have: the metric, the
        method, the labels or the category.
        """
        of_metric = [key for key in self.numbers if key[2] == metric]
        of_method = [key for key in of_metric if key[1] == method]
        place = tuple(_comparable(labels.get(name)) for name in self.labels)
        at_place = [key for key in of_method if key[3] == place]
        if not of_metric:
            return METRICS[metric].label
        if not of_method:
            return f"{METRICS[metric].label} of {METHODS[method]}"
        if not at_place:
            return ", ".join(f"{name} {labels.get(name)}" for name in self.labels)
        if category in MEANS:
            return " ".join(MEANS[category].format("").split())
        return category if any(key[0] not in MEANS for key in at_place) else "single categories"

    def mean(
        self, labels: Mapping[str, object], categories: Sequence[str], method: str, metric: str
    ) -> PaperNumber | None:
        """A run's labels, categories -> the mean over exactly these, with their caveats, each once.

        None where the paper lacks one of them, or `categories` is empty. The mean is over the printed, rounded values.
        """
        every = [self.number(labels, category, method, metric) for category in categories]
        numbers = [number for number in every if number is not None]
        if not numbers or len(numbers) < len(every):
            return None
        caveats, sources = (
            dict.fromkeys(text for number in numbers if (text := getattr(number, part)))
            for part in ("caveat", "source")
        )
        value = sum(number.value for number in numbers) / len(numbers)
        return PaperNumber(value, " ".join(caveats), "; ".join(sources))


def read_paper(file: Path) -> Paper:
    """CSV file -> its numbers.

    Raises ReconpatchError, naming file and line, for a missing column, a row of another length, an unknown metric, a
    value that is no number in [0, 100] and a number given twice.
    """
    try:
        with file.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.reader(stream, strict=True)
            header = next(reader, [])
            lines = [(reader.line_num, row) for row in reader if row]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ReconpatchError(f"cannot be read as CSV in UTF-8 ({error})", where=file) from None
    if missing := [c for c in COLUMNS if c not in header]:
        raise ReconpatchError(f"no column {', '.join(missing)}", where=f"{file}, line 1", fix="add it to the header")
    if len(set(header)) < len(header):
        raise ReconpatchError(
            f"the columns {', '.join(header)} repeat a name", where=f"{file}, line 1", fix="rename one"
        )
    labels = [c for c in header if c not in (*COLUMNS, SOURCE)]
    numbers: dict[Key, PaperNumber] = {}
    line_of: dict[Key, int] = {}
    for line, cells in lines:
        where = f"{file}, line {line}"
        if len(cells) != len(header):
            raise ReconpatchError(
                f"{len(cells)} cells for {len(header)} columns", where=where, fix="quote text with commas"
            )
        row = dict(zip(header, cells, strict=True))
        key = (row["category"], row["method"], row["metric"], tuple(_comparable(row[c]) for c in labels))
        if key in line_of:
            raise ReconpatchError(
                f"the number of line {line_of[key]} again ({', '.join(cells)})", where=where, fix="remove one"
            )
        value = _percent(where, row["metric"], row["value"])
        numbers[key], line_of[key] = PaperNumber(value, row["caveat"], row.get(SOURCE, "")), line
    return Paper(labels, numbers)


def _percent(where: str, metric: str, text: str) -> float:
    if metric not in METRICS:
        raise ReconpatchError(f"unknown metric {metric!r}", where=where, fix=f"choose from {', '.join(METRICS)}")
    value = _comparable(text)
    if isinstance(value, str):
        raise ReconpatchError(
            f"value {text!r} is not a number", where=where, fix="leave the row out where the paper has none"
        )
    if not 0 <= value <= 100:
        raise ReconpatchError(
            f"value {text} of {metric} must be between 0 and 100", where=where, fix="give it in percent"
        )
    return value


def _comparable(value: object) -> float | str:
    """A label as a number where its text is one, so that 0.1, "0.10" and "1e-1" agree; otherwise its text."""
    text = str(value)
    try:
        number = float(text)
    except ValueError:
        return text
    return number if math.isfinite(number) else text
