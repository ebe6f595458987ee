"""A run: every parameter that decides one result, with its default, its meaning, where the default comes from and which
stages depend on it. `configs/default.yaml`, the schemas, `docs/configuration.md`, `reconpatch fit --help` and the
defaults of `ReConPatch(...)` follow from this module.

`RunSettings` is what people write: widths may be `auto` or a share there. `fitted` makes of it the `Run` for a network,
in numbers.
"""

import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from pydantic.fields import FieldInfo

from reconpatch.data.images import Aspect, MaskRule
from reconpatch.errors import ReconpatchError
from reconpatch.experiments.value_types import (
    NUMBER,
    AboveZero,
    Amount,
    Angle,
    AutoWidth,
    Backbone,
    Batch,
    BelowOne,
    Blur,
    Levels,
    Part,
    PatchSize,
    Positive,
    Section,
    Seed,
    Share,
    ShareOrPositive,
    ShareOrWidth,
    Side,
    Width,
    explained,
)
from reconpatch.method.batching import batch_sizes


@dataclass(frozen=True)
class Origin:
    """Which stages use a field of a run, and where its default comes from.

    `source` starts with paper, PatchCore (its official code), STML (the code of the parent method), codes (agreement of
    public re-implementations) or ours. `stated`: whether the paper states the default, or takes it over from PatchCore;
    where it does not, the default is what we assume. None: every table chooses it, so no table departs from the paper.
    """

    stages: list[str]  # rows of `stages.STAGES`
    source: str
    stated: bool | None


def parameter(default: object, *, stages: list[str], source: str, stated: bool | None, meaning: str) -> Any:
    """A field of a run with its default, its `Origin`, and what it means."""
    origin: Any = {"stages": stages, "source": source, "stated": stated}
    return Field(default, description=meaning, json_schema_extra=origin)


