"""The options of `fit` that are no parameters of a run, typed as the configuration is, and the run that all make."""

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError, model_validator

from reconpatch.data.images import LONGEST, Aspect, View, default_resize, view
from reconpatch.detector.threshold import check_rate
from reconpatch.errors import ReconpatchError
from reconpatch.experiments.networks import Networks
from reconpatch.experiments.run import DEFAULTS, Run, fitted, vary
from reconpatch.experiments.value_types import NUMBER, BelowOne, Part, Positive, Section, Side, explained
from reconpatch.runtime import threads_here

AUTO: Literal["auto"] = "auto"  # the aspect that `choose_aspect` chooses
ONE_SHAPE = ("crop", "stretch")  # aspects that show every photograph to the network in one shape without padding
FOLDS = 5  # for the threshold, where there are few images
HOLD_OUT = 0.2  # share of the images, where there are many
# From so many different images on, a fifth of them is held out: that shows a rate of 1 %, and its interval is exact.
MANY_IMAGES = 500
FALSE_ALARM_RATE = 0.05  # share of good images that may be called anomalous
BATCH_IMAGES = 8  # per forward pass

# Rows of the memory bank that the default keeps of few photographs, where 1 % of their patches would be fewer.
FEWEST_ROWS = 3200
# Dimensions that PatchCore keeps by default: nothing is learnt from half of them (docs/product.md has measurements).
ALL_VALUES = "1/1"
PRESETS: Mapping[str, Mapping[str, Any]] = {
    "fast": {"method": "patchcore", "backbone": "tf_efficientnet_lite0", "weights": "embedded"},
    "paper": {
        **{name: getattr(DEFAULTS, name) for name in ("method", "backbone", "weights", "dim", "coreset", "epochs")},
        **{"size": DEFAULTS.crop, "aspect": "crop", "hold_out": HOLD_OUT},
    },
}

SAME_NAME = ("method", "backbone", "weights", "dim", "coreset", "epochs", "seed")  # options called as in `Run`
OPTIONS = {name: name for name in (*SAME_NAME, "resize", "aspect")} | {
    "crop": "size"
}  # parameter of a run -> option of `fit`

SIZE = "size (--size)"  # what users call the px of the shorter side of what the network sees

NOTES = logging.getLogger("reconpatch.choices")  # what was chosen for the user, with the reason

Progress = Callable[[str, int, int], None]  # (step, done, of how many)
Folds = Annotated[int, Field(ge=2), NUMBER]
Takes = Callable[[tuple[int, int]], bool]  # (width, height) -> whether a network takes such images
Rate = Annotated[float, NUMBER, AfterValidator(check_rate)]


def _or_threads_here(threads: object) -> object:
    return threads_here() if threads is None else threads


def _silent(step: str, done: int, total: int) -> None:
    """No report of progress."""


def _or_silent(progress: object) -> object:
    return _silent if progress is None else progress


class Machine(Section):
    """Options that change how fast a detector is and how much memory it needs, not its results."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: Annotated[Positive, BeforeValidator(_or_threads_here)] = Field(default_factory=threads_here)
    batch_images: Positive = BATCH_IMAGES  # per forward pass


class LoadOptions(Machine):
    """Options of a model that is loaded."""

    false_alarm_rate: Rate | None = None  # None: the model's


class FitOptions(Machine):
    """Options of a model that is fitted."""

    size: Side = DEFAULTS.crop  # px of the shorter side of what the network sees
    resize: Side | None = None  # px of the shorter side before the crop; None: in the paper's ratio to the size
    aspect: Literal["auto", Aspect] = AUTO
    weight_file: Path | None = None
    coreset: Part | None = None  # None: the paper's, or more where that is less than FEWEST_ROWS
    settings: dict[str, Any] | None = None  # other parameters of a run
    hold_out: BelowOne | None = None  # share of the images that is kept for the threshold; 0: no threshold
    folds: Folds | None = None  # None, and no share to hold out: chosen from the number of images
    group: str | None = None  # what belongs together, see `calibration.groups_of`
    false_alarm_rate: Rate = FALSE_ALARM_RATE
    progress: Annotated[Progress, BeforeValidator(_or_silent)] = _silent

    @model_validator(mode="after")
    def _fits(self) -> "FitOptions":
        if self.aspect in ("crop", AUTO) and self.resize is not None and self.resize < self.size:
            raise ValueError(f"size {self.size} is larger than resize {self.resize}; lower size or raise resize")
        if self.aspect not in ("crop", AUTO) and self.resize is not None:
            raise ValueError(f"resize is for a crop, and aspect is {self.aspect}; leave one of them out")
        if self.hold_out is not None and self.folds is not None:
            raise ValueError("hold_out and folds are two ways to a threshold; give one of them")
        return self


Options = TypeVar("Options", bound=Machine)


def checked(options: type[Options], values: Mapping[str, Any]) -> Options:
    """Class of options, their values by name -> the options. Raises one ReconpatchError that names every wrong one."""
    try:
        return options.model_validate(dict(values))
    except ValidationError as error:
        raise explained(error, "options") from None


def with_preset(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Name of a preset, options that are given -> the options of both; those given win.

    A network that is given replaces that of the preset with its weights, weights that are given replace the preset's
    alone, and `folds` replaces `hold_out`. Raises ReconpatchError for another name.
    """
    if name not in PRESETS:
        raise ReconpatchError(f"{name} is none of {', '.join(PRESETS)}", where="preset")
    dropped: set[str] = set()
    if "backbone" in options:
        dropped |= {"backbone", "weights"}
    if "weight_file" in options:
        dropped.add("weights")
    if "folds" in options:
        dropped.add("hold_out")
    return {key: value for key, value in PRESETS[name].items() if key not in dropped} | dict(options)


