"""The configuration and experiment files. Every section is a model that says what its keys mean.

`configs/default.yaml` has a value for every key of `Config`; its comments, the schemas that editors use and
`docs/configuration.md` are written from these models by `reconpatch schemas`.
"""

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import yaml
from pydantic import Field, ValidationError, model_validator

from reconpatch.data.layouts import LayoutName
from reconpatch.errors import ReconpatchError
from reconpatch.experiments.place import shipped
from reconpatch.experiments.run import RunSettings, share_of
from reconpatch.experiments.stages import FIGURES, RULES
from reconpatch.experiments.value_types import (
    DISTINCT,
    NUMBER,
    ONCE,
    AboveZero,
    Amount,
    Axes,
    Backbone,
    Caption,
    Categories,
    Digests,
    Image,
    Line,
    Name,
    PathText,
    Section,
    Seeds,
    Settings,
    ShareOrPositive,
    checked_path,
    explained,
    shown,
)

DEFAULT = Path("configs/default.yaml")
VARIABLE = r"\$(\w+|\{[^}]*\})"  # as os.path.expandvars takes it for one; any other $ is a part of the name


class Dataset(Section):
    """Where the categories of a data set lie."""

    layout: LayoutName = Field(
        description="names of its folders, as `reconpatch/data/layouts.py` lists them; `folder`: for your own images"
    )
    root: PathText | None = Field(
        description="the folder that holds the categories (for the layout `folder` also a category itself); "
        "`~` and $VARIABLES work, and a path that is there is taken as written; null: not at hand, and `all` leaves "
        "out experiments on it"
    )
    categories: Categories = Field(default="all", description="which to use: `all` that are there, or a list")


class Variant(Section):
    """Several keys of a run that change together, under one label: "480 px" for example."""

    set: Settings = Field(default={}, description="wins over the experiment's `set`")
    paper: Settings = Field(default={}, description="what the paper states for this variant only")
    assumed: Settings = Field(default={}, description="what we assume for settings that the paper does not state here")


class Ensemble(Section):
    """Runs that differ only in one axis are combined. The table shows the ensemble below its members."""

    over: str = Field(description="the axis whose values are the members; it has at least two")
    combine: Annotated[list[Literal["zscore", "minmax"]], Field(min_length=1), DISTINCT] = Field(
        description="how scores become comparable before their mean: modified z-scores over the training images "
        "(the paper) or min-max over the test images (PatchCore)"
    )


if TYPE_CHECKING:
    Kind = str
else:
    Kind = Literal[tuple(FIGURES)]  # which a type checker cannot follow


class View(Section):
    """The paper's form of a table: which of its numbers it shows, in which rows and columns.

    `rows` and `columns` name `category`, `method`, `metric`, `variant` and axes. What is named in neither, and has
    several values all the same, makes further rows.
    """

    rows: list[str] = Field(default=[], description="what tells the rows apart, the outermost first")
    columns: Annotated[list[str], Field(min_length=1)] = Field(
        default=["metric", "method"], description="the same for the columns"
    )
    categories: Literal["all", "means", "natures"] = Field(
        default="all",
        description="of a view with categories: each of them with the means of their groups and of all, the means "
        "alone, or the groups by nature. A view without categories shows the mean of all",
    )
    methods: list[Literal["patchcore", "untrained", "reconpatch"]] | None = Field(
        default=None, description="the methods shown; null: all"
    )
    metrics: list[str] | None = Field(default=None, description="the metrics shown; null: all that tables have")
    where: dict[str, list[Any]] = Field(
        default={}, description="axis, or `variant`: its values that are shown; of others all"
    )
    paper: Literal["below", "beside"] = Field(
        default="below", description="where the paper's numbers stand: in a row below ours, or in a column beside it"
    )
    sources: Annotated[list[Line], Field(min_length=2, max_length=2)] = Field(
        default=["ours", "paper"],
        description="what the table calls our numbers and the paper's, for example [replication, published]",
    )


