"""Figures as they are printed: every kind, with hostile names and with few and many series."""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace
from types import SimpleNamespace
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from drawing import make_record
from matplotlib.axis import Axis
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox
from PIL import Image
from skimage.color import deltaE_ciede2000, rgb2lab

from reconpatch.data.published import Flag
from reconpatch.errors import ReconpatchError
from reconpatch.experiments.stages import FIGURES
from reconpatch.records.record import Record
from reconpatch.results.figures import common, embedding, maps
from reconpatch.results.figures.captions import caption_of
from reconpatch.results.figures.common import ANOMALOUS, COLOURS, NORMAL, ONE_COLUMN, TWO_COLUMNS, save
from reconpatch.results.figures.dots import Dot, dots
from reconpatch.results.figures.effects import gains_of
from reconpatch.results.figures.embedding import positions, scatter
from reconpatch.results.figures.maps import (
    GROUND_TRUTH,
    THRESHOLD,
    TYPES_SHOWN,
    Example,
    curves,
    gallery,
    histogram,
    histograms_by_type,
    qualitative,
)
from reconpatch.results.figures.ranks import ranks
from reconpatch.results.figures.sweeps import Series, curve, sweep

NAN = float("nan")
PLAIN = SimpleNamespace(names=["PatchCore", "ReConPatch"], settings=["concat", "official"], scale=["1/1", "1/2", "1/4"])
LONG = "W_embedding of the features with_a_name_that_never_ends"
HOSTILE = SimpleNamespace(
    names=[f"{LONG} {n}, Öl $5 裂纹" for n in range(5)],
    settings=[f"{LONG}, {n}, сигма = 0.3 of the median" for n in range(12)],
    scale=[f"0.000012345678{n}" for n in range(12)],
)
FEW = SimpleNamespace(names=["ReConPatch"], settings=["official"], scale=["64"])
CASES = {"plain": PLAIN, "hostile": HOSTILE, "few": FEW}


def series(case: SimpleNamespace, count: int) -> list[Series]:
    return [
        Series(name, [98.0 - n] * count, [97.0 - n] * count, [98.7 - n] * count, [99.5 - n] * count)
        for n, name in enumerate(case.names)
    ]


def draw_sweep(case: SimpleNamespace) -> Figure:
    every = series(case, len(case.scale))
    return sweep({"image AUROC": every, "pixel AUROC": every, "AUPRO": every}, case.scale, "dim", "AUROC in %, mean")


def draw_settings(case: SimpleNamespace) -> Figure:
    every = series(case, len(case.settings))
    return sweep({"image AUROC": every, "pixel AUROC": every}, case.settings, "", "AUROC in %, mean of 3 categories")


def draw_dots(case: SimpleNamespace) -> Figure:
    shown = [Dot(name, row, 0.1, -1.0, 1.3, 0.4, True) for name in case.names for row in case.settings]
    panels = {"image AUROC": shown, "pixel AUROC": shown[:1]}
    return dots(panels, case.settings, "gain over PatchCore in points", zero=True, apart=1)


def draw_no_dots(_: SimpleNamespace) -> Figure:
    return dots({}, [], "points")


def draw_ranks(case: SimpleNamespace) -> Figure:
    values = pd.DataFrame(np.random.default_rng(0).random((8, 3)), columns=["PatchCore", "untrained f", "ReConPatch"])
    return ranks({f"{setting}, image AUROC": values for setting in case.settings[:3]})


def draw_nothing_to_rank(case: SimpleNamespace) -> Figure:
    return ranks({case.settings[0]: pd.DataFrame(np.ones((2, 2)), columns=["PatchCore", "ReConPatch"])})


def scored(case: SimpleNamespace) -> tuple[list[np.ndarray], np.ndarray, list[str]]:
    scores = np.linspace(0, 1, 40, dtype=np.float32)
    return [scores] * len(case.names), np.repeat([0, 1, 0, 1], 10), case.names


def draw_histogram(case: SimpleNamespace) -> Figure:
    return histogram(*scored(case))


