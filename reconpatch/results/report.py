"""The report: one HTML page with every table and figure inside it, readable offline and on a phone.

The workflow imports this module in every job, so what takes long to import is imported where it is used.
"""

import itertools
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

from reconpatch.data.manifest import read_manifest
from reconpatch.errors import ReconpatchError
from reconpatch.experiments.outputs import (
    Section,
    reasons,
    result_folder,
    sections,
    table_settings,
    thumbnails_of,
)
from reconpatch.experiments.place import paper_file
from reconpatch.experiments.plan import Plan
from reconpatch.experiments.stages import RECORD
from reconpatch.files import write_text
from reconpatch.records.provenance import CodeState, code_state
from reconpatch.records.record import read_record
from reconpatch.results.figures.captions import caption_of
from reconpatch.results.page import anchor, data_uri, render_page
from reconpatch.results.thumbnails import (
    GAP,
    LIMIT,
    Group,
    Thumbnail,
    Thumbnails,
    read_thumbnails,
    within_limit,
)
from reconpatch.version import VERSION

MIME = {".png": "image/png", ".svg": "image/svg+xml"}
MEGABYTE = 10**6
CSS_DPI = 96  # px of a page in an inch
TITLES: dict[Group, str] = {
    "disagreement": "The methods disagree",
    "false alarm": "False alarms",
    "miss": "Misses",
    "right": "Judged rightly",
    "unjudged": "By score",
}


def figure(folder: Path, file: str) -> dict[str, object]:
    """Figure file `figures/<experiment>/[<data set>/<category>/]<kind>.<suffix>` -> what the page shows of it.

    `width` is that of a PNG as it is printed, in px of the page; an SVG has its own.
    """
    _, experiment, *target, name = Path(file).parts
    about = ", ".join(part.replace("_", " ") for part in target) or experiment
    alt = f"{Path(name).stem} of {about}"
    shows, *more = caption_of(folder, file)
    width = None
    if name.endswith(".png"):
        from PIL import Image

        with Image.open(folder / file) as image:
            width = round(CSS_DPI * image.width / image.info.get("dpi", (CSS_DPI, CSS_DPI))[0])
    return {
        "uri": data_uri((folder / file).read_bytes(), MIME[Path(file).suffix]),
        "shows": shows,
        "more": more,
        "alt": alt,
        "width": width,
    }


def category_images(file: Thumbnails, shown: Sequence[Thumbnail]) -> dict[str, object]:
    """Thumbnails of a category, those that fit on the page -> what the page shows of them."""
    total = sum(file.counts.values())
    counts = ", ".join(f"{TITLES[group].lower()}: {count}" for group, count in file.counts.items())
    thresholds = ", ".join(
        f"{method} {'none' if cut is None else format(cut, '.3g')}"
        for method, cut in zip(file.methods, file.thresholds, strict=True)
    )
    groups = []
    for group, count in file.counts.items():
        images = [item for item in shown if item.group == group]
        if images:
            part = f"{count}" if len(images) == count else f"{len(images)} of {count}"
            of_all = len(file.methods) > 1 and group in ("false alarm", "miss")
            groups.append(
                {
                    "title": f"{TITLES[group]}{' of both methods' if of_all else ''} ({part})",
                    "open": group != "right",
                    "images": [_image(file, item) for item in images],
                }
            )
    return {
        "anchor": anchor(f"images-{file.dataset}-{file.category}"),
        "dataset": file.dataset,
        "category": file.category,
        "summary": f"{total} test images; {counts}. Thresholds: {thresholds}.",
        "about": file.about,
        "runs": file.runs,
        "groups": groups,
    }


def _image(file: Thumbnails, item: Thumbnail) -> dict[str, object]:
    """A thumbnail -> its picture, what it shows in words, and its caption."""
    truth = item.defect_type.replace("_", " ") if item.anomalous else "good"
    said = []
    for n, (method, score) in enumerate(zip(file.methods, item.scores, strict=True)):
        said.append(f"{method} {score:.3g}" + (f" {'alarm' if item.alarms[n] else 'no alarm'}" if item.alarms else ""))
    panels = ["test image", *(f"map of {method}" for method in file.methods)]
    return {
        "picture": item.picture,
        "width": (file.panel[1] + GAP) * len(panels) - GAP,
        "height": file.panel[0],
        "alt": f"{truth}: {', '.join(panels)}",
        "caption": f"{Path(item.path).with_suffix('').as_posix()}: {', '.join(said)}",
    }


def render(
    folder: Path,
    shown: Sequence[Section],
    thumbnails: Sequence[Thumbnails],
    absent: Mapping[str, Sequence[str]],
    code: CodeState,
    missing: Sequence[str] = (),
    stale: Collection[Path] = (),
) -> str:
    """Folder of results, sections (their files lie in it), thumbnails of test images, what is missing -> HTML page.

    `absent` maps reasons why experiments, or parts of them, were not planned to their names; `missing` names planned
    results that are not there, `stale` records that do not count.
    """
    from markupsafe import Markup

    from reconpatch.method.metrics import METRICS
    from reconpatch.results.comparison import VERDICTS
    from reconpatch.results.overview import LEADING, overview

    content = [
        {
            "name": anchor(section["name"]),
            "title": section["title"],
            "table": Markup((folder / section["table"]).read_text(encoding="utf-8")),  # noqa: S704, escaped by its template
            "figures": [figure(folder, file) for file in section["figures"]],
        }
        for section in shown
    ]
    kept = within_limit(thumbnails)
    return render_page(
        "report.html.j2",
        overview=overview(folder, shown, stale),
        leading=METRICS[LEADING].label,
        verdicts=VERDICTS,
        sections=content,
        thumbnails=[category_images(file, images) for file, images in zip(thumbnails, kept, strict=True)],
        left_out=sum(file.dropped + len(file.images) for file in thumbnails) - sum(map(len, kept)),
        limit_mb=LIMIT // MEGABYTE,
        reasons=absent,
        code=code,
        version=VERSION,
        missing=missing,
    )


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
    stale: set[Path] = set()
    written = [folder / "report.html"]
    for section in sections(plan, plan.experiments):
        name = section["name"]
        results = itertools.product(plan.members(name), plan.targets[name])
        records = [folder / result_folder(plan, run, *target) / RECORD for run, target in results]
        missing = [record for record in records if not is_current(record, folder, codes)]
        stale.update(missing)
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
    pictures = list(_current_thumbnails(plan, folder, stale))
    page = render(folder, shown, pictures, reasons(plan.absent), code_state(), lost, stale)
    write_text(folder / "report.html", page)
    for file in written:
        os.utime(file, (0, 0))
    return lost


def _current_thumbnails(plan: Plan, folder: Path, stale: Collection[Path]) -> Iterator[Thumbnails]:
    """Files of thumbnails that are there and show the scores that their records tell of, none of them stale."""
    for file in thumbnails_of(plan, plan.experiments):
        try:
            images = read_thumbnails(folder / Path(file).relative_to("results"))
            for run, digest in zip(images.runs, images.digests, strict=True):
                file_of_record = folder / result_folder(plan, run, images.dataset, images.category) / RECORD
                if file_of_record in stale or read_record(file_of_record).digests["scores"] != digest:
                    break
            else:
                yield images
        except ReconpatchError:  # not made yet
            continue