class RunSettings(Section):
    """Everything that decides one result, except the data: one cell of a table.

    The defaults are ReConPatch as the paper's single model at 224 px (Tables 2 and 3).

    Where `aspect` is crop, `crop` is at most `resize`. `epoch` is at most `epochs`, and `batch` at least 2 `k`.
    `feature_dim`, and PatchCore's `dim`, is at most `level_dim` times the number of levels. `dim` is at most
    `feature_dim`, unless `init` is uniform. A share is rounded down, and is at least 1.
    """

    model_config = ConfigDict(validate_default=True)

    method: Literal["patchcore", "untrained", "reconpatch"] = parameter(
        "reconpatch",
        stages=["bank"],
        source="paper",
        stated=None,
        meaning="patchcore: the same stages without f, which uses no parameter of the training; untrained: f as it is "
        "drawn, the control that tells what training brings from what a random linear map costs",
    )
    seed: Seed = parameter(
        0,
        stages=["masks", "features", "training", "bank"],
        source="ours",
        stated=None,
        meaning="seed of every random choice: projection and start of the coreset, initialisation of f, order of "
        "batches, augmentation, random weights",
    )
    backbone: Backbone = parameter(
        "wide_resnet50_2.tv_in1k",
        stages=["features"],
        source="paper",
        stated=True,
        meaning="any network of timm that gives feature maps. The default has torchvision's V1 ImageNet weights.",
    )
    weights: Literal["pretrained", "file", "embedded", "random"] = parameter(
        "pretrained",
        stages=["features"],
        source="paper",
        stated=True,
        meaning="pretrained: downloaded by timm; file: from `weight_files`; embedded: those of tf_efficientnet_lite0, "
        "from a Python package; random: untrained, which tables and records say",
    )
    batch_norm: Literal["pretrained", "probed"] = parameter(
        "pretrained",
        stages=["features"],
        source="ours",
        stated=False,
        meaning="statistics of the network's batch norms. pretrained: those of its weights; probed: those that the "
        "official PatchCore code leaves, which sends an image of ones through the network in training mode; that moves "
        "AUROCs by one to two points",
    )
    aspect: Aspect = parameter(
        "crop",
        stages=["masks", "features"],
        source="paper",
        stated=True,
        meaning="what the network sees of an image that is not square. crop: the square at its centre; stretch: all of "
        "it, squeezed to a square; pad: all of it, with its edges repeated to fill a square; keep: all of it, as a "
        "rectangle of its own shape. All but crop leave nothing out, and see a square image alike",
    )
    resize: Side = parameter(
        256,
        stages=["masks", "features"],
        source="PatchCore",
        stated=False,
        meaning="px of an image's shorter side before the crop, the aspect ratio is kept; used where `aspect` is crop",
    )
    crop: Side = parameter(
        224,
        stages=["masks", "features"],
        source="paper",
        stated=True,
        meaning="px of the square that the network sees; where `aspect` is keep, of the rectangle's shorter side",
    )
    interpolation: Literal["bilinear", "bicubic", "lanczos", "nearest"] = parameter(
        "bilinear",
        stages=["features"],
        source="PatchCore",
        stated=False,
        meaning="how images are resized; for masks see `mask_rule`",
    )
    precision: Literal["float32", "bfloat16"] = parameter(
        "float32",
        stages=["features"],
        source="ours",
        stated=False,
        meaning="precision of the backbone's weights and activations. bfloat16 can halve the time where the processor "
        "multiplies faster in it (AMX, GPUs; not every AVX-512 BF16); table_precision measures what it does "
        "to AUROCs. Publish numbers in float32 only.",
    )
    augment: Literal["none", "test", "both"] = parameter(
        "none",
        stages=["masks", "features"],
        source="ours",
        stated=True,
        meaning="which images the robustness study of Table 4 changes: none, the test images, or training and test "
        "images (both). Masks move with their images. The paper names the changes, but not their ranges or "
        "which images are changed: the five ranges are ours.",
    )
    augment_rotation: Angle = parameter(
        10.0,
        stages=["masks", "features"],
        source="ours",
        stated=False,
        meaning="degrees; the angle is drawn uniformly from -value to +value",
    )
    augment_translation: BelowOne = parameter(
        0.05,
        stages=["masks", "features"],
        source="ours",
        stated=False,
        meaning="share of the side; the shift is drawn uniformly from -value to +value",
    )
    augment_brightness: BelowOne = parameter(
        0.1,
        stages=["masks", "features"],
        source="ours",
        stated=False,
        meaning="the factor is drawn uniformly from 1 - value to 1 + value",
    )
    augment_contrast: BelowOne = parameter(
        0.1,
        stages=["masks", "features"],
        source="ours",
        stated=False,
        meaning="the factor is drawn uniformly from 1 - value to 1 + value",
    )
    augment_blur: Blur = parameter(
        1.0,
        stages=["masks", "features"],
        source="ours",
        stated=False,
        meaning="px; the sigma of a Gaussian is drawn uniformly from 0 to value",
    )
    levels: Levels = parameter(
        (2, 3),
        stages=["features"],
        source="paper",
        stated=True,
        meaning="which of timm's feature maps are used, counted from 0. The grid of the first one is the patch grid.",
    )
    patch_size: PatchSize = parameter(
        3,
        stages=["features"],
        source="paper",
        stated=True,
        meaning="s: a patch is averaged over s x s positions of a feature map",
    )
    embedding: Literal["official", "concat"] = parameter(
        "official",
        stages=["features"],
        source="PatchCore",
        stated=False,
        meaning="how levels become the input of f. official: each level is pooled to `level_dim` values, all levels "
        "together to `feature_dim`; concat: the mean of every channel over s x s, the levels end to end. The paper "
        "describes both.",
    )
    level_dim: AutoWidth = parameter(
        "auto",
        stages=["features"],
        source="PatchCore",
        stated=True,
        meaning="number of values that the features of each level are pooled to, where `embedding` is official. auto: "
        "twice the channels of the level before the last, which is the paper's 1,024 for WideResNet-50 with levels 2+3 "
        "and 1+2+3; of a single level its channels. With one or two levels each value is then a mean over whole s x s "
        "surroundings, while 1,024 values of a narrower network would leave them unaveraged",
    )
    feature_dim: AutoWidth = parameter(
        "auto",
        stages=["features"],
        source="PatchCore",
        stated=True,
        meaning="number of values that all levels together are pooled to: the input of f. auto: as for `level_dim`; "
        "where `embedding` is concat, always the number of all channels",
    )
    dim: ShareOrWidth = parameter(
        "1/2",
        stages=["training", "bank"],
        source="paper",
        stated=True,
        meaning="dimension of the representation: the output of f, or what PatchCore pools to. A number, or a share "
        "of the input of f: 1/2 is the paper's 512 of 1,024",
    )
    init: Literal["uniform", "orthogonal", "pca"] = parameter(
        "uniform",
        stages=["training", "bank"],
        source="codes: torch's default, in those that use it",
        stated=False,
        meaning="how f begins. uniform: drawn in ±1/√inputs, torch's default; orthogonal: orthonormal rows of a random "
        "orientation; pca: the principal directions of the training patches. g always begins as uniform.",
    )
    bias: bool = parameter(
        True,
        stages=["training", "bank"],
        source="codes: the default of their layers",
        stated=False,
        meaning="whether f and g have a bias. It shifts all patches alike, which no distance sees: beyond rounding it "
        "matters only with `teacher_norm`.",
    )
    coreset: Part = parameter(
        0.01,
        stages=["score"],
        source="paper",
        stated=True,
        meaning="share of the training patches that the memory bank keeps",
    )
    coreset_dim: Width = parameter(
        128,
        stages=["bank"],
        source="PatchCore",
        stated=False,
        meaning="dimension of the random projection in which the coreset is selected",
    )
    neighbours: Positive = parameter(
        1,
        stages=["score"],
        source="PatchCore",
        stated=False,
        meaning="b, the number of neighbours that equation 10 averages over. 1: the distance to the nearest neighbour "
        "alone, as the official PatchCore and two of four re-implementations score; the other two use 9.",
    )
    reweight: Literal["image", "map"] = parameter(
        "map",
        stages=["score"],
        source="paper",
        stated=True,
        meaning="what the weight of equation 10 applies to where `neighbours` is above 1. map: every patch, and so "
        "the map, as the equation is written; image: the image score alone",
    )
    distance: Literal["euclidean", "squared"] = parameter(
        "euclidean",
        stages=["score"],
        source="paper, second hand; the code of PatchCore has squared",
        stated=False,
        meaning="distances of equations 9 and 10, so of scores and maps. squared: as faiss gives them and the official "
        "PatchCore code keeps them. With `neighbours` 1 the order of image scores is the same; maps are interpolated "
        "differently.",
    )
    blur: Blur = parameter(
        4.0,
        stages=["score"],
        source="PatchCore",
        stated=False,
        meaning="px; sigma of the Gaussian that smooths the anomaly map",
    )
    mask_rule: MaskRule = parameter(
        "any",
        stages=["masks"],
        source="codes",
        stated=False,
        meaning="which pixels of a mask are a defect. any: those above 0, after resizing by nearest neighbour; "
        "official: those that are exactly 1 after bilinear resizing, as in the official PatchCore code, whose "
        "masks are a little smaller",
    )
    projection_dim: Width = parameter(
        128,
        stages=["training"],
        source="codes: 64 to 2048, most often 128",
        stated=False,
        meaning="dimension of the output of g, which only the training uses",
    )
    epochs: Positive = parameter(
        120,
        stages=["training"],
        source="paper",
        stated=True,
        meaning="how many times the training of f sees every training patch",
    )
    epoch: ShareOrPositive | None = parameter(
        None,
        stages=["bank"],
        source="ours",
        stated=False,
        meaning="f as it is after this epoch, one of `checkpoints`: a number, or a share of `epochs`; null: after the "
        "last epoch",
    )
    batch: Batch = parameter(
        1024,
        stages=["training"],
        source="codes: 64 to 1024; 1024 in the only from-paper log",
        stated=False,
        meaning="patches in one step of the training, about",
    )
    batches: Literal["all", "image"] = parameter(
        "all",
        stages=["training"],
        source="codes: three shuffle over all images, two take whole ones",
        stated=False,
        meaning="which patches share a batch. all: those of all images, shuffled; image: those of one image, shuffled "
        "and, where it has more than about one batch, split",
    )
    learning_rate: AboveZero = parameter(
        1e-05,
        stages=["training"],
        source="paper; STML for the Nesterov momentum",
        stated=True,
        meaning="step size of AdamP with Nesterov momentum, on a cosine schedule",
    )
    weight_decay: Amount = parameter(
        0.01,
        stages=["training"],
        source="paper",
        stated=True,
        meaning="weight decay of AdamP",
    )
    alpha: Share = parameter(
        0.5,
        stages=["training"],
        source="paper, second hand",
        stated=True,
        meaning="share of the pairwise similarity in the target similarity; the contextual similarity has the rest",
    )
    k: Annotated[int, Field(ge=2, le=8192), NUMBER] = parameter(
        5,
        stages=["training"],
        source="paper, second hand; codes for counting the patch itself",
        stated=True,
        meaning="number of neighbours of the contextual similarity, the patch itself included",
    )
    sigma: AboveZero = parameter(
        1.0,
        stages=["training"],
        source="codes: 1 in five of six; STML has 3",
        stated=False,
        meaning="bandwidth of equation 1, in `sigma_unit`",
    )
    sigma_unit: Literal["one", "median"] = parameter(
        "one",
        stages=["training"],
        source="paper; one reader has the median",
        stated=False,
        meaning="what `sigma` is measured in. one: the squared distances as they are, whose size differs from network "
        "to network; median: the median of a batch's squared distances between different patches",
    )
    margin: Amount = parameter(
        1.0,
        stages=["training"],
        source="paper, second hand; STML",
        stated=True,
        meaning="margin of equation 7, where distances are divided by their mean",
    )
    gamma: Share = parameter(
        0.999,
        stages=["training"],
        source="STML; codes have 0.9 to 0.999",
        stated=False,
        meaning="momentum of the moving average that makes the teacher",
    )
    teacher_norm: bool = parameter(
        False,
        stages=["training"],
        source="paper",
        stated=False,
        meaning="whether the teacher's projections are L2-normalised before equation 1. STML's code does so, the "
        "paper's equations do not.",
    )

    @model_validator(mode="after")
    def _fits(self) -> "RunSettings":
        if self.aspect == "crop" and self.crop > self.resize:
            raise ValueError(f"crop {self.crop} is larger than resize {self.resize}; lower crop or raise resize")
        if isinstance(self.epoch, int) and self.epoch > self.epochs:
            raise ValueError(f"epoch {self.epoch} comes after the last of {self.epochs} epochs")
        if self.batch < 2 * self.k:
            raise ValueError(f"batch {self.batch} holds too few patches for k = {self.k} neighbours; give at least 2 k")
        return self


