import numpy as np
import pytest
from matplotlib.collections import LineCollection, PathCollection
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from PIL import Image

from reconpatch.errors import ReconpatchError
from reconpatch.results.figures.maps import save
from reconpatch.results.figures.sweeps import COLOURS, POSITIONS, curve, positions, sweep
from reconpatch.results.series import Series

NAN = float("nan")
OURS = Series("ReConPatch", [98.0, NAN, 99.0], [97.5, NAN, 98.0], [98.5, NAN, 99.5], [99.49, 99.56, None])
BASE = Series("PatchCore", [97.0, 97.5, 98.0], [NAN] * 3, [NAN] * 3, [None] * 3)
IMAGE = np.full((56, 56, 3), 128, np.uint8)
PLACES = [(9, 14), (15, 15), (10, 16), (16, 17)]


def legends(figure: Figure) -> list[str]:
    found = [*figure.legends, *(a.get_legend() for a in figure.axes)]
    return [text.get_text() for legend in found if legend for text in legend.get_texts()]


def draw_sweep() -> Figure:
    return sweep({"image AUROC": [BASE, OURS], "pixel AUROC": [OURS]}, ["64", "128", "256"], "dimension", "AUROC in %")


def draw_curve() -> Figure:
    return curve([1, 2, 3], [3.0, 2.0, NAN], [0.9, 0.8, 0.7], [1, 3], [98.0, 99.0], [97.0, NAN], (98.5, 96.5))


def draw_positions() -> Figure:
    layouts = [np.random.default_rng(n).standard_normal((40, 2)).astype(np.float32) for n in range(2)]
    return positions(layouts, np.tile(np.arange(4), 10), ["PatchCore", "epoch 1"], IMAGE, PLACES, (28, 28))


def test_sweep_draws_our_values_the_intervals_and_the_paper() -> None:
    figure = draw_sweep()
    left, right = figure.axes
    assert [left.get_title(), right.get_title()] == ["image AUROC", "pixel AUROC"]
    assert [text.get_text() for text in left.get_xticklabels()] == ["64", "128", "256"]
    for axis in (left, right):
        ours = [line for line in axis.lines if line.get_color() == COLOURS[1]]
        dashed, solid = sorted(ours, key=lambda line: line.get_linestyle() == "-")
        np.testing.assert_array_equal(solid.get_ydata(), OURS.values)
        np.testing.assert_array_equal(dashed.get_ydata(), [99.49, 99.56, NAN])
        assert dashed.get_markerfacecolor() == "white" and dashed.get_linestyle() == "--"
        assert np.abs(solid.get_xdata() - np.arange(3)).max() < 0.25
        bars = [s for c in axis.collections if isinstance(c, LineCollection) for s in c.get_segments()]
        assert [tuple(bar[:, 1]) for bar in bars] == [(97.5, 98.5), (98.0, 99.5)]  # none where missing
        assert [round(bar[0, 0]) for bar in bars] == [0, 2]
    assert legends(figure) == ["PatchCore", "ReConPatch", "ours", "95 % interval", "paper"]


def test_sweep_without_paper_intervals_or_values_says_so() -> None:
    figure = sweep({"a": [BASE], "b": [Series("PatchCore", [NAN], [NAN], [NAN], [None])]}, ["x"] * 3, "x", "y")
    assert legends(figure) == ["PatchCore", "ours"]
    assert [[text.get_text() for text in axis.texts] for axis in figure.axes] == [[], ["no values"]]


def test_sweep_of_long_labels_keeps_them_apart() -> None:
    """Slanted, neighbouring labels are at least their own height apart, measured across their direction."""
    names = [f"wide_resnet{n}_2, levels 2 and 3" for n in range(8)]
    values = [98.0] * 8
    figure = sweep({"a": [Series("s", values, values, values, values)]}, names, "backbone", "y")
    labels = figure.axes[0].get_xticklabels()
    angle = np.radians(labels[0].get_rotation())
    assert angle > 0 and " ".join(labels[3].get_text().split()) == names[3]
    step = np.diff([figure.axes[0].transData.transform((n, 0))[0] for n in (0, 1)])[0] * np.sin(angle)
    for label in labels:
        label.set_rotation(0)
    assert all(label.get_window_extent().height <= step for label in labels)


def test_sweep_of_more_series_than_colours() -> None:
    many = [Series(str(n), [1.0], [NAN], [NAN], [None]) for n in range(len(COLOURS) + 1)]
    with pytest.raises(ReconpatchError, match=f"{len(many)} series"):
        sweep({"a": many}, ["x"], "x", "y")


