"""The commands of the replication: plan, check, download, compare, verify and schemas."""

import argparse
import json
import os
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from reconpatch.data.images import view
from reconpatch.data.index import index
from reconpatch.data.layouts import Item
from reconpatch.data.manifest import frame_shape
from reconpatch.data.published import data_flags
from reconpatch.data.remarks import enlarged_remarks
from reconpatch.errors import ReconpatchError, quote
from reconpatch.experiments.checks import check_backbones, embedding_remarks, gpu_wanted, stray_weights
from reconpatch.experiments.costs import GPU_SPEED, Network
from reconpatch.experiments.generated import generated_files
from reconpatch.experiments.networks import Networks
from reconpatch.experiments.outputs import reasons
from reconpatch.experiments.place import SCRIPTS, SUITE
from reconpatch.experiments.plan import Plan, Target, load_plan
from reconpatch.experiments.resources import Estimate, check_fits, estimate
from reconpatch.files import write_text
from reconpatch.runtime import machine_mb

CHECKED = Path(".snakemake/reconpatch/backbones.json")
RESULTS = Path("results")
SHIPPED = SUITE / "workflow/backbones.json"


def show_plan(given: argparse.Namespace) -> None:
    """`reconpatch plan`: print what would run and what it is predicted to need."""
    networks = Networks(CHECKED, SHIPPED)
    plan = load_plan(given.configfile, given.experiments, networks)
    show(plan, check_backbones(plan, networks))


def check_inputs(given: argparse.Namespace) -> None:
    """`reconpatch check`: raise one ReconpatchError with every problem of data sets, weights and networks."""
    networks = Networks(CHECKED, SHIPPED)
    plan = load_plan(given.configfile, given.experiments, networks)
    if problems := check(plan, networks):
        raise ReconpatchError("\n".join(problems))
    print(f"here {devices_used(plan.config.device)}")
    print("no problems found")


def download_dataset(given: argparse.Namespace) -> None:
    """`reconpatch download`: show where a data set is from and its licence, ask, download it, say how to use it."""
    from reconpatch.data.download import describe, download

    print(describe(given.name, given.folder))
    if not given.yes:
        if not sys.stdin.isatty():
            raise ReconpatchError("nothing downloaded", fix="read the licence above and call again with --yes")
        if input("Download it under this licence? [y/N] ").strip().lower() not in ("y", "yes"):
            raise ReconpatchError("nothing downloaded")
    root = download(given.name, given.folder, report=lambda line: print(line, flush=True))
    print("downloaded; write this into a file of your own and give the file with --configfile:")
    print(f"datasets:\n  {given.name}: {{root: {json.dumps(str(root))}}}")


def compare_records(given: argparse.Namespace) -> int:
    """`reconpatch compare`: say field by field why two records differ -> exit status, 1 if their metrics differ."""
    from reconpatch.records.compare import explain

    lines, same = explain(*given.records)
    print("\n".join(lines))
    return int(not same)


def verify_results(given: argparse.Namespace) -> None:
    """`reconpatch verify`: print for every record and table whether it follows from the saved files.

    Raises ReconpatchError if one does not.
    """
    from threadpoolctl import threadpool_limits

    from reconpatch.cli.verify_tables import check_table
    from reconpatch.experiments.outputs import result_folder
    from reconpatch.records.provenance import stage_codes
    from reconpatch.records.verify import verify

    plan = load_plan(given.configfile, networks=Networks(CHECKED, SHIPPED))
    planned = {
        result_folder(plan, run, *target)
        for name, targets in plan.targets.items()
        for target in targets
        for run in plan.members(name)
    }
    with threadpool_limits(1):  # as the jobs that computed the scores: other numbers of threads round differently
        problems = verify(
            given.results,
            lambda line: print(line, flush=True),
            codes=stage_codes(SCRIPTS),
            planned=planned,
            check_table=check_table,
        )
    if problems:
        raise ReconpatchError(
            f"{len(problems)} of them differ or cannot be checked", fix="remove what differs and run again"
        )