class Run(RunSettings):
    """`RunSettings` in numbers: `fitted` to a network. The defaults are those for the paper's WideResNet-50."""

    level_dim: Width = 1024
    feature_dim: Width = 1024
    dim: Width = 512
    epoch: Positive | None = None

    @model_validator(mode="after")
    def _fits_widths(self) -> "Run":
        if self.method != "patchcore" and self.init != "uniform" and self.dim > self.feature_dim:
            raise ValueError(
                f"dim {self.dim} is more than init {self.init} can make of feature_dim {self.feature_dim}; lower dim, "
                "or set init to uniform"
            )
        pooled = {"dim": self.dim} if self.method == "patchcore" else {}
        for key, value in (pooled | {"feature_dim": self.feature_dim}).items():
            if self.embedding == "official" and value > len(self.levels) * self.level_dim:
                raise ValueError(
                    f"{key} {value} is more than there is to pool, {len(self.levels)} levels of level_dim "
                    f"{self.level_dim}; lower it or raise level_dim"
                )
            if self.embedding == "concat" and value > self.feature_dim:
                raise ValueError(f"{key} {value} is more than there is to pool, {self.feature_dim} channels; lower it")
        return self

    @property
    def width(self) -> int:
        """Values of a patch feature. PatchCore shares ReConPatch's features where those can be pooled evenly to its
        dimension; elsewhere they are pooled to it directly.
        """
        pooled = self.feature_dim if self.embedding == "concat" else len(self.levels) * self.level_dim
        evenly = self.feature_dim % self.dim == 0 and pooled % self.feature_dim == 0
        return self.dim if self.method == "patchcore" and not evenly else self.feature_dim

    @property
    def level_width(self) -> int | None:
        """Values that each level is pooled to; None: it keeps its channels."""
        return None if self.embedding == "concat" else self.level_dim

    def problem_with(self, images: Sequence[int]) -> str | None:
        """Patches of each training image -> what the run asks for beyond them, with the fix, if anything."""
        patches = sum(images)
        bank = int(patches * self.coreset)  # `coreset_size` keeps one patch where this is 0
        if bank < 1:
            least = math.ceil(1e6 / patches) / 1e6
            return f"coreset = {self.coreset:g} keeps none of {patches} training patches; raise it to {least:g} or more"
        if self.neighbours > bank:
            return (
                f"neighbours = {self.neighbours}, but coreset = {self.coreset:g} of {patches} training patches is a "
                f"memory bank of {bank}; lower neighbours or raise coreset"
            )
        of_image = self.batches == "image"
        if self.method == "reconpatch" and batch_sizes(images if of_image else [patches], self.batch)[0] < self.k:
            if of_image:
                return f"k = {self.k} neighbours cannot be found in batches of one image; lower k or set batches: all"
            return f"k = {self.k} neighbours cannot be found among {patches} training patches; lower k or add images"
        return None


