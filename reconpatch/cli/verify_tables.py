"""Verification of tables: each is made again from the records, elsewhere, and compared cell by cell."""

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from reconpatch.errors import ReconpatchError, listed
from reconpatch.experiments.outputs import paper_file
from reconpatch.experiments.stages import RECORD, RESULT_FOLDERS
from reconpatch.experiments.table_settings import TableSettings
from reconpatch.records.compare import short
from reconpatch.records.verify import Findings, Results, Unverifiable
from reconpatch.results.make_table import write_table
from reconpatch.results.tables import MISSING


def check_table(file: Path, results: Results, findings: Findings) -> None:
    """Make a table again from its records and the settings beside it, elsewhere, and note the cells of its CSV that
    differ.

    Markdown, LaTeX and HTML show the same, rounded, and are not looked at. Raises Unverifiable if the table cannot be
    made.
    """
    stored = results.read(file, _csv_rows)
    settings: TableSettings = results.read(file.with_suffix(".json"), lambda path: json.loads(path.read_text("utf-8")))
    with TemporaryDirectory() as scratch:
        for kind in RESULT_FOLDERS:
            (Path(scratch) / kind).symlink_to(results.root / kind)
        try:
            write_table(settings, paper_file(file.stem), Path(scratch), file.stem)
        except ReconpatchError as error:
            raise Unverifiable(str(error).replace(f"{scratch}/", "")) from None
        made = _csv_rows(Path(scratch) / "tables" / file.name)
    runs = {(*target, cell["run"]) for target in settings["targets"] for cell in settings["cells"]}
    lost = [
        "/".join(run)
        for run in sorted(runs)
        if not any((results.root / kind).joinpath(*run, RECORD).is_file() for kind in RESULT_FOLDERS)
    ]
    _compare_rows(stored, made, lost, findings)


def _csv_rows(file: Path) -> dict[str, dict[str, str]]:
    """CSV of a table -> its rows, by what stands before the numbers, or by their number in a table of costs."""
    with open(file, newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream, strict=True))
    if not rows or any(None in row or None in row.values() for row in rows):
        raise ValueError("no rows, or rows of unequal length")
    columns = list(rows[0])
    keys = columns[: columns.index("value")] if "value" in columns else []
    return {", ".join(row[key] for key in keys if row[key]) or f"row {n + 1}": row for n, row in enumerate(rows)}


def _compare_rows(
    stored: Mapping[str, Mapping[str, str]],
    made: Mapping[str, Mapping[str, str]],
    lost: Sequence[str],
    findings: Findings,
) -> None:
    """Note cells of a table, as stored and as made again, that differ. Cells of `lost` records cannot be checked."""
    findings.same("columns", list(next(iter(stored.values()))), list(next(iter(made.values()))))
    for name in dict.fromkeys([*stored, *made]):
        if name not in stored or name not in made:
            findings.differs.append(f"lacks the row {name}" if name in made else f"no record gives the row {name}")
            continue
        for column in stored[name].keys() & made[name].keys():
            one, two = stored[name][column], made[name][column]
            if one != two and lost and two in ("", MISSING):
                findings.missing.append(f"{name}: records of {', '.join(listed(lost, 3))} are missing")
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
