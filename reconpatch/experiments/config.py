"""Typed configuration: what a run is, which data sets there are, what an experiment sweeps. No defaults live here:
every value stands, with its meaning and source, in configs/default.yaml; docs/configuration.md is written from both.
"""

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import yaml
from pydantic import Field, ValidationError, model_validator

from reconpatch.data.layouts import LayoutName
from reconpatch.errors import ReconpatchError
from reconpatch.experiments import value_types as kinds
from reconpatch.experiments.run import Run
from reconpatch.experiments.stages import FIGURES, RULES
from reconpatch.experiments.value_types import Section, shown


class Dataset(Section):
    """Where the categories of a data set lie."""

    layout: LayoutName = Field(
        description="how its folders are called, as `reconpatch/data/layouts.py` says; `folder`: your own"
    )
    root: kinds.PathText | None = Field(
        description="the folder that holds the categories (of the layout `folder` also a category itself); "
        "`~` and $VARIABLES work; null: not at hand, experiments on it are skipped by `all`"
    )
    categories: kinds.Categories = Field(default="all", description="those to use, `all` that are there or a list")


class Variant(Section):
    """A named change of several keys of a run at once, as "480 px"."""

    set: kinds.Settings = Field(default={}, description="wins over the experiment's `set`")
    paper: kinds.Settings = Field(default={}, description="what the paper states for this variant alone")
    assumed: kinds.Settings = Field(default={}, description="what stands for settings the paper does not state for it")


class Ensemble(Section):
    """Runs that differ in one axis alone are combined, and the table shows the ensemble below its members."""

    over: str = Field(description="the axis whose values are the members; it has at least two")
    combine: Annotated[list[Literal["zscore", "minmax"]], Field(min_length=1), kinds.DISTINCT] = Field(
        description="how scores become comparable before their mean: modified z-scores over the training images "
        "(the paper) or min-max over the test images (PatchCore)"
    )


if TYPE_CHECKING:
    Kind = str
else:
    Kind = Literal[tuple(FIGURES)]  # which a type checker cannot follow


class Experiment(Section):
    """A file of its own: one table and its figures. Its runs are the combinations of its variants, axes and seeds."""

    title: kinds.Line = Field(description="heads the table and the figures")
    caption: kinds.Caption = Field(default="", description="what a reader must know of the paper's table or figure")
    measure: Literal["auroc", "cost"] = Field(
        default="auroc", description="what the table shows: AUROCs, or time and memory"
    )
    paper: kinds.Settings = Field(
        default={}, description="what the paper states for this table otherwise than for its baseline"
    )
    assumed: kinds.Settings = Field(default={}, description="what stands for settings the paper does not state for it")
    datasets: dict[kinds.Name, kinds.Categories] = Field(
        description="data sets of `datasets`, and which of their categories"
    )
    set: kinds.Settings = Field(default={}, description="what replaces the baseline's values")
    variants: dict[kinds.Line, Variant] = Field(default={}, description="rows of the table that change several keys")
    axes: kinds.Axes = Field(
        default={}, description="every combination of their values is a run; the first axis varies slowest"
    )
    ensemble: Ensemble | None = Field(default=None, description="which runs are combined")
    figures: dict[Kind, kinds.Settings] = Field(
        default={},
        description="what to draw, and for which variant and axis values; `{}`: all of the first seed",
    )


class Override(Section):
    """What an overlay changes in an experiment that is there. Values given here win over those of its file."""

    datasets: dict[kinds.Name, kinds.Categories] | None = Field(default=None, description="replaces the file's")
    set: kinds.Settings = Field(default={}, description="for all of the experiment's rows")
    variants: dict[kinds.Line, kinds.Settings] = Field(
        default={}, description="for the rows of one of the file's variants; wins over `set` here"
    )
    axes: kinds.Axes = Field(default={}, description="replaces the values of these axes, or adds the axis")
    figures: dict[Kind, kinds.Settings] | None = Field(default=None, description="replaces the file's")


class Config(Section):
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