def _origin(field: FieldInfo) -> Origin:
    extra: Any = field.json_schema_extra
    return Origin(extra["stages"], extra["source"], extra["stated"])


Settings = TypeVar("Settings", bound=RunSettings)
Channels = Callable[[str, Sequence[int], int], Sequence[int]]  # (backbone, levels, crop) -> channels of each level
DEFAULTS = RunSettings()
BASELINE = Run()
ORIGINS = {key: _origin(field) for key, field in RunSettings.model_fields.items()}


def _complete(value: Any) -> Any:
    if isinstance(value, Mapping) and (missing := [key for key in RunSettings.model_fields if key not in value]):
        raise ValueError(f"key {missing[0]} is missing")
    return value


# A run that a program wrote: a key that is missing there means damage or another version, not the default.
SavedRun = Annotated[Run, BeforeValidator(_complete)]


@cache
def of_training(run: Run) -> Run:
    """The run as its training images see it: without the augmentation of test images alone."""
    return run if run.augment == "both" else run.model_copy(update={"augment": "none"})


def digest(value: object, length: int = 8) -> str:
    """Plain value -> the first hex digits of the SHA-256 of its canonical JSON."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:length]


def vary(baseline: Settings, changes: Mapping[str, Any], where: str) -> Settings:
    """RunSettings, or a Run -> the same with some keys changed; raises ReconpatchError naming `where` and the key."""
    try:
        return type(baseline).model_validate(baseline.model_dump() | dict(changes))
    except ValidationError as error:
        raise explained(error, where) from None


def share_of(value: int | str, whole: int) -> int:
    """A number, or a share as "1/2", and what it is a share of -> the number: a share rounded down, but at least 1."""
    share = Fraction(value)
    return max(1, int(share * whole)) if isinstance(value, str) and "/" in value else int(share)


def fitted(settings: RunSettings, channels: Channels, where: str = "") -> Run:
    """Settings, what tells the channels of levels -> the run in numbers.

    The function is called only where a width depends on it. Raises ReconpatchError, naming `where`, if it does, and
    where the widths do not fit each other.
    """
    values = settings.model_dump()
    concat = settings.embedding == "concat"
    if concat or "auto" in (settings.level_dim, settings.feature_dim):
        try:
            widths = channels(settings.backbone, settings.levels, settings.crop)
        except ReconpatchError as error:
            raise ReconpatchError(str(error), where=where) from None
        auto = 2 * widths[-2] if len(widths) > 1 else widths[0]
        values["level_dim"] = auto if settings.level_dim == "auto" else settings.level_dim
        if concat or settings.feature_dim == "auto":
            values["feature_dim"] = sum(widths) if concat else auto
    values["dim"] = share_of(settings.dim, values["feature_dim"])
    if settings.epoch is not None:
        values["epoch"] = share_of(settings.epoch, settings.epochs)
    try:
        return Run.model_validate(values)
    except ValidationError as error:
        raise explained(error, where) from None


def embedding_remark(run: Run, channels: Sequence[int]) -> str:
    """A run, the channels of its levels -> what must be known of its patch features, "" if each of their values is a
    mean over whole s x s surroundings.

    A value averages about C s^2 L / width positions of the channels of a level, L being the number of levels. Below s^2
    the feature moves when the object moves by a pixel; below 1 values are repeated. An f that is wider than its input
    adds nothing to it.
    """
    remarks = []
    area = run.patch_size**2
    means = [count * area * len(channels) / run.width for count in channels]
    if run.embedding == "official" and min(means) < area:
        what = "repeats values" if min(means) < 1 else "leaves surroundings unaveraged"
        each = " and ".join(f"{mean:.1f}" for mean in means)
        remarks.append(f"{run.width} values {what}: each averages about {each} positions, whole surroundings {area}")
    if run.method != "patchcore" and run.dim > run.feature_dim:
        remarks.append(f"f makes {run.dim} values of {run.feature_dim}, more than there are")
    return "; ".join(remarks)