def draw_types(case: SimpleNamespace) -> Figure:
    types = list(itertools.islice(itertools.cycle(["good", *case.settings]), 40))
    return histograms_by_type(scored(case)[0][0], types, 0.7)


def draw_roc(case: SimpleNamespace) -> Figure:
    return curves(*scored(case))


def draw_roc_in_a_column(case: SimpleNamespace) -> Figure:
    return curves(*scored(case), per_row=1)


def examples(case: SimpleNamespace, count: int, maps_of_each: int) -> list[Example]:
    image, pixels = np.zeros((32, 32, 3), np.uint8), np.arange(32 * 32, dtype=np.float32).reshape(32, 32)
    titles = itertools.islice(itertools.cycle(case.settings), count)
    return [Example(title, image, pixels > 900, [pixels] * maps_of_each) for title in titles]


def draw_qualitative(case: SimpleNamespace) -> Figure:
    count = len(case.names)
    return qualitative(examples(case, min(7, len(case.settings)), count), case.names, [500.0] * count)


def draw_gallery(case: SimpleNamespace) -> Figure:
    count = 15 if case is HOSTILE else len(case.settings)
    return gallery(examples(case, count, 1), case.names[0], [500.0] * count)


def draw_umap(case: SimpleNamespace) -> Figure:
    layout = np.random.default_rng(0).random((30, 2)).astype(np.float32)
    groups = np.repeat(["memory bank", "normal patch", "patch in a defect"], 10)
    return scatter([layout] * len(case.names), groups, case.names)


def draw_positions(case: SimpleNamespace) -> Figure:
    layout, image = np.random.default_rng(0).random((40, 2)).astype(np.float32), np.zeros((56, 56, 3), np.uint8)
    places = [(9, 14), (15, 15), (10, 16), (16, 17)]
    count = len(case.names)
    return positions([layout] * count, np.arange(40) % 4, case.names, image, places, (28, 28))


def draw_curve(case: SimpleNamespace) -> Figure:
    values = np.array([[5.0, 4.0, 3.0]] * len(case.names))
    level = {"image": np.array([90.0]), "pixel": np.array([95.0])}
    return curve([1, 2, 3], values, values / 10, [0, 1, 3], {"image": values + 90, "pixel": values + 85}, level)


KINDS: dict[str, list[Callable[[SimpleNamespace], Figure]]] = {
    "sweep": [draw_sweep, draw_settings],
    "effects": [draw_dots, draw_no_dots],
    "gains": [draw_dots],
    "ranks": [draw_ranks, draw_nothing_to_rank],
    "histogram": [draw_histogram],
    "roc": [draw_roc],
    "qualitative": [draw_qualitative],
    "gallery": [draw_gallery],
    "umap": [draw_umap],
    "positions": [draw_positions],
    "curve": [draw_curve],
}
DRAWN = [(kind, draw) for kind, drawing in KINDS.items() for draw in drawing if kind != "gains"]
DRAWN += [("histogram", draw_types), ("roc", draw_roc_in_a_column)]  # of the page of `reconpatch evaluate`


def record(*kinds: str) -> Record:
    fields = {"method": "patchcore", "backbone": "resnet18", "dim": 64, "coreset": 0.01}
    return make_record(description=fields, flags=[Flag(kind, f"a flag of {kind}") for kind in kinds])


def test_every_kind_of_figure_is_tested() -> None:
    assert KINDS.keys() == FIGURES.keys()


def shown_texts(figure: Figure) -> Iterator[Text]:
    """Every text that is drawn: those of ticks outside the limits, and of hidden axes, are not."""
    ticks: dict[int, bool] = {}
    for axis in figure.findobj(Axis):
        low, high = sorted(axis.get_view_interval())
        inside = axis.axes.axison and axis.get_visible()
        for tick in [*axis.get_major_ticks(), *axis.get_minor_ticks()]:
            drawn = inside and low - 1e-9 <= tick.get_loc() <= high + 1e-9
            ticks |= {id(tick.label1): drawn, id(tick.label2): drawn}
        ticks |= {id(axis.label): inside, id(axis.offsetText): inside}
    for text in figure.findobj(Text):
        if text.get_text().strip() and text.get_visible() and ticks.get(id(text), True):
            yield text