def test_curve_draws_loss_similarity_checkpoints_and_reference() -> None:
    figure = draw_curve()
    loss, auroc, similarity = figure.axes
    np.testing.assert_array_equal(loss.lines[0].get_ydata(), [3.0, 2.0, NAN])
    np.testing.assert_array_equal(similarity.lines[0].get_ydata(), [0.9, 0.8, 0.7])
    assert "loss" in loss.get_ylabel() and "similarity" in similarity.get_ylabel()
    drawn = {line.get_label(): (list(line.get_ydata()), line.get_linestyle()) for line in auroc.lines}
    assert list(drawn) == ["ReConPatch, image", "PatchCore, image", "ReConPatch, pixel", "PatchCore, pixel"]
    assert drawn["ReConPatch, image"] == ([98.0, 99.0], "-")
    assert drawn["PatchCore, image"] == ([98.5, 98.5], "--") and drawn["PatchCore, pixel"] == ([96.5, 96.5], "--")
    assert legends(figure) == list(drawn)


def test_curve_without_masks_similarity_or_reference() -> None:
    figure = curve(range(1, 31), [1.0] * 30, [NAN] * 30, [30], [98.0], [NAN], None)
    assert legends(figure) == ["ReConPatch, image"]
    assert not len(figure.axes[2].get_yticks())
    assert legends(curve([1], [1.0], [1.0], [], [], [], None)) == []


def test_positions_draws_each_cell_and_each_point_in_its_colour() -> None:
    figure = draw_positions()
    first, *others = figure.axes
    boxes = [
        (to_hex(p.get_edgecolor()), p.get_extents().transformed(first.transData.inverted())) for p in first.patches
    ]
    for (x, y), colour, (edge, box) in zip(PLACES, POSITIONS, boxes, strict=True):
        cells = np.zeros((28, 28))
        cells[y, x] = 1
        rows, columns = np.nonzero(np.kron(cells, np.ones((2, 2))))  # the pixels of that cell of the grid
        outer = (columns.min() - 0.5, columns.max() + 0.5, *sorted((rows.min() - 0.5, rows.max() + 0.5)))
        assert edge == colour and (box.xmin, box.xmax, box.ymin, box.ymax) == pytest.approx(outer)
    assert [axis.get_title() for axis in others] == ["PatchCore", "epoch 1"]
    for n, axis in enumerate(others):
        layout = np.random.default_rng(n).standard_normal((40, 2)).astype(np.float32)
        clouds = [c for c in axis.collections if isinstance(c, PathCollection)]
        assert [to_hex(c.get_facecolor()[0]) for c in clouds] == list(POSITIONS)
        for place, cloud in enumerate(clouds):
            np.testing.assert_array_equal(cloud.get_offsets(), layout[place::4])
    assert legends(figure) == ["(9, 14)", "(15, 15)", "(10, 16)", "(16, 17)"]


def test_positions_beyond_the_colours() -> None:
    with pytest.raises(ReconpatchError, match="5 patch positions"):
        positions([], np.zeros(0, int), [], IMAGE, [(0, 0)] * 5, (28, 28))


@pytest.mark.parametrize("draw", [draw_sweep, draw_curve, draw_positions])
@pytest.mark.parametrize("suffix", ["png", "svg"])
def test_same_plot_same_bytes(draw, suffix, tmp_path) -> None:
    for name in ("a", "b"):
        save(draw(), tmp_path / f"{name}.{suffix}", "a footnote")
    assert (tmp_path / f"a.{suffix}").read_bytes() == (tmp_path / f"b.{suffix}").read_bytes()


@pytest.mark.parametrize("draw", [draw_sweep, draw_positions])
def test_a_footnote_moves_nothing(draw, tmp_path) -> None:
    """What stands above the footnote, a gap away, is as high as the figure without one."""
    inked = []
    for name, footnote in (("plain", ""), ("noted", "a footnote")):
        save(draw(), tmp_path / f"{name}.png", footnote)
        picture = np.asarray(Image.open(tmp_path / f"{name}.png").convert("L"))
        inked.append(np.flatnonzero((picture < 250).any(1)))
    plain, noted = inked
    body = noted[: np.flatnonzero(np.diff(noted) > 5)[-1] + 1]
    assert len(body) < len(noted) and np.ptp(body) == pytest.approx(np.ptp(plain), abs=2)


def test_values_that_are_no_scale_are_not_joined() -> None:
    panels = {"a": [BASE]}
    styles = [
        {line.get_linestyle() for line in sweep(panels, ["a", "b", "c"], "x", "y", joined=joined).axes[0].lines}
        for joined in (True, False)
    ]
    assert styles == [{"-", "--"}, {"None"}]