class Experiment(Section):
    """One table and its figures. Its runs are all combinations of its variants, axes and seeds."""

    title: Line = Field(description="title of the table and the figures")
    caption: Caption = Field(default="", description="what a reader must know about the paper's table or figure")
    measure: Literal["auroc", "cost"] = Field(
        default="auroc", description="what the table shows: AUROCs, or time and memory"
    )
    paper: Settings = Field(
        default={}, description="what the paper states for this table, where that differs from the defaults of a run"
    )
    assumed: Settings = Field(default={}, description="what we assume for settings that the paper does not state here")
    datasets: dict[Name, Categories] = Field(description="data sets of `datasets`, and which of their categories")
    set: Settings = Field(default={}, description="replaces values of the baseline")
    variants: dict[Line, Variant] = Field(default={}, description="rows of the table that change several keys")
    axes: Axes = Field(
        default={}, description="every combination of their values is a run; the first axis varies slowest"
    )
    ensemble: Ensemble | None = Field(default=None, description="which runs are combined")
    reference: Settings = Field(
        default={},
        description="variant and axis values of the row with which every other row of its method is compared: the "
        "table shows the difference as `effect`, with its interval",
    )
    metrics: Annotated[list[str], Field(min_length=1), DISTINCT] | None = Field(
        default=None, description="the metrics of the table; null: image AUROC, pixel AUROC and AUPRO (30 %)"
    )
    by_nature: bool = Field(
        default=False,
        description="whether the categories of all data sets are also grouped by what they are: aligned or rotated "
        "objects, textures, several objects; and logical anomalies, where a data set tells them apart",
    )
    oracle: str | None = Field(
        default=None,
        description="an axis of which a further row takes the value with the best image AUROC on the test set, for "
        "every category and seed. It is labelled as oracle: it shows what such a choice would inflate",
    )
    view: View | None = Field(
        default=None,
        description="the paper's form of the table; null: a row for each variant and combination of axes (without "
        "any for each category), a column for each metric and method",
    )
    figures: dict[Kind, Settings] = Field(
        default={},
        description="what to draw, and for which variant and axis values; `{}`: every run of the first seed",
    )


class Override(Section):
    """Changes of an experiment that exists. Values given here win over those in its file."""

    datasets: dict[Name, Categories] | None = Field(default=None, description="replaces the file's")
    set: Settings = Field(default={}, description="for all rows of the experiment")
    variants: dict[Line, Settings] = Field(
        default={}, description="for the rows of one of the file's variants; wins over `set` here"
    )
    axes: Axes = Field(default={}, description="replaces the values of these axes, or adds the axis")
    figures: dict[Kind, Settings] | None = Field(default=None, description="replaces the file's")