def overlap(one: Bbox, other: Bbox) -> float:
    """Pixels by which two boxes lie over each other, in the direction in which it is less."""
    width = min(one.x1, other.x1) - max(one.x0, other.x0)
    height = min(one.y1, other.y1) - max(one.y0, other.y0)
    return min(width, height)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(("kind", "draw"), DRAWN, ids=[draw.__name__ for _, draw in DRAWN])
def test_no_text_lies_over_another_and_legends_cover_nothing(kind, draw, case, tmp_path) -> None:
    """Measured as saved, with the longest mark. All of it lies on the page and is large enough to be read there."""
    figure = draw(CASES[case])
    save(figure, tmp_path / f"{kind}.svg", [record("weights", "sample")], [])
    figure.draw_without_rendering()
    boxes = [(text.get_text(), text.get_window_extent()) for text in shown_texts(figure)]
    assert any("random weights" in text.replace("\n", " ") for text, _ in boxes)
    for (one, box), (other, second) in itertools.combinations(boxes, 2):
        assert overlap(box, second) < 1, (one, other)
    page = figure.bbox
    for text, box in boxes:
        outside = (page.x0 - box.x0, box.x1 - page.x1, page.y0 - box.y0, box.y1 - page.y1)
        assert max(outside) < 1, text
    assert all(text.get_fontsize() >= 7 for text in shown_texts(figure))
    assert figure.get_figwidth() in (ONE_COLUMN, TWO_COLUMNS)
    for legend in figure.legends:
        for axes in figure.axes:
            assert overlap(legend.get_window_extent(), axes.get_window_extent()) < 1
            assert axes.get_window_extent().width > 0.5 * figure.dpi  # enough is left to draw in
    assert not [axes for axes in figure.axes if axes.get_legend()]


@pytest.mark.parametrize(("kind", "draw"), DRAWN[:3] + DRAWN[7:9], ids=lambda value: getattr(value, "__name__", value))
def test_same_figure_same_bytes_in_every_format(kind, draw, tmp_path, monkeypatch) -> None:
    """Also on another day; text is text in PDF and SVG, and the PNG has 300 dpi."""
    for name, day in (("a", "1000000000"), ("b", "1500000000")):
        monkeypatch.setenv("SOURCE_DATE_EPOCH", day)
        save(draw(PLAIN), tmp_path / name / f"{kind}.svg", [record()], [])
    files = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert files == [f"{kind}.{suffix}" for suffix in ("pdf", "png", "svg", "tex", "txt")]
    for file in files:
        content = (tmp_path / "a" / file).read_bytes()
        assert content == (tmp_path / "b" / file).read_bytes() and b"Matplotlib" not in content, file
    svg = ElementTree.parse(tmp_path / f"a/{kind}.svg")
    texts = {text for node in svg.iter("{http://www.w3.org/2000/svg}text") for text in node.itertext()}
    assert "PatchCore" in {text.split(":")[0] for text in texts}
    pdf = (tmp_path / f"a/{kind}.pdf").read_bytes()
    assert b"/FontFile2" in pdf and b"/Type3" not in pdf
    with Image.open(tmp_path / f"a/{kind}.png") as image:
        assert image.info["dpi"] == pytest.approx((300, 300), abs=0.1)
        assert image.width == pytest.approx(300 * TWO_COLUMNS, abs=1) or image.width == int(300 * ONE_COLUMN)


