"""Typed configuration: what a run is, which data sets there are, what an experiment sweeps. No defaults live here:
every value stands, with its meaning and source, in configs/default.yaml; docs/configuration.md is written from both.
"""

import hashlib
import json
import os
import re
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, model_validator

from reconpatch.errors import ReconpatchError
from reconpatch.experiments import value_types as kinds
from reconpatch.experiments.sections import Closed
from reconpatch.experiments.sections import Dataset as Dataset  # everyone else takes these from here
from reconpatch.experiments.sections import Ensemble as Ensemble
from reconpatch.experiments.sections import Experiment as Experiment
from reconpatch.experiments.sections import Kind as Kind
from reconpatch.experiments.sections import Override as Override
from reconpatch.experiments.sections import Variant as Variant
from reconpatch.experiments.yamlfile import read_yaml


class Run(Closed):
    """Everything that decides one result, but for the data: a cell of a table.

    `crop` is at most `resize`, `epoch` at most `epochs`, and `batch` at least 2 `k`. `feature_dim`, and PatchCore's
    `dim`, is at most `level_dim` times the number of levels.
    """

    method: Literal["patchcore", "reconpatch"]
    seed: kinds.Seed
    backbone: kinds.Backbone
    weights: Literal["pretrained", "file", "embedded", "random"]
    resize: kinds.Side
    crop: kinds.Side
    interpolation: Literal["bilinear", "bicubic", "lanczos", "nearest"]
    precision: Literal["float32", "bfloat16"]
    augment: Literal["none", "test", "both"]
    augment_rotation: kinds.Angle
    augment_translation: kinds.BelowOne
    augment_brightness: kinds.BelowOne
    augment_contrast: kinds.BelowOne
    augment_blur: kinds.Blur
    levels: kinds.Levels
    patch_size: kinds.PatchSize
    level_dim: kinds.Width
    feature_dim: kinds.Width
    dim: kinds.Width
    coreset: kinds.Part
    coreset_dim: kinds.Width
    neighbours: kinds.Positive
    reweight: Literal["image", "map"]
    blur: kinds.Blur
    mask_rule: Literal["any", "official"]
    projection_dim: kinds.Width
    epochs: kinds.Positive
    epoch: kinds.Positive | None
    batch: kinds.Batch
    learning_rate: kinds.AboveZero
    weight_decay: kinds.Amount
    alpha: kinds.Share
    k: Annotated[int, Field(ge=2, le=8192), kinds.NUMBER]
    sigma: kinds.AboveZero
    margin: kinds.Amount
    gamma: kinds.Share
    teacher_norm: bool

    @model_validator(mode="after")
    def _fits(self) -> "Run":
        if self.crop > self.resize:
            raise ValueError(f"crop {self.crop} is larger than resize {self.resize}; lower crop or raise resize")
        if self.epoch is not None and self.epoch > self.epochs:
            raise ValueError(f"epoch {self.epoch} comes after the last of {self.epochs} epochs")
        if self.batch < 2 * self.k:
            raise ValueError(f"batch {self.batch} holds too few patches for k = {self.k} neighbours; give at least 2 k")
        pooled = {"dim": self.dim} if self.method == "patchcore" else {}
        for key, value in (pooled | {"feature_dim": self.feature_dim}).items():
            if value > len(self.levels) * self.level_dim:
                raise ValueError(
                    f"{key} {value} is more than there is to pool, {len(self.levels)} levels of level_dim "
                    f"{self.level_dim}; lower it or raise level_dim"
                )
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


# Rules of the workflow, which experiments stand beside as targets.
RULES = frozenset(
    {
        *(
            "all",
            "report_all",
            "report_smoke",
            "draw_sample",
            "index_category",
            "write_plan",
            "fetch_weights",
            "extract_features",
            "read_masks",
        ),
        *("train_representation", "select_coreset", "score_run", "score_training", "combine_ensemble", "make_table"),
        *("draw_qualitative", "draw_histogram", "draw_umap", "draw_positions", "draw_curve", "draw_sweep"),
        "draw_gallery",
    }
)


class Config(Closed):
    """The whole configuration."""

    device: Literal["auto", "cpu", "cuda"]
    batch_images: Annotated[int, Field(ge=1, le=1024), kinds.NUMBER]
    features_gb: kinds.Amount
    memory_gb: kinds.AboveZero | None
    checkpoints: list[kinds.Positive]
    seeds: kinds.Seeds
    resamples: Annotated[int, Field(ge=100, le=10**5), kinds.NUMBER]
    tolerance: kinds.AboveZero
    datasets: Annotated[dict[kinds.Name, Dataset], kinds.ONCE]
    weight_files: dict[kinds.Backbone, kinds.PathText]
    weight_digests: dict[kinds.Backbone, kinds.Digests]
    stand_ins: dict[kinds.Backbone, kinds.Settings]
    experiments: Annotated[dict[kinds.Name, kinds.PathText], kinds.ONCE]
    overrides: dict[kinds.Name, Override]
    baseline: Run

    @model_validator(mode="after")
    def _fits(self) -> "Config":
        taken = [name for name in self.experiments if name in RULES]
        if taken:
            raise ValueError(f"experiments.{taken[0]}: the workflow has a rule of this name; choose another")
        samples = {name: data.root for name, data in self.datasets.items() if data.layout == "sample" and data.root}
        if len(samples) > 1:
            raise ValueError(f"datasets: {' and '.join(samples)} are both the sample; leave one of them out")
        for name, root in samples.items():
            if re.search(r"[{}$~]", str(root)):
                raise ValueError(f"datasets.{name}.root = {root!r}: the sample is drawn there; write a plain path")
        for name, settings in self.stand_ins.items():
            if strange := [key for key in settings if key not in Run.model_fields]:
                raise ValueError(f"stand_ins.{name}: unknown key {strange[0]!r}; check its spelling")
        return self


def expand_path(path: str, key: str) -> Path:
    """A path from the configuration with `~` and `$VARIABLES` replaced.

    Raises ReconpatchError naming the key when a variable is not set, `~` is of no one, or no file can be called so.
    """
    try:
        expanded = kinds.checked_path(os.path.expandvars(Path(path).expanduser()))
    except (ValueError, RuntimeError) as error:  # a name in `~name` that the system does not know
        raise ReconpatchError(f"{key} = {kinds.shown(path)}: {error}") from None
    if "$" in expanded:
        raise ReconpatchError(f"{key} = {path!r}: the environment variable in it is not set; set it or write the path")
    return Path(expanded)


def read_config(content: dict[str, Any]) -> Config:
    """Merged configuration -> Config; raises one ReconpatchError listing every wrong key with its value."""
    try:
        return Config.model_validate(content)
    except ValidationError as error:
        raise kinds.explained(error, "configuration") from None


def read_experiment(file: Path) -> Experiment:
    """Experiment file -> Experiment; raises ReconpatchError naming the file and key."""
    content = read_yaml(file)
    if content is None:
        raise ReconpatchError(f"{file}: empty; an experiment has at least a title and datasets")
    try:
        return Experiment.model_validate(content)
    except ValidationError as error:
        raise kinds.explained(error, str(file)) from None


def vary(baseline: Run, changes: dict[str, Any], where: str) -> Run:
    """Baseline with some keys changed; raises ReconpatchError naming `where` and the key."""
    try:
        return Run.model_validate(baseline.model_dump() | changes)
    except ValidationError as error:
        raise kinds.explained(error, where) from None
