"""The plan: experiment files -> unique runs on every category, each stage named by what it depends on."""

import itertools
import json
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from reconpatch.data.catalogue import category_counts
from reconpatch.data.layouts import SAMPLE, categories
from reconpatch.errors import ReconpatchError, choose
from reconpatch.experiments.config import (
    Config,
    Dataset,
    Ensemble,
    Experiment,
    Override,
    expand_path,
    load_config,
    read_experiment,
)
from reconpatch.experiments.networks import Networks
from reconpatch.experiments.place import shipped
from reconpatch.experiments.rows import Row, expand, overridden, same
from reconpatch.experiments.run import BASELINE, Channels, Run, digest, fitted, of_training
from reconpatch.experiments.stages import FIGURES, KEYED, STAGES, TRAINING_FEATURES, Read, Stage, description
from reconpatch.experiments.value_types import checked_name, clash

Target = tuple[str, str]  # data set, category


def run_name(run: Run, baseline: Run) -> str:
    """A run -> its difference from the baseline plus a digest of its full description: `coreset=0.1-81d0e4f2`.

    What tables sweep most comes first; what does not fit 60 characters is only counted.
    """
    ours, base = description(run, "score"), description(baseline, "score")
    changed = [k for k in ours if k not in base or base[k] != ours[k]]
    label, first = "", ("method", "dim", "coreset", "seed")
    for n, key in enumerate(sorted(changed, key=lambda k: k not in first)):
        item = f"{key}={_short(ours[key])}"
        if len(label) + len(item) > 60:
            label += f"_+{len(changed) - n}"
            break
        label += f"_{item}"
    return f"{label.removeprefix('_') or 'base'}-{digest(ours)}"


@cache
def stage_name(run: Run, stage: str) -> str:
    """A run -> the name of the features, masks, training or bank it uses; runs that share the stage share the name."""
    label = {"features": run.backbone, "masks": f"{run.crop}", "training": f"dim={run.dim}"}
    return f"{_short(label.get(stage, f'{run.method}_dim={run.dim}'))}-{digest(description(run, stage))}"


@cache
def stage_names(run: Run) -> dict[str, str]:
    """A run -> stage -> the name of that stage's job behind it; with the features of its training images."""
    made = ("run", run.method)
    names = {row.name: stage_name(run, row.name) for row in KEYED if row.made_for in made}
    return names | {TRAINING_FEATURES: stage_name(of_training(run), "features")}


def stages_behind(run: Run, key: str, made_for: Collection[str]) -> Iterator[tuple[Stage, str]]:
    """The stages that are made for some kind of run -> each with the name of its job behind a run of the name `key`."""
    names = stage_names(run)
    for stage in STAGES.values():
        if stage.made_for in made_for:
            yield stage, names.get(stage.name, key)
            if stage.name == "features":
                yield stage, names[TRAINING_FEATURES]


def sources(stage: Stage, run: Run, key: str) -> Iterator[tuple[Read, Stage, str]]:
    """What a stage reads for a run of the name `key` -> each with the stage that makes it and the name of its job.

    PatchCore has no training, and so reads none.
    """
    names = stage_names(run)
    for read in stage.reads:
        maker = STAGES["features" if read.stage == TRAINING_FEATURES else read.stage]
        if maker.made_for != "reconpatch" or run.method == "reconpatch":
            yield read, maker, names.get(read.stage, key)


def _short(value: object) -> str:
    """Without what would be split or expanded on the way to another machine: Snakemake parts jobs' names at commas."""
    text = "+".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
    return re.sub(r"[^A-Za-z0-9._+=]", "_", text)


@dataclass(frozen=True)
class Combination:
    """An ensemble: names of its members' runs and how their scores are brought to one scale."""

    members: tuple[str, ...]
    combine: str


@dataclass(frozen=True)
class TableCell:
    """One cell of a table, before its metrics: its labels, and the name of the run or ensemble that fills it."""

    labels: dict[str, Any]
    method: str
    seed: int
    run: str
    departures: tuple[str, ...]


