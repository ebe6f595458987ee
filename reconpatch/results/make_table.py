"""One experiment's tables in five formats, from the records at hand: what is missing prints a dash."""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd
from safetensors import SafetensorError
from safetensors.numpy import load_file

from reconpatch.data.manifest import read_manifest
from reconpatch.errors import ReconpatchError
from reconpatch.experiments.stages import RECORD, RESULT_FOLDERS, SCORES, STAGES
from reconpatch.experiments.table_settings import TableSettings
from reconpatch.files import replacing, write_text
from reconpatch.method.metrics import saved_scores
from reconpatch.records.record import read_record
from reconpatch.results.comparison import Result, cells, columns
from reconpatch.results.defects import DefectCell, defect_cells, defect_columns, defect_table
from reconpatch.results.formats import to_html, to_latex, to_markdown
from reconpatch.results.kinds import by_kind
from reconpatch.results.names import KIND
from reconpatch.results.paper import Paper, read_paper
from reconpatch.results.paper_view import PaperView, paper_view
from reconpatch.results.selection import with_oracle
from reconpatch.results.summary import Summary, contrast_table, summaries, summary_columns, summary_table
from reconpatch.results.tables import (
    Table,
    comparability,
    comparison_table,
    cost_table,
    notes,
    provenance,
    published_table,
    without_constants,
)


def gather(settings: TableSettings, folder: Path, stale: Collection[Path] = ()) -> list[Result]:
    """Settings of a table and the folder of results -> a Result per cell of the plan and category.

    Records that are not there, and those named as stale, are missing. Raises ReconpatchError for a damaged file, and
    for a record of other images than the index of its category lists.
    """
    results = []
    for dataset, category in settings["targets"]:
        of_target = []
        for cell in settings["cells"]:
            result = Result(dataset=dataset, category=category, **cell)
            for kind in RESULT_FOLDERS:
                run_folder = folder / kind / dataset / category / cell["run"]
                files = (run_folder / RECORD, run_folder / SCORES)
                if files[0] not in stale and all(file.is_file() for file in files):
                    result = _filled(result, run_folder, folder)
            of_target.append(result)
        if any(result.record for result in of_target):
            manifest = STAGES["index"].files["manifest"].format(dataset=dataset, category=category)
            of_target = _with_defects(of_target, folder / manifest)
        results += of_target
    return results


def _filled(result: Result, run_folder: Path, folder: Path) -> Result:
    """A result with what its record and saved scores hold."""
    scores_file, record_file = run_folder / SCORES, run_folder / RECORD
    try:
        scores = load_file(scores_file)
    except SafetensorError as error:
        raise ReconpatchError(
            f"not a file of scores ({error})", where=scores_file, fix="remove it and run again"
        ) from None
    record = read_record(record_file)
    link = record_file.relative_to(folder).as_posix()
    return replace(result, record=record, link=link, saved=saved_scores(scores, record.metrics))


def _with_defects(results: Sequence[Result], manifest: Path) -> list[Result]:
    """Results on one category, its manifest -> the same with the types of defect of the test images."""
    items, digest = read_manifest(manifest)
    for result in results:
        if result.record is not None and result.record.data.manifest != digest:
            raise ReconpatchError(
                f"made from other images than {manifest} lists", where=result.link, fix="run the experiment again"
            )
    defects = [item.defect if item.label else "" for item in items if item.split == "test"]
    return [replace(result, defects=defects) for result in results]


@dataclass(frozen=True)
class Content:
    """What the files of a table hold: frames by file, its paper view, and its tables, those of LaTeX apart.

    LaTeX has the paper view in a file of its own, so that it can be included alone.
    """

    frames: Mapping[str, pd.DataFrame]
    view: PaperView | None
    tables: Sequence[Table]
    for_latex: Sequence[Table]


