"""Which test images the report shows, in which order, and what their pictures show."""

import base64
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import maximum_filter

from reconpatch.errors import ReconpatchError
from reconpatch.results.thumbnails import (
    GAP,
    NEAREST,
    SIDE,
    WORST,
    Thumbnail,
    Thumbnails,
    group_of,
    in_order,
    outlined,
    picture,
    read_thumbnails,
    within_limit,
    worst,
    write_thumbnails,
)


@pytest.mark.parametrize(
    ("anomalous", "alarms", "group"),
    [
        (True, [True, False], "disagreement"),
        (False, [False, True], "disagreement"),
        (False, [True, True], "false alarm"),
        (True, [False, False], "miss"),
        (True, [True, True], "right"),
        (False, [False], "right"),
        (False, [True], "false alarm"),
        (True, [], "unjudged"),
    ],
)
def test_groups(anomalous: bool, alarms: list[bool], group: str) -> None:
    assert group_of(anomalous, alarms) == group


def test_disagreements_come_first_and_the_clearest_error_of_each_group_before_the_others() -> None:
    groups = ["right", "miss", "miss", "false alarm", "false alarm", "disagreement", "right"]
    scores = [9.0, 0.3, 0.1, 5.0, 6.0, 1.0, 0.0]
    assert in_order(groups, scores) == [5, 4, 3, 2, 1, 0, 6]


def test_the_worst_are_all_errors_and_the_rightly_judged_images_nearest_to_one() -> None:
    groups = ["miss", *["right"] * 8]
    anomalous = [True, *[True] * 4, *[False] * 4]
    order = [0, *range(1, 9)]  # right ones from the highest score: defects 1 to 4, then normal images 5 to 8
    assert worst(order, groups, anomalous) == [0, 3, 4, 5, 6]
    assert NEAREST == 2
    many = ["miss"] * 2 * WORST
    assert worst(list(range(len(many))), many, [True] * len(many)) == list(range(WORST))


def thumbnails(category: str, sizes: Sequence[int]) -> Thumbnails:
    images = [
        Thumbnail(
            path=f"test/good/{n}.png",
            defect_type="good",
            anomalous=False,
            scores=[1.0],
            alarms=[False],
            group="right",
            picture="x" * size,
        )
        for n, size in enumerate(sizes)
    ]
    return Thumbnails(
        dataset="mine",
        category=category,
        panel=(SIDE, SIDE),
        methods=["PatchCore"],
        runs=["base"],
        digests=["0"],
        thresholds=[2.0],
        about="",
        counts={"right": len(sizes)},
        images=images,
    )


def test_no_category_is_left_out_for_another_ones_last_images() -> None:
    kept = within_limit([thumbnails("a", [10] * 50), thumbnails("b", [10] * 2), thumbnails("c", [10] * 3)], limit=80)
    assert [len(images) for images in kept] == [3, 2, 3]
    assert [item.path for item in kept[0]] == [f"test/good/{n}.png" for n in range(3)]
    assert within_limit([]) == []


def test_what_is_written_is_read_and_a_damaged_file_is_named(tmp_path: Path) -> None:
    file = tmp_path / "nut.json"
    write_thumbnails(file, thumbnails("nut", [3]))
    assert read_thumbnails(file) == thumbnails("nut", [3])
    file.write_text(file.read_text()[:-20])
    with pytest.raises(ReconpatchError, match=r"nut\.json"):
        read_thumbnails(file)


def test_a_picture_shows_the_photograph_with_its_outline_beside_the_maps() -> None:
    """A defect of one pixel of a large photograph is outlined, too; the outline leaves the defect itself visible."""
    size = 4 * SIDE
    image, mask = np.full((size, size, 3), 128, np.uint8), np.zeros((size, size), bool)
    mask[200, 300] = True
    low, high = np.zeros((SIDE, SIDE), np.float32), np.ones((SIDE, SIDE), np.float32)
    uri = picture(image, mask, [low, high], [(0, 1), (0, 1)])
    shown = np.asarray(Image.open(BytesIO(base64.b64decode(uri.partition(",")[2]))).convert("RGB")).astype(int)
    assert shown.shape == (SIDE, 3 * SIDE + 2 * GAP, 3)
    photograph = shown[:, :SIDE]
    orange = np.abs(photograph - np.array([255, 140, 0])).sum(-1) < 150
    rows, columns = np.nonzero(orange)
    assert 0 < len(rows) < 40 and abs(rows.mean() - 50) < 1.5 and abs(columns.mean() - 75) < 1.5
    assert np.abs(photograph[:30] - 128).max() < 20  # elsewhere as it was
    dark, bright = shown[:, SIDE + GAP : 2 * SIDE + GAP].mean(), shown[:, 2 * (SIDE + GAP) :].mean()
    assert bright - dark > 50


@pytest.mark.parametrize("scale", [1, 3, 7])
def test_an_enlarged_defect_stays_visible_inside_its_outline(scale) -> None:
    mask = np.zeros((20, 30), bool)
    mask[5:12, 8:20] = True
    image = np.full((20 * scale, 30 * scale, 3), 90, np.uint8)
    inside = np.kron(mask, np.ones((scale, scale), bool))
    changed = (outlined(image, mask) != image).any(-1)
    assert changed.any() and not changed[inside].any()
    around = maximum_filter(inside, 5)
    assert not changed[~around].any()
