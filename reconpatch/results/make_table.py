"""One experiment's table in four formats, from the records at hand: what is missing prints a dash."""

import json
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

import pandas as pd
from safetensors import SafetensorError
from safetensors.numpy import load_file

from reconpatch.errors import ReconpatchError
from reconpatch.experiments.stages import RECORD, RESULT_FOLDERS, SCORES
from reconpatch.experiments.table_settings import TableSettings
from reconpatch.files import write_text
from reconpatch.method.metrics import saved_scores
from reconpatch.records.record import read_record
from reconpatch.results.comparison import Result, cells, columns
from reconpatch.results.paper import read_paper
from reconpatch.results.selection import with_oracle
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

RENDER = {".md": to_markdown, ".tex": to_latex, ".html": to_html}


def gather(settings: TableSettings, folder: Path, stale: Collection[Path] = ()) -> list[Result]:
    """Settings of a table and the folder of results -> a Result per cell of the plan and category.

    Records that are not there, and those named as stale, are missing. Raises ReconpatchError for a damaged file.
    """
    results = []
    for dataset, category in settings["targets"]:
        for cell in settings["cells"]:
            result = Result(dataset=dataset, category=category, **cell)
            for kind in RESULT_FOLDERS:
                run_folder = folder / kind / dataset / category / cell["run"]
                files = (run_folder / RECORD, run_folder / SCORES)
                if files[0] not in stale and all(file.is_file() for file in files):
                    result = _filled(result, run_folder, folder)
            results.append(result)
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


def write_table(
    settings: TableSettings, paper_file: Path | None, folder: Path, name: str, stale: Collection[Path] = ()
) -> list[Path]:
    """Write `folder`/tables/`name` as .csv, .md, .tex and .html, without stale records; returns the files.

    The CSV holds the cells, or the rows of a table of costs. The settings are written beside them as .json, from which
    `reconpatch verify` makes the table again.
    """
    results = gather(settings, folder, stale)
    if settings["oracle"]:
        results = with_oracle(results, settings["oracle"])
    caption = [settings["caption"]] if settings["caption"] else []
    made = provenance(results, settings["absent"])
    if settings["measure"] == "cost":
        tables = [cost_table(results, settings["title"], caption + made)]
        frame = pd.DataFrame(list(tables[0].rows), columns=tables[0].columns)
    else:
        paper = None if paper_file is None else read_paper(paper_file)
        tolerance, count = settings["tolerance"] / 100, settings["resamples"]
        made_cells = cells(results, paper, settings["layouts"], count=count, tolerance=tolerance)
        frame = pd.DataFrame(columns(made_cells))
        lines = caption + notes(results, made_cells, count=count, tolerance=tolerance) + made
        tables = [comparison_table(made_cells, settings["title"], lines)]
        others = None if paper is None else published_table(paper, f"{settings['title']}: published by others")
        tables += [others] if others else []
    texts = {suffix: "\n".join(map(render, tables)) for suffix, render in RENDER.items()}
    texts |= {".csv": frame.to_csv(index=False), ".json": json.dumps(settings, indent=1) + "\n"}
    base = folder / "tables" / name
    for suffix, text in texts.items():
        write_text(base.with_suffix(suffix), text)
    return [base.with_suffix(suffix) for suffix in texts]
