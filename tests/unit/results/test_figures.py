from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from drawing import make_record
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

from reconpatch.cli.checked import undrawable
from reconpatch.errors import ReconpatchError
from reconpatch.records.record import Record
from reconpatch.results.figures.common import ANOMALOUS, COLOURS, panel_titles, save
from reconpatch.results.figures.embedding import embed, nearest, scatter
from reconpatch.results.figures.fonts import fonts_for
from reconpatch.results.figures.maps import (
    GROUND_TRUTH,
    THRESHOLD,
    Example,
    gallery,
    histogram,
    typical_images,
)
from reconpatch.results.figures.ranks import rank_panels, ranks
from reconpatch.results.figures.sweeps import Series, sweep
from reconpatch.results.names import METHODS

NAN = float("nan")
OURS = Series("ReConPatch", [98.0, NAN, 99.0], [97.5, NAN, 98.0], [98.5, NAN, 99.5], [99.49, 99.56, None])
BASE = Series("PatchCore", [97.0, 97.5, 98.0], [NAN] * 3, [NAN] * 3, [None] * 3)
GEOMETRY = {"method": "patchcore", "resize": 256, "crop": 224, "interpolation": "bilinear", "blur": 4.0}
GEOMETRY |= {"augment": "none", "mask_rule": "any"}


def made(*, flags: tuple[str, ...] = (), source: str = "random", run: str = "base-1", **description: Any) -> Record:
    fields = GEOMETRY | {"backbone": "net", "dim": 64, "coreset": 0.01} | description
    return make_record(description=fields, flags=list(flags), weights={"source": source}, run=run)


def legends(figure: Figure) -> list[str]:
    every = [*figure.legends, *(a.get_legend() for a in figure.axes)]
    return [text.get_text() for legend in every if legend for text in legend.get_texts()]


def draw_sweep() -> Figure:
    return sweep({"image AUROC": [BASE, OURS], "pixel AUROC": [OURS]}, ["64", "128", "256"], "dimension", "AUROC in %")


def draw_ranks() -> Figure:
    return ranks(rank_panels(cells_csv({64: tuple(METHODS)}, 4), ["dim"]))


def draw_histogram() -> Figure:
    scores = np.random.default_rng(0).random(20).astype(np.float32)
    return histogram([scores, scores], np.repeat([0, 1], 10), ["PatchCore", "ReConPatch"])


def draw_gallery(thresholds: tuple[float | None, ...] = (95.0, 10_100.0, None)) -> Figure:
    """Two categories whose maps differ in scale a hundredfold, cones around (row, column), and a normal image."""
    y, x = np.mgrid[:64, :64]
    examples = []
    for title, (row, column), scale in (("cable", (20, 40), 1.0), ("tile", (44, 12), 100.0), ("wood", (5, 5), 7.0)):
        distance = np.hypot(y - row, x - column)
        mask = (distance < 8) & (title != "wood")
        examples.append(Example(title, np.zeros((64, 64, 3), np.uint8), mask, [np.float32(scale * (105 - distance))]))
    return gallery(examples, "ReConPatch", thresholds)


# --- titles ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("change", [{"resize": 366}, {"blur": 2.0}, {"augment": "both"}, {"mask_rule": "official"}])
def test_figures_of_different_geometry_are_refused(change) -> None:
    with pytest.raises(ReconpatchError, match=f"differ in {next(iter(change))}"):
        panel_titles([made(), made(**change)])


# --- maps and histograms ---------------------------------------------------------------------------------------------


def test_typical_images_are_medians_with_defects_first() -> None:
    scores = np.array([5, 1, 3, 9, 8, 7, 0], np.float32)
    assert typical_images(scores, ["cut", "cut", "cut", "good", "good", "good", "bent"]) == [6, 2, 4]


def contours(axis: Axes) -> dict[str, tuple[float, ...]]:
    """Colour of each contour that has any points -> its (x, y, width, height)."""
    paths = {to_hex(c.get_edgecolor()[0]): c.get_paths()[0] for c in axis.collections}
    return {colour: path.get_extents().bounds for colour, path in paths.items() if len(path.vertices)}


