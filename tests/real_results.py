"""A few small results made by the real steps, once a test run (the fixtures `real_results` and `real_results_copy`).

The folder looks as a user's does after the workflow: `configs/`, `overlay.yaml` and, below `results/`, everything from
the manifests to the tables. Its experiments:

* `tiny`: both methods, two coreset ratios and two seeds on both categories.
* `combined`: PatchCore with two networks and their ensembles, by z-scores and by min-max, on `nut`.
* `augmented`: ReConPatch without augmentation, with augmented test images, and with all images augmented, on `nut`.
* `choices`: the untrained and the trained f with other values of what the paper leaves silent, on `nut`.
* `costs`: two runs of `tiny` on `nut` as a table of costs.

Figures of every kind are planned, but not drawn.
"""

import itertools
import shutil
from collections.abc import Callable, Iterable, Mapping
from contextlib import chdir
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from drawing import write_image, write_mask
from process_state import restored
from running import ROOT, SMALL

from reconpatch.data.index import category_folder
from reconpatch.experiments.outputs import table_settings
from reconpatch.experiments.plan import Plan, load_plan, stage_name
from reconpatch.experiments.run import Run, of_training
from reconpatch.experiments.stages import STAGES, description
from reconpatch.pipeline.coreset import CoresetFiles, select_coreset
from reconpatch.pipeline.ensemble import EnsembleFiles, combine_ensemble
from reconpatch.pipeline.features import FeatureFiles, extract_features
from reconpatch.pipeline.index import index_category
from reconpatch.pipeline.job import Job
from reconpatch.pipeline.masks import MaskFiles, read_masks
from reconpatch.pipeline.score import ScoreFiles, Target, score_run
from reconpatch.pipeline.training import TrainingFiles, train_representation
from reconpatch.pipeline.training_scores import TrainingScoreFiles, score_training
from reconpatch.records.provenance import code_digest
from reconpatch.results.make_table import write_table

DATASET, CATEGORIES = "mine", ("bolt", "nut")
METHODS = ["patchcore", "reconpatch"]
EXPERIMENTS: dict[str, dict[str, Any]] = {
    "tiny": {
        "datasets": {DATASET: "all"},
        "axes": {"method": METHODS, "coreset": [0.5, 0.1], "seed": [0, 1]},
        "reference": {"coreset": 0.5},
        "figures": {
            **{kind: {"coreset": 0.5} for kind in ("qualitative", "gallery", "histogram", "roc", "gains")},
            "sweep": {},
            "ranks": {},
            "effects": {},
        },
    },
    "combined": {
        "axes": {"method": ["patchcore"], "backbone": ["resnet10t", "resnet14t"]},
        "ensemble": {"over": "backbone", "combine": ["zscore", "minmax"]},
    },
    "augmented": {
        "variants": {kind: {"set": {"augment": kind}} for kind in ("none", "test", "both")},
        "axes": {"method": ["reconpatch"]},
        "figures": {kind: {"variant": "none"} for kind in ("umap", "positions", "curve")},
    },
    "choices": {
        "variants": {
            "pca": {"set": {"init": "pca", "bias": False, "sigma_unit": "median", "batches": "image"}},
            "orthogonal": {"set": {"init": "orthogonal", "distance": "squared"}},
        },
        "axes": {"method": ["untrained", "reconpatch"]},
    },
    "costs": {"measure": "cost", "axes": {"method": METHODS}},
}


def make_results(
    folder: Path, experiments: Mapping[str, dict[str, Any]] = EXPERIMENTS, size: tuple[int, int] = (48, 40)
) -> None:
    """An empty folder, what its experiments are, the size of its images -> the folder of this module's docstring."""
    shutil.copytree(ROOT / "configs", folder / "configs")
    _draw_images(folder / "data", size)
    for name, content in experiments.items():
        small = {key: value for key, value in SMALL.items() if key not in content["axes"]}
        file = {"title": name.capitalize(), "datasets": {DATASET: ["nut"]}, "set": small, **content}
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(file))
    overlay = {"datasets": {DATASET: {"layout": "mvtec_ad", "root": "data"}}, "device": "cpu", "resamples": 100}
    overlay |= {"experiments": {name: f"{name}.yaml" for name in experiments}}
    (folder / "overlay.yaml").write_text(yaml.safe_dump(overlay))
    with chdir(folder), restored():
        run_steps(real_plan(folder, experiments))


def real_plan(folder: Path, experiments: Iterable[str] = EXPERIMENTS) -> Plan:
    """The plan of the experiments, as the workflow and `reconpatch verify` load it."""
    with chdir(folder):
        return load_plan([Path("overlay.yaml")], list(experiments))


