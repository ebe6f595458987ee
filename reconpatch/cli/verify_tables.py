"""Verification of tables: each is made again from the records, elsewhere, and compared cell by cell."""

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from reconpatch.errors import ReconpatchError, listed
from reconpatch.experiments.place import paper_file
from reconpatch.experiments.stages import RECORD, RESULT_FOLDERS
from reconpatch.experiments.table_settings import TableSettings
from reconpatch.records.compare import short
from reconpatch.records.verify import Findings, Results, Unverifiable
from reconpatch.results.make_table import write_table
from reconpatch.results.tables import MISSING

SHOWN = 3  # lost records that are named
Rows = tuple[list[str], dict[str, dict[str, str]]]


def check_table(file: Path, results: Results, findings: Findings) -> None:
    """Make a table again from its records and the settings beside it, elsewhere, and note the cells of its CSV that
    differ, and of the CSV files of its summaries and types of defect.

    Markdown, LaTeX and HTML show the same, rounded, and are not looked at. Raises Unverifiable if the table cannot be
    made.
    """
    stored = results.read(file, _csv_rows)
    settings: TableSettings = results.read(file.with_suffix(".json"), lambda path: json.loads(path.read_text("utf-8")))
    runs = {(*target, cell["run"]) for target in settings["targets"] for cell in settings["cells"]}
    lost = [
        "/".join(run)
        for run in sorted(runs)
        if not any((results.root / kind).joinpath(*run, RECORD).is_file() for kind in RESULT_FOLDERS)
    ]
    with TemporaryDirectory() as scratch:
        for kind in (*RESULT_FOLDERS, "index"):
            (Path(scratch) / kind).symlink_to(results.root / kind)
        try:
            made = write_table(settings, paper_file(file.stem), Path(scratch), file.stem)
        except ReconpatchError as error:
            raise Unverifiable(str(error).replace(f"{scratch}/", "")) from None
        cells, *others = (path for path in made if path.suffix == ".csv")
        _compare_rows(stored, _csv_rows(cells), lost, findings)
        for path in others:
            stored, again = results.read(file.with_name(path.name), _csv_rows), _csv_rows(path)
            if lost and stored != again:  # what counts categories or corrects for their number needs all records
                findings.missing.append(f"{path.name}: records of {', '.join(listed(lost, SHOWN))} are missing")
            else:
                _compare_rows(stored, again, (), findings)


def _csv_rows(file: Path) -> Rows:
    """CSV of a table -> its columns, and its rows by what stands before the numbers, or else by their number."""
    with open(file, newline="", encoding="utf-8") as stream:
        reader = csv.DictReader(stream, strict=True)
        columns, rows = list(reader.fieldnames or ()), list(reader)
    if not columns or any(None in row or None in row.values() for row in rows):
        raise ValueError("no columns, or rows of unequal length")
    keys = columns[: columns.index("value")] if "value" in columns else []
    named = {", ".join(row[key] for key in keys if row[key]) or f"row {n + 1}": row for n, row in enumerate(rows)}
    return columns, named


def _compare_rows(first: Rows, second: Rows, lost: Sequence[str], findings: Findings) -> None:
    """Note cells of a table, as stored and as made again, that differ. Cells of `lost` records cannot be checked."""
    findings.same("columns", first[0], second[0])
    stored, made = first[1], second[1]
    for name in dict.fromkeys([*stored, *made]):
        if name not in stored or name not in made:
            findings.differs.append(f"lacks the row {name}" if name in made else f"no record gives the row {name}")
            continue
        for column in stored[name].keys() & made[name].keys():
            one, two = stored[name][column], made[name][column]
            if one != two and lost and (two in ("", MISSING) or column.endswith("_holm")):
                findings.missing.append(f"{name}: records of {', '.join(listed(lost, SHOWN))} are missing")
            elif one != two and _number(one) is not None and _number(two) is not None:
                findings.close(f"{name}, {column}", _number(one), _number(two))
            elif one != two:
                findings.differs.append(f"{name}, {column}: stored {short(one)}, found {short(two)}")


def _number(cell: str) -> float | None:
    """A cell -> its number, NaN for an empty cell; None for text."""
    try:
        return float(cell or "nan")
    except ValueError:
        return None