def test_gallery_scales_each_map_and_cuts_it_at_its_own_threshold() -> None:
    figure = draw_gallery()
    top, bottom = figure.axes[:3], figure.axes[3:]
    assert [axis.get_title() for axis in top] == ["cable", "tile", "wood"]
    for axis, (row, column), radius in zip(bottom, ((20, 40), (44, 12), (5, 5)), (10, 4, None), strict=True):
        drawn = axis.images[0]
        scaled = drawn.norm(drawn.get_array())
        assert (scaled.min(), scaled.max()) == (0, 1) and tuple(axis.lines[0].get_xydata()[0]) == (column, row)
        assert (THRESHOLD in contours(axis)) == (radius is not None)
        if radius is not None:
            box = (column - radius, row - radius, 2 * radius, 2 * radius)
            assert contours(axis)[THRESHOLD] == pytest.approx(box, abs=0.5)
            assert contours(axis)[GROUND_TRUTH] == pytest.approx((column - 8, row - 8, 16, 16), abs=1)
    assert [set(contours(axis)) for axis in top] == [{GROUND_TRUTH}, {GROUND_TRUTH}, set()]
    assert legends(draw_gallery((None, NAN, None))) == ["ground truth", "maximum of the map"]


# --- sweeps and training ---------------------------------------------------------------------------------------------


def test_sweep_draws_our_values_the_intervals_and_the_paper() -> None:
    figure = draw_sweep()
    left, right = figure.axes
    assert [left.get_title(), right.get_title()] == ["image AUROC", "pixel AUROC"]
    assert [text.get_text() for text in left.get_xticklabels()] == ["64", "128", "256"]
    for axis in (left, right):
        ours = [line for line in axis.lines if line.get_color() == COLOURS[2]]
        dashed, solid = sorted(ours, key=lambda line: line.get_linestyle() == "-")
        np.testing.assert_array_equal(solid.get_ydata(), OURS.values)
        np.testing.assert_array_equal(dashed.get_ydata(), [99.49, 99.56, NAN])
        assert dashed.get_markerfacecolor() == "white" and dashed.get_linestyle() == "--"
        bars = [s for c in axis.collections if isinstance(c, LineCollection) for s in c.get_segments()]
        assert [tuple(bar[:, 1]) for bar in bars] == [(97.5, 98.5), (98.0, 99.5)]  # none where missing
    assert legends(figure) == ["PatchCore", "ReConPatch", "95 % interval", "published"]


@pytest.mark.parametrize(
    ("x", "joined"),
    [
        (["1/1", "1/2", "1/4"], True),
        (["0.25", "0.1", "1e-2"], True),
        (["s = 3", "s = 5", "s = 7"], False),
        (["1/2, 0.1", "1/2, 0.01", "1/4, 0.1"], False),
        (["64", "128", "oracle: uses the test set"], False),
    ],
)
def test_only_values_of_a_scale_are_joined(x, joined) -> None:
    figure = sweep({"image AUROC": [OURS]}, x, "setting", "AUROC in %")
    lines = {line.get_linestyle() for line in figure.axes[0].lines}
    assert lines == ({"-", "--"} if joined else {"None"})
    labels = figure.axes[0].get_xticklabels() if joined else figure.axes[0].get_yticklabels()
    assert [label.get_text().replace("\n", " ") for label in labels] == x
    drawn = np.concatenate([line.get_xydata()[:, 1 if joined else 0] for line in figure.axes[0].lines])
    assert {98.0, 99.0, 99.49, 99.56} <= {*drawn}


# --- ranks -----------------------------------------------------------------------------------------------------------


def cells_csv(places: dict[int, tuple[str, ...]], categories: int) -> pd.DataFrame:
    """Cells of image AUROC in which ReConPatch is the best, the untrained f the worst everywhere, and their mean."""
    values = {"reconpatch": 0.9, "patchcore": 0.8, "untrained": 0.7}
    names = [*(f"c{n}" for n in range(categories)), "mean"]
    return pd.DataFrame(
        {"dataset": "mine", "category": name, "categories": 1 if name != "mean" else categories, "dim": dim}
        | {"metric": "image_auroc", "method": method, "value": values[method] + 0.001 * n}
        for dim, methods in places.items()
        for n, name in enumerate(names)
        for method in methods
    )


