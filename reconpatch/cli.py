"""The `reconpatch` command.

plan: what would run. check: whether data and backbones are sound. schemas: rewrite workflow/schemas/ and
workflow/backbones.json, what timm says of the networks of the smoke run.
"""

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

import yaml

from reconpatch.assemble import reasons
from reconpatch.checks import check_backbones
from reconpatch.config import Config, Experiment, read_config
from reconpatch.errors import ReconpatchError
from reconpatch.estimate import estimate
from reconpatch.files import write_text
from reconpatch.indexing import index
from reconpatch.limits import check_fits, machine_mb
from reconpatch.plan import Plan, make_plan

DEFAULT = Path("configs/default.yaml")
CHECKED = Path(".snakemake/reconpatch/backbones.json")
SCHEMAS = Path("workflow/schemas")
SHIPPED = Path("workflow/backbones.json")


def merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """Two configurations -> one, the second winning key by key at every depth, as Snakemake merges them."""
    merged = dict(base)
    for key, value in over.items():
        both = isinstance(merged.get(key), dict) and isinstance(value, dict)
        merged[key] = merge(merged[key], value) if both else value
    return merged


def load_plan(files: list[Path]) -> Plan:
    """Default configuration and overlays -> Plan; raises ReconpatchError naming what is wrong."""
    content: dict[str, Any] = {}
    for file in [DEFAULT, *files]:
        try:
            content = merge(content, yaml.safe_load(file.read_text()) or {})
        except FileNotFoundError:
            raise ReconpatchError(f"{file}: no such file; call this from the root of the repository") from None
        except yaml.YAMLError as error:
            raise ReconpatchError(f"{file}: not valid YAML ({error})") from None
    return make_plan(read_config(content))


def show(plan: Plan) -> None:
    """Print every experiment with its categories and runs, and what is not at hand."""
    for name, experiment in plan.experiments.items():
        if not plan.at_hand(name):
            continue
        targets = ", ".join(f"{dataset}/{category}" for dataset, category in plan.targets[name])
        print(f"{name}: {experiment.title}\n  {len(plan.members(name))} runs on each of {targets}")
        print("".join(f"    {run}\n" for run in plan.members(name)), end="")
    for why, names in reasons(plan.absent).items():
        print(f"left out: {why} ({', '.join(names)})")
    needs = estimate(plan)
    kept = needs.features_gb <= plan.config.features_gb
    fate = (
        "kept" if kept else f"above features_gb = {plan.config.features_gb:g}, so deleted once used: about a set a core"
    )
    print(f"{len(plan.runs)} different runs and {len(plan.ensembles)} ensembles in all")
    print(f"predicted disk of features: {needs.features_gb:.1f} GB, largest set {needs.largest_gb:.1f} GB; {fate}")
    limit = 1000 * plan.config.memory_gb if plan.config.memory_gb else machine_mb()
    print(f"predicted memory of the largest job of every rule; jobs at once share {limit / 1000:.1f} GB:")
    for rule, count, job, need in needs.by_rule():
        print(f"  {rule}, {count} times: at most {need.mb / 1000:.1f} GB ({'/'.join(filter(None, job[1:]))})")
    try:
        check_fits(needs.jobs, limit)
    except ReconpatchError as error:
        print(f"too large for this machine: {error}")


def check(plan: Plan) -> list[str]:
    """Every problem of the plan's data and backbones, as messages."""
    problems = []
    try:
        check_backbones(plan, CHECKED, SHIPPED)
    except ReconpatchError as error:
        problems.append(str(error))
    else:
        problems += check_weights(plan)
    for why, names in reasons(plan.absent).items():
        print(f"left out: {why} ({', '.join(names)})")
    for dataset, category in sorted({target for targets in plan.targets.values() for target in targets}):
        layout = plan.dataset(dataset).layout
        if layout == "sample":
            continue  # drawn by the workflow itself
        try:
            items = index(layout, plan.root(dataset), category, os.cpu_count() or 1)
            test = [i.label for i in items if i.split == "test"]
            masks = sum(i.mask is not None for i in items)
            counts = f"{len(items) - len(test)} training, {test.count(0)} normal and {sum(test)} anomalous test images"
            print(f"{dataset}/{category}: {counts}, {masks} masks; all readable")
        except ReconpatchError as error:
            problems.append(str(error))
    return problems


def write_schemas(folder: Path) -> None:
    """Write the JSON schemas of the configuration and of experiment files, for editors."""
    for model in (Config, Experiment):
        text = json.dumps(model.model_json_schema(), indent=1) + "\n"
        write_text(folder / f"{model.__name__.lower()}.schema.json", text)


def write_backbones(file: Path) -> None:
    """Ask timm about every network that runs without data being given, and write its answers for later checks."""
    draft = file.with_suffix(".draft")
    draft.unlink(missing_ok=True)
    check_backbones(load_plan([]), draft)
    draft.replace(file)


def check_weights(plan: Plan) -> list[str]:
    """Every problem of the weights that are at hand; pretrained ones are downloaded when first used."""
    from reconpatch.backbones import load_backbone

    problems = []
    used = {(run.backbone, run.weights, run.levels): run for run in plan.runs.values()}
    for (name, weights, levels), run in sorted(used.items(), key=lambda item: item[0]):
        if weights == "pretrained":
            print(f"{name}: pretrained weights, downloaded by the first run that needs them")
            continue
        try:
            load_backbone(name, levels, weights, plan.weight_file(run), seed=run.seed)
            print(f"{name}: {weights} weights fit")
        except ReconpatchError as error:
            problems.append(str(error))
    return problems


def main() -> None:
    """Entry point of the `reconpatch` command."""
    parser = argparse.ArgumentParser(prog="reconpatch", description=__doc__)
    parser.add_argument("command", choices=["plan", "check", "schemas"])
    parser.add_argument("--configfile", type=Path, action="append", default=[], help="overlay on configs/default.yaml")
    arguments = parser.parse_args()
    try:
        if arguments.command == "schemas":
            write_schemas(SCHEMAS)
            return write_backbones(SHIPPED)
        plan = load_plan(arguments.configfile)
        if arguments.command == "plan":
            check_backbones(plan, CHECKED, SHIPPED)
            show(plan)
        elif problems := check(plan):
            raise ReconpatchError("\n".join(problems))
        else:
            print("no problems found")
    except ReconpatchError as error:
        sys.exit(f"error: {error}")
