"""From the settings of a detector to a run: options of `fit` and further keys of a run."""

from collections.abc import Mapping
from typing import Any

from reconpatch.data.images import default_resize
from reconpatch.errors import ReconpatchError
from reconpatch.experiments.run import BASELINE, Run, vary

# Keys of a run -> the option of `fit` that sets them.
OWN = {key: key for key in ("method", "backbone", "weights", "resize", "dim", "coreset", "epochs", "seed")} | {
    "crop": "size"
}


def refuse_own(settings: Mapping[str, Any], where: str) -> None:
    """Raise ReconpatchError for a key of `settings` that has an option of its own: of two values one would be lost."""
    if given := [key for key in settings if key in OWN]:
        key, option = given[0], OWN[given[0]]
        raise ReconpatchError(
            f"{where}: {key}: has an option of its own; give {option}=... instead (on the command line "
            f"--{option.replace('_', '-')})"
        )


def product_run(
    size: int, resize: int | None, aspect: str, weight_file: object, changes: Mapping[str, Any], where: str
) -> Run:
    """px of the square and of the shorter side before the crop, rule for the aspect, file of weights if there is one,
    other keys of a run -> Run.

    Raises ReconpatchError naming `where`, the key and the fix.
    """
    if doubled := sorted({"crop", "resize"} & changes.keys()):
        raise ReconpatchError(f"{where}: {doubled[0]}: give size (the crop) and resize beside them instead")
    shorter = (resize or default_resize(size)) if aspect == "crop" else size
    given = {"weights": "file"} if weight_file is not None else {}
    return vary(BASELINE, given | dict(changes) | {"crop": size, "resize": shorter}, where)
