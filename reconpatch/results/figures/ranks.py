"""Critical-difference diagrams: average ranks of methods over categories. Drawing only; `statistics` computes."""

from collections.abc import Mapping, Sequence

import pandas as pd
import scikit_posthocs
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from reconpatch.method.metrics import METRICS
from reconpatch.results.figures.common import COLOURS, in_print_style, panel_grid
from reconpatch.results.names import ALL, KIND, METHODS
from reconpatch.results.statistics import LEAST, LEVEL, RANKED, average_ranks, critical_difference, friedman_p


def rank_panels(cells: pd.DataFrame, labels: Sequence[str]) -> dict[str, pd.DataFrame]:
    """Cells of a table's CSV, the swept labels -> title of a place and metric -> values, (categories, methods).

    Categories on which a method has no value are left out. Kinds of anomalies that are measured apart are places.
    """
    single = cells[(cells["categories"] == 1) & (cells["dataset"] != ALL) & cells["metric"].isin(RANKED)]
    kinds = {KIND} & {*single.columns}  # empty where a data set has none
    single = single.assign(**{kind: single[kind].fillna("") for kind in kinds})
    places = [*(["dataset"] if single["dataset"].nunique() > 1 else []), *labels, *kinds, "metric"]
    panels = {}
    for key, part in single.groupby(places, sort=False, dropna=False):
        *place, metric = key
        named = [f"{name} {value}" for name, value in zip(places, place, strict=False) if (name, value) != (KIND, "")]
        values = part.pivot(index="category", columns="method", values="value").dropna()
        panels[", ".join([*named, METRICS[str(metric)].label])] = values.rename(columns=METHODS)
    return panels


@in_print_style
def ranks(panels: Mapping[str, pd.DataFrame]) -> Figure:
    """(values by title, a row per category, a column per method) -> a diagram each, two in a row.

    Panels with too few methods or categories are left out; if none is left, the figure says why.
    """
    shown = {title: values for title, values in panels.items() if min(values.shape) >= LEAST}
    figure, axes = panel_grid(len(shown), 1.2, per_row=2)
    if not shown:
        most = [max((values.shape[n] for values in panels.values()), default=0) for n in (0, 1)]
        axes[0].set_axis_off()
        reason = (
            f"No diagram: ranks need at least {LEAST} methods\nand {LEAST} categories with values of all of them.\n"
            f"Here, methods: {most[1]}; such categories: {most[0]}."
        )
        axes[0].text(0.5, 0.5, reason, ha="center", va="center")
    for axis, (title, values) in zip(axes, shown.items(), strict=False):
        _diagram(axis, title, values)
    return figure


def _diagram(axis: Axes, title: str, values: pd.DataFrame) -> None:
    """Values of k methods on N categories -> their diagram. Every metric in RANKED is better the higher it is."""
    count, methods = values.shape
    difference, p = critical_difference(count, methods), friedman_p(values.to_numpy())
    average = pd.Series(average_ranks(values.to_numpy()), index=values.columns)
    colours = dict(zip(METHODS.values(), COLOURS, strict=False))
    scikit_posthocs.critical_difference_diagram(
        average,
        scikit_posthocs.posthoc_nemenyi_friedman(values),
        alpha=LEVEL,
        ax=axis,
        text_h_margin=0.03 * methods,
        label_fmt_left="{label} ({rank:.2f})",
        label_fmt_right="({rank:.2f}) {label}",
        color_palette={name: colours[name] for name in values.columns},
    )
    axis.set_title(f"{title}\n{count} categories, Friedman p {p:.2g}")
    axis.spines["top"].set_visible(True)  # the scale of the ranks
    axis.set_xticks(range(1, methods + 1))
    axis.tick_params(axis="x", pad=1)
    axis.plot([1, 1 + difference], [1.3, 1.3], color="black", linewidth=2)  # above the scale, which starts at 0
    axis.text(1, 2, f"critical difference {difference:.2f}", va="center", fontsize=7)
    axis.set_ylim(top=2.5)
