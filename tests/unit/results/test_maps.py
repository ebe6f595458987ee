import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from PIL import Image

from reconpatch.results.figures.maps import (
    ANOMALOUS,
    GROUND_TRUTH,
    THRESHOLD,
    Example,
    embed,
    gallery,
    histogram,
    nearest,
    qualitative,
    save,
    scatter,
    separation,
)


def test_separation_by_hand() -> None:
    normal, anomalous = np.array([0, 2], np.float32), np.array([4, 8], np.float32)
    assert separation(normal, anomalous) == pytest.approx((6 - 1) / np.sqrt((1 + 4) / 2))
    assert separation(10 * normal + 3, 10 * anomalous + 3) == pytest.approx(separation(normal, anomalous))


def test_same_figure_same_bytes(tmp_path, rng) -> None:
    labels = np.array([0] * 10 + [1] * 10)
    for name in ("a.svg", "b.svg"):
        scores = np.random.default_rng(0).random(20).astype(np.float32)
        save(histogram([scores, scores], labels, ["PatchCore", "ReConPatch"]), tmp_path / name)
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()


def test_histogram_of_normal_images_alone(tmp_path) -> None:
    save(histogram([np.ones(4, np.float32)], np.zeros(4, int), ["PatchCore"]), tmp_path / "a.svg")
    assert (tmp_path / "a.svg").is_file()


def test_contours_and_maps_share_pixels(tmp_path) -> None:
    """A map that is 1 exactly on the mask: threshold contour and ground truth coincide, the star lies inside."""
    mask = np.zeros((64, 64), bool)
    mask[20:40, 10:30] = True
    image = np.repeat(mask[..., None], 3, 2).astype(np.uint8) * 255
    examples = [
        Example("cut", image, mask, [mask.astype(np.float32)]),
        Example("good", image, np.zeros_like(mask), [0.1 * mask]),
    ]
    figure = qualitative(examples, ["PatchCore"], [0.5])
    axes = figure.axes
    contours = [c for c in axes[2].collections if len(c.get_paths()[0].vertices)]
    boxes = [c.get_paths()[0].get_extents().bounds for c in contours]
    assert len(boxes) == 2 and boxes[0] == pytest.approx(boxes[1], abs=1)
    star = axes[2].lines[0].get_xydata()[0]
    assert mask[int(star[1]), int(star[0])]
    assert not axes[1].collections  # no ground truth on a normal image
    save(figure, tmp_path / "q.png")
    assert np.asarray(Image.open(tmp_path / "q.png")).std() > 10


def draw_gallery(thresholds: list[float | None]) -> Figure:
    """Two categories whose maps differ in scale a hundredfold, cones around (row, column), and a normal image."""
    y, x = np.mgrid[:64, :64]
    examples = []
    for title, (row, column), scale in (("cable", (20, 40), 1.0), ("tile", (44, 12), 100.0), ("wood", (5, 5), 7.0)):
        distance = np.hypot(y - row, x - column)
        mask = (distance < 8) & (title != "wood")
        cone = (scale * (5 + 100 - distance)).astype(np.float32)
        examples.append(Example(title, np.zeros((64, 64, 3), np.uint8), mask, [cone]))
    return gallery(examples, "ReConPatch", thresholds)


def contours(axis: Axes) -> dict[str, tuple[float, ...]]:
    """Colour of each contour that has any points -> its (x, y, width, height)."""
    paths = {to_hex(c.get_edgecolor()[0]): c.get_paths()[0] for c in axis.collections}
    return {colour: path.get_extents().bounds for colour, path in paths.items() if len(path.vertices)}


