"""The report of what is there when a run of the workflow has failed: tables and page without what is missing."""

import itertools
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from reconpatch.data.manifest import read_manifest
from reconpatch.errors import ReconpatchError
from reconpatch.experiments.outputs import paper_file, result_folder, sections, table_settings
from reconpatch.experiments.plan import Plan
from reconpatch.files import write_text
from reconpatch.records.provenance import code_state
from reconpatch.records.record import read_record
from reconpatch.results.make_table import write_table
from reconpatch.results.report import render


def current(record_file: Path, folder: Path, codes: Mapping[str, str]) -> bool:
    """Whether a record is there, and was made by today's code from today's data: its job may have failed since."""
    try:
        record = read_record(record_file)
        digest = read_manifest(folder / "index" / record.dataset / f"{record.category}.json")[1]
        same_data = digest == record.data.manifest
        return same_data and all(codes.get(stage) == facts.code for _, stage, facts in record.all_stages())
    except (ReconpatchError, OSError):  # not there, or not what the workflow wrote
        return False


def shows_a_failure(folder: Path) -> bool:
    """Whether the report in a folder of results was written by `report_what_is_there`, and so may be out of date."""
    page = folder / "report.html"
    return page.is_file() and page.stat().st_mtime == 0


def report_what_is_there(plan: Plan, folder: Path, codes: Mapping[str, str]) -> list[str]:
    """Plan, folder of results and digest of each stage's code -> what is missing; writes tables and report without it.

    A table with nothing missing and newer than its records is left as it is. What is written here is dated to 1970, so
    that the workflow makes it anew once it can.
    """
    shown: list[dict[str, Any]] = []
    lost: list[str] = []
    written = [folder / "report.html"]
    for section in sections(plan, plan.experiments):
        name = section["name"]
        results = itertools.product(plan.members(name), plan.targets[name])
        records = [folder / result_folder(plan, run, *target) / "record.json" for run, target in results]
        missing = [record for record in records if not current(record, folder, codes)]
        if len(missing) == len(records):
            lost.append(f"{name}: all {len(records)}")
            continue
        lost += [f"{name}: {record.parent.relative_to(folder)}" for record in missing]
        table = folder / section["table"]
        if missing or not table.is_file() or table.stat().st_mtime < max(r.stat().st_mtime for r in records):
            try:
                written += write_table(table_settings(plan, name), paper_file(name), folder, name, missing)
            except ReconpatchError as error:  # the others are shown all the same
                lost.append(f"{name}: {error}")
                continue
        figures = [] if missing else [file for file in section["figures"] if (folder / file).is_file()]
        shown.append(section | {"figures": figures})
    write_text(folder / "report.html", render(folder, shown, plan.absent, code_state(), lost))
    for file in written:
        os.utime(file, (0, 0))
    return lost
