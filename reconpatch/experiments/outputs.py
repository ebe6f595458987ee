"""Files of the workflow: what the jobs of a plan read, and what tables, figures and report of an experiment consist of.

Paths begin where Snakemake is called. Rules look them up here; wildcards are those of a job.
"""

import itertools
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol, TypedDict, cast

from reconpatch.data.layouts import LAYOUTS
from reconpatch.errors import ReconpatchError
from reconpatch.experiments.config import View
from reconpatch.experiments.plan import Plan, Target, run_name, sources, stages_behind
from reconpatch.experiments.rows import same, table_metrics
from reconpatch.experiments.run import Run, embedding_remark
from reconpatch.experiments.stages import FIGURES, STAGES, Figure, Stage
from reconpatch.experiments.table_settings import CellSettings, TableSettings, ViewSettings


class Wildcards(Protocol):
    """The values of a job's wildcards. A job has those that the files of its stage name."""

    dataset: str
    category: str
    stage: str
    run: str
    experiment: str


class Section(TypedDict):
    """What the report shows of an experiment; files count from the folder of results."""

    name: str
    title: str
    table: str
    figures: list[str]


Files = dict[str, list[str]]  # name of a rule's input -> its files


def result_folder(plan: Plan, run: str, dataset: str, category: str) -> str:
    """Folder of a run or an ensemble, below the results."""
    return f"{'runs' if run in plan.runs else 'ensembles'}/{dataset}/{category}/{run}"


def results_of(plan: Plan, experiment: str, file: str, chosen: Sequence[str] | None = None) -> list[str]:
    """The file `record` or `scores` of every run and ensemble of an experiment, or of those chosen among them."""
    return [
        _result(plan, key).file(file, dataset=dataset, category=category, run=key)
        for dataset, category in plan.targets[experiment]
        for key in (plan.members(experiment) if chosen is None else chosen)
    ]


def manifests_of(plan: Plan, experiment: str) -> list[str]:
    """The manifest of every category of an experiment."""
    index = STAGES["index"]
    return [index.file("manifest", dataset=d, category=c) for d, c in plan.targets[experiment]]


def _result(plan: Plan, key: str) -> Stage:
    """The stage that makes the result of a run or of an ensemble."""
    return STAGES["score" if key in plan.runs else "ensemble"]


def _files_read(stage: Stage, run: Run, key: str, target: Target) -> Iterator[tuple[str, str]]:
    """What a stage reads for a run -> (name of the input, file)."""
    dataset, category = target
    for read, maker, name in sources(stage, run, key):
        yield read.name, maker.file(read.file, dataset=dataset, category=category, stage=name, run=name)


def files_of_run(plan: Plan, stage: Stage, wildcards: Wildcards) -> Files:
    """What a job of a stage of runs reads. An input that the run does not have, as f of PatchCore, is empty."""
    key = wildcards.run if "run" in stage.wildcards else ""
    run = plan.runs[key] if key else plan.stages[wildcards.stage]
    files: Files = {read.name: [] for read in stage.reads}
    for name, file in _files_read(stage, run, key, (wildcards.dataset, wildcards.category)):
        files[name].append(file)
    return files


def files_of_ensemble(plan: Plan, wildcards: Wildcards) -> Files:
    """What an ensemble reads of its members.

    Scores of the training images are read for z-scores alone. The masks are those of the first member.
    """
    combination, stage = plan.ensembles[wildcards.run], STAGES["ensemble"]
    files: Files = {read.name: [] for read in stage.reads}
    for member in combination.members:
        for name, file in _files_read(stage, plan.runs[member], member, (wildcards.dataset, wildcards.category)):
            files[name].append(file)
    files |= {name: files[name][:1] for name in ("manifest", "masks", "defects")}
    return files if combination.combine == "zscore" else files | {"training": []}


def runs_of_figure(plan: Plan, figure: Figure, experiment: str) -> list[str]:
    """Names of the runs, or ensembles, of an experiment that a figure shows."""
    if figure.draws == "results" and not figure.every_seed:
        return plan.members(experiment)
    return plan.drawn(experiment, figure.name)[: 1 if figure.draws == "categories" else None]


def departures_of(plan: Plan, experiments: Iterable[str], runs: Collection[str]) -> list[str]:
    """Experiments, names of runs -> the settings in which these depart from the paper's, in the first of the
    experiments that has any of the runs.
    """
    for name in experiments:
        cells = [cell for cell in plan.cells.get(name, []) if cell.run in runs]
        if cells:
            return list(dict.fromkeys(text for cell in cells for text in cell.departures))
    return []


