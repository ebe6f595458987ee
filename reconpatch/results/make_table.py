"""One experiment's table, from the records at hand: what is missing prints a dash."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
from safetensors import SafetensorError
from safetensors.numpy import load_file

from reconpatch.errors import ReconpatchError
from reconpatch.files import write_text
from reconpatch.method.metrics import saved_scores
from reconpatch.records.record import read_record
from reconpatch.results.comparison import Result, cells
from reconpatch.results.cost import cost_table
from reconpatch.results.names import METHODS
from reconpatch.results.paper import read_paper
from reconpatch.results.series import Series
from reconpatch.results.tables import (
    comparison_table,
    notes,
    provenance,
    published_table,
    to_html,
    to_latex,
    to_markdown,
)

RENDER = {".md": to_markdown, ".tex": to_latex, ".html": to_html}


def gather(settings: Mapping[str, Any], folder: Path, stale: Collection[Path] = ()) -> list[Result]:
    """Settings of a table (targets and cells) and the folder of results -> a Result for each cell and category.

    Records that are not there, and those named as stale, are missing.
    """
    results = []
    for dataset, category in settings["targets"]:
        for cell in settings["cells"]:
            result = Result(dataset=dataset, category=category, **cell)
            for kind in ("runs", "ensembles"):
                at = folder / kind / dataset / category / cell["run"]
                files = (at / "record.json", at / "scores.safetensors")
                if files[0] not in stale and all(file.is_file() for file in files):
                    result = _filled(result, at, folder)
            results.append(result)
    return results


def _filled(result: Result, at: Path, folder: Path) -> Result:
    try:
        scores = load_file(at / "scores.safetensors")
    except SafetensorError as error:
        raise ReconpatchError(
            f"{at / 'scores.safetensors'}: not a file of scores ({error}); remove it and run again"
        ) from None
    record = read_record(at / "record.json")
    return replace(
        result,
        record=record,
        link=(at / "record.json").relative_to(folder).as_posix(),
        saved=saved_scores(scores, record.metrics),
    )


def write_table(
    settings: Mapping[str, Any], paper_file: Path | None, folder: Path, name: str, stale: Collection[Path] = ()
) -> list[Path]:
    """Write `folder`/tables/`name` as .csv, .md, .tex and .html, without stale records; returns the files.

    The CSV holds the cells, or the rows of a table of costs.
    """
    results = gather(settings, folder, stale)
    caption = [settings["caption"]] if settings["caption"] else []
    made = provenance(results, settings["absent"])
    if settings["measure"] == "cost":
        tables = [cost_table(results, settings["title"], caption + made)]
        frame = pd.DataFrame(list(tables[0].rows), columns=tables[0].columns)
    else:
        paper = None if paper_file is None else read_paper(paper_file)
        tolerance, count = settings["tolerance"] / 100, settings["resamples"]
        frame = cells(results, paper, settings["layouts"], count=count, tolerance=tolerance)
        labels = list(dict.fromkeys(k for cell in settings["cells"] for k in cell["labels"]))
        lines = caption + notes(results, frame, count=count, tolerance=tolerance) + made
        tables = [comparison_table(frame, labels, settings["title"], lines)]
        others = None if paper is None else published_table(paper, f"{settings['title']}: published by others")
        tables += [others] if others else []
    base = folder / "tables" / name
    texts = {suffix: "\n".join(map(render, tables)) for suffix, render in RENDER.items()}
    texts[".csv"] = frame.to_csv(index=False)
    for suffix, text in texts.items():
        write_text(base.with_suffix(suffix), text)
    return [base.with_suffix(suffix) for suffix in texts]


def series(cells: pd.DataFrame, labels: Sequence[str]) -> tuple[dict[str, list[Series]], list[str], str]:
    """cells -> (per metric a Series a method, x 100; the swept places in words; which mean or category they are of)."""
    wide = cells[cells["categories"] == cells["categories"].max()]
    wide = wide[wide["dataset"] == wide["dataset"].iloc[0]]
    wide = wide[wide["category"] == wide["category"].iloc[-1]]
    x = [", ".join(map(str, v)) for v in wide[list(labels)].drop_duplicates().itertuples(index=False)]
    found: dict[str, list[Series]] = {}
    for (metric, method), part in wide.groupby(["metric", "method"], sort=False):
        columns = [(100 * part[c]).tolist() for c in ("value", "low", "high", "paper")]
        found.setdefault(str(metric), []).append(Series(METHODS[str(method)], *columns))
    count = int(wide["categories"].iloc[0])
    return found, x, f"mean of {count} categories" if count > 1 else str(wide["category"].iloc[0])
