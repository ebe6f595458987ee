"""Figure of the effects of settings, the largest at the top. Drawing only; values come in points of AUROC."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from textwrap import fill

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from reconpatch.errors import ReconpatchError
from reconpatch.results.comparison import EFFECT
from reconpatch.results.figures.common import COLOURS, MARKERS, PLOT_STYLE, add_legend, settled
from reconpatch.results.figures.sweeps import widest
from reconpatch.results.names import METHODS

WRAP = 34  # characters in a line of a label


@dataclass(frozen=True)
class Effect:
    """What one setting changes for one method, with the ends of its 95 % interval; NaN: unknown."""

    method: str
    setting: str
    value: float
    low: float
    high: float


def effects_of(cells: pd.DataFrame, labels: Sequence[str]) -> tuple[dict[str, list[Effect]], str]:
    """Cells of a table's CSV, the names of what it varies -> (metric -> effects, x 100, of the places that have one;
    what they are of, a category or a mean over categories).

    Raises ReconpatchError where the table has no effects.
    """
    if EFFECT not in cells:
        raise ReconpatchError(
            "the table compares no rows", where="figures: effects", fix="give the experiment a `reference`"
        )
    wide, what = widest(cells)
    by_metric: dict[str, list[Effect]] = {}
    for row in wide[wide[EFFECT].notna()].to_dict("records"):
        ends = (100 * row[column] for column in (EFFECT, f"{EFFECT}_low", f"{EFFECT}_high"))
        setting = ", ".join(str(row[label]) for label in labels)
        by_metric.setdefault(str(row["metric"]), []).append(Effect(METHODS[row["method"]], setting, *ends))
    return by_metric, what


def effects(panels: Mapping[str, Sequence[Effect]], xlabel: str) -> Figure:
    """(effects by panel title, axis label) -> one panel per title, a row per setting.

    Settings stand in the order of their largest effect in any panel, the largest at the top. Bars are 95 % intervals.
    """
    every = [effect for shown in panels.values() for effect in shown]
    methods = list(dict.fromkeys(effect.method for effect in every))
    largest: dict[str, float] = {}
    for effect in every:
        largest[effect.setting] = max(largest.get(effect.setting, 0.0), abs(np.nan_to_num(effect.value)))
    settings = sorted(largest, key=lambda setting: largest[setting])
    with plt.rc_context(PLOT_STYLE):
        size = (3.6 * max(1, len(panels)) + 2, 0.34 * len(settings) + 1.4)
        figure, axes = plt.subplots(
            1, max(1, len(panels)), figsize=size, squeeze=False, sharey=True, layout="constrained"
        )
        for axis, (title, shown) in zip(axes[0], panels.items(), strict=False):
            axis.axvline(0, color="#777777", linewidth=0.8)
            for effect in shown:
                index = methods.index(effect.method)
                y = settings.index(effect.setting) - 0.2 * (index - (len(methods) - 1) / 2)
                axis.hlines(y, effect.low, effect.high, color=COLOURS[index], alpha=0.4, linewidth=4)
                axis.plot(effect.value, y, MARKERS[index], color=COLOURS[index], markersize=5)
            axis.set(title=title, xlabel=xlabel)
            axis.grid(axis="x", color="#e4e4e4", linewidth=0.6)
        axes[0, 0].set_yticks(range(len(settings)), [fill(setting, WRAP) for setting in settings])
        axes[0, 0].set_ylim(-0.6, len(settings) - 0.4)
        lines = [Line2D([], [], color=COLOURS[i], marker=MARKERS[i], ls="", label=m) for i, m in enumerate(methods)]
        add_legend(figure, lines, "outside lower center", max(1, len(lines)))
        return settled(figure)
