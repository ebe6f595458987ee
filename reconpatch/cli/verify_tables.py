"""Verification of tables: each is made again from the records, elsewhere, and compared cell by cell."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from reconpatch.errors import ReconpatchError, listed
from reconpatch.experiments.outputs import paper_file, result_folder, table_settings
from reconpatch.experiments.plan import Plan
from reconpatch.records.compare import short
from reconpatch.records.verify import RESULT_FOLDERS, Findings, Results, Unverifiable
from reconpatch.results.make_table import write_table
from reconpatch.results.tables import MISSING


def check_table(plan: Plan, file: Path, results: Results, findings: Findings) -> None:
    """Make a table again from the records of today's plan, elsewhere, and note the cells of its CSV that differ.

    Markdown, LaTeX and HTML show the same, rounded, and are not looked at. Raises Unverifiable where the table cannot
    be made.
    """
    name = file.stem
    if name not in plan.experiments:
        raise Unverifiable("no experiment of this configuration: give its overlays with --configfile")
    if not plan.at_hand(name):
        raise Unverifiable(plan.absent[name])
    stored = results.read(file, _csv_rows)
    with TemporaryDirectory() as scratch:
        for kind in RESULT_FOLDERS:
            (Path(scratch) / kind).symlink_to(results.root / kind)
        try:
            write_table(table_settings(plan, name), paper_file(name), Path(scratch), name)
        except ReconpatchError as error:
            raise Unverifiable(str(error).replace(f"{scratch}/", "")) from None
        made = _csv_rows(Path(scratch) / "tables" / file.name)
    records = [f"{result_folder(plan, run, *t)}/record.json" for t in plan.targets[name] for run in plan.members(name)]
    lost = [record for record in records if not (results.root / record).is_file()]
    _compare_rows(stored, made, lost, plan.absent.get(name, ""), findings)


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
    absent: str,
    findings: Findings,
) -> None:
    """Note cells of a table, as stored and as made again, that differ.

    Where records are `lost`, or data and weights `absent` today, the cells and rows for want of them are not checked.
    """
    findings.same("columns", list(next(iter(stored.values()))), list(next(iter(made.values()))))
    for name in dict.fromkeys([*stored, *made]):
        if name not in stored or name not in made:
            problem = f"lacks the row {name}" if name in made else f"no run of this configuration gives the row {name}"
            if absent and name in stored:
                findings.missing.append(f"{problem}: {absent}")
            else:
                findings.differs.append(problem)
            continue
        for column in stored[name].keys() & made[name].keys():
            one, two = stored[name][column], made[name][column]
            if one != two and lost and two in ("", MISSING):
                findings.missing.append(f"{name}: {', '.join(listed(lost, 3))} missing")
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
