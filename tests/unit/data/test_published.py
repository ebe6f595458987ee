from dataclasses import replace

import pytest

from reconpatch.data.catalogue import CONTENTS
from reconpatch.data.layouts import MVTEC_AD, Item, Mask
from reconpatch.data.natures import GROUPS, NATURES, TEXTURES
from reconpatch.data.published import Flag, alterations, data_flags, record_flags, remarks


def drawn(
    train: int, normal: int, defective: int, validation: int = 0, *, side: int = 1024, suffix: str = "png"
) -> list[Item]:
    """Items of a category with so many images, the shorter side of one of them `side` px."""
    size = {"width": 1600, "height": 1200}
    items = [Item(f"train/good/{n:03}.png", "train", 0, "good", **size) for n in range(train)]
    items += [Item(f"test/good/{n:03}.png", "test", 0, "good", **size) for n in range(normal)]
    items += [Item(f"validation/good/{n:03}.png", "validation", 0, "good", **size) for n in range(validation)]
    masks = [(Mask(f"m/{n:03}.png", pixels=1),) for n in range(defective)]
    items += [Item(f"test/cut/{n:03}.png", "test", 1, "ko", masks[n], **size) for n in range(defective)]
    items[len(items) // 2] = replace(items[len(items) // 2], path=f"test/x.{suffix}", width=side, height=1300)
    return items


def test_counts_add_up_to_the_published_totals() -> None:
    """Training, normal, defective, validation, without truth. MVTec LOCO AD's publication has 6 images less for
    training and one less for validation than the files.
    """
    known = {name: each.counts for name, each in CONTENTS.items() if each.counts}
    assert {name: [sum(column) for column in zip(*counts.values(), strict=True)] for name, counts in known.items()} == {
        "mvtec_ad": [3629, 467, 1258, 0, 0],
        "btad": [1799, 451, 290, 0, 0],
        "visa": [8659, 962, 1200, 0, 0],
        "mvtec_loco": [1772 + 6, 575, 561 + 432, 304 + 1, 0],
        "mpdd": [888, 176, 282, 0, 0],
        "mvtec_ad_2": [2528, 379, 705, 302, 2 * 2045],
    }
    assert tuple(known["mvtec_ad"]) == MVTEC_AD
    assert set(MVTEC_AD[10:]) == TEXTURES  # objects come first in the paper
    groups = GROUPS["mvtec_ad"]
    assert groups["texture"] == TEXTURES and groups["object"] == set(MVTEC_AD[:10])
    assert groups["aligned"] | groups["rotated"] == groups["object"] and not groups["aligned"] & groups["rotated"]
    defects = {"btad": "ko", "mvtec_loco": "logical_anomalies", "mvtec_ad_2": "bad"}
    for layout, categories in known.items():
        for category, counts in categories.items():
            items = drawn(*counts[:4])
            items = [replace(i, defect=defects[layout]) if i.label and layout in defects else i for i in items]
            assert alterations(layout, category, items) == []


def test_every_category_of_a_data_set_has_one_nature() -> None:
    for name, data_set in CONTENTS.items():
        natures = [GROUPS[name][nature] for nature in NATURES if nature in GROUPS[name]]
        assert sorted(category for members in natures for category in members) == sorted(data_set.categories), name


def test_alterations_by_size_content_defects_and_category() -> None:
    assert alterations("mvtec_ad", "toothbrush", drawn(60, 12, 30, side=700)) == []  # metal_nut's are that small
    counts, scaled, lossy = alterations("mvtec_ad", "toothbrush", drawn(9, 2, 3, side=699, suffix="jpg"))
    assert "(9, 2, 3), published (60, 12, 30)" in counts and "699 px" in scaled and "compressed again" in lossy
    items = drawn(60, 12, 30)
    items[5] = replace(items[5], format="JPEG")
    assert alterations("mvtec_ad", "toothbrush", items) == ["images compressed again (JPEG)"]
    assert alterations("btad", "02", drawn(399, 30, 200, side=600, suffix="bmp")) == []  # BTAD has bitmaps of 600 px
    items = drawn(400, 21, 49)
    items[-1] = replace(items[-1], defect="scratch")
    assert alterations("btad", "01", items) == ["defects that the published data do not have: scratch"]
    assert "no category" in alterations("mvtec_ad", "nut", drawn(60, 12, 30))[0]
    assert alterations("folder", "toothbrush", drawn(1, 1, 1, side=9, suffix="jpg")) == []


def category() -> dict[str, Item]:
    """Three training, two normal and three defective images with masks: nothing to remark on."""
    facts = {"width": 40, "height": 30, "mode": "RGB", "format": "PNG", "bytes": 9}
    items = [Item(f"train/good/{n}.png", "train", 0, "good", pixels_sha256=f"a{n}", **facts) for n in range(3)]
    items += [Item(f"test/good/{n}.png", "test", 0, "good", pixels_sha256=f"b{n}", **facts) for n in range(2)]
    for n in range(3):
        masks = (Mask(f"g/cut/{n}.png", sha256="m", bytes=5, pixels=50),)
        items.append(Item(f"test/cut/{n}.png", "test", 1, "cut", masks, pixels_sha256=f"c{n}", **facts))
    return {item.path: item for item in items}


def changed(**changes: dict) -> list[Item]:
    """The category with some images changed, named as in `cut_0`; `mask_...` changes its mask."""
    folders = {"train": "train/good", "good": "test/good", "cut": "test/cut"}
    items = category()
    for name, values in changes.items():
        folder, number = name.split("_")
        path = f"{folders[folder]}/{number}.png"
        of_mask = {key.removeprefix("mask_"): value for key, value in values.items() if key.startswith("mask_")}
        masks = tuple(replace(mask, **of_mask) for mask in items[path].masks)
        of_image = {key: value for key, value in values.items() if not key.startswith("mask_")}
        items[path] = replace(items[path], masks=masks, **of_image)
    return list(items.values())


SAME = {f"train_{n}": {"pixels_sha256": "x"} for n in range(3)}
TURNED = {f"train_{n}": {"orientation": 8} for n in range(3)}


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({"good_0": {"pixels_sha256": "a1"}}, ["that are training images", ": 1 (test/good/0.png = train/good/1.png)"]),
        (SAME, ["repeat others", ": 2 (train/good/1.png = train/good/0.png, train/good/2.png = train/good/0.png)"]),
        ({"cut_0": {"mask_between": 3}, "cut_2": {"mask_between": 4}}, ["7 px in all", "(g/cut/0.png, g/cut/2.png)"]),
        ({"cut_0": {"mask_pixels": 1200}}, ["masks of the whole image: 1 (g/cut/0.png)"]),
        ({"train_0": {"path": "train/good/1.bmp", "format": "BMP"}}, ["only in suffix", "train/good/1.bmp"]),
        ({"train_1": {"path": "train/good/0_GT.png"}}, ["like masks", ": 1 (train/good/0_GT.png of train/good/0.png)"]),
        ({"train_1": {"format": "JPEG"}}, ["another format", "train/good/1.png holds JPEG"]),
        ({"good_1": {"mode": "I;16"}}, ["16-bit grey", "1 (test/good/1.png)"]),
        (TURNED, ["EXIF orientation", ": 3 (train/good/0.png, train/good/1.png, ...)"]),
        ({f"cut_{n}": {"mode": "L"} for n in range(3)}, ["differ from all normal ones in mode: L; RGB"]),
        ({f"good_{n}": {"width": 41} for n in range(2)}, ["differ from all training ones in size: 41x30; 40x30"]),
        ({"cut_1": {"warning": "odd\n"}}, [r"odd\n", "1 (test/cut/1.png)"]),
    ],
)
def test_one_remark_at_a_time(changes, parts) -> None:
    assert remarks(changed()) == []
    (remark,) = remarks(changed(**changes))
    assert all(part in remark for part in parts)