@dataclass
class Plan:
    """What is to be run. `runs` maps names to runs; an experiment lists its targets and its table's cells."""

    config: Config
    baseline: Run = BASELINE  # that of the configuration, fitted to its network
    channels: Channels = field(default_factory=lambda: Networks().channels)
    experiments: dict[str, Experiment] = field(default_factory=dict)
    runs: dict[str, Run] = field(default_factory=dict)
    ensembles: dict[str, Combination] = field(default_factory=dict)
    targets: dict[str, list[Target]] = field(default_factory=dict)
    cells: dict[str, list[TableCell]] = field(default_factory=dict)
    stages: dict[str, Run] = field(default_factory=dict)  # stage name -> a run that uses it
    # (data set, category, bank) -> largest ratio wanted: smaller ones are its first rows
    ratios: dict[tuple[str, str, str], float] = field(default_factory=dict)
    absent: dict[str, list[str]] = field(default_factory=dict)  # experiment -> why it, or parts of it, cannot be run
    weightless: dict[str, list[str]] = field(default_factory=dict)  # those of `absent` that are files of weights

    def members(self, experiment: str) -> list[str]:
        """Names of the runs and ensembles of an experiment, each once."""
        return list(dict.fromkeys(cell.run for cell in self.cells[experiment]))

    def at_hand(self, experiment: str) -> bool:
        """Whether anything of an experiment can be run."""
        return bool(self.targets[experiment] and self.cells[experiment])

    def drawn(self, experiment: str, kind: str) -> list[str]:
        """Names of the runs a figure draws: those with the chosen variant and axis values, mostly of the first seed."""
        chosen = self.experiments[experiment].figures.get(kind)
        cells = self.cells[experiment]
        if chosen is None or not cells:
            return []
        wanted: dict[str, object] = {} if FIGURES[kind].every_seed else {"seed": cells[0].seed}
        wanted |= chosen
        if "backbone" in wanted:  # cells are labelled with what stands in for it
            stand_in = self.config.stand_ins.get(str(wanted["backbone"]), {})
            wanted["backbone"] = stand_in.get("backbone", wanted["backbone"])
        runs = []
        for cell in cells:
            values = cell.labels | {"method": cell.method, "seed": cell.seed}
            if cell.run in self.runs and all(same(values.get(key), value) for key, value in wanted.items()):
                runs.append(cell.run)
        return list(dict.fromkeys(runs))

    def dataset(self, name: str) -> Dataset:
        """The configuration of a data set."""
        return self.config.datasets[name]

    def root(self, name: str) -> Path:
        """Folder of a data set that is at hand."""
        return expand_path(str(self.dataset(name).root), f"datasets.{name}.root")

    def checkpoints(self, run: Run) -> list[int]:
        """The epochs after which the training of a run keeps f, besides the last."""
        return sorted(self.config.kept_epochs(run.epochs) - {run.epochs})

    def weight_file(self, run: Run) -> Path | None:
        """The file of a run's weights, if it takes them from one; raises ReconpatchError when that is missing."""
        if run.weights != "file":
            return None
        file = self.config.weight_files.get(run.backbone)
        if file is None:
            raise ReconpatchError(f"weights: file, but weight_files has no entry for backbone {run.backbone!r}")
        path = expand_path(file, f"weight_files.{run.backbone}")
        if not path.is_file():
            raise ReconpatchError(f"weight_files.{run.backbone} = {path}: no such file")
        return path

    def rows(self) -> Iterator[dict[str, object]]:
        """One row per experiment, data set, category and run, with all parameters: results/plan.csv."""
        for name, targets in self.targets.items():
            for (dataset, category), run in itertools.product(targets, self.members(name)):
                row: dict[str, object] = {"experiment": name, "dataset": dataset, "category": category, "run": run}
                if run in self.runs:
                    yield row | description(self.runs[run], "score")
                else:
                    yield row | {"ensemble": " + ".join(self.ensembles[run].members)}

    def add(self, run: Run, targets: Sequence[Target]) -> str:
        """Enter a run on some targets with its stages; runs of the same description are one. Returns its name."""
        name = run_name(run, self.baseline)
        if name in self.runs and description(self.runs[name], "score") != description(run, "score"):
            raise ReconpatchError(f"two runs share the name {name}: change one parameter a little")
        self.runs.setdefault(name, run)
        names, of_test = stage_names(run), ("masks", "features")
        self.stages |= {name: run if stage in of_test else of_training(run) for stage, name in names.items()}
        bank = names["bank"]
        for target in targets:
            self.ratios[*target, bank] = max(run.coreset, self.ratios.get((*target, bank), 0))
        return name