def test_ranks_draws_places_with_three_methods() -> None:
    """Ranks 1, 2 and 3 everywhere: Friedman's statistic is 2 N, its p exp(-N); CD by the printed quantile."""
    panels = rank_panels(cells_csv({64: tuple(METHODS), 128: ("patchcore", "reconpatch")}, 8), ["dim"])
    assert list(panels) == ["dim 64, image AUROC", "dim 128, image AUROC"] and panels["dim 64, image AUROC"].shape == (
        8,
        3,
    )
    figure = ranks(panels)
    title, texts = figure.axes[0].get_title(), [text.get_text() for text in figure.axes[0].texts]
    assert title.splitlines()[0] == "dim 64, image AUROC" and "8 categories" in title
    assert f"Friedman p {np.exp(-8):.2g}" in title and f"critical difference {2.343 / 2:.2f}" in texts
    assert {"ReConPatch (1.00)", "PatchCore (2.00)", "(3.00) untrained f"} <= set(texts)
    assert [axis.axison for axis in figure.axes] == [True]


@pytest.mark.parametrize(
    ("methods", "categories", "says"),
    [
        (("patchcore", "reconpatch"), 8, "methods: 2; such categories: 8"),
        (tuple(METHODS), 2, "methods: 3; such categories: 2"),
    ],
)
def test_ranks_say_why_there_is_no_diagram(methods, categories, says) -> None:
    (text,) = ranks(rank_panels(cells_csv({64: methods}, categories), ["dim"])).axes[0].texts
    assert says in text.get_text().replace(
        "\n", " "
    ) and "at least 3 methods and 3 categories" in text.get_text().replace("\n", " ")


# --- layouts of patches ----------------------------------------------------------------------------------------------


def test_nearest_against_a_loop(rng) -> None:
    points = rng.standard_normal((40, 5)).astype(np.float32)
    points[30:] = points[:10]  # ten pairs at the same place
    rows, distances = nearest(points, 6)
    for i, point in enumerate(points):
        every = sorted(
            (float(np.linalg.norm(point.astype(float) - other)), j != i, j) for j, other in enumerate(points)
        )
        assert rows[i].tolist() == [j for *_, j in every[:6]] and rows[i, 0] == i
        np.testing.assert_allclose(distances[i], [d for d, *_ in every[:6]], rtol=1e-6)


@pytest.mark.filterwarnings("ignore")
def test_umap_separates_clusters_and_repeats(tmp_path, rng) -> None:
    points = np.concatenate([rng.standard_normal((40, 8)), rng.standard_normal((40, 8)) + 30]).astype(np.float32)
    layout = embed(points, 0)
    assert np.array_equal(layout, embed(points, 0))
    gap = np.linalg.norm(layout[:40].mean(0) - layout[40:].mean(0))
    assert gap > 2 * max(layout[:40].std(), layout[40:].std())
    figure = scatter([layout], np.repeat(["memory bank", "patch in a defect"], 40), ["PatchCore"])
    save(figure, tmp_path / "umap.svg", [made()], [])
    assert ANOMALOUS in (tmp_path / "umap.svg").read_text()
    few = embed(rng.standard_normal((9, 4)).astype(np.float32), 0)  # fewer than neighbours
    assert few.shape == (9, 2) and np.isfinite(few).all()


def font_with(characters: str, name: str, file: Path) -> None:
    """Write a font in which every character is a square."""
    names = {".notdef": 0} | {f"u{ord(c):04X}": ord(c) for c in characters}
    builder, pen = FontBuilder(1000), TTGlyphPen(None)
    builder.setupGlyphOrder([*names])
    builder.setupCharacterMap({code: glyph for glyph, code in names.items() if code})
    pen.moveTo((0, 0)), pen.lineTo((0, 800)), pen.lineTo((800, 800)), pen.lineTo((800, 0)), pen.closePath()
    square = pen.glyph()
    builder.setupGlyf(dict.fromkeys(names, square))
    builder.setupHorizontalMetrics(dict.fromkeys(names, (1000, 0)))
    builder.setupHorizontalHeader(ascent=800, descent=-200)
    builder.setupNameTable({"familyName": name, "styleName": "Regular"})
    builder.setupOS2(usWeightClass=400)
    builder.setupPost()
    builder.save(file)


