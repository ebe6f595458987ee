"""Sections of configuration files: data sets, experiments and what overlays change in them, each key with its meaning.

`docs/configuration.md` and the schemas that editors use are written from these descriptions.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from reconpatch.data.layouts import LayoutName
from reconpatch.experiments import value_types as kinds


class Closed(BaseModel):
    """A section in which an unknown key is an error, and no number is infinite or NaN.

    Numbers may come as text: Snakemake's --config hands nested values over as text, and YAML reads 1e-5 as text.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Dataset(Closed):
    """Where the categories of a data set lie."""

    layout: LayoutName = Field(
        description="how its folders are called, as `reconpatch/data/layouts.py` says; `folder`: your own"
    )
    root: kinds.PathText | None = Field(
        description="the folder that holds the categories (of the layout `folder` also a category itself); "
        "`~` and $VARIABLES work; null: not at hand, experiments on it are skipped by `all`"
    )
    categories: kinds.Categories = Field(default="all", description="those to use, `all` that are there or a list")


class Variant(Closed):
    """A named change of several keys of a run at once, as "480 px"."""

    set: kinds.Settings = Field(default={}, description="wins over the experiment's `set`")
    paper: kinds.Settings = Field(default={}, description="what the paper states for this variant alone")
    assumed: kinds.Settings = Field(default={}, description="what stands for settings the paper does not state for it")


class Ensemble(Closed):
    """Runs that differ in one axis alone are combined, and the table shows the ensemble below its members."""

    over: str = Field(description="the axis whose values are the members; it has at least two")
    combine: Annotated[list[Literal["zscore", "minmax"]], Field(min_length=1), kinds.DISTINCT] = Field(
        description="how scores become comparable before their mean: modified z-scores over the training images "
        "(the paper) or min-max over the test images (PatchCore)"
    )


Kind = Literal["qualitative", "gallery", "histogram", "umap", "positions", "sweep", "curve"]


class Experiment(Closed):
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


class Override(Closed):
    """What an overlay changes in an experiment that is there. Values given here win over those of its file."""

    datasets: dict[kinds.Name, kinds.Categories] | None = Field(default=None, description="replaces the file's")
    set: kinds.Settings = Field(default={}, description="for all of the experiment's rows")
    variants: dict[kinds.Line, kinds.Settings] = Field(
        default={}, description="for the rows of one of the file's variants; wins over `set` here"
    )
    axes: kinds.Axes = Field(default={}, description="replaces the values of these axes, or adds the axis")
    figures: dict[Kind, kinds.Settings] | None = Field(default=None, description="replaces the file's")