def files_of_figure(plan: Plan, figure: Figure, wildcards: Wildcards) -> Files:
    """What a figure reads: of one category the chosen runs, of all categories the first chosen run, or all results."""
    experiment = wildcards.experiment
    runs = runs_of_figure(plan, figure, experiment)
    if figure.draws == "results":
        tables = [read for read in figure.reads if read.stage == "table"]
        of_table = {read.name: [STAGES["table"].file(read.file, experiment=experiment)] for read in tables}
        return of_table | {"records": results_of(plan, experiment, "record", runs)}
    targets = targets_of_figure(plan, figure, wildcards)
    files: Files = {read.name: [] for read in figure.reads}
    for target, key in itertools.product(targets, runs):
        for name, file in _files_read(figure, plan.runs[key], key, target):
            files[name].append(file)
    return files | ({"manifest": files["manifest"][:1]} if "manifest" in files else {})


def compared_runs(plan: Plan, key: str, target: Target) -> list[str]:
    """A run on a category -> the runs whose maps the report shows beside each other there: PatchCore's with the same
    settings, if it is planned on the category, and the run itself.
    """
    run = plan.runs[key]
    other = run_name(run.model_copy(update={"method": "patchcore"}), plan.baseline)
    planned = any(target in plan.targets[name] and other in plan.members(name) for name in plan.experiments)
    return [other, key] if run.method == "reconpatch" and planned else [key]


def thumbnails_of(plan: Plan, experiments: Iterable[str]) -> list[str]:
    """Thumbnails of test images that the report on experiments shows: one file for every category, of the first runs
    of both methods with the same settings, or else of the first run.
    """
    if plan.config.report_images == "none":
        return []
    chosen: dict[Target, list[str]] = {}
    for name in (name for name in experiments if name in plan.experiments):
        for target, key in itertools.product(plan.targets[name], plan.members(name)):
            if key in plan.runs and len(chosen.get(target, [])) < 2:
                runs = compared_runs(plan, key, target)
                if len(runs) > len(chosen.get(target, [])):
                    chosen[target] = runs
    stage = STAGES["thumbnails"]
    return [stage.file("thumbnails", dataset=d, category=c, run=runs[-1]) for (d, c), runs in chosen.items()]


def files_of_thumbnails(plan: Plan, wildcards: Wildcards) -> Files:
    """What the thumbnails of a run read: record and scores of the runs compared, and the manifest."""
    stage = STAGES["thumbnails"]
    files: Files = {read.name: [] for read in stage.reads}
    target = (wildcards.dataset, wildcards.category)
    for key in compared_runs(plan, wildcards.run, target):
        for name, file in _files_read(stage, plan.runs[key], key, target):
            files[name].append(file)
    return files | {"manifest": files["manifest"][:1]}


def targets_of_figure(plan: Plan, figure: Figure, wildcards: Wildcards) -> Sequence[Target]:
    """The categories that a figure shows."""
    if figure.draws == "category":
        return [(wildcards.dataset, wildcards.category)]
    return plan.targets[wildcards.experiment]


def kept_files(plan: Plan, experiment: str) -> list[str]:
    """Files behind an experiment's table that stay: all but features, which may be deleted once they are used."""
    files = manifests_of(plan, experiment)
    for (dataset, category), key in itertools.product(plan.targets[experiment], plan.members(experiment)):
        where = {"dataset": dataset, "category": category}
        files += [_result(plan, key).file(file, run=key, **where) for file in ("record", "scores")]
        combination = plan.ensembles.get(key)
        more = ("zscore",) if combination and combination.combine == "zscore" else ()
        for member in combination.members if combination else (key,):
            run = plan.runs[member]
            for stage, name in stages_behind(run, member, ("run", run.method, *more)):
                kept = (file for file in stage.files if file not in stage.temporary)
                files += [stage.file(file, stage=name, run=name, **where) for file in kept]
    return list(dict.fromkeys(files))


def lost_files(plan: Plan, experiments: Iterable[str]) -> list[str]:
    """Files behind the tables of experiments that are gone: Snakemake asks for them only when it makes a table."""
    made = [name for name in experiments if Path(STAGES["table"].file("cells", experiment=name)).is_file()]
    files = {file for name in made for file in kept_files(plan, name)}
    return sorted(file for file in files if not Path(file).is_file())


def figures_of(plan: Plan, experiment: str) -> list[str]:
    """The figures of an experiment, below the results: of each the one file that the report shows."""
    return [files[0] for files in figure_files(plan, experiment)]


def figure_files(plan: Plan, experiment: str) -> list[list[str]]:
    """The files of each figure of an experiment, below the results, first the one that the report shows.

    Figures whose runs lack their weights are left out.
    """
    figures = []
    for kind in plan.experiments[experiment].figures:
        if plan.drawn(experiment, kind):
            targets = plan.targets[experiment] if FIGURES[kind].draws == "category" else [("", "")]
            for dataset, category in targets:
                where = {"experiment": experiment, "dataset": dataset, "category": category}
                figures.append([pattern.format(**where) for pattern in FIGURES[kind].files.values()])
    return figures