def write_generated(given: argparse.Namespace) -> None:
    """`reconpatch schemas`: write the files that follow from the code; with --check raise ReconpatchError that names
    the ones that are out of date.
    """
    files = generated_files()
    if not given.check:
        for file, text in files.items():
            write_text(file, text)
        return write_backbones(SHIPPED)
    stale = [str(file) for file, text in files.items() if not file.is_file() or file.read_text("utf-8") != text]
    stale += [] if knows_backbones(SHIPPED) else [str(SHIPPED)]
    if stale:
        raise ReconpatchError("does not follow from the code", where=", ".join(stale), fix="run `reconpatch schemas`")


def show(plan: Plan, networks: Mapping[str, Network]) -> None:
    """Print every experiment with its categories and runs, what is left out, and predicted disk, memory and time."""
    for name, experiment in plan.experiments.items():
        if not plan.at_hand(name):
            continue
        targets = ", ".join(f"{dataset}/{category}" for dataset, category in plan.targets[name])
        print(f"{name}: {experiment.title}\n  {len(plan.members(name))} runs on each of {targets}")
        print("".join(f"    {run}\n" for run in plan.members(name)), end="")
    for why, names in reasons(plan.absent).items():
        print(f"left out: {why} ({', '.join(names)})")
    if not plan.runs:
        return
    needs = estimate(plan, networks)
    kept = needs.features_gb <= plan.config.features_gb
    fate = "kept" if kept else f"above features_gb = {plan.config.features_gb:g}, so each set is deleted after its use"
    print(f"{len(plan.runs)} different runs and {len(plan.ensembles)} ensembles in all")
    print(f"predicted disk of features: {needs.features_gb:.1f} GB, largest set {needs.largest_gb:.1f} GB; {fate}")
    limit = 1000 * plan.config.memory_gb if plan.config.memory_gb else machine_mb()
    print(f"predicted memory of the largest job of every rule; jobs at once share {limit / 1000:.1f} GB:")
    for rule, (count, job) in needs.largest().items():
        print(f"  {rule}, {count} times: at most {needs.mb(job) / 1000:.1f} GB ({job.about})")
    show_times(needs)
    if plan.config.device == "cuda" or gpu_wanted(plan.config.device):
        on_gpus = needs.on_gpus(plan.config)
        print(f"with GPUs, if one does the work of {GPU_SPEED:g} cores, which was assumed and not measured:")
        for rule, (seconds, mb) in on_gpus.items():
            print(f"  {rule}: GPUs held for {_time(seconds)}, arrays of the largest job {mb / 1000:.1f} GB there")
        print(f"in all {_time(sum(seconds for seconds, _ in on_gpus.values()))}")
    try:
        check_fits({job: need.memory for job, need in needs.jobs.items()}, limit)
    except ReconpatchError as error:
        print(f"too large for this machine: {error}")


def show_times(needs: Estimate) -> None:
    """Print the predicted work of every rule with its longest job, and how long all of it takes here."""
    longest, cores = needs.longest(), os.cpu_count() or 1
    print("predicted work without a GPU, from rates of one machine (docs/scaling.md); another may take half or twice:")
    for rule, (total, job) in longest.items():
        print(f"  {rule}: {_time(total)} of one core, longest job {_time(needs.seconds(job))} ({job.about})")
    total, wall = sum(seconds for seconds, _ in longest.values()), needs.least_wall(cores)
    print(f"in all {_time(total)} of one core; on {cores} cores {_time(wall)} to {_time(1.5 * wall)}")