class Config(Section):
    """The whole configuration."""

    device: Literal["auto", "cpu", "cuda"] = Field(description="auto: a GPU where there is one")
    cuda_graph: bool = Field(
        description="on a GPU: whether a training step is recorded once and replayed as a CUDA graph. Off, as is the "
        "next key, until it has run on a GPU: docs/scaling.md"
    )
    gpu_coreset: bool = Field(description="on a GPU: whether the coreset is selected there, too")
    batch_images: Annotated[int, Field(ge=1, le=1024), NUMBER] = Field(
        description="images in one pass through the network on the CPU; changes memory and speed, not results"
    )
    gpu_batch_images: Annotated[int, Field(ge=1, le=1024), NUMBER] = Field(
        description="the same on a GPU. There its libraries may choose other sums for another number"
    )
    features_gb: Amount = Field(
        description="GB of patch features that are kept. They take 2 bytes a value: 1.6 MB an image at 224 px and "
        "1,024 dimensions. While all features of a plan fit, they are kept, and a later seed, ratio or figure costs "
        "only its own stage. Otherwise they are deleted once used, so that about one set per core is on the disk, and "
        "whatever is added later repeats the stages of its category. `reconpatch plan` prints what a plan needs."
    )
    memory_gb: AboveZero | None = Field(
        description="GB (10^9 bytes) that all local jobs together may use; null: what this machine has"
    )
    container: Image | None = Field(
        description="the image that jobs run in with Snakemake's option `--software-deployment-method apptainer`, "
        "without which it is not read: a file, or an address such as docker://REGISTRY/IMAGE; null: none. "
        "docs/containers.md"
    )
    checkpoints: list[ShareOrPositive] = Field(
        description="f is kept after these epochs, numbers or shares of all epochs, and after the last: figure_umap, "
        "figure_curve, table_selection"
    )
    seeds: Seeds = Field(description="every experiment without a seed axis of its own runs once for each seed")
    resamples: Annotated[int, Field(ge=100, le=10**5), NUMBER] = Field(
        description="bootstrap resamples of test images (and seeds) behind every interval"
    )
    tolerance: AboveZero = Field(
        description="points of AUROC (x 100) by which our value may differ from the paper's and still agree with it. "
        "Coresets of different seeds alone move the image AUROC of a category by more, a mean over 15 categories by "
        "less."
    )
    report_images: Literal["all", "worst", "none"] = Field(
        description="test images that results/report.html shows of every category, with ground truth and both methods' "
        "maps. all: every image; worst: those that a method judges wrongly and the nearest others; none: no "
        "image. docs/tables.md has the limits"
    )
    datasets: Annotated[dict[Name, Dataset], ONCE] = Field(
        description="where the data are. A root of null: not at hand, and `all` leaves out experiments on it. `~` and "
        "$VARIABLES work. layout: that of a published data set (docs/datasets.md), folder (your own images: train/, "
        "test/good, test/<defect>, masks optional) or sample."
    )
    weight_files: dict[Backbone, PathText] = Field(
        description="backbone: path of a file, for runs with `weights: file` (of safetensors or of "
        "plain tensors, whatever its suffix)"
    )
    weight_digests: dict[Backbone, Digests] = Field(
        description="backbone: the SHA-256 that its weights must have, or a list of them where the network is cut "
        "after several levels. Records and `reconpatch check` show it; it is of the tensors up to the last level, not "
        "of a file. It is compared by `reconpatch check` and whenever patch features are extracted, wherever the "
        "weights come from, except random ones. Other weights stop the run before it starts."
    )
    stand_ins: dict[Backbone, Settings] = Field(
        description="backbone: {backbone: another, weights: file, ...}. Runs of the first use the second, and tables "
        "say so."
    )
    experiments: Annotated[dict[Name, PathText], ONCE] = Field(
        description="every experiment is a target: one table and its figures. `all` makes those whose data are at "
        "hand, in this order."
    )
    overrides: dict[Name, Override] = Field(
        description="changes of single experiments, for files given with --configfile: `table_mvtec: {datasets: ..., "
        "set: {epochs: 5}, axes: ..., figures: ...}`"
    )
    baseline: RunSettings = Field(
        description="the run that experiments start from: ReConPatch as the paper's single model at 224 px (Tables 2 "
        "and 3)"
    )

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
            if strange := [key for key in settings if key not in RunSettings.model_fields]:
                raise ValueError(f"stand_ins.{name}: unknown key {strange[0]!r}; check its spelling")
        return self

    def kept_epochs(self, epochs: int) -> set[int]:
        """Number of epochs of a training -> those after which f is kept, the last among them."""
        kept = {share_of(each, epochs) for each in self.checkpoints}
        return {epoch for epoch in kept if epoch < epochs} | {epochs}


