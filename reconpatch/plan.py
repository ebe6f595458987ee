"""The plan: experiment files -> unique runs on every category, each stage named by what it depends on."""

import importlib.metadata
import itertools
import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from reconpatch.config import Config, Dataset, Experiment, Run, description, digest, expand, read_experiment, vary
from reconpatch.data import categories
from reconpatch.errors import ReconpatchError
from reconpatch.files import write_text

PAPER = "configs/paper/baseline.yaml"  # the paper's settings, apart from the baseline that users edit
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
            label += f",+{len(changed) - n}"
            break
        label += f",{item}"
    return f"{label.strip(',') or 'base'}-{digest(ours)}"


def stage_name(run: Run, stage: str) -> str:
    """A run -> the name of the features, training or bank it uses; runs that share the stage share the name."""
    label = {"features": run.backbone, "training": f"dim={run.dim}", "bank": f"{run.method},dim={run.dim}"}[stage]
    return f"{_short(label)}-{digest(description(run, stage))}"  # type: ignore[arg-type]


def _short(value: object) -> str:
    text = "+".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
    return re.sub(r"[^A-Za-z0-9._+=,]", "_", text)


@dataclass
class Plan:
    """What is to be run. `runs` maps names to runs; an experiment lists its targets and run names."""

    config: Config
    experiments: dict[str, Experiment] = field(default_factory=dict)
    runs: dict[str, Run] = field(default_factory=dict)
    targets: dict[str, list[Target]] = field(default_factory=dict)
    members: dict[str, list[str]] = field(default_factory=dict)
    stages: dict[str, Run] = field(default_factory=dict)  # stage name -> a run that uses it
    ratios: dict[str, float] = field(default_factory=dict)  # bank -> largest ratio wanted: smaller are its first rows
    absent: dict[str, str] = field(default_factory=dict)  # experiment -> why it cannot be run

    def drawn(self, experiment: str) -> list[str]:
        """Names of the runs whose figures an experiment draws: those with the chosen axis values, first seed only."""
        chosen = self.experiments[experiment].figures
        if chosen is None:
            return []
        runs = [name for name in self.members[experiment] if self._has(self.runs[name], chosen)]
        seeds = [self.runs[name].seed for name in runs]
        return [name for name, seed in zip(runs, seeds, strict=True) if seed == seeds[0]]

    @staticmethod
    def _has(run: Run, values: dict[str, object]) -> bool:
        fields = run.model_dump(mode="json")
        return all(fields[k] == v for k, v in values.items())

    def differences(self, experiment: str) -> list[str]:
        """`key = value (paper ...)` for what the runs of an experiment share and the paper does otherwise."""
        chosen = self.experiments[experiment]
        paper = yaml.safe_load(Path(PAPER).read_text()) | chosen.paper
        runs = [self.runs[name].model_dump(mode="json") for name in self.members[experiment]]
        varied = {*chosen.axes, "seed", "method"}
        shared = {k: v for k, v in runs[0].items() if k not in varied} if runs else {}
        return [f"{k} = {v} (paper {paper[k]})" for k, v in shared.items() if k in paper and v != paper[k]]

    def dataset(self, name: str) -> Dataset:
        """The configuration of a data set."""
        return self.config.datasets[name]

    def root(self, name: str) -> Path:
        """Folder of a data set that is at hand."""
        return expand(str(self.dataset(name).root), f"datasets.{name}.root")

    def weight_file(self, run: Run) -> Path | None:
        """The file of a run's weights, if it takes them from one; raises ReconpatchError when that is missing."""
        if run.weights != "file":
            return None
        file = self.config.weight_files.get(run.backbone)
        if file is None:
            raise ReconpatchError(f"weights: file, but weight_files has no entry for backbone {run.backbone!r}")
        path = expand(file, f"weight_files.{run.backbone}")
        if not path.is_file():
            raise ReconpatchError(f"weight_files.{run.backbone} = {path}: no such file")
        return path

    def rows(self) -> Iterator[dict[str, object]]:
        """One row per experiment, data set, category and run, with all parameters: results/plan.csv."""
        for name, targets in self.targets.items():
            for (dataset, category), run in itertools.product(targets, self.members[name]):
                yield {"experiment": name, "dataset": dataset, "category": category, "run": run} | description(
                    self.runs[run], "score"
                )


