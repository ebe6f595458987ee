"""Typed configuration: what a run is, which data sets there are, what an experiment sweeps. No defaults live here:
every value stands, with its source, in configs/default.yaml.
"""

import hashlib
import json
import os
import re
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from reconpatch.data import NAME
from reconpatch.errors import ReconpatchError


def _name(value: str) -> str:
    if not re.fullmatch(NAME, value):
        raise ValueError("names start with a letter or digit and hold only letters, digits, '.', '_' and '-'")
    return value


def _odd(value: int) -> int:
    if value % 2 == 0:
        raise ValueError("must be odd, so that a patch has a centre")
    return value


def _ascending(value: tuple[int, ...]) -> tuple[int, ...]:
    if list(value) != sorted(set(value)):
        raise ValueError("list every level once, lowest first: the first one's grid is the patch grid")
    return value


Name = Annotated[str, AfterValidator(_name)]
Positive = Annotated[int, Field(ge=1)]


class Closed(BaseModel):
    """A section in which an unknown key is an error.

    Numbers may come as text: Snakemake's --config hands nested values over as text, and YAML reads 1e-5 as text.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)


class Run(Closed):
    """Everything that decides one result, but for the data: a cell of a table."""

    method: Literal["patchcore", "reconpatch"]
    seed: Annotated[int, Field(ge=0)]
    backbone: str
    weights: Literal["pretrained", "file", "embedded", "random"]
    resize: Positive
    crop: Positive
    interpolation: Literal["bilinear", "bicubic", "lanczos", "nearest"]
    precision: Literal["float32", "bfloat16"]
    augment: Literal["none", "test", "both"]
    augment_rotation: Annotated[float, Field(ge=0, le=180)]
    augment_translation: Annotated[float, Field(ge=0, lt=1)]
    augment_brightness: Annotated[float, Field(ge=0, lt=1)]
    augment_contrast: Annotated[float, Field(ge=0, lt=1)]
    augment_blur: Annotated[float, Field(ge=0)]
    levels: Annotated[tuple[int, ...], Field(min_length=1), AfterValidator(_ascending)]
    patch_size: Annotated[int, Field(ge=1), AfterValidator(_odd)]
    level_dim: Positive
    feature_dim: Positive
    dim: Positive
    coreset: Annotated[float, Field(gt=0, le=1)]
    coreset_dim: Positive
    neighbours: Positive
    reweight: Literal["image", "map"]
    blur: Annotated[float, Field(ge=0)]
    mask_rule: Literal["any", "official"]
    projection_dim: Positive
    epochs: Positive
    epoch: Positive | None
    batch: Annotated[int, Field(ge=2)]
    learning_rate: Annotated[float, Field(gt=0)]
    weight_decay: Annotated[float, Field(ge=0)]
    alpha: Annotated[float, Field(ge=0, le=1)]
    k: Annotated[int, Field(ge=2)]
    sigma: Annotated[float, Field(gt=0)]
    margin: Annotated[float, Field(ge=0)]
    gamma: Annotated[float, Field(ge=0, le=1)]
    teacher_norm: bool

    @model_validator(mode="after")
    def _fits(self) -> "Run":
        if self.crop > self.resize:
            raise ValueError(f"crop {self.crop} is larger than resize {self.resize}; lower crop or raise resize")
        if self.epoch is not None and self.epoch > self.epochs:
            raise ValueError(f"epoch {self.epoch} comes after the last of {self.epochs} epochs")
        if self.batch < 2 * self.k:
            raise ValueError(f"batch {self.batch} holds too few patches for k = {self.k} neighbours; give at least 2 k")
        return self


RANGES = ("augment_rotation", "augment_translation", "augment_brightness", "augment_contrast", "augment_blur")
FEATURES = (
    *("backbone", "weights", "resize", "crop", "interpolation", "precision"),
    *("levels", "patch_size", "level_dim", "feature_dim"),
)
TRAINING = (
    *("dim", "seed", "projection_dim", "epochs", "batch", "learning_rate", "weight_decay"),
    *("alpha", "k", "sigma", "margin", "gamma", "teacher_norm"),
)
BANK = ("method", "dim", "seed", "coreset_dim")
SCORE = ("coreset", "neighbours", "reweight", "blur", "mask_rule")
Stage = Literal["masks", "features", "training", "bank", "score"]


@cache
def of_training(run: Run) -> Run:
    """The run as its training images see it: without the augmentation of test images alone."""
    return run if run.augment == "both" else run.model_copy(update={"augment": "none"})


def description(run: Run, stage: Stage) -> dict[str, Any]:
    """The fields of a run that its stage depends on, through the stages before it, and no others.

    A PatchCore run has no training fields. Its features are as wide as ReConPatch's where they can be pooled evenly
    to its dimension, so both share them; where not, they are pooled to it directly. `features` and `masks` are those
    of the test images; those of the training images are `description(of_training(run), "features")`.
    """
    if stage in ("training", "bank"):
        run = of_training(run)
    fields = run.model_dump(mode="json")
    evenly = run.feature_dim % run.dim == 0 and len(run.levels) * run.level_dim % run.feature_dim == 0
    if run.method == "patchcore" and not evenly:
        fields["feature_dim"] = run.dim
    if run.neighbours == 1:
        fields["reweight"] = None  # without neighbours there is nothing to weight
    augmented = () if run.augment == "none" else ("augment", *RANGES, "seed")
    if augmented and stage in ("masks", "features"):
        fields["augment"] = "drawn"  # the same images whichever runs use them
    random = ("seed",) if run.weights == "random" else ()
    checkpoint = () if run.epoch in (None, run.epochs) else ("epoch",)
    trained = (*TRAINING, *checkpoint) if run.method == "reconpatch" else ()
    keys = {
        "masks": ("resize", "crop", "mask_rule", *augmented),
        "features": (*FEATURES, *random, *augmented),
        "training": (*FEATURES, *TRAINING, *augmented),
        "bank": (*FEATURES, *trained, *BANK, *augmented),
        "score": (*FEATURES, *trained, *BANK, *SCORE, *augmented),
    }[stage]
    return {key: fields[key] for key in fields if key in keys}


def digest(value: object, length: int = 8) -> str:
    """Plain value -> the first hex digits of the SHA-256 of its canonical JSON."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:length]