def _targets(name: str, experiment: Experiment, config: Config) -> tuple[list[Target], list[str]]:
    """(data set, category) pairs of an experiment that are at hand, and what is not."""
    targets: list[Target] = []
    reasons: list[str] = []
    for dataset, wanted in experiment.datasets.items():
        if dataset not in config.datasets:
            raise ReconpatchError(f"experiment {name}: data set {dataset!r} is not under datasets in the configuration")
        entry = config.datasets[dataset]
        if entry.root is None:
            reasons.append(f"data set {dataset} is not at hand: give its folder as datasets.{dataset}.root")
            continue
        found = _found(dataset, entry)
        known = category_counts(entry.layout)
        published = list(known) if known.keys() & found else []  # a partial copy of a known data set
        chosen = list(dict.fromkeys([*found, *published])) if entry.categories == "all" else entry.categories
        if wanted != "all":
            there = {*known, *found} if entry.categories != "all" else set()
            shut = [c for c in wanted if c not in chosen and c in there]
            reasons += [f"datasets.{dataset}.categories leaves out {', '.join(shut)}"] if shut else []
            chosen = [c for c in wanted if c not in shut]
        missing = [c for c in chosen if c not in found]
        strange = [c for c in missing if c not in known or c in entry.categories]
        if strange:
            raise ReconpatchError(f"category {strange[0]!r} is not in data set {dataset}; it has {', '.join(found)}")
        _named_apart(dataset, entry, [c for c in chosen if c in found])
        if missing:
            reasons.append(f"{dataset} lacks {', '.join(missing)}")
        targets += [(dataset, c) for c in chosen if c in found]
    return targets, reasons


def _named_apart(dataset: str, entry: Dataset, chosen: Sequence[str]) -> None:
    """Raise ReconpatchError for categories whose results would be mixed up, or cannot be written on some systems."""
    where = f"datasets.{dataset}.root = {entry.root}: category"
    try:
        for category in chosen:
            checked_name(category)
    except ValueError as error:
        raise ReconpatchError(f"{where} folder {category!r}: {error}") from None
    if problem := clash(chosen):
        raise ReconpatchError(f"{where} folders {problem}")
    if "mean" in chosen:
        raise ReconpatchError(f"{where} folder 'mean': tables call the mean over categories so; rename the folder")


def _found(dataset: str, entry: Dataset) -> list[str]:
    """Names of the categories a data set has."""
    if entry.layout == "sample":
        return list(SAMPLE)
    key = f"datasets.{dataset}.root"
    root = expand_path(str(entry.root), key)
    try:
        return categories(entry.layout, root)
    except (ReconpatchError, OSError) as error:
        raise ReconpatchError(f"{key}: {error}") from None


