"""Image AUROC of every type of defect against all normal test images, with the paired gains."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from reconpatch.method.bootstrap import image_wins
from reconpatch.method.metrics import METRICS, SavedScores, image_metrics
from reconpatch.results.comparison import (
    Entry,
    Gain,
    Result,
    by_key,
    departures_of,
    entries_of,
    entry,
    flags_of,
    gain_columns,
    gains_of,
    holm_corrected,
    provenance_columns,
)
from reconpatch.results.names import METHODS
from reconpatch.results.tables import Table, gain_text, label_text, value_text

METRIC = METRICS["image_auroc"]
MOST_ROWS = 40  # of a table with several places
NOTES = [
    "Image AUROC × 100 of the images with one type of defect against all normal test images, with its 95 % interval.",
    "One method over another: the paired gain with its interval; p as above, but corrected for the number of types in "
    "all categories (Holm).",
]


@dataclass(frozen=True)
class DefectCell:
    """Image AUROC of one type of defect by one method at its place in a table; `images` are those of the type.

    Gains are as those of a Cell; Holm's correction is for all types of all categories at that place.
    """

    dataset: str
    category: str
    defect: str
    images: int
    labels: Mapping[str, Any]
    method: str
    entry: Entry
    flags: Sequence[str]
    departures: Sequence[str]
    gains: Mapping[str, Gain]


def defect_cells(results: Sequence[Result], count: int) -> list[DefectCell]:
    """Results, number of bootstrap draws -> a cell per category, type of defect, place and method."""
    placed = by_key(results)
    entries = entries_of(
        placed, lambda part: {t: entry([_of_type(r, t) for r in part], METRIC, count) for t in _types(part)}
    )
    made = []
    for key, part in placed.items():
        for defect in _types(part):
            images = list(part[0].defects).count(defect)
            gains = gains_of(entries, [key], defect, METRIC)
            made.append(
                DefectCell(
                    dataset=key[0],
                    category=key[1],
                    defect=defect,
                    images=images,
                    labels=dict(key[2]),
                    method=key[3],
                    entry=entries[key][defect],
                    flags=flags_of(part),
                    departures=departures_of(part),
                    gains=gains,
                )
            )
    families = [(cell.dataset, tuple(cell.labels.items()), cell.method) for cell in made]
    corrected = holm_corrected([cell.gains for cell in made], lambda row, _: families[row])
    return [replace(cell, gains=gains) for cell, gains in zip(made, corrected, strict=True)]


def _types(results: Sequence[Result]) -> list[str]:
    """Results on one category -> its types of defect."""
    return sorted({defect for r in results for defect in r.defects} - {""})


def _of_type(result: Result, defect: str) -> Result:
    """A result on all test images -> the same on the normal ones and those of one type of defect."""
    if result.record is None or result.saved is None:
        return result
    kept = np.isin(result.defects, ("", defect))
    image, labels = result.saved.image[kept], result.saved.labels[kept]
    record = result.record.model_copy(update={"metrics": image_metrics(image, labels)})
    saved = SavedScores(image, labels, {"image": image_wins(image, labels)})
    return replace(result, category=f"{result.category}/{defect}", record=record, saved=saved)


def defect_columns(cells: Sequence[DefectCell], labels: Sequence[str]) -> tuple[list[dict[str, Any]], list[str]]:
    """Cells, names of their labels -> rows and columns of their CSV file; it has the columns without rows, too."""
    first = ["dataset", "category", "defect", "images", *labels, "method", "value", "low", "high"]
    first += provenance_columns([], [])
    gains = gain_columns([cell.gains for cell in cells])
    rows = [
        {"dataset": cell.dataset, "category": cell.category, "defect": cell.defect, "images": cell.images}
        | dict(cell.labels)
        | {"method": cell.method, "value": cell.entry.value}
        | dict(zip(("low", "high"), cell.entry.ends, strict=True))
        | provenance_columns(cell.flags, cell.departures)
        | of_gains
        for cell, of_gains in zip(cells, gains, strict=True)
    ]
    return rows, list(dict.fromkeys([*first, *(gains[0] if gains else ())]))


def defect_table(cells: Sequence[DefectCell], title: str) -> Table | None:
    """Cells -> a row per category, type of defect and place, a column per method and gain.

    None without cells, and where the rows of several places are more than MOST_ROWS.
    """
    several = len({cell.dataset for cell in cells}) > 1
    compared = [(cell.method, gain.over) for cell in cells for gain in cell.gains.values()]
    methods = {method: METHODS[method] for method in METHODS if any(cell.method == method for cell in cells)}
    pairs = {pair: f"{METHODS[pair[0]]} over {METHODS[pair[1]]}" for pair in dict.fromkeys(compared)}
    rows: dict[tuple[str, ...], dict[str, str]] = {}
    for cell in cells:
        first = ({"dataset": cell.dataset} if several else {}) | {"category": cell.category.replace("_", " ")}
        first |= {"type of defect": cell.defect.replace("_", " "), "images": str(cell.images)}
        first |= {name: label_text(value) for name, value in cell.labels.items()}
        row = rows.setdefault(tuple(first.values()), first | dict.fromkeys([*methods.values(), *pairs.values()], ""))
        row[methods[cell.method]] = value_text(cell.entry.value, *cell.entry.ends)
        row |= {pairs[cell.method, gain.over]: gain_text(gain) for gain in cell.gains.values()}
    places = {tuple(cell.labels.items()) for cell in cells}
    return Table(title, list(rows.values()), NOTES) if len(places) == 1 or 0 < len(rows) <= MOST_ROWS else None
