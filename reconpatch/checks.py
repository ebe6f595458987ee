"""Checks before any job: backbones exist and have the levels wanted, a GPU is there if one is asked for."""

import importlib.metadata
import json
import shutil
from pathlib import Path

from reconpatch.errors import ReconpatchError
from reconpatch.files import write_text
from reconpatch.plan import Plan


def check_backbones(plan: Plan, cache: Path, shipped: Path | None = None) -> None:
    """Raise ReconpatchError unless every backbone of the plan exists and has the levels wanted.

    Asking timm costs seconds, so what it says is kept in `cache` for the next call. `shipped` is such a file, made for
    the default plan; what it says counts for the version of timm it was made with.
    """
    version = importlib.metadata.version("timm")
    known: dict[str, bool] = {}
    for file in (cache, shipped):
        known |= json.loads(file.read_text()) if file is not None and file.is_file() else {}
    for name, run in plan.runs.items():
        key = f"{run.backbone} {run.levels} {run.weights} timm {version}"
        if key not in known:
            from reconpatch.backbones import check_levels, check_weights

            try:
                check_levels(run.backbone, run.levels)
                check_weights(run.backbone, run.weights)
            except ReconpatchError as error:
                users = [e for e in plan.places if name in plan.members(e)]
                raise ReconpatchError(f"experiment {', '.join(users)}: {error}") from None
            known[key] = True
            cache.parent.mkdir(parents=True, exist_ok=True)
            write_text(cache, json.dumps(known, indent=1) + "\n")


def gpu_present(device: str) -> bool:
    """Whether jobs should ask for a GPU: one is wanted and its driver is there. Asks no library: those cost seconds.

    Raises ReconpatchError when device is cuda and there is no driver.
    """
    present = shutil.which("nvidia-smi") is not None
    if device == "cuda" and not present:
        raise ReconpatchError("device: cuda, but no NVIDIA driver is installed here; set device: auto or cpu")
    return device != "cpu" and present
