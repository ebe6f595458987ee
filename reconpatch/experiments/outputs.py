"""What a plan's tables, figures and report consist of: names of files and plain settings."""

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, cast

if TYPE_CHECKING:  # the report, made last, needs none of what it imports
    from reconpatch.experiments.plan import Plan

SUFFIXES = {"qualitative": "png", "gallery": "png"}  # the other figures are svg
OVERALL = ("sweep", "gallery")  # one figure an experiment; the others are one a category


class CellSettings(TypedDict):
    """A cell of a plan as plain values."""

    labels: dict[str, Any]
    method: str
    seed: int
    run: str
    departures: tuple[str, ...]


class TableSettings(TypedDict):
    """What a table needs besides records, as plain values: Snakemake compares them with those of the last run."""

    title: str
    caption: str
    measure: str  # "auroc" or "cost"
    absent: str
    targets: list[tuple[str, str]]  # data set and category
    cells: list[CellSettings]
    layouts: dict[str, str]  # of every data set
    resamples: int
    tolerance: float  # points within which ours and the paper's agree


class Section(TypedDict):
    """What the report shows of an experiment; files count from the folder of results."""

    name: str
    title: str
    table: str
    figures: list[str]


def result_folder(plan: "Plan", run: str, dataset: str, category: str) -> str:
    """Folder of a run or an ensemble, below the results."""
    return f"{'runs' if run in plan.runs else 'ensembles'}/{dataset}/{category}/{run}"


def kept_files(plan: "Plan", name: str) -> list[str]:
    """Files behind an experiment's table that stay, below the results: all but features, which may be gone by plan."""
    from reconpatch.experiments.plan import stage_name
    from reconpatch.experiments.run import of_training

    files = []
    for (dataset, category), key in itertools.product(plan.targets[name], plan.members(name)):
        below = f"{dataset}/{category}"
        own = result_folder(plan, key, dataset, category)
        files += [f"index/{below}.json", f"{own}/record.json", f"{own}/scores.safetensors"]
        for member in [key] if key in plan.runs else plan.ensembles[key].members:
            run, at = plan.runs[member], f"runs/{below}/{member}"
            training = of_training(run)
            bank = f"bank/{below}/{stage_name(training, 'bank')}"
            files += [f"{at}/record.json", f"{at}/scores.safetensors", f"{bank}/bank.safetensors", f"{bank}/bank.json"]
            files += [f"masks/{below}/{stage_name(run, 'masks')}/masks.npy"]
            files += [f"features/{below}/{stage_name(run, 'features')}/features.json"]
            if run.method == "reconpatch":
                f = f"training/{below}/{stage_name(training, 'training')}"
                files += [f"{f}/f.safetensors", f"{f}/training.json"]
            if key not in plan.runs and plan.ensembles[key].combine == "zscore":
                files.append(f"{at}/training.safetensors")
    return list(dict.fromkeys(files))


def figures_of(plan: "Plan", name: str) -> list[str]:
    """Figures of an experiment, below the results."""
    files = []
    for kind in plan.experiments[name].figures:
        if not plan.drawn(name, kind):
            continue  # its runs lack their weights
        file = f"{kind}.{SUFFIXES.get(kind, 'svg')}"
        places = [""] if kind in OVERALL else [f"{dataset}/{category}/" for dataset, category in plan.targets[name]]
        files += [f"figures/{name}/{place}{file}" for place in places]
    return files


def labels_of(plan: "Plan", name: str) -> list[str]:
    """What names the places of an experiment's table: its variant and axes."""
    return list(dict.fromkeys(key for place in plan.cells[name] for key in place.labels))


def table_settings(plan: "Plan", name: str) -> TableSettings:
    """What a table needs besides records, as plain values: texts, places and the numbers' treatment."""
    chosen = plan.experiments[name]
    return {
        "title": chosen.title,
        "caption": chosen.caption,
        "measure": chosen.measure,
        "absent": plan.absent.get(name, ""),
        "targets": plan.targets[name],
        "cells": [cast("CellSettings", asdict(cell)) for cell in plan.cells[name]],
        "layouts": {dataset: plan.dataset(dataset).layout for dataset, _ in plan.targets[name]},
        "resamples": plan.config.resamples,
        "tolerance": plan.config.tolerance,
    }


def paper_file(name: str) -> Path | None:
    """The published numbers of a table, if there are any."""
    file = Path(f"configs/paper/{name}.csv")
    return file if file.is_file() else None


def sections(plan: "Plan", names: Iterable[str]) -> list[Section]:
    """What the report shows of each experiment that can be run."""
    return [
        {
            "name": name,
            "title": plan.experiments[name].title,
            "table": f"tables/{name}.html",
            "figures": figures_of(plan, name),
        }
        for name in names
        if name in plan.experiments and plan.at_hand(name)
    ]


def reasons(absent: Mapping[str, str]) -> dict[str, list[str]]:
    """Experiment -> what it lacks, of which it may lack a part; turned round, so that each reason is named once."""
    found: dict[str, list[str]] = {}
    for name, why in absent.items():
        for reason in why.split("; "):
            found.setdefault(reason, []).append(name)
    return found
