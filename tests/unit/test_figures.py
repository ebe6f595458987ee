import numpy as np
import pytest
from PIL import Image

from reconpatch.figures import ANOMALOUS, Example, embed, histogram, qualitative, save, scatter, separation


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