class Dataset(Closed):
    """Where the categories of a data set lie. A root of null means it is not at hand."""

    layout: Literal["mvtec_ad", "btad", "folder", "sample"]
    root: str | None
    categories: Literal["all"] | list[Name] = "all"


class Variant(Closed):
    """A named change of several keys at once, as "480 px"; what the paper states for it, and what we assume there."""

    set: dict[str, Any] = {}
    paper: dict[str, Any] = {}
    assumed: dict[str, Any] = {}


class Ensemble(Closed):
    """Runs that differ only in the axis `over` are combined, in each of the ways of `combine`."""

    over: str
    combine: Annotated[list[Literal["zscore", "minmax"]], Field(min_length=1)]


Kind = Literal["qualitative", "gallery", "histogram", "umap", "positions", "sweep", "curve"]


class Experiment(Closed):
    """One table and its figures: changes of the baseline, and variants and axes whose combinations are its runs."""

    title: str
    caption: str = ""  # what a reader must know of the paper's table or figure
    measure: Literal["auroc", "cost"] = "auroc"  # what the table shows
    paper: dict[str, Any] = {}  # what the paper states for this table, where it is not its baseline
    assumed: dict[str, Any] = {}  # what stands for settings it does not state there
    datasets: dict[Name, Literal["all"] | list[Name]]
    set: dict[str, Any] = {}
    variants: dict[str, Variant] = {}
    axes: dict[str, list[Any]] = {}
    ensemble: Ensemble | None = None
    figures: dict[Kind, dict[str, Any]] = {}  # kind -> the variant and axis values whose runs are drawn


class Override(Closed):
    """What an overlay changes in an experiment: `set` and what it gives for a variant win over the file's."""

    datasets: dict[Name, Literal["all"] | list[Name]] | None = None
    set: dict[str, Any] = {}
    variants: dict[str, dict[str, Any]] = {}
    axes: dict[str, list[Any]] = {}
    figures: dict[Kind, dict[str, Any]] | None = None


class Config(Closed):
    """The whole configuration."""

    device: Literal["auto", "cpu", "cuda"]
    batch_images: Positive
    features_gb: Annotated[float, Field(ge=0)]
    memory_gb: Annotated[float, Field(gt=0)] | None
    checkpoints: list[Positive]
    seeds: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)]
    resamples: Annotated[int, Field(ge=100)]
    tolerance: Annotated[float, Field(gt=0)]
    datasets: dict[Name, Dataset]
    weight_files: dict[str, str]
    stand_ins: dict[str, dict[str, Any]]
    experiments: dict[Name, str]
    overrides: dict[Name, Override]
    baseline: Run


def _explain(error: ValidationError, where: str) -> ReconpatchError:
    lines = []
    for e in error.errors():
        key = ".".join(str(part) for part in e["loc"]) or "(whole)"
        if e["type"] == "extra_forbidden":
            lines.append(f"{where}: unknown key {key}; check its spelling")
        elif e["type"] == "missing":
            lines.append(f"{where}: key {key} is missing")
        else:
            given = f"{key} = {e['input']!r}: " if e["loc"] else ""
            lines.append(f"{where}: {given}{e['msg'].removeprefix('Value error, ')}")
    return ReconpatchError("\n".join(lines))


def expand_path(path: str, key: str) -> Path:
    """A path from the configuration with `~` and `$VARIABLES` replaced.

    Raises ReconpatchError naming the key when a variable is not set.
    """
    expanded = os.path.expandvars(Path(path).expanduser())
    if "$" in expanded:
        raise ReconpatchError(f"{key} = {path!r}: the environment variable in it is not set; set it or write the path")
    return Path(expanded)


def read_config(content: dict[str, Any]) -> Config:
    """Merged configuration -> Config; raises one ReconpatchError listing every wrong key with its value."""
    try:
        return Config.model_validate(content)
    except ValidationError as error:
        raise _explain(error, "configuration") from None


def read_experiment(file: Path) -> Experiment:
    """Experiment file -> Experiment; raises ReconpatchError naming the file and key."""
    try:
        content = yaml.safe_load(file.read_text())
        return Experiment.model_validate(content)
    except FileNotFoundError:
        raise ReconpatchError(f"experiments: {file}: no such file") from None
    except yaml.YAMLError as error:
        raise ReconpatchError(f"{file}: not valid YAML ({error})") from None
    except ValidationError as error:
        raise _explain(error, str(file)) from None


def vary(baseline: Run, changes: dict[str, Any], where: str) -> Run:
    """Baseline with some keys changed; raises ReconpatchError naming `where` and the key."""
    try:
        return Run.model_validate(baseline.model_dump() | changes)
    except ValidationError as error:
        raise _explain(error, where) from None