def outputs_of(plan: Plan, experiments: Iterable[str]) -> list[str]:
    """Tables and figures of experiments."""
    table, files = STAGES["table"], []
    for name in (name for name in experiments if name in plan.experiments):
        files += [table.file(file, experiment=name) for file in table.files]
        files += [f"results/{file}" for figure in figure_files(plan, name) for file in figure]
    return files


def labels_of(plan: Plan, experiment: str) -> list[str]:
    """What labels the cells of an experiment's table: its variant and axes."""
    return list(dict.fromkeys(key for cell in plan.cells[experiment] for key in cell.labels))


def submissions_of(plan: Plan, experiment: str) -> list[str]:
    """The files of an experiment's submissions.

    Raises ReconpatchError where its data are not at hand, and for a run that does not see images whole.
    """
    if not plan.at_hand(experiment):
        raise ReconpatchError("; ".join(plan.absent.get(experiment, ["not planned"])), where=experiment)
    runs = [name for name in plan.members(experiment) if name in plan.runs]
    for name in runs:
        if plan.runs[name].aspect == "crop":
            raise ReconpatchError(
                "aspect = crop: a submission has a score for every pixel of an image",
                where=f"{experiment}, run {name}",
                fix="set aspect to stretch, pad or keep",
            )
    stage, targets = STAGES["submission"], plan.targets[experiment]
    return [
        stage.file("part", dataset=dataset, category=category, run=run)
        for (dataset, category), run in itertools.product(targets, runs)
        if LAYOUTS[plan.dataset(dataset).layout].unlabelled
    ]


def table_settings(plan: Plan, experiment: str) -> TableSettings:
    """What a table needs besides records, as plain values: texts, cells and how numbers are treated."""
    chosen = plan.experiments[experiment]
    return {
        "title": chosen.title,
        "caption": chosen.caption,
        "measure": chosen.measure,
        "absent": plan.absent.get(experiment, []),
        "targets": plan.targets[experiment],
        "cells": [
            cast(CellSettings, asdict(cell) | {"remarks": _remarks(plan, cell.run)}) for cell in plan.cells[experiment]
        ],
        "reference": {key: _label(plan, experiment, key, value) for key, value in chosen.reference.items()},
        "view": _view(plan, experiment),
        "oracle": chosen.oracle,
        "metrics": table_metrics(chosen),
        "by_nature": chosen.by_nature,
        "layouts": {dataset: plan.dataset(dataset).layout for dataset, _ in plan.targets[experiment]},
        "resamples": plan.config.resamples,
        "tolerance": plan.config.tolerance,
    }


def _view(plan: Plan, experiment: str) -> ViewSettings:
    """The paper's form of an experiment's table, its values as the cells are labelled."""
    labels = labels_of(plan, experiment)
    view = plan.experiments[experiment].view or View(rows=labels or ["category"])
    where = {key: [_label(plan, experiment, key, value) for value in values] for key, values in view.where.items()}
    return cast(ViewSettings, view.model_dump() | {"where": where})


def _label(plan: Plan, experiment: str, key: str, value: Any) -> Any:
    """A value of an axis as a reference gives it -> as the cells are labelled, with a stand-in's name."""
    if key == "backbone":
        value = plan.config.stand_ins.get(str(value), {}).get("backbone", value)
    labels = (cell.labels[key] for cell in plan.cells[experiment] if key in cell.labels)  # no cell has a kind
    return next((label for label in labels if same(label, value)), value)


def _remarks(plan: Plan, key: str) -> list[str]:
    """What must be known of the embeddings of a run, or of an ensemble's members."""
    members = plan.ensembles[key].members if key in plan.ensembles else (key,)
    runs = [plan.runs[member] for member in members]
    remarks = [embedding_remark(run, plan.channels(run.backbone, run.levels, run.crop)) for run in runs]
    return list(dict.fromkeys(filter(None, remarks)))


def sections(plan: Plan, experiments: Iterable[str]) -> list[Section]:
    """What the report shows of each experiment that can be run."""
    return [
        {
            "name": name,
            "title": plan.experiments[name].title,
            "table": STAGES["table"].files["html"].format(experiment=name),
            "figures": figures_of(plan, name),
        }
        for name in experiments
        if name in plan.experiments and plan.at_hand(name)
    ]


def reasons(absent: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """Experiment -> what it, or a part of it, lacks -> each reason with the experiments it is true of."""
    by_reason: dict[str, list[str]] = {}
    for name, lacking in absent.items():
        for reason in lacking:
            by_reason.setdefault(reason, []).append(name)
    return by_reason