def test_a_caption_says_what_is_drawn_and_every_flag(tmp_path) -> None:
    plain, flagged = record(), record("weights", "remark")
    departures = [f"epochs = {n} (paper 120)" for n in range(20)]
    save(draw_histogram(PLAIN), tmp_path / "figures/histogram.svg", [plain, flagged], departures, "One more thing.")
    caption = " ".join(caption_of(tmp_path, "figures/histogram.svg"))
    for words in (
        "scaled to [0, 1]",
        "nut (mine)",
        "resnet18",
        "64 dimensions",
        "epochs = 0 (paper 120)",
        "more",
        "One more thing.",
    ):
        assert words in caption
    assert "a flag of weights" in caption and "data: a flag of remark" in caption
    (tmp_path / "figures/histogram.txt").unlink()
    assert "not known" in caption_of(tmp_path, "figures/histogram.svg")[1]


@pytest.mark.parametrize(
    ("kinds", "mark"),
    [
        ((), None),
        (("remark",), None),
        (("altered",), "altered"),
        (("sample",), "drawn defects"),
        (("weights",), "random"),
    ],
)
def test_a_figure_itself_has_a_mark_where_it_is_no_result(kinds, mark, tmp_path) -> None:
    figure = draw_histogram(PLAIN)
    save(figure, tmp_path / "histogram.svg", [record(), record(*kinds)], [])
    marks = [text.get_text() for text in figure.texts]
    assert len(marks) == (mark is not None) and all(mark in text for text in marks)


def test_more_series_than_colours_are_refused() -> None:
    many = replace(series(FEW, 1)[0])
    with pytest.raises(ReconpatchError, match="6 series"):
        sweep({"x": [replace(many, name=str(n)) for n in range(6)]}, ["64"], "dim", "y")


# --- colours ---------------------------------------------------------------------------------------------------------

# Machado, Oliveira and Fernandes, "A physiologically-based model for simulation of color vision deficiency", 2009:
# severity 1, on linear RGB.
BLINDNESS = {
    "none": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}
BESIDE = {
    "series": COLOURS,
    "positions": embedding.POSITIONS,
    "patches": (NORMAL, ANOMALOUS, embedding.GREYISH),
    "contours": (GROUND_TRUTH, THRESHOLD),
}


def linear(colour: str) -> np.ndarray:
    rgb = np.array(to_rgb(colour))
    return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)


def seen(colour: str, blindness: str) -> np.ndarray:
    """A colour -> CIELAB of what is seen of it."""
    rgb = np.clip(np.array(BLINDNESS[blindness]) @ linear(colour), 0, 1)
    return rgb2lab(np.where(rgb <= 0.0031308, 12.92 * rgb, 1.055 * rgb ** (1 / 2.4) - 0.055))


@pytest.mark.parametrize("blindness", BLINDNESS)
@pytest.mark.parametrize("group", BESIDE)
def test_colours_beside_each_other_can_be_told_apart(group, blindness) -> None:
    for one, other in itertools.combinations(BESIDE[group], 2):
        assert deltaE_ciede2000(seen(one, blindness), seen(other, blindness)) > 10, (one, other)


@pytest.mark.parametrize("colour", [*COLOURS, *embedding.POSITIONS, embedding.GREYISH, common.GREY])
def test_lines_and_markers_have_contrast_on_white(colour) -> None:
    """At least 3 to 1, as the guidelines for accessible web content ask of graphics."""
    assert 1.05 / (linear(colour) @ [0.2126, 0.7152, 0.0722] + 0.05) >= 3


def test_contours_differ_by_their_dashes_and_have_a_dark_edge() -> None:
    assert maps.TRUTH_LINE["linestyles"] != maps.THRESHOLD_LINE["linestyles"]
    legend = draw_gallery(PLAIN).legends[0]
    names = [text.get_text() for text in legend.get_texts()]
    truth, threshold, _ = legend.get_lines()
    assert names[:2] == ["ground truth", "threshold of the best pixel F1"]
    assert (truth.get_linestyle(), threshold.get_linestyle()) == ("-", "--")
    assert truth.get_path_effects() and threshold.get_path_effects()


# --- gains and curves ------------------------------------------------------------------------------------------------


