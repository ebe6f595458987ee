"""Results of the real steps on miniatures of published data sets, in a folder as `real_results` describes it."""

import shutil
import tarfile
from collections.abc import Mapping, Sequence
from contextlib import chdir
from io import StringIO
from pathlib import Path
from typing import Any

import yaml
from process_state import restored
from real_results import file_of, of_stage, real_plan, run_steps
from running import ROOT

from reconpatch.data.miniatures import write_miniature
from reconpatch.experiments.plan import Plan
from reconpatch.experiments.stages import description
from reconpatch.pipeline.job import Job
from reconpatch.pipeline.submission import SubmissionFiles, write_submission

UNPACKED = "unpacked"  # folder beside the archives of a run, as a user may unpack them
# The embedded network, on whole images squeezed to a small square.
SMALL: dict[str, object] = {"backbone": "tf_efficientnet_lite0", "weights": "embedded", "aspect": "stretch", "crop": 64}
SMALL |= {"level_dim": 32, "feature_dim": 32, "dim": 16, "coreset_dim": 8, "coreset": 0.1, "epochs": 2, "batch": 64}
SMALL |= {"projection_dim": 8}


def make_miniature_results(
    folder: Path, categories: Mapping[str, Sequence[str]], experiments: Mapping[str, dict[str, Any]]
) -> Plan:
    """An empty folder, categories of each layout, experiments -> the plan of these on miniatures, all its steps run."""
    shutil.copytree(ROOT / "configs", folder / "configs")
    for layout, names in categories.items():
        write_miniature(layout, folder / "data" / layout, categories=names)
    for name, content in experiments.items():
        changed = {**SMALL, **content.get("set", {})}
        axes = content.get("axes", {})
        small = {key: value for key, value in changed.items() if key not in axes}
        file = {"title": name.capitalize(), "datasets": dict.fromkeys(categories, "all"), **content, "set": small}
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(file, sort_keys=False))
    overlay = {"datasets": {layout: {"root": f"data/{layout}"} for layout in categories}, "device": "cpu"}
    overlay |= {"experiments": {name: f"{name}.yaml" for name in experiments}, "resamples": 100}
    (folder / "overlay.yaml").write_text(yaml.safe_dump(overlay))
    with chdir(folder), restored():
        plan = real_plan(folder, experiments)
        run_steps(plan)
    return plan


def submission_files(plan: Plan, name: str, category: str, dataset: str = "mvtec_ad_2") -> SubmissionFiles:
    """What a submission of a run reads and writes, from where the workflow is called."""
    where, run = {"dataset": dataset, "category": category}, plan.runs[name]
    return SubmissionFiles(
        manifest=file_of("index", "manifest", **where),
        folder=plan.root(dataset) / category,
        weights=None,
        bank=of_stage(run, where, "bank", "bank"),
        record=file_of("score", "record", run=name, **where),
        part=file_of("submission", "part", run=name, **where),
        facts=file_of("submission", "facts", run=name, **where),
    )


def submit(files: SubmissionFiles, run: dict[str, Any], category: str, layout: str = "mvtec_ad_2") -> str:
    """Run the step on these files with these settings, as the workflow's rule does, and unpack what it made -> its
    log.
    """
    log = StringIO()
    with restored():
        write_submission(Job("submission", log, code="abc"), files, run, layout, category, 2, 2, {})  # type: ignore[arg-type]
    with tarfile.open(files.part) as archive:
        archive.extractall(files.part.parent / UNPACKED, filter="data")
    return log.getvalue()


def settings_of(plan: Plan, name: str, **changes: Any) -> dict[str, Any]:
    """The settings of a run as the rules give them, some of them changed."""
    return description(plan.runs[name], "score") | changes
