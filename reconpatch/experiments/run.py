"""A run: every parameter that decides one result, and which of them each stage depends on."""

import hashlib
import json
import math
from functools import cache
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, model_validator

from reconpatch.experiments import value_types as kinds
from reconpatch.experiments.value_types import Closed


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

    def problem_with(self, patches: int) -> str | None:
        """Number of training patches -> what the run asks for beyond them, with the fix, if anything."""
        bank = int(patches * self.coreset)  # `method` keeps one patch where this is none
        if bank < 1:
            least = math.ceil(1e6 / patches) / 1e6
            return f"coreset = {self.coreset:g} keeps none of {patches} training patches; raise it to {least:g} or more"
        if self.neighbours > bank:
            return (
                f"neighbours = {self.neighbours}, but coreset = {self.coreset:g} of {patches} training patches is a "
                f"memory bank of {bank}; lower neighbours or raise coreset"
            )
        # `training.train` makes round(patches / batch) batches of nearly equal size.
        if self.method == "reconpatch" and patches // max(1, round(patches / self.batch)) < self.k:
            return f"k = {self.k} neighbours cannot be found among {patches} training patches; lower k or add images"
        return None


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


def vary(baseline: Run, changes: dict[str, Any], where: str) -> Run:
    """Baseline with some keys changed; raises ReconpatchError naming `where` and the key."""
    try:
        return Run.model_validate(baseline.model_dump() | changes)
    except ValidationError as error:
        raise kinds.explained(error, where) from None