LARGEST = 10**6  # bytes; the shipped files have a few thousand
MOST_VALUES = 10**5  # with every alias written out
PLAIN = {f"tag:yaml.org,2002:{kind}" for kind in ("str", "int", "float", "bool", "null", "seq", "map", "merge")}
KEYS = {"tag:yaml.org,2002:str", "tag:yaml.org,2002:merge"}


def read_yaml(file: Path) -> Any:
    """YAML file -> its content: None where it is empty, else nested dictionaries with text as keys, lists, text,
    numbers, true, false and null.

    Raises ReconpatchError naming the file, and the line where there is one, for what is missing, no regular file, not
    UTF-8, above a megabyte or no YAML; and for what YAML allows but no one means: a key given twice (other readers
    silently keep the last), keys that are no text, tags, dates, and aliases that contain themselves or unfold into
    more than 100,000 values.
    """
    try:
        if not file.is_file():
            there = "a folder" if file.is_dir() else "no regular file" if file.exists() else "no such file"
            raise ReconpatchError(f"{file}: {there}; give the path of a YAML file from {Path.cwd()}")
        if file.stat().st_size > LARGEST:
            raise ReconpatchError(f"{file}: {file.stat().st_size} bytes, a configuration has at most {LARGEST}")
        text = file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ReconpatchError(f"{file}: not UTF-8 text (byte {error.start}); save it as UTF-8") from None
    except (OSError, ValueError) as error:
        raise ReconpatchError(f"{shown(str(file))}: cannot be read ({error})") from None
    try:
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
        if node is None:
            return None
        _check(node, file, {})
        return loader.construct_document(node)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        parts = [getattr(error, name, None) for name in ("context", "problem")]
        said = " ".join((", ".join(filter(None, parts)) or str(error)).split())
        hint = "; indent with spaces" if "'\\t'" in said else ""
        where = f"{file}, line {mark.line + 1}" if mark else f"{file}"
        raise ReconpatchError(f"{where}: not valid YAML ({said}){hint}") from None
    except RecursionError:
        raise ReconpatchError(f"{file}: not valid YAML: nested too deeply") from None
    except (ValueError, LookupError) as error:  # of a tag's reader, as for an integer of 5,000 digits or `!!bool 3`
        raise ReconpatchError(f"{file}: not valid YAML: a value cannot be read ({error})") from None


def _check(node: yaml.Node, file: Path, sizes: dict[int, int]) -> int:
    """Raise ReconpatchError for what `read_yaml` refuses; else the number of values below, aliases written out."""
    where = f"{file}, line {node.start_mark.line + 1}"
    if id(node) in sizes:
        if not sizes[id(node)]:
            raise ReconpatchError(f"{where}: this value contains itself through an alias; write it out")
        return sizes[id(node)]
    sizes[id(node)] = 0
    if node.tag not in PLAIN:
        kind = node.tag.removeprefix("tag:yaml.org,2002:")
        what = shown(node.value) if isinstance(node, yaml.ScalarNode) else "this value"
        raise ReconpatchError(f"{where}: {what} would be read as {shown(kind)}; write it in quotes, without a tag")
    below: list[yaml.Node] = node.value if isinstance(node, yaml.SequenceNode) else []
    if isinstance(node, yaml.MappingNode):
        below = [value for _, value in node.value]
        seen: set[str] = set()
        for key, _ in node.value:
            at = f"{file}, line {key.start_mark.line + 1}"
            if not isinstance(key, yaml.ScalarNode) or key.tag not in KEYS:
                raise ReconpatchError(f"{at}: key {shown(key.value)} is no text; write it in quotes")
            if key.value in seen:
                raise ReconpatchError(f"{at}: key {shown(key.value)} is there twice; keep one of them")
            seen.add(key.value)
    sizes[id(node)] = 1 + sum(_check(child, file, sizes) for child in below)
    if sizes[id(node)] > MOST_VALUES:
        raise ReconpatchError(f"{where}: its aliases unfold into more than {MOST_VALUES} values; write them out")
    return sizes[id(node)]
