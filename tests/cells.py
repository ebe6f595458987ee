"""Cells of tables for tests: one by one, or all of an experiment's table."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from reconpatch.data.catalogue import category_counts, kinds_of
from reconpatch.data.natures import NATURES, groups_of
from reconpatch.experiments.config import View
from reconpatch.experiments.table_settings import ViewSettings
from reconpatch.results.comparison import Cell, Gain
from reconpatch.results.names import ALL, KIND, MEAN_OF_KINDS

NAN = float("nan")
SHOWN = ("image_auroc", "pixel_auroc", "aupro_30")  # metrics of tables


def make_cell(**changes: Any) -> Cell:
    """A cell of image AUROC, as `cells` makes it."""
    fields = {"dataset": "mine", "category": "nut", "categories": 1, "method": "reconpatch", "metric": "image_auroc"}
    fields |= {"labels": {}, "value": 0.91234, "sd": NAN, "low": 0.85, "high": 0.9612, "paper": None, "flags": []}
    fields |= {"difference": NAN, "verdict": "no number", "reasons": [], "departures": []}
    return Cell(**(fields | {"seeds": [0], "runs": ["r"], "links": ["runs/r/record.json"]} | changes))


def view_of(**settings: Any) -> ViewSettings:
    """The settings of a view, the others as the configuration has them."""
    return View(**settings).model_dump()  # type: ignore[return-value]


def cells_of(file: Path, rng: np.random.Generator) -> tuple[list[Cell], ViewSettings]:
    """File of an experiment -> cells of all its rows with drawn values, and its view.

    Where the paper has such a table they have drawn numbers of the paper, too.
    """
    in_paper = (file.parents[1] / f"paper/{file.stem}.csv").is_file()
    content = yaml.safe_load(file.read_text(encoding="utf-8"))
    dataset = ALL if content.get("by_nature") else next(iter(content["datasets"]))
    axes = {key: values for key, values in content.get("axes", {}).items() if key not in ("method", "seed")}
    if combined := content.get("ensemble"):
        axes[combined["over"]] = ["ensemble", "ensemble, minmax"]
    if content.get("variants"):
        axes = {"variant": list(content["variants"])} | axes
    if kinds := kinds_of(dataset):
        axes[KIND] = [*kinds, MEAN_OF_KINDS]
    means = {**groups_of(dataset), "mean": frozenset(category_counts(dataset) or {"brick"})}
    places = [(name, 1) for name in category_counts(dataset) or {"brick"}]
    places += [(name, len(members)) for name, members in means.items() if len(members) > 1]
    places = [(name, 10) for name in (*NATURES, "mean")] if dataset == ALL else places
    metrics = content.get("metrics", SHOWN)
    made = []
    for (category, count), labels, method, metric in itertools.product(
        places, itertools.product(*axes.values()), content["axes"].get("method", ["reconpatch"]), metrics
    ):
        gain = Gain("patchcore", rng.normal(), NAN, NAN, p=0.01)
        fields = {"dataset": dataset, "category": category, "categories": count, "method": method, "metric": metric}
        fields |= {"labels": dict(zip(axes, labels, strict=True)), "gains": {"gain": gain}}
        made.append(make_cell(**fields, value=rng.uniform(0.8, 1), paper=rng.uniform(0.8, 1) if in_paper else None))
    view = content.get("view") or {"rows": list(axes) or ["category"]}
    return made, view_of(**view)
