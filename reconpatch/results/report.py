"""The report: one HTML page with every table and figure inside it, readable offline and on a phone.

The workflow imports this module in every job, so what takes long to import is imported where it is used.
"""

import base64
import itertools
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from reconpatch.data.manifest import read_manifest
from reconpatch.errors import ReconpatchError
from reconpatch.experiments.outputs import Section, paper_file, reasons, result_folder, sections, table_settings
from reconpatch.experiments.plan import Plan
from reconpatch.experiments.stages import FIGURES, RECORD
from reconpatch.files import write_text
from reconpatch.records.provenance import CodeState, code_state
from reconpatch.records.record import read_record

MIME = {".png": "image/png", ".svg": "image/svg+xml"}


def data_uri(path: Path) -> str:
    """Image file -> data URI."""
    return f"data:{MIME[path.suffix]};base64,{base64.b64encode(path.read_bytes()).decode()}"


def figure(folder: Path, file: str) -> dict[str, str]:
    """Figure file `figures/<experiment>/[<data set>/<category>/]<kind>.<suffix>` -> what the page shows of it."""
    _, experiment, *target, name = Path(file).parts
    kind = Path(name).stem
    about = ", ".join(part.replace("_", " ") for part in target)
    caption = f"{about}. {FIGURES[kind].caption}" if about else FIGURES[kind].caption
    return {"uri": data_uri(folder / file), "caption": caption, "alt": f"{kind} of {about or experiment}"}


def render(
    folder: Path,
    shown: Sequence[Section],
    left_out: Mapping[str, Sequence[str]],
    code: CodeState,
    missing: Sequence[str] = (),
) -> str:
    """Folder of results, sections (their files lie in it), what is missing -> HTML page.

    `left_out` maps reasons why experiments, or parts of them, were not planned to their names; `missing` names planned
    results that are not there.
    """
    from jinja2 import Environment, PackageLoader
    from markupsafe import Markup

    environment = Environment(loader=PackageLoader("reconpatch.results", "."), autoescape=True)
    content = [
        {
            "name": re.sub(r"\W", "-", section["name"]),
            "title": section["title"],
            "table": Markup((folder / section["table"]).read_text(encoding="utf-8")),  # noqa: S704, escaped by tables
            "figures": [figure(folder, file) for file in section["figures"]],
        }
        for section in shown
    ]
    template = environment.get_template("report.html.j2")
    return template.render(sections=content, reasons=left_out, code=code, missing=missing)


# --- the report of what is there when a run of the workflow has failed -----------------------------------------------


def is_current(record_file: Path, folder: Path, codes: Mapping[str, str]) -> bool:
    """Whether a record is there, and was made by today's code from today's data: its job may have failed since."""
    try:
        record = read_record(record_file)
        digest = read_manifest(folder / "index" / record.dataset / f"{record.category}.json")[1]
    except (ReconpatchError, OSError):  # not there, or not what the workflow wrote
        return False
    same_code = all(codes.get(stage) == facts.code for _, stage, facts in record.all_stages())
    return digest == record.data.manifest and same_code


def shows_a_failure(folder: Path) -> bool:
    """Whether the report in a folder of results was written by `report_what_is_there`, and so may be out of date."""
    page = folder / "report.html"
    return page.is_file() and page.stat().st_mtime == 0


def report_what_is_there(plan: Plan, folder: Path, codes: Mapping[str, str]) -> list[str]:
    """Plan, folder of results and digest of each stage's code -> what is missing; writes tables and report without it.

    A table with nothing missing and newer than its records is left as it is. What is written here is dated to 1970, so
    that the workflow makes it anew once it can.
    """
    from reconpatch.results.make_table import write_table

    shown: list[Section] = []
    lost: list[str] = []
    written = [folder / "report.html"]
    for section in sections(plan, plan.experiments):
        name = section["name"]
        results = itertools.product(plan.members(name), plan.targets[name])
        records = [folder / result_folder(plan, run, *target) / RECORD for run, target in results]
        missing = [record for record in records if not is_current(record, folder, codes)]
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
        shown.append({**section, "figures": figures})
    write_text(folder / "report.html", render(folder, shown, reasons(plan.absent), code_state(), lost))
    for file in written:
        os.utime(file, (0, 0))
    return lost
