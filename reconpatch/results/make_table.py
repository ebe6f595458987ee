"""One experiment's tables in four formats, from the records at hand: what is missing prints a dash."""

import json
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd
from safetensors import SafetensorError
from safetensors.numpy import load_file

from reconpatch.data.manifest import read_manifest
from reconpatch.errors import ReconpatchError
from reconpatch.experiments.stages import RECORD, RESULT_FOLDERS, SCORES, STAGES
from reconpatch.experiments.table_settings import TableSettings
from reconpatch.files import write_text
from reconpatch.method.metrics import saved_scores
from reconpatch.records.record import read_record
from reconpatch.results.comparison import Result, cells, columns
from reconpatch.results.defects import defect_cells, defect_columns, defect_table
from reconpatch.results.paper import read_paper
from reconpatch.results.selection import with_oracle
from reconpatch.results.summary import summaries, summary_columns, summary_table
from reconpatch.results.tables import (
    comparison_table,
    cost_table,
    notes,
    provenance,
    published_table,
    to_html,
    to_latex,
    to_markdown,
)

RENDER = {"md": to_markdown, "tex": to_latex, "html": to_html}


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


def write_table(
    settings: TableSettings, paper_file: Path | None, folder: Path, name: str, stale: Collection[Path] = ()
) -> list[Path]:
    """Write the files of the stage `table` below `folder`, without stale records; returns them.

    The first CSV holds the cells, or the rows of a table of costs, the others summaries over categories and types of
    defect; a table that has none has their header alone. The settings are written beside them as .json, from which
    `reconpatch verify` makes the tables again.
    """
    results = gather(settings, folder, stale)
    if settings["oracle"]:
        results = with_oracle(results, settings["oracle"])
    caption = [settings["caption"]] if settings["caption"] else []
    made = provenance(results, settings["absent"])
    labels = list(dict.fromkeys(label for cell in settings["cells"] for label in cell["labels"]))
    title, count = settings["title"], settings["resamples"]
    summary, of_defects = [], []
    if settings["measure"] == "cost":
        tables = [cost_table(results, title, caption + made)]
        frame = pd.DataFrame(list(tables[0].rows), columns=tables[0].columns)
    else:
        paper = None if paper_file is None else read_paper(paper_file)
        tolerance = settings["tolerance"] / 100
        made_cells = cells(
            results, paper, settings["layouts"], count=count, tolerance=tolerance, reference=settings["reference"]
        )
        summary, of_defects = summaries(made_cells), defect_cells(results, count)
        frame = pd.DataFrame(columns(made_cells))
        by_type = defect_table(of_defects, f"{title}: by type of defect")
        lines = caption + notes(results, made_cells, count=count, tolerance=tolerance) + made
        if of_defects and by_type is None:
            lines.append(f"Image AUROC of every type of defect: {_file('defects', name).name}.")
        more = [
            summary_table(summary, f"{title}: over all categories", count=count),
            by_type,
            None if paper is None else published_table(paper, f"{title}: published by others"),
        ]
        tables = [comparison_table(made_cells, title, lines), *(table for table in more if table)]
    frames = {"cells": frame}
    for key, (rows, header) in {
        "summary": summary_columns(summary, labels),
        "defects": defect_columns(of_defects, labels),
    }.items():
        frames[key] = pd.DataFrame(rows, columns=header)
    texts = {key: each.to_csv(index=False) for key, each in frames.items()}
    texts |= {key: "\n".join(map(render, tables)) for key, render in RENDER.items()}
    texts["settings"] = json.dumps(settings, indent=1) + "\n"
    files = {key: folder / _file(key, name) for key in texts}
    for key, file in files.items():
        write_text(file, texts[key])
    return list(files.values())


def _file(key: str, experiment: str) -> Path:
    """A file of the stage `table`, below the folder of results."""
    return Path(STAGES["table"].files[key].format(experiment=experiment))