def run_steps(plan: Plan, threads: int = 1) -> None:
    """Run every step of a plan in this process, as the workflow's rules do, and write `results/` here."""

    def job(stage: str) -> Job:
        code = code_digest(ROOT / f"workflow/scripts/{stage}.py")
        return Job(stage, StringIO(), threads=threads, code=code)

    wanted: dict[tuple[str, str], dict[str, None]] = {}
    for experiment in plan.experiments:
        for target in plan.targets[experiment]:
            wanted.setdefault(target, {}).update(dict.fromkeys(plan.members(experiment)))
    for (dataset, category), names in wanted.items():
        layout, where = plan.dataset(dataset).layout, {"dataset": dataset, "category": category}
        index_category(job("index"), layout, plan.root(dataset), category, file_of("index", "manifest", **where))
        folder = category_folder(layout, plan.root(dataset), category)
        for name in filter(plan.runs.get, names):
            _run(plan, where, folder, name, job)
        for name in filter(plan.ensembles.get, names):
            _ensemble(plan, where, name, job("ensemble"))
    for experiment in plan.experiments:
        write_table(table_settings(plan, experiment), None, Path("results"), experiment)


def file_of(stage: str, file: str, /, **wildcards: str) -> Path:
    """Path of a stage's output, from where the workflow is called."""
    return Path("results") / STAGES[stage].files[file].format(**wildcards)


def of_stage(run: Run, where: Mapping[str, str], stage: str, file: str) -> Path:
    """Path of a file that runs share; the features are those of the test images."""
    side = run if stage in ("features", "masks") else of_training(run)
    return file_of(stage, file, stage=stage_name(side, stage), **where)  # type: ignore[arg-type]


def _run(plan: Plan, where: dict[str, str], folder: Path, name: str, job: Callable[[str], Job]) -> None:
    run = plan.runs[name]
    training, manifest = of_training(run), file_of("index", "manifest", **where)
    masks, defects = (of_stage(run, where, "masks", file) for file in ("masks", "defects"))
    bank = of_stage(run, where, "bank", "bank")
    if not masks.exists():
        read_masks(job("masks"), MaskFiles(manifest, folder, masks, defects), description(run, "masks"))
    for side in (training, run):
        features = {file: of_stage(side, where, "features", file) for file in STAGES["features"].files}
        if not features["facts"].exists():
            files = FeatureFiles(manifest, folder, weights=None, **features)
            extract_features(job("features"), files, description(side, "features"), 8, 8, {})
    train = of_stage(training, where, "features", "train")
    trained = run.method == "reconpatch"
    f, f_facts = (of_stage(run, where, "training", file) if trained else None for file in ("f", "facts"))
    if f is not None and f_facts is not None and not f.exists():
        train_representation(job("training"), TrainingFiles(train, f, f_facts), description(run, "training"), [1])
    if not bank.exists():
        ratio = plan.ratios[where["dataset"], where["category"], stage_name(training, "bank")]
        features, facts = of_stage(training, where, "features", "facts"), of_stage(run, where, "bank", "facts")
        files = CoresetFiles(train, features, f, bank, facts)
        select_coreset(job("bank"), files, description(run, "bank"), ratio)
    score_run(
        job("score"),
        ScoreFiles(
            manifest,
            of_stage(run, where, "features", "test"),
            of_stage(run, where, "features", "validation"),
            masks,
            defects,
            bank,
            of_stage(run, where, "features", "facts"),
            of_stage(run, where, "bank", "facts"),
            f_facts,
            file_of("score", "record", run=name, **where),
            file_of("score", "scores", run=name, **where),
        ),
        description(run, "score"),
        Target(**where, run=name, layout=plan.dataset(where["dataset"]).layout),
    )
    if any(name in ensemble.members for ensemble in plan.ensembles.values()):
        scores = file_of("training_scores", "scores", run=name, **where)
        files = TrainingScoreFiles(train, bank, scores)
        score_training(job("training_scores"), files, description(run, "score"))


def _ensemble(plan: Plan, where: dict[str, str], name: str, job: Job) -> None:
    members, how = plan.ensembles[name].members, plan.ensembles[name].combine

    def files(stage: str, file: str) -> list[Path]:
        return [file_of(stage, file, run=member, **where) for member in members]

    combine_ensemble(
        job,
        EnsembleFiles(
            file_of("index", "manifest", **where),
            of_stage(plan.runs[members[0]], where, "masks", "masks"),
            of_stage(plan.runs[members[0]], where, "masks", "defects"),
            files("score", "record"),
            files("score", "scores"),
            files("training_scores", "scores") if how == "zscore" else [],
            file_of("ensemble", "record", run=name, **where),
            file_of("ensemble", "scores", run=name, **where),
        ),
        how,
        name,
    )


def _draw_images(root: Path, size: tuple[int, int]) -> None:
    """Noise with a bright square where there is a defect: 4 training, 3 good and 3 defective images a category."""
    rng = np.random.default_rng(0)
    for category, n in itertools.product(CATEGORIES, range(4)):
        write_image(root / category / f"train/good/{n:03}.png", rng, size)
    for category, n in itertools.product(CATEGORIES, range(3)):
        write_image(root / category / f"test/good/{n:03}.png", rng, size)
        defect = "bent" if n == 2 else "scratch"
        write_image(root / category / f"test/{defect}/{n:03}.png", rng, size)
        write_mask(root / category / f"ground_truth/{defect}/{n:03}_mask.png", size)