def test_gallery_scales_each_map_and_cuts_it_at_its_own_threshold() -> None:
    figure = draw_gallery([105 - 10.0, 100 * (105 - 4.0), None])
    top, bottom = figure.axes[:3], figure.axes[3:]
    assert [axis.get_title() for axis in top] == ["cable", "tile", "wood"]
    assert [figure.axes[n].get_ylabel() for n in (0, 3)] == ["image", "ReConPatch"]
    for axis, (row, column), radius in zip(bottom, ((20, 40), (44, 12), (5, 5)), (10, 4, None), strict=True):
        drawn = axis.images[0]
        scaled = drawn.norm(drawn.get_array())
        assert (scaled.min(), scaled.max()) == (0, 1) and drawn.get_cmap().name == "plasma"
        assert tuple(axis.lines[0].get_xydata()[0]) == (column, row)
        found = contours(axis)
        assert (THRESHOLD in found) == (radius is not None)
        if radius is not None:
            box = (column - radius, row - radius, 2 * radius, 2 * radius)
            assert found[THRESHOLD] == pytest.approx(box, abs=0.5)
            assert found[GROUND_TRUTH] == pytest.approx((column - 8, row - 8, 16, 16), abs=1)
    assert [set(contours(axis)) for axis in top] == [{GROUND_TRUTH}, {GROUND_TRUTH}, set()]


@pytest.mark.parametrize("threshold", [None, float("nan")])
def test_gallery_without_thresholds_has_no_entry_for_them(threshold) -> None:
    (legend,) = draw_gallery([threshold] * 3).legends
    assert [text.get_text() for text in legend.get_texts()] == ["ground truth", "maximum of the map"]


def test_same_gallery_same_bytes(tmp_path) -> None:
    for name in ("a.png", "b.png"):
        save(draw_gallery([95.0, None, 1.0]), tmp_path / name, "a footnote")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


@pytest.mark.filterwarnings("ignore")
def test_umap_separates_clusters_and_repeats(tmp_path, rng) -> None:
    points = np.concatenate([rng.standard_normal((40, 8)), rng.standard_normal((40, 8)) + 30]).astype(np.float32)
    layout = embed(points, 0)
    assert np.array_equal(layout, embed(points, 0))
    gap = np.linalg.norm(layout[:40].mean(0) - layout[40:].mean(0))
    assert gap > 2 * max(layout[:40].std(), layout[40:].std())
    groups = np.repeat(["memory bank", "patch in a defect"], 40)
    save(scatter([layout], groups, ["PatchCore"]), tmp_path / "u.svg")
    assert ANOMALOUS in (tmp_path / "u.svg").read_text()


def test_nearest_against_a_loop(rng) -> None:
    points = rng.standard_normal((40, 5)).astype(np.float32)
    points[30:] = points[:10]  # ten pairs at the same place
    rows, distances = nearest(points, 6)
    assert rows.shape == distances.shape == (40, 6)
    for i, point in enumerate(points):
        every = sorted(
            (float(np.linalg.norm(point.astype(float) - other)), j != i, j) for j, other in enumerate(points)
        )
        assert rows[i].tolist() == [j for *_, j in every[:6]] and rows[i, 0] == i
        np.testing.assert_allclose(distances[i], [d for d, *_ in every[:6]], rtol=1e-6)


@pytest.mark.filterwarnings("ignore")
def test_umap_finds_the_same_neighbours_itself(rng) -> None:
    """The graph that is laid out is that of a plain UMAP; the layouts differ, as rounding alone makes them."""
    from umap import UMAP

    points = rng.standard_normal((60, 8)).astype(np.float32)
    ours = UMAP(15, random_state=0, n_jobs=1, precomputed_knn=(*nearest(points, 15), None)).fit(points)
    plain = UMAP(random_state=0, n_jobs=1).fit(points)
    np.testing.assert_allclose(ours.graph_.toarray(), plain.graph_.toarray(), atol=1e-4)


@pytest.mark.filterwarnings("ignore")
def test_umap_of_fewer_points_than_neighbours(rng) -> None:
    layout = embed(rng.standard_normal((9, 4)).astype(np.float32), 0)
    assert layout.shape == (9, 2) and np.isfinite(layout).all()