def make_plan(config: Config, only: Collection[str] = (), networks: Networks | None = None) -> Plan:
    """Config -> Plan of all its experiments, or of those named alone. What lacks its data or its weights' file is named
    in `absent`, the rest is planned. `networks` is asked for channels where a width follows from them.

    Raises ReconpatchError for anything wrong in an experiment or data root, and for a network that does not exist.
    """
    channels = (networks or Networks()).channels
    plan = Plan(config, fitted(config.baseline, channels, "baseline"), channels)
    stray = sorted({*config.overrides} - {*config.experiments})
    if stray:
        fix = choose(stray[0], config.experiments)
        raise ReconpatchError("no such experiment", where=f"overrides.{stray[0]}", fix=fix)
    used: set[str] = {*config.stand_ins}
    for name, file in config.experiments.items():
        if only and name not in only:
            continue
        experiment = overridden(read_experiment(shipped(file)), config.overrides.get(name, Override()))
        plan.experiments[name], plan.cells[name] = experiment, []
        rows, out = expand(name, experiment, config, channels)
        used |= {row.run.backbone for row in rows}
        plan.targets[name], reasons = _targets(name, experiment, config)
        lacking = {} if not plan.targets[name] else dict(_weightless(plan, rows))
        if lacking:
            plan.weightless[name] = list(dict.fromkeys(lacking.values()))
        if reasons := [*reasons, *plan.weightless.get(name, []), *out]:
            plan.absent[name] = reasons
        for row in rows if plan.targets[name] else []:
            if (row.run.backbone, row.run.weights) not in lacking:
                key = plan.add(row.run, plan.targets[name])
                plan.cells[name].append(TableCell(row.labels, row.run.method, row.run.seed, key, row.departures))
        if experiment.ensemble:
            plan.cells[name] += _combined(plan, name, experiment.ensemble)
    _check_table_names(plan)
    unused = sorted({*config.weight_digests} - used)
    if unused and not only:  # misspelt, it would be a pin that holds nothing
        raise ReconpatchError(f"weight_digests.{unused[0]}: no experiment uses it; they use {', '.join(sorted(used))}")
    return plan


def _check_table_names(plan: Plan) -> None:
    """Raise ReconpatchError where tables of two experiments would have a file of the same name."""
    table, owners = STAGES["table"], dict[str, str]()
    for name in plan.experiments:
        for path in (table.file(file, experiment=name) for file in table.files):
            if path in owners:
                raise ReconpatchError(
                    f"{owners[path]} and {name} would both write {path}", where="experiments", fix="rename one"
                )
            owners[path] = name


def _weightless(plan: Plan, rows: list[Row]) -> Iterator[tuple[tuple[str, str], str]]:
    """Backbones and kinds of weights whose file is missing, with the reason."""
    for row in rows:
        try:
            plan.weight_file(row.run)
        except ReconpatchError as error:
            yield (row.run.backbone, row.run.weights), str(error)


def _combined(plan: Plan, name: str, ensemble: Ensemble) -> list[TableCell]:
    """The cells of the ensembles: one for every group of runs that differ only in the axis combined over.

    A group that lacks a member, because its weights or its epoch are missing, is left out: it would be another
    ensemble.
    """
    groups: dict[str, list[TableCell]] = {}
    for cell in plan.cells[name]:
        rest = cell.labels | {ensemble.over: None, "method": cell.method, "seed": cell.seed}
        groups.setdefault(json.dumps(rest), []).append(cell)
    size = len(plan.experiments[name].axes[ensemble.over])
    whole = [members for members in groups.values() if len(members) >= size]
    cells = []
    for members, combine in itertools.product(whole, ensemble.combine):
        combination = Combination(tuple(m.run for m in members), combine)
        if len(set(combination.members)) < len(combination.members):
            raise ReconpatchError(
                f"experiment {name}: two members of an ensemble are the same run {combination.members[0]}; "
                f"do two values of {ensemble.over} have the same stand-in?"
            )
        first = members[0]
        key = f"{first.method}_ensemble={combine}_seed={first.seed}-{digest([combination.members, combine])}"
        plan.ensembles[key] = combination
        label = "ensemble" if combine == ensemble.combine[0] else f"ensemble, {combine}"
        departures = tuple(dict.fromkeys(d for m in members for d in m.departures))
        cells.append(TableCell(first.labels | {ensemble.over: label}, first.method, first.seed, key, departures))
    return cells


def load_plan(files: Sequence[Path], experiments: Sequence[str] = (), networks: Networks | None = None) -> Plan:
    """Default configuration and overlays -> Plan of all experiments, or of those named, as `make_plan` makes it; raises
    ReconpatchError naming what is wrong.
    """
    config = load_config(files)
    if strange := [name for name in experiments if name not in config.experiments]:
        raise ReconpatchError("no such experiment", where=strange[0], fix=choose(strange[0], config.experiments))
    return make_plan(config, experiments, networks)