@pytest.fixture
def fonts(tmp_path, monkeypatch) -> Iterator[Path]:
    """A folder: a font that is put in it is installed."""
    folder = tmp_path / "fonts"
    folder.mkdir()
    manager = font_manager.fontManager
    usual = [entry for entry in manager.ttflist if "DejaVu" in entry.name]
    monkeypatch.setattr(manager, "ttflist", list(usual))
    monkeypatch.setattr(font_manager, "findSystemFonts", lambda: [str(file) for file in folder.iterdir()])
    fonts_for.cache_clear()
    yield folder
    fonts_for.cache_clear()


def gallery_of(*titles: str) -> Figure:
    image, mask = np.zeros((16, 16, 3), np.uint8), np.zeros((16, 16), bool)
    pixels = np.zeros((16, 16), np.float32)
    return gallery([Example(title, image, mask, [pixels]) for title in titles], "PatchCore", [None] * len(titles))


def texts(figure: Figure) -> set[str]:
    return {text.get_text() for text in figure.findobj(Text)} - {""}


@pytest.mark.filterwarnings("error")
def test_names_that_no_font_can_show_are_told_apart_by_code_points(fonts, tmp_path) -> None:
    """In titles, legends and at ticks, with a word on what they are; what the usual font has stays as it is."""
    figure = gallery_of("裂纹", "crack 纹", "трещина", "fissure é", "سلام")
    save(figure, tmp_path / "gallery.png", [made()], [])
    shown = {text.replace("\n", " ") for text in texts(figure)}
    assert {"U+88C2 U+7EB9", "crack U+7EB9", "трещина", "fissure é", "سلام"} <= shown
    assert "no installed font has" in (tmp_path / "gallery.txt").read_text()
    line = Series("ReConPatch", [98.0, 99.0], [97.5, 98.0], [98.5, 99.5], [None, None])
    figure = sweep({"裂": [line]}, ["小", "64"], "", "y")
    save(figure, tmp_path / "sweep.svg", [made()], [])
    assert {"U+88C2", "U+5C0F", "64"} <= texts(figure)


@pytest.mark.filterwarnings("error")
def test_names_are_shown_in_the_fonts_that_have_their_characters(fonts, tmp_path) -> None:
    font_with("裂纹", "Some Chinese", fonts / "a.ttf")
    font_with("裂ひ", "Some Japanese", fonts / "b.ttf")
    (fonts / "damaged.ttf").write_bytes(b"no font")
    figure = gallery_of("裂纹 ひ", "crack")
    save(figure, tmp_path / "a/gallery.png", [made()], [])
    assert {"裂纹 ひ", "crack"} <= texts(figure) and not [text for text in texts(figure) if "U+" in text]
    empty = gallery_of("  ", "crack")
    save(empty, tmp_path / "b/gallery.png", [made()], [])
    one, other = ((np.asarray(Image.open(tmp_path / f"{n}/gallery.png").convert("L")) < 128).sum() for n in "ab")
    assert one > other + 50


@pytest.mark.filterwarnings("error")
def test_dollar_signs_begin_no_formula(tmp_path) -> None:
    for title in ("$5 to $6", "a$\\frac{$b", "$x$"):
        figure = gallery_of(title, "crack")
        save(figure, tmp_path / "gallery.png", [made(flags=(title,))], [])
        assert title in texts(figure)


def test_check_says_which_names_figures_show_otherwise(fonts) -> None:
    (remark,) = undrawable(["good", "crack", "fissure é", "裂纹"])
    assert "裂纹 as U+88C2 U+7EB9" in remark and "no installed font" in remark
    font_with("裂纹", "Some Chinese", fonts / "a.ttf")
    fonts_for.cache_clear()
    assert undrawable(["裂纹"]) == []