def test_what_is_not_remarked_on() -> None:
    """Suffixes of cameras and in capitals; masks turned like their images; crops of as many sizes as images."""
    assert remarks(changed(train_0={"path": "train/good/0.JPG", "format": "MPO"})) == []
    assert len(remarks(changed(cut_0={"orientation": 3}))) == 2
    assert len(remarks(changed(cut_0={"orientation": 3, "mask_orientation": 3}))) == 1
    names = [f"{kind}_{n}" for kind, count in (("train", 3), ("good", 2), ("cut", 3)) for n in range(count)]
    assert remarks(changed(**{name: {"width": 50 + k} for k, name in enumerate(names)})) == []


def test_flags_say_what_forbids_a_comparison() -> None:
    """Alterations come first. Only a remark forbids nothing."""
    flags = data_flags("mvtec_ad", "bottle", changed(cut_0={"mask_pixels": 1200}))
    assert [flag.kind for flag in flags] == ["altered"] * (len(flags) - 1) + ["remark"]
    assert "published (209, 20, 63)" in flags[0].text and flags[-1].text == "masks of the whole image: 1 (g/cut/0.png)"
    assert [flag.forbids_comparison for flag in flags] == [True] * (len(flags) - 1) + [False]
    assert [flag.kind for flag in record_flags("random", "sample", "brick", changed())] == ["weights", "sample"]
    assert record_flags("pretrained", "folder", "nut", changed()) == []
    assert str(Flag("remark", "x")) == "data: x" and str(Flag("altered", "x")) == "x"
