from dataclasses import replace

import pytest

from reconpatch.data.layouts import MVTEC_AD, Item
from reconpatch.data.published import KNOWN, TEXTURES, alterations


def drawn(train: int, normal: int, defective: int, side: int = 1024, suffix: str = "png") -> list[Item]:
    """Items of a category with so many images, the shorter side of one of them `side` px."""
    size = {"width": 1600, "height": 1200}
    items = [Item(f"train/good/{n:03}.png", "train", 0, "good", None, **size) for n in range(train)]
    items += [Item(f"test/good/{n:03}.png", "test", 0, "good", None, **size) for n in range(normal)]
    items += [Item(f"test/cut/{n:03}.png", "test", 1, "ko", f"m/{n:03}.png", **size) for n in range(defective)]
    items[len(items) // 2] = replace(items[len(items) // 2], path=f"test/x.{suffix}", width=side, height=1300)
    return items


def test_counts_add_up_to_the_published_totals() -> None:
    """MVTec AD: 3,629 training, 467 normal and 1,258 defective images; BTAD: 2,540 images, 1,799 for training."""
    totals = {name: [sum(column) for column in zip(*known.values(), strict=True)] for name, known in KNOWN.items()}
    assert totals == {"mvtec_ad": [3629, 467, 1258], "btad": [1799, 451, 290]}
    assert sum(totals["mvtec_ad"]) == 5354 and sum(totals["btad"]) == 2540
    assert tuple(KNOWN["mvtec_ad"]) == MVTEC_AD
    assert set(MVTEC_AD[10:]) == TEXTURES  # objects come first in the paper


@pytest.mark.parametrize(("layout", "category"), [(name, c) for name, known in KNOWN.items() for c in known])
def test_the_original_is_not_altered(layout, category) -> None:
    assert alterations(layout, category, drawn(*KNOWN[layout][category])) == []


@pytest.mark.parametrize(
    ("counts", "side", "suffix", "found"),
    [
        ((60, 12, 30), 1024, "png", []),
        ((59, 12, 30), 1024, "png", ["images (training, normal, defective): (59, 12, 30), published (60, 12, 30)"]),
        ((60, 13, 30), 1024, "png", ["images (training, normal, defective): (60, 13, 30), published (60, 12, 30)"]),
        ((60, 12, 1), 1024, "png", ["images (training, normal, defective): (60, 12, 1), published (60, 12, 30)"]),
        ((60, 12, 30), 700, "png", []),  # metal_nut's are that small
        ((60, 12, 30), 699, "png", ["images scaled down to 699 px"]),
        ((60, 12, 30), 1024, "JPG", ["images compressed again (JPEG)"]),
        ((60, 12, 30), 1024, "jpeg", ["images compressed again (JPEG)"]),
    ],
)
def test_one_alteration_at_a_time(counts, side, suffix, found) -> None:
    assert alterations("mvtec_ad", "toothbrush", drawn(*counts, side, suffix)) == found


def test_all_alterations_are_listed() -> None:
    assert len(alterations("mvtec_ad", "toothbrush", drawn(9, 2, 3, 256, "jpg"))) == 3


def test_bitmaps_of_600_px_are_btads_own() -> None:
    assert alterations("btad", "02", drawn(399, 30, 200, 600, "bmp")) == []
    assert alterations("btad", "02", drawn(399, 30, 200, 599, "bmp")) == ["images scaled down to 599 px"]


def test_jpegs_by_another_name_are_known_by_what_they_hold() -> None:
    items = drawn(60, 12, 30)
    items[5] = replace(items[5], format="JPEG")
    assert alterations("mvtec_ad", "toothbrush", items) == ["images compressed again (JPEG)"]


def test_defects_that_btad_does_not_have() -> None:
    items = drawn(400, 21, 49)
    items[-1] = replace(items[-1], defect="scratch")
    assert alterations("btad", "01", items) == ["defects that the published data do not have: scratch"]


def test_categories_that_are_not_the_data_sets() -> None:
    assert alterations("mvtec_ad", "nut", drawn(60, 12, 30)) == ["nut is no category of the published data set"]
    assert alterations("btad", "bottle", drawn(209, 20, 63)) == ["bottle is no category of the published data set"]


@pytest.mark.parametrize("layout", ["folder", "sample"])
def test_other_data_have_no_original(layout) -> None:
    assert alterations(layout, "toothbrush", drawn(1, 1, 1, 9, "jpg")) == []
