"""What a plan hands to a table, as plain values. It is a module of its own: no table is made again because the planning
changed.
"""

from typing import Any, TypedDict


class CellSettings(TypedDict):
    """A cell of a plan as plain values."""

    labels: dict[str, Any]
    method: str
    seed: int
    run: str
    departures: tuple[str, ...]
    remarks: list[str]  # on the embedding


class ViewSettings(TypedDict):
    """The paper's form of a table, as `View` of the configuration describes it."""

    rows: list[str]
    columns: list[str]
    categories: str  # "all", "means" or "natures"
    methods: list[str] | None
    metrics: list[str] | None
    where: dict[str, list[Any]]  # as cells are labelled
    paper: str  # "below" or "beside"
    sources: list[str]  # what our numbers and the paper's are called


class TableSettings(TypedDict):
    """What a table needs besides records, as plain values: Snakemake compares them with those of the last run."""

    title: str
    caption: str
    measure: str  # "auroc" or "cost"
    absent: list[str]  # why parts of the experiment were not run
    targets: list[tuple[str, str]]  # data set and category
    cells: list[CellSettings]
    reference: dict[str, Any]  # labels of the row that others of its method are compared with; {}: none
    view: ViewSettings
    oracle: str | None  # axis whose best value on the test set makes a further row
    metrics: list[str]
    by_nature: bool  # whether there are groups of the categories of all data sets
    layouts: dict[str, str]  # of every data set
    resamples: int
    tolerance: float  # points within which ours and the paper's agree
