"""What all figures share: sizes, style, colours, layout, and how they are saved.

A drawing function gives its figure the width of one or two columns and the height that its panels shall have. `save`
adds the height that titles, labels and legends take, and writes the figure for print with its caption beside it.
"""

from collections.abc import Iterable, Sequence
from io import BytesIO
from pathlib import Path
from textwrap import fill
from typing import Any, Literal, get_args

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.text import Text

from reconpatch.errors import ReconpatchError
from reconpatch.files import replacing
from reconpatch.records.record import Record
from reconpatch.results.figures.captions import write_caption
from reconpatch.results.figures.fonts import make_legible, note
from reconpatch.results.names import METHODS

ONE_COLUMN, TWO_COLUMNS = 3.25, 6.875  # inches, of a WACV or CVPR paper
# Okabe and Ito's colours, which colour-blind readers can tell apart, but for those too pale for lines on white.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#000000")
MARKERS, LINES = "osD^v", ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)))  # of the same series as the colours
NORMAL, ANOMALOUS, GREY = COLOURS[0], COLOURS[1], "#767676"

# What a figure itself says of records with a flag of some kind: it must not pass for a result where its caption is not.
MARKS = {"weights": "random weights", "sample": "drawn defects", "altered": "altered data"}
MARK_WIDTH, LOW = 0.14, 1.6  # inches: a line of the mark; a figure that is too low for all marks in one line
ROOM = 5.0  # inches, of all that can surround panels: where it lacks, matplotlib gives up the layout

Format = Literal["pdf", "svg", "png"]
# Neither dates nor versions: the same figure is the same file.
METADATA: dict[Format, dict[str, Any]] = {
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
    "svg": {"Date": None, "Creator": None},
    "png": {"Software": None},
}

# Decorates drawing functions: what they draw is in the style of all figures.
in_print_style = plt.style.context(str(Path(__file__).with_name("common.mplstyle")))


def epoch_of(record: Record) -> int:
    """Record of ReConPatch -> the epoch whose f it uses; of the untrained f 0."""
    if record.description["method"] == "untrained":
        return 0
    return int(record.description.get("epoch") or record.description["epochs"])


def panel_titles(records: Sequence[Record]) -> list[str]:
    """Records of one figure -> a title for each: its method, and its run where methods repeat.

    Raises ReconpatchError when their images or maps are not of one geometry and so cannot stand side by side.
    """
    for key in ("aspect", "resize", "crop", "interpolation", "blur", "augment", "mask_rule"):
        values = [record.description.get(key) for record in records]
        if len(set(values)) > 1:
            raise ReconpatchError(
                f"the runs drawn differ in {key}: {values}", where="figures", fix="choose one value under figures"
            )
    titles = [METHODS[record.description["method"]] for record in records]
    return [f"{t} {r.run}" if titles.count(t) > 1 else t for t, r in zip(titles, records, strict=True)]


def series_index(names: Iterable[str], fix: str) -> dict[str, int]:
    """Names of series, some more than once -> the index of each among COLOURS, MARKERS and LINES.

    Methods look the same in all figures. Raises ReconpatchError, with the fix, for more names than colours.
    """
    distinct = list(dict.fromkeys(names))
    if len(distinct) > len(COLOURS):
        raise ReconpatchError(
            f"{len(distinct)} series in one figure, at most {len(COLOURS)} can be told apart", fix=fix
        )
    fixed = list(METHODS.values())
    return {name: (fixed if {*distinct} <= {*fixed} else distinct).index(name) for name in distinct}


