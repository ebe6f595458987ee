"""Checks before any job: backbones exist and have the levels wanted, runs fit their data, features were made with the
weights that are pinned, and a GPU is there if one is asked for.
"""

import json
import shutil
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from functools import cache
from pathlib import Path

from reconpatch.data.layouts import category_folder, count_images
from reconpatch.errors import ReconpatchError
from reconpatch.experiments.costs import Network
from reconpatch.experiments.networks import Networks
from reconpatch.experiments.plan import Plan
from reconpatch.experiments.run import embedding_remark
from reconpatch.method.embedded import check_weights


def check_backbones(plan: Plan, networks: Networks) -> dict[str, Network]:
    """Plan, what timm says of networks -> the network of each run, by the name of the run.

    Raises ReconpatchError unless every backbone of the plan exists, has the levels and weights wanted and takes images
    of the size wanted, and every run fits its patch grid and its data.
    """
    found: dict[str, Network] = {}
    for name, run in plan.runs.items():
        try:
            check_weights(run.backbone, run.weights)
            found[name] = networks(run.backbone, run.levels, run.crop)
        except ReconpatchError as error:
            raise ReconpatchError(str(error), where=_users(plan, name)) from None
    check_sizes(plan, {name: network.grid for name, network in found.items()})
    return found


def embedding_remarks(plan: Plan, networks: Mapping[str, Network]) -> list[str]:
    """Plan, network of each run -> a remark on every embedding that does not fit its network."""
    remarks = []
    for name, run in plan.runs.items():
        if remark := embedding_remark(run, networks[name].channels):
            remarks.append(f"{run.backbone}, levels {', '.join(map(str, run.levels))}: {remark}")
    return list(dict.fromkeys(remarks))


def _users(plan: Plan, name: str) -> str:
    return f"experiment {', '.join(e for e in plan.cells if name in plan.members(e))}"


def check_sizes(plan: Plan, sides: Mapping[str, int]) -> None:
    """Plan, patches along a side of each run -> ReconpatchError where a run asks for more than its images can give.

    Training images are counted, not opened. The jobs check the embedded sample and categories without images.
    """

    @cache
    def images(dataset: str, category: str) -> int:
        data = plan.dataset(dataset)
        if data.layout == "sample":
            return 0
        try:
            return count_images(data.layout, category_folder(data.layout, plan.root(dataset), category))[0]
        except OSError as error:
            raise ReconpatchError(f"cannot be read ({error})", where=f"{dataset}/{category}") from None

    for name, run in plan.runs.items():
        if run.patch_size > sides[name]:
            raise ReconpatchError(
                f"patch_size = {run.patch_size} is larger than the patch grid, {sides[name]} x {sides[name]} at crop "
                f"{run.crop} and level {run.levels[0]}",
                where=_users(plan, name),
                fix="lower it or raise crop",
            )
    for experiment, targets in plan.targets.items():
        for name in (name for name in plan.members(experiment) if name in plan.runs):
            for dataset, category in targets:
                if count := images(dataset, category):
                    problem = plan.runs[name].problem_with([sides[name] ** 2] * count)
                    if problem:
                        raise ReconpatchError(problem, where=f"experiment {experiment}: {dataset}/{category}")


def check_targets(targets: Iterable[str], rules: Iterable[str]) -> None:
    """Targets that Snakemake was called with, names of rules -> ReconpatchError for one that is neither a rule nor
    looks like a file, with the nearest names.
    """
    known = set(rules)
    for target in targets:
        if target not in known and "/" not in target and "." not in target:
            near = get_close_matches(target, known) or sorted(name for name in known if name.startswith("table_"))
            raise ReconpatchError("no such target", where=target, fix=f"did you mean {', '.join(near)}?")


def stray_weights(plan: Plan, results: Path) -> list[str]:
    """Plan, folder of results -> every folder of features there that the pinned weights did not make, with the fix.

    Features are compared with a pin when they are made. A pin that is given later must not pass as checked.
    """
    problems = []
    for stage, run in plan.stages.items():
        pinned = plan.config.weight_digests.get(run.backbone, []) if run.weights != "random" else []
        pins = [pinned] if isinstance(pinned, str) else pinned
        for file in sorted(results.glob(f"features/*/*/{stage}/features.json")) if pins else []:
            fix = "remove this folder to extract the features anew"
            try:
                used = json.loads(file.read_text(encoding="utf-8"))["weights"]["sha256"]
            except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
                problem = f"features.json does not say with which weights it was made ({error!r})"
            else:
                if used in pins:
                    continue
                problem = f"made with weights {used}, but weight_digests.{run.backbone} pins {' or '.join(pins)}"
                fix += ", or correct the pin"
            problems.append(f"{file.parent}: {problem}; {fix}")
    return problems


def gpu_wanted(device: str, elsewhere: bool = False) -> bool:
    """The setting `device`, whether jobs run on a cluster -> whether jobs should ask for a GPU.

    On this machine they do if a GPU is wanted and its driver is there; no library is asked, as that costs seconds.
    Nothing is known here of the machines of a cluster: cuda asks for a GPU there, auto does not. Raises ReconpatchError
    if device is cuda and there is no driver.
    """
    if elsewhere:
        return device == "cuda"
    present = shutil.which("nvidia-smi") is not None
    if device == "cuda" and not present:
        raise ReconpatchError("device: cuda, but no NVIDIA driver is installed here; set device: auto or cpu")
    return device != "cpu" and present