def gain_cells() -> pd.DataFrame:
    """Gains of ReConPatch on three categories and their mean, at two places, and a row of an oracle."""
    gains = {"a": 0.01, "b": 0.03, "c": -0.02, "mean": 0.02 / 3}
    return pd.DataFrame(
        {"dataset": "mine", "category": name, "categories": 3 if name == "mean" else 1, "epoch": epoch}
        | {"method": "reconpatch", "metric": metric, "value": 0.9, "runs": f"run-{epoch}", "gain": gain * sign}
        | {
            "gain_low": gain - 0.01,
            "gain_high": gain + 0.01,
            "gain_p": 0.01,
            "gain_holm": NAN if name == "mean" else 0.2,
        }
        for epoch in ("1/1", "1/3", "oracle: uses the test set")
        for metric, sign in (("image_auroc", 1), ("pixel_auroc", -1))
        for name, gain in gains.items()
    )


def test_gains_are_sorted_by_category_with_the_means_apart() -> None:
    shown, rows, means = gains_of(gain_cells(), ["epoch"], ["run-1/1"])
    assert rows == ["b", "a", "c", "mean of 3 categories"] and means == 1
    by_row = {dot.row: dot for dot in shown["image_auroc"]}
    assert by_row["b"].value == pytest.approx(3) and (by_row["b"].low, by_row["b"].high) == pytest.approx((2, 4))
    assert not by_row["b"].significant and by_row["mean of 3 categories"].significant  # a mean is not corrected
    assert {dot.series for dot in shown["image_auroc"]} == {"ReConPatch"}
    both, *_ = gains_of(gain_cells(), ["epoch"], ["run-1/1", "run-1/3"])
    assert {dot.series for dot in both["image_auroc"]} == {"ReConPatch, epoch 1/1", "ReConPatch, epoch 1/3"}
    with pytest.raises(ReconpatchError, match="no gain over PatchCore"):
        gains_of(gain_cells().drop(columns="gain"), ["epoch"], ["run-1/1"])


def test_histograms_by_type_count_every_image_once(rng) -> None:
    """Good ones first, then the types with most images; the rarest share a panel; all over one axis."""
    types = ["good"] * 9 + [f"type {n}" for n in range(TYPES_SHOWN + 3) for _ in range(n + 1)]
    scores = rng.random(len(types)).astype(np.float32)
    figure = histograms_by_type(scores, types, 0.5)
    titles = [axes.get_title() for axes in figure.axes]
    assert titles[:2] == ["good (9)", f"type {TYPES_SHOWN + 2} ({TYPES_SHOWN + 3})"] and len(titles) == TYPES_SHOWN
    assert titles[-1] == f"5 other types ({1 + 2 + 3 + 4 + 5})"
    for axes, title in zip(figure.axes, titles, strict=True):
        corners = axes.patches[0].get_path().vertices  # of the outline of the bars
        heights = [y for (x, y), (right, _) in zip(corners[1::2], corners[2::2], strict=False) if right > x]
        assert sum(heights) == int(title.split("(")[1].rstrip(")"))
        assert [line.get_xdata()[0] for line in axes.lines] == [0.5]
        assert axes.get_xlim() == figure.axes[0].get_xlim()
    assert len(histograms_by_type(np.ones(3, np.float32), ["good", "a", "a"], None).axes) == 2


def test_roc_and_precision_over_recall_against_counting(rng) -> None:
    scores, labels = rng.integers(0, 8, 30).astype(np.float32), np.repeat([0, 1, 1], 10)
    roc, recall = curves([scores], labels, ["PatchCore"]).axes
    counted = [(scores >= cut, cut) for cut in np.unique(scores)]
    points = {(np.mean(found[labels == 0]), np.mean(found[labels == 1])) for found, _ in counted}
    assert {tuple(point) for point in roc.lines[0].get_xydata()} == points | {(0.0, 0.0)}
    exact = {(np.mean(found[labels == 1]), np.mean(labels[found])) for found, _ in counted}
    assert exact <= {tuple(point) for point in recall.lines[0].get_xydata()}
    one_kind = curves([scores], np.zeros(30, np.int64), ["PatchCore"])
    assert all("needs normal and" in axes.texts[0].get_text() for axes in one_kind.axes)