def panel_grid(count: int, height: float, per_row: int = 3, **subplots: Any) -> tuple[Figure, list[Axes]]:
    """Number of panels, inches that each is high -> a figure one column wide for one panel, else two; its panels."""
    columns = min(max(1, count), per_row)
    rows = -(-max(1, count) // columns)
    size = (ONE_COLUMN if columns == 1 else TWO_COLUMNS, rows * height)
    figure, axes = plt.subplots(rows, columns, figsize=size, squeeze=False, **subplots)
    for axis in axes.flat[max(1, count) :]:
        axis.remove()
    return figure, list(axes.flat[: max(1, count)])


def add_legend(figure: Figure, handles: Sequence[Artist], title: str | None = None) -> None:
    """A legend below all panels, for which the layout makes room, in as few rows as the figure's width allows."""
    for columns in range(len(handles), 0, -1):
        legend = figure.legend(handles=handles, loc="outside lower center", ncols=columns, title=title)
        make_legible(figure)
        if columns == 1 or legend.get_window_extent().width < figure.bbox.width:
            break
        legend.remove()
    for text in legend.get_texts() if handles else []:
        text.set_text(wrapped(text, 0.8 * figure.bbox.width))


def wrapped(text: Text, pixels: float) -> str:
    """A text of a figure, a width -> its content with as many breaks as it needs to be no wider, along its direction.

    Single words are broken, too.
    """
    content = text.get_text()
    characters = max(map(len, content.split("\n")))
    while characters > 1:
        extent = text.get_window_extent()
        longest = extent.height if text.get_rotation() == 90 else extent.width
        if longest <= pixels:
            break
        characters = max(1, min(characters - 1, int(characters * pixels / longest)))
        text.set_text("\n".join(fill(line, characters) for line in content.split("\n")))
    return text.get_text()


@in_print_style
def save(figure: Figure, path: Path, records: Sequence[Record], departures: Sequence[str], *remarks: str) -> None:
    """Write a figure as PDF, SVG and PNG beside each other, and its caption; and close it.

    `path` is any of them; its stem is the kind of figure. `records` are those that the figure shows, `departures` their
    settings other than the paper's. Its caption names both, with networks and flags. The figure itself has a mark where
    weights are random or defects are drawn.
    """
    _mark(figure, [mark for kind, mark in MARKS.items() if any(f.kind == kind for r in records for f in r.flags)])
    _lay_out(figure)
    for suffix in get_args(Format):
        with replacing(path.with_suffix(f".{suffix}")) as destination:
            figure.savefig(destination, format=suffix, metadata=METADATA[suffix])
    plt.close(figure)
    write_caption(path, records, departures, [*remarks, *filter(None, [note(figure)])])


@in_print_style
def svg(figure: Figure, marks: Sequence[str] = ()) -> bytes:
    """Figure, what it says of itself along its right edge -> the SVG of it, for a page; and close it."""
    _mark(figure, marks)
    _lay_out(figure)
    stream = BytesIO()
    figure.savefig(stream, format="svg", metadata=METADATA["svg"])
    plt.close(figure)
    return stream.getvalue()


def _mark(figure: Figure, marks: Sequence[str]) -> None:
    """Write marks along the right edge, where no legend is, and keep the layout off them."""
    width, height = figure.get_size_inches()
    lines = [", ".join(marks)] if height > LOW else marks
    free = MARK_WIDTH * len(lines) / width if marks else 0.0
    engine = figure.get_layout_engine()
    if isinstance(engine, ConstrainedLayoutEngine):
        engine.set(rect=(0, 0, 1 - free, 1))
    if marks:
        style: dict[str, Any] = {"rotation": 90, "ha": "center", "va": "center", "fontsize": 7, "color": GREY}
        figure.text(1 - free / 2, 0.5, "\n".join(lines), **style)


def _lay_out(figure: Figure) -> None:
    """Break titles that are wider than their panels, raise the figure by what surrounds its panels, and freeze it.

    Until then the height of the figure is that of its panels. Panels of a given aspect are as high as their width asks.
    """
    make_legible(figure)
    panels = [axis for axis in figure.axes if axis.get_subplotspec()]
    rows = {place.rowspan.start: axis for axis in panels if (place := axis.get_subplotspec())}
    height = figure.get_figheight() / max(1, len(rows))
    figure.set_figheight(figure.get_figheight() + ROOM)
    for _ in range(4):
        figure.draw_without_rendering()
        missing = 0.0
        for axis in panels:
            width = axis.get_position(original=True).width * figure.bbox.width
            high = width * aspect if (aspect := axis.get_box_aspect()) else height * figure.dpi
            axis.title.set_text(wrapped(axis.title, 0.94 * width))
            if axis.yaxis.label.get_rotation() == 90:
                axis.yaxis.label.set_text(wrapped(axis.yaxis.label, 0.94 * high))
            if axis in rows.values():
                missing += high / figure.dpi - axis.get_position(original=True).height * figure.get_figheight()
        if abs(missing) < 0.01:
            break
        figure.set_figheight(figure.get_figheight() + missing)
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    for legend in figure.legends:  # so that it stays where it is without the layout
        legend.set_bbox_to_anchor((0, 0, 1, 1), transform=figure.transFigure)
