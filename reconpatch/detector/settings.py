"""The options of `fit`: defaults of those that are no parameters of a run, and the run that the others make."""

from collections.abc import Mapping
from typing import Any

from reconpatch.data.images import default_resize
from reconpatch.errors import ReconpatchError
from reconpatch.experiments.networks import Networks
from reconpatch.experiments.run import DEFAULTS, Run, fitted, vary

ASPECT = "crop"  # how a photograph that is not square is brought to one, see `data.images`
HOLD_OUT = 0.2  # share of the images that is kept for the threshold
FALSE_ALARM_RATE = 0.05  # share of good images that may be called anomalous
BATCH_IMAGES = 8  # per forward pass

SAME_NAME = ("method", "backbone", "weights", "dim", "coreset", "epochs", "seed")  # options called as in `Run`
OPTIONS = {name: name for name in (*SAME_NAME, "resize")} | {"crop": "size"}  # parameter of a run -> option of `fit`


def check_no_options(settings: Mapping[str, Any]) -> None:
    """Raise ReconpatchError for a parameter that has its own option, because one of two values would be lost."""
    for name in settings:
        if name in OPTIONS:
            option = OPTIONS[name]
            raise ReconpatchError(
                "has its own option",
                where=f"settings: {name}",
                fix=f"give {option}=... instead (on the command line --{option.replace('_', '-')})",
            )


def detector_run(
    changes: Mapping[str, Any],
    *,
    size: int,
    resize: int | None = None,
    aspect: str = ASPECT,
    weight_file: object = None,
) -> Run:
    """Parameters that differ from the paper's, px of the square, px of the shorter side before the crop (None: in the
    paper's ratio), aspect, file of weights -> Run.

    Raises ReconpatchError that names the parameter and the fix.
    """
    shorter = (resize or default_resize(size)) if aspect == "crop" else size
    view: dict[str, Any] = {"crop": size, "resize": shorter}
    source = {} if weight_file is None else {"weights": "file"}
    settings = vary(DEFAULTS, dict(changes) | source | view, "settings")
    return fitted(settings, Networks().channels, "settings")