def write_table(
    settings: TableSettings, paper_file: Path | None, folder: Path, name: str, stale: Collection[Path] = ()
) -> list[Path]:
    """Write the files of the stage `table` below `folder`, without stale records; returns them.

    The first CSV holds the cells, or the rows of a table of costs, and so does the Parquet file; the others hold
    summaries over categories and types of defect. A table that has none has their header alone. The settings are
    written beside them as .json, from which `reconpatch verify` makes the tables again.
    """
    results = gather(settings, folder, stale)
    if settings["oracle"]:
        results = with_oracle(results, settings["oracle"])
    if settings["measure"] == "cost":
        content = _costs(results, settings)
    else:
        content = _values(results, settings, None if paper_file is None else read_paper(paper_file), name)
    texts = {key: frame.to_csv(index=False) for key, frame in content.frames.items()}
    texts["md"] = to_markdown(content.view, content.tables)
    texts["html"] = to_html(content.view, content.tables)
    texts["tex"] = to_latex(content.view, [] if content.view else content.for_latex, name)
    texts["more_tex"] = to_latex(None, content.for_latex if content.view else [], name)
    texts["settings"] = json.dumps(settings, indent=1) + "\n"
    files = {key: folder / _file(key, name) for key in (*texts, "parquet")}
    for key, text in texts.items():
        write_text(files[key], text)
    with replacing(files["parquet"]) as destination:
        _typed(content.frames["cells"]).to_parquet(destination, index=False)
    return list(files.values())


def _costs(results: Sequence[Result], settings: TableSettings) -> Content:
    """Results, settings of a table of costs -> its content."""
    caption = [settings["caption"]] if settings["caption"] else []
    table = cost_table(results, settings["title"], caption + provenance(results, settings["absent"]))
    frames = {"cells": pd.DataFrame(list(table.rows), columns=table.columns)}
    frames |= _further_frames([], [], settings)
    return Content(frames, None, [table], [without_constants(table)])


def _values(results: Sequence[Result], settings: TableSettings, paper: Paper | None, name: str) -> Content:
    """Results, settings of a table of metrics, the paper's numbers, name of the experiment -> its content."""
    caption = [settings["caption"]] if settings["caption"] else []
    title, count, layouts = settings["title"], settings["resamples"], settings["layouts"]
    tolerance = settings["tolerance"] / 100
    made = cells(
        by_kind(results, layouts),
        paper,
        layouts,
        count=count,
        tolerance=tolerance,
        reference=settings["reference"],
        metrics=settings["metrics"],
        by_nature=settings["by_nature"],
    )
    of_defects, of_methods = defect_cells(results, count), summaries(made)
    by_type = defect_table(of_defects, f"{title}: by type of defect")
    source = provenance(results, settings["absent"])
    lines = [*caption, *notes(results, made, count=count, tolerance=tolerance), *source]
    if of_defects and by_type is None:
        lines.append(f"Image AUROC of every type of defect: {_file('defects', name).name}.")
    summary = summary_table(of_methods, f"{title}: over all categories", count=count)
    published = None if paper is None else published_table(paper, f"{title}: published by others")
    theirs = settings["view"]["sources"][1]
    contrasts = contrast_table(made, f"{title}: do aligned objects gain more?")
    tables = [comparison_table(made, f"{title}: all values", lines, theirs), contrasts, summary, by_type, published]
    of_ours = None if summary is None else replace(summary, notes=[*summary.notes, *source])
    return Content(
        frames={"cells": pd.DataFrame(columns(made)), **_further_frames(of_methods, of_defects, settings)},
        view=paper_view(made, settings["view"], layouts, title, [*caption, *comparability(results, made), *source]),
        tables=[table for table in tables if table],
        for_latex=[table for table in (contrasts, of_ours, published) if table],
    )


def _further_frames(
    of_methods: Sequence[Summary], of_defects: Sequence[DefectCell], settings: TableSettings
) -> dict[str, pd.DataFrame]:
    """Summaries, AUROCs by type of defect -> frames of their CSV files."""
    labels = list(dict.fromkeys(label for cell in settings["cells"] for label in cell["labels"]))
    with_kind = [*labels, *({KIND} & {label for row in of_methods for label in row.labels})]
    summary, defects = summary_columns(of_methods, with_kind), defect_columns(of_defects, labels)
    return {
        key: pd.DataFrame(rows, columns=header)
        for key, (rows, header) in {"summary": summary, "defects": defects}.items()
    }


def _typed(frame: pd.DataFrame) -> pd.DataFrame:
    """A frame for Parquet, whose columns have one type each: columns of numbers and texts become texts."""
    empty = [str(name) for name in frame if frame[name].isna().all()]
    frame = frame.assign(**{name: frame[name].astype(float) for name in empty})
    mixed = [str(name) for name in frame if frame[name].dtype == object]
    return frame.assign(
        **{name: frame[name].map(lambda value: None if pd.isna(value) else str(value)) for name in mixed}
    )


def _file(key: str, experiment: str) -> Path:
    """A file of the stage `table`, below the folder of results."""
    return Path(STAGES["table"].files[key].format(experiment=experiment))
