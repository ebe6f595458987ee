"""Checks before any job: backbones exist and have the levels wanted, what is to be run fits the data, and a GPU is
there if one is asked for.
"""

import importlib.metadata
import json
import shutil
from functools import cache
from pathlib import Path

from reconpatch.data.layouts import category_folder, count_images
from reconpatch.errors import ReconpatchError
from reconpatch.experiments.costs import Network, grid
from reconpatch.experiments.plan import Plan
from reconpatch.files import write_text


def check_backbones(plan: Plan, cache: Path, shipped: Path | None = None) -> dict[str, Network]:
    """Plan -> what timm says of each run's network, by the name of the run.

    Asking timm costs seconds, so what it says is kept in `cache` for the next call. `shipped` is such a file, made for
    the default plan; what it says counts for the version of timm it was made with. Raises ReconpatchError unless every
    backbone of the plan exists and has the levels wanted, and every run fits its patch grid and its data.
    """
    version = importlib.metadata.version("timm")
    known: dict[str, Network] = {}
    for file in (cache, shipped):
        known |= _answers(file) if file is not None else {}
    networks: dict[str, Network] = {}
    for name, run in plan.runs.items():
        key = f"{run.backbone} {run.levels} {run.weights} timm {version}"
        if key not in known:
            from reconpatch.method.backbones import check_levels, check_weights, count_parameters

            try:
                stride = check_levels(run.backbone, run.levels)
                check_weights(run.backbone, run.weights)
            except ReconpatchError as error:
                raise ReconpatchError(f"{_users(plan, name)}: {error}") from None
            known[key] = Network(stride, count_parameters(run.backbone, run.levels))
            cache.parent.mkdir(parents=True, exist_ok=True)
            write_text(cache, json.dumps(known, indent=1) + "\n")
        networks[name] = known[key]
    check_sizes(plan, {name: network.stride for name, network in networks.items()})
    return networks


def _answers(file: Path) -> dict[str, Network]:
    """What timm said before; nothing where the file is missing, damaged, or of an older version of this package."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    found = content.items() if isinstance(content, dict) else ()
    return {key: Network(*said) for key, said in found if _sound(said)}


def _sound(said: object) -> bool:
    """Whether an answer is a stride and a number of parameters."""
    return isinstance(said, list) and len(said) == 2 and all(type(n) is int and n > 0 for n in said)


def _users(plan: Plan, name: str) -> str:
    return f"experiment {', '.join(e for e in plan.cells if name in plan.members(e))}"


def check_sizes(plan: Plan, strides: dict[str, int]) -> None:
    """Plan, stride of every run's first level -> ReconpatchError where a run asks for more than its images can give.

    Training images are counted, not opened. The embedded sample, and what has none, is left to the jobs.
    """

    @cache
    def images(dataset: str, category: str) -> int:
        data = plan.dataset(dataset)
        if data.layout == "sample":
            return 0
        try:
            return count_images(data.layout, category_folder(data.layout, plan.root(dataset), category))[0]
        except OSError as error:
            raise ReconpatchError(f"{dataset}/{category}: cannot be read ({error})") from None

    sides: dict[str, int] = {}
    for name, run in plan.runs.items():
        sides[name] = grid(run.crop, strides[name])
        if run.patch_size > sides[name]:
            raise ReconpatchError(
                f"{_users(plan, name)}: patch_size = {run.patch_size} is larger than the patch grid, "
                f"{sides[name]} x {sides[name]} at crop {run.crop} and level {run.levels[0]}; lower it or raise crop"
            )
    for experiment, targets in plan.targets.items():
        for name in (name for name in plan.members(experiment) if name in plan.runs):
            for dataset, category in targets:
                if count := images(dataset, category):
                    problem = plan.runs[name].problem_with(count * sides[name] ** 2)
                    if problem:
                        raise ReconpatchError(f"experiment {experiment}: {dataset}/{category}: {problem}")


def stray_weights(plan: Plan, results: Path) -> list[str]:
    """Plan, folder of results -> features there of other weights than the pinned ones, each with the fix.

    Features are compared with a pin when they are made; a pin given later must not pass for checked.
    """
    found = []
    for stage, run in plan.stages.items():
        pinned = plan.config.weight_digests.get(run.backbone, []) if run.weights != "random" else []
        pins = [pinned] if isinstance(pinned, str) else pinned
        for file in sorted(results.glob(f"features/*/*/{stage}/features.json")) if pins else []:
            try:
                used = json.loads(file.read_text(encoding="utf-8"))["weights"]["sha256"]
            except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
                found.append(
                    f"{file.parent}: features.json does not say with which weights it was made ({error!r}); "
                    "remove this folder to extract the features anew"
                )
                continue
            if used not in pins:
                right = f"weight_digests.{run.backbone} pins {' or '.join(pins)}"
                found.append(
                    f"{file.parent}: made with weights {used}, but {right}; "
                    "remove this folder to extract the features anew, or correct the pin"
                )
    return found


def gpu_wanted(device: str, elsewhere: bool = False) -> bool:
    """Whether jobs should ask for a GPU: here, if one is wanted and its driver is there. Asks no library: those cost
    seconds. Of the machines of a cluster (`elsewhere`) nothing is known here: cuda asks for one, auto does not.

    Raises ReconpatchError when device is cuda and there is no driver.
    """
    if elsewhere:
        return device == "cuda"
    present = shutil.which("nvidia-smi") is not None
    if device == "cuda" and not present:
        raise ReconpatchError("device: cuda, but no NVIDIA driver is installed here; set device: auto or cpu")
    return device != "cpu" and present