def expand_path(path: str, key: str) -> Path:
    """A path from the configuration -> the same with `~` and `$VARIABLES` replaced; a path that is there as written
    stays as it is.

    Raises ReconpatchError naming the key where a variable is not set, the home of `~name` is unknown, or no file can
    have this name.
    """
    where = f"{key} = {shown(path)}"
    try:
        written = Path(checked_path(path)).expanduser()
        if written.exists():
            return written
        expanded = checked_path(os.path.expandvars(written))
    except (ValueError, RuntimeError, OSError) as error:
        raise ReconpatchError(str(error), where=where) from None
    if unset := re.search(VARIABLE, expanded):
        what = f"there is no such path, and no environment variable {unset[0]}"
        raise ReconpatchError(what, where=where, fix="set it or write the path")
    return Path(expanded)


def read_config(content: Mapping[str, object]) -> Config:
    """Merged configuration -> Config; raises one ReconpatchError listing every wrong key with its value."""
    try:
        return Config.model_validate(content)
    except ValidationError as error:
        raise explained(error, "configuration") from None


def load_config(files: Sequence[Path]) -> Config:
    """Overlays of the default configuration, the later one wins -> Config.

    Raises ReconpatchError naming what is wrong.
    """
    contents = []
    for file in files:
        contents.append(read_yaml(file) or {})
        if not isinstance(contents[-1], dict):
            raise ReconpatchError(f"{file}: must be a section of `key: value` lines")
    return read_config(with_defaults(*contents))


def with_defaults(*contents: Mapping[str, Any]) -> dict[str, Any]:
    """Contents of overlays, the later one wins -> the default configuration with their changes."""
    from snakemake.utils import update_config  # loads all of Snakemake

    whole: dict[str, Any] = read_yaml(shipped(DEFAULT))
    for content in contents:
        update_config(whole, content)  # as Snakemake merges them
    return whole


def read_experiment(file: Path) -> Experiment:
    """Experiment file -> Experiment; raises ReconpatchError naming the file and key."""
    content = read_yaml(file)
    if content is None:
        raise ReconpatchError("empty", where=file, fix="give at least a title and datasets")
    try:
        return Experiment.model_validate(content)
    except ValidationError as error:
        raise explained(error, str(file)) from None


class _Loader(yaml.SafeLoader):
    """YAML in which a key given twice is an error (other readers silently keep the last value), and so is a key that
    is a list or a mapping.
    """

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node: yaml.MappingNode = super().compose_mapping_node(anchor)
        keys: set[str] = set()
        for key, _ in node.value:
            where = f"{self.name}, line {key.start_mark.line + 1}"
            if not isinstance(key, yaml.ScalarNode):
                raise ReconpatchError("a key that is no text", where=where, fix="write it in quotes")
            if key.value in keys:
                raise ReconpatchError(f"key {shown(key.value)} is there twice", where=where, fix="keep one of them")
            keys.add(key.value)
        return node


def read_yaml(file: Path) -> Any:
    """YAML file -> its content: None where it is empty.

    Raises ReconpatchError naming the file, and the line where there is one, for a file that is missing, not UTF-8 or
    not valid YAML, and for a key that is there twice.
    """
    try:
        if not file.is_file():
            what = "a folder" if file.is_dir() else "no regular file" if file.exists() else "no such file"
            raise ReconpatchError(what, where=file, fix=f"give the path of a YAML file, seen from {Path.cwd()}")
        loader = _Loader(file.read_text(encoding="utf-8-sig"))
        loader.name = str(file)
        return loader.get_single_data()
    except ReconpatchError:
        raise
    except UnicodeDecodeError as error:
        raise ReconpatchError(f"not UTF-8 text (byte {error.start})", where=file, fix="save it as UTF-8") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        fix = "indent with spaces" if "'\\t'" in str(error.problem) else ""
        problem = ", ".join(filter(None, (error.context, error.problem)))
        where = f"{file}, line {mark.line + 1}" if mark else file
        raise ReconpatchError(f"not valid YAML ({problem})", where=where, fix=fix) from None
    except (OSError, ValueError, LookupError, RecursionError, yaml.YAMLError) as error:
        raise ReconpatchError(f"cannot be read ({' '.join(str(error).split())})", where=shown(str(file))) from None