def _time(seconds: float) -> str:
    """Seconds -> text in the unit that suits their size."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 3600 else f"{seconds / 3600:.1f} h"


def devices_used(device: str) -> str:
    """auto, cpu or cuda -> what computes here, as a sentence without its place."""
    import torch

    from reconpatch.method.search import choose_engine

    network = torch.cuda.get_device_name() if device != "cpu" and torch.cuda.is_available() else "the CPU"
    if device == "cuda" and network == "the CPU":
        return "is no GPU, which device: cuda asks for; jobs must run elsewhere"
    return f"network and training run on {network}, and the memory bank is searched by {choose_engine(device)}"


def check(plan: Plan, networks: Networks) -> list[str]:
    """Every problem of the plan's data and backbones, as messages."""
    problems = []
    try:
        found = check_backbones(plan, networks)
    except ReconpatchError as error:
        problems.append(str(error))
    else:
        print("".join(f"remark: {remark}\n" for remark in embedding_remarks(plan, found)), end="")
        problems += check_weights(plan) + stray_weights(plan, RESULTS)
    lacking = reasons(plan.weightless)
    problems += [f"{why} ({', '.join(names)})" for why, names in lacking.items()]
    for why, names in reasons(plan.absent).items():
        if why not in lacking:
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
            kinds = (
                ", ".join(f"{quote(k)} {n}" for k, n in Counter(i.defect for i in items if i.label).items()) or "none"
            )
            print(f"{dataset}/{category}: {counts}, {masks} masks; defects: {kinds}; all readable")
            remarks = [
                *map(str, data_flags(layout, category, items)),
                *small_images(plan, (dataset, category), items),
                *undrawable({i.defect for i in items}),
            ]
            print("".join(f"  remark: {remark}\n" for remark in remarks), end="")
        except ReconpatchError as error:
            problems.append(str(error))
    return problems


def small_images(plan: Plan, target: Target, items: Sequence[Item]) -> list[str]:
    """Plan, a category and its images -> a remark on those that the run which enlarges them most enlarges far.

    Raises ReconpatchError for a run that cannot see all of them in one shape.
    """
    members = {name for experiment, on in plan.targets.items() if target in on for name in plan.members(experiment)}
    ways = {(run.crop, run.resize, run.aspect) for name, run in plan.runs.items() if name in members}
    for crop, _, aspect in ways:
        frame_shape(items, {"crop": crop, "aspect": aspect})
    factors = [
        max((view(i.width, i.height, size=c, resize=r, aspect=a).enlargement() for c, r, a in ways), default=0.0)
        for i in items
    ]
    return list(enlarged_remarks([i.path for i in items], factors))


def undrawable(names: Iterable[str]) -> list[str]:
    """Names of defects -> a remark on each that figures show in another form, as no font has all its characters."""
    foreign = sorted(name for name in names if not name.isascii())
    if not foreign:
        return []
    from reconpatch.results.figures.fonts import drawable  # imports matplotlib

    shown = {name: " ".join(drawable(name).split("\n")) for name in foreign}
    return [
        f"figures show {quote(name)} as {text}, because no installed font has its characters; install one that has, "
        "for example from the Noto family"
        for name, text in shown.items()
        if text != name
    ]


def write_backbones(file: Path) -> None:
    """Ask timm about every network of the default plan, and write its answers for later checks."""
    draft = file.with_suffix(".draft")
    draft.unlink(missing_ok=True)
    _plan_and_check(Networks(draft))
    draft.replace(file)


def knows_backbones(file: Path) -> bool:
    """Whether a file answers all that would be asked of timm for the default plan."""
    with tempfile.TemporaryDirectory() as folder:
        asked = Path(folder) / "asked.json"
        _plan_and_check(Networks(asked, file))
        return not asked.exists()


def _plan_and_check(networks: Networks) -> None:
    check_backbones(load_plan([], networks=networks), networks)


def check_weights(plan: Plan) -> list[str]:
    """Every problem of the weights that are at hand; pretrained ones are downloaded when first used."""
    from reconpatch.method.backbones import load_backbone

    problems = []
    used = {(run.backbone, run.weights, run.levels): run for run in plan.runs.values()}
    for (name, weights, levels), run in sorted(used.items(), key=lambda item: item[0]):
        if weights == "pretrained":
            print(f"{name}: pretrained weights, downloaded by the first run that needs them")
            continue
        pinned = plan.config.weight_digests.get(name, ())
        try:
            loaded = load_backbone(name, levels, weights, plan.weight_file(run), seed=run.seed, pinned=pinned)
            digest = loaded.weights["sha256"]
            print(f"{name}, levels {levels}: {weights} weights fit; SHA-256 {digest}{', as pinned' if pinned else ''}")
        except ReconpatchError as error:
            problems.append(str(error))
    return problems
