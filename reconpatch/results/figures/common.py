"""What all figures share: style, colours, captions, and how they are saved."""

from collections.abc import Sequence
from pathlib import Path
from textwrap import fill
from typing import Any, Literal

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from reconpatch.errors import ReconpatchError
from reconpatch.files import replacing
from reconpatch.records.record import Record
from reconpatch.results.figures.fonts import make_legible, note
from reconpatch.results.names import METHODS

NORMAL, ANOMALOUS = "#4878a8", "#d1495b"
# Okabe and Ito's colours, which colour-blind readers can tell apart; the markers differ too.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000")
MARKERS = "osD^vP*"
STYLE: dict[Any, Any] = {"font.size": 9, "axes.spines.top": False, "axes.spines.right": False}
STYLE["svg.hashsalt"] = "reconpatch"  # the same figure is the same file
PLOT_STYLE = STYLE | {"axes.formatter.useoffset": False, "axes.axisbelow": True}  # ticks read 99.2, not 0.2 plus 99

Edge = Literal["outside upper center", "outside lower center"]


def epoch_of(record: Record) -> int:
    """Record of ReConPatch -> the epoch whose f it uses; of the untrained f 0."""
    if record.description["method"] == "untrained":
        return 0
    return int(record.description.get("epoch") or record.description["epochs"])


def panel_titles(records: Sequence[Record]) -> list[str]:
    """Records of one figure -> a title for each: its method, and its run where methods repeat.

    Raises ReconpatchError when their images or maps are not of one geometry and so cannot stand side by side.
    """
    for key in ("resize", "crop", "interpolation", "blur", "augment", "mask_rule"):
        values = [record.description.get(key) for record in records]
        if len(set(values)) > 1:
            raise ReconpatchError(
                f"the runs drawn differ in {key}: {values}", where="figures", fix="choose one value under figures"
            )
    titles = [METHODS[record.description["method"]] for record in records]
    return [f"{t} {r.run}" if titles.count(t) > 1 else t for t, r in zip(titles, records, strict=True)]


def footnote(records: Sequence[Record]) -> str:
    """Records of one figure -> the line below it: backbone, weights, settings of the runs and every flag."""
    backbones = sorted({f"{r.description['backbone']} ({r.weights.source} weights)" for r in records})
    settings = sorted({f"{r.description['dim']} dimensions, coreset {r.description['coreset']:g}" for r in records})
    shown = settings if len(settings) < 3 else []  # a sweep's axis says what differs
    return "; ".join([*backbones, *shown, *sorted({str(flag) for record in records for flag in record.flags})])


def save(figure: Figure, path: Path, below: str = "") -> None:
    """Write a figure with a footnote and close it; without a time stamp, so the same figure is the same file."""
    make_legible(figure)
    below = "; ".join(filter(None, (below, note(figure))))
    lines = fill(below, max(60, int(20 * figure.get_figwidth())))  # about 20 characters of this size fit in an inch
    figure.text(0.01, -0.1 / figure.get_figheight(), lines, fontsize=7, color="#777777", va="top", parse_math=False)
    metadata = {"Date": None} if path.suffix == ".svg" else None
    with plt.rc_context(STYLE), replacing(path) as destination:
        figure.savefig(destination, dpi=144, bbox_inches="tight", metadata=metadata)
    plt.close(figure)


def add_legend(figure: Figure, handles: Sequence[Line2D], edge: Edge, columns: int, title: str | None = None) -> None:
    """A legend at an edge of the figure, for which the layout makes room."""
    figure.legend(handles=handles, loc=edge, ncols=columns, title=title, frameon=False, fontsize=8, handlelength=3)


def settled(figure: Figure) -> Figure:
    """The figure with its layout done and its legends pinned: else saving with a footnote moves them on top of it."""
    make_legible(figure)
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    for legend in figure.legends:
        legend.set_bbox_to_anchor((0, 0, 1, 1), transform=figure.transFigure)
    return figure