def enough_rows(run: Run, patches: int) -> Run:
    """Parameters, number of patches -> the same with a coreset of FEWEST_ROWS, or of all, where it would be smaller."""
    rows = int(patches * run.coreset)
    if rows >= min(FEWEST_ROWS, patches):
        return run
    coreset = min(1.0, math.ceil(1e4 * FEWEST_ROWS / patches) / 1e4)
    chosen = vary(run, {"coreset": coreset}, "coreset")
    NOTES.info(
        "memory bank: %d of %d patches (--coreset %g), because the usual %g is %d patches, too few to cover a product",
        *(int(patches * coreset), patches, coreset, run.coreset, rows),
    )
    return chosen


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


def detector_run(changes: Mapping[str, Any], options: FitOptions) -> Run:
    """Parameters that differ from the paper's, options -> Run. Those of the options' `settings` count too.

    PatchCore keeps all values of the patch features where no `dim` is given. Where the options leave the aspect open,
    it is crop until `choose_aspect` has seen photographs. Raises ReconpatchError that names the parameter and the fix.
    """
    settings = options.settings or {}
    check_no_options(settings)
    changes = {
        name: value for name, value in changes.items() if (name, value) not in (("coreset", None), ("dim", None))
    }
    if changes.get("method") == "patchcore" and "dim" not in changes:
        changes["dim"] = ALL_VALUES
    aspect = "crop" if options.aspect == AUTO else options.aspect
    resize = default_resize(options.size) if options.resize is None else options.resize
    seen = {"aspect": aspect, "crop": options.size, "resize": resize if aspect == "crop" else options.size}
    source = {} if options.weight_file is None else {"weights": "file"}
    run = fitted(
        vary(DEFAULTS, {**changes, **settings, **source, **seen}, "settings"),
        Networks(setting=SIZE).channels,
        "settings",
    )
    if run.augment != "none":
        raise ReconpatchError("only for the robustness study of the workflow", where="augment", fix="leave it out")
    if run.weights == "file" and options.weight_file is None:  # as after `load`
        raise ReconpatchError(
            "file, but none is named", where="weights", fix="give weight_file=FILE (--weight-file FILE)"
        )
    return run


def seen_as(run: Run, aspect: str) -> Run:
    """The run with another aspect. Only a crop has a `resize`; of others it is the size."""
    return vary(run, {"aspect": aspect} | ({} if aspect == "crop" else {"resize": run.crop}), "aspect")


def is_square(width: int, height: int, size: int) -> bool:
    """px of a photograph, px of the frame's shorter side -> whether `keep` sees it as a square."""
    if max(width, height) > LONGEST * min(width, height):
        return False
    wide, high = view(width, height, size=size, aspect="keep").frame
    return wide == high


def choose_aspect(sizes: Sequence[tuple[int, int]], run: Run, options: FitOptions, takes: Takes) -> tuple[str, str]:
    """(width, height) of N photographs, the run, options that leave the aspect open, whether the network takes frames
    of (width, height) px -> aspect, and why that is chosen.

    Squares are cropped as in the paper, and so is all if the options give a `resize`, which nothing else uses. Others
    keep their shape. Networks that take squares only see them stretched.
    """
    if options.resize is not None:
        return "crop", "resize is given, which only a crop uses"
    others = [size for size in sizes if not is_square(*size, run.crop)]
    if not others:
        return "crop", "all photographs are square, and the paper crops those"
    width, height = others[0]
    which = f"{len(others)} of {len(sizes)} photographs are not square, as one of {width} x {height} px"
    seen_whole = [size for size in others if max(size) <= LONGEST * min(size)]  # longer ones are refused, by name
    if all(takes(frame) for frame in {view(*size, size=run.crop, aspect="keep").frame for size in seen_whole}):
        return "keep", f"{which}; all of each is seen in its own shape"
    return "stretch", f"{which}; all of each is seen, squeezed to a square, as {run.backbone} takes no others"


def exported_view(run: Run, photograph: tuple[int, int] | None) -> View:
    """Parameters, px (width, height) of the photographs if they are known -> their View.

    Raises ReconpatchError if they must be known, or if they would change nothing.
    """
    if (photograph is None) != (run.aspect in ONE_SHAPE):
        needed = photograph is None
        raise ReconpatchError(
            f"{'needed' if needed else 'not needed'} for a model of aspect {run.aspect}",
            where="photograph (--photograph)",
            fix="give the size of the photographs, as 1600x1200: a file is for one size"
            if needed
            else "leave it out: the file is for photographs of any size",
        )
    return view(*(photograph or (run.crop, run.crop)), size=run.crop, resize=run.resize, aspect=run.aspect)