def expand_experiment(name: str, experiment: Experiment, config: Config) -> list[Run]:
    """Experiment -> its runs: overrides, then every combination of the axes, seeds among them, first axis slowest."""
    where = f"experiment {name}"
    axes = {"seed": list(config.seeds)} | experiment.axes
    unknown = [k for k in (*axes, *experiment.set) if k not in Run.model_fields]
    if unknown:
        raise ReconpatchError(
            f"{where}: {unknown[0]!r} is no parameter of a run; there are {', '.join(Run.model_fields)}"
        )
    stray = [k for k in experiment.figures or {} if k not in experiment.axes]
    if stray:
        raise ReconpatchError(f"{where}: figures: {stray[0]!r} is no axis; choose from {', '.join(experiment.axes)}")
    for key, value in (experiment.figures or {}).items():
        if value not in experiment.axes[key]:
            raise ReconpatchError(f"{where}: figures: {key} = {value!r} is not among its axis {experiment.axes[key]}")
    clash = sorted(set(experiment.set) & set(experiment.axes))
    if clash:
        raise ReconpatchError(f"{where}: {clash[0]!r} is both set and an axis")
    order = [k for k in axes if k != "seed"] + ["seed"]
    combinations = itertools.product(*(axes[k] for k in order))
    return [vary(config.baseline, experiment.set | dict(zip(order, c, strict=True)), where) for c in combinations]


def _targets(name: str, experiment: Experiment, config: Config) -> tuple[list[Target], str | None]:
    """(data set, category) pairs of an experiment, or why there are none."""
    targets: list[Target] = []
    for dataset, wanted in experiment.datasets.items():
        if dataset not in config.datasets:
            raise ReconpatchError(f"experiment {name}: data set {dataset!r} is not under datasets in the configuration")
        entry = config.datasets[dataset]
        if entry.root is None:
            return [], f"data set {dataset} is not at hand: give its folder as datasets.{dataset}.root"
        if entry.layout == "sample":
            from reconpatch.sample import CATEGORIES

            found = list(CATEGORIES)
        else:
            key = f"datasets.{dataset}.root"
            try:
                found = categories(entry.layout, expand(entry.root, key))
            except ReconpatchError as error:
                raise ReconpatchError(f"{key}: {error}") from None
        chosen = found if entry.categories == "all" else entry.categories
        chosen = chosen if wanted == "all" else wanted
        missing = [c for c in chosen if c not in found]
        if missing:
            raise ReconpatchError(f"category {missing[0]!r} is not in data set {dataset}; it has {', '.join(found)}")
        targets += [(dataset, c) for c in chosen]
    return targets, None


def make_plan(config: Config) -> Plan:
    """Config -> Plan. Experiments whose data are not at hand are listed in `absent`.

    Raises ReconpatchError for anything wrong in an experiment, data root or weights file. Backbones are not opened.
    """
    plan = Plan(config)
    for name, file in config.experiments.items():
        experiment = plan.experiments[name] = read_experiment(Path(file))
        runs = expand_experiment(name, experiment, config)
        targets, why = _targets(name, experiment, config)
        plan.targets[name], plan.members[name] = targets, []
        if why is not None:
            plan.absent[name] = why
            continue
        for run in runs:
            key = run_name(run, config.baseline)
            if key in plan.runs and description(plan.runs[key], "score") != description(run, "score"):
                raise ReconpatchError(f"two runs share the name {key}: change one parameter a little")
            plan.runs.setdefault(key, run)
            if key not in plan.members[name]:
                plan.members[name].append(key)
            stages = ("features", "bank") if run.method == "patchcore" else ("features", "training", "bank")
            plan.stages |= {stage_name(run, stage): run for stage in stages}
            bank = stage_name(run, "bank")
            plan.ratios[bank] = max(run.coreset, plan.ratios.get(bank, 0))
            plan.weight_file(run)
    return plan


def check_backbones(plan: Plan, cache: Path) -> None:
    """Raise ReconpatchError unless every backbone of the plan exists and has the levels wanted.

    Asking timm costs seconds, so what it says is kept in `cache` for the next call.
    """
    version = importlib.metadata.version("timm")
    known = json.loads(cache.read_text()) if cache.is_file() else {}
    for name, run in plan.runs.items():
        key = f"{run.backbone} {run.levels} {run.weights} timm {version}"
        if key not in known:
            from reconpatch.backbones import check_levels, check_weights

            try:
                check_levels(run.backbone, run.levels)
                check_weights(run.backbone, run.weights)
            except ReconpatchError as error:
                users = [e for e, members in plan.members.items() if name in members]
                raise ReconpatchError(f"experiment {', '.join(users)}: {error}") from None
            known[key] = True
            cache.parent.mkdir(parents=True, exist_ok=True)
            write_text(cache, json.dumps(known, indent=1))


def gpu_present(device: str) -> bool:
    """Whether jobs should ask for a GPU: one is wanted and its driver is there. Asks no library: those cost seconds.

    Raises ReconpatchError when device is cuda and there is no driver.
    """
    present = shutil.which("nvidia-smi") is not None
    if device == "cuda" and not present:
        raise ReconpatchError("device: cuda, but no NVIDIA driver is installed here; set device: auto or cpu")
    return device != "cpu" and present
