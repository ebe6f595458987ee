from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconpatch.data.layouts import Item
from reconpatch.data.published import Flag, data_flags, remarks


def category() -> dict[str, Item]:
    """Three training, two normal and three defective images with masks: nothing to say of them."""
    facts = {"width": 40, "height": 30, "mode": "RGB", "format": "PNG", "bytes": 9}
    items = [Item(f"train/good/{n}.png", "train", 0, "good", None, f"a{n}", **facts) for n in range(3)]
    items += [Item(f"test/good/{n}.png", "test", 0, "good", None, f"b{n}", **facts) for n in range(2)]
    facts |= {"mask_pixels": 50, "mask_sha256": "m", "mask_bytes": 5}
    items += [Item(f"test/cut/{n}.png", "test", 1, "cut", f"g/cut/{n}.png", f"c{n}", **facts) for n in range(3)]
    return {item.path: item for item in items}


def changed(**changes: dict) -> list[Item]:
    """The category with some images changed, named as in `cut_0`."""
    places = {"train": "train/good", "good": "test/good", "cut": "test/cut"}
    items = category()
    for name, values in changes.items():
        kind, number = name.split("_")
        path = f"{places[kind]}/{number}.png"
        items[path] = replace(items[path], **values)
    return list(items.values())


def test_nothing_to_say() -> None:
    assert remarks(changed()) == []
    assert data_flags("folder", "x", changed()) == []


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"good_0": {"sha256": "a1"}},
            "normal test images that are training images byte for byte: 1 (test/good/0.png = train/good/1.png)",
        ),
        (
            {"cut_1": {"sha256": "a2"}},
            "defective test images that are training images byte for byte: 1 (test/cut/1.png = train/good/2.png)",
        ),
        (
            {"cut_1": {"sha256": "b1"}, "cut_2": {"sha256": "b0"}},
            "defective test images that are normal test images byte for byte: 2 (test/cut/1.png = test/good/1.png, "
            "test/cut/2.png = test/good/0.png)",
        ),
        (
            {"train_0": {"sha256": "x"}, "train_1": {"sha256": "x"}, "train_2": {"sha256": "x"}},
            "training images that repeat others byte for byte: 2 (train/good/1.png = train/good/0.png, "
            "train/good/2.png = train/good/0.png)",
        ),
        (
            {"cut_0": {"mask_between": 3}, "cut_2": {"mask_between": 4}},
            "masks with values between black and white, 7 px in all, a defect as all above 0: 2 (g/cut/0.png, "
            "g/cut/2.png)",
        ),
        ({"cut_0": {"mask_pixels": 1200}}, "masks of the whole image: 1 (g/cut/0.png)"),
        (
            {"train_0": {"path": "train/good/1.bmp", "format": "BMP"}},
            "images whose names differ from another's only in suffix: 2 (train/good/1.bmp, train/good/1.png)",
        ),
        (
            {"train_1": {"format": "JPEG"}},
            "images of another format than their suffix says: 1 (train/good/1.png holds JPEG)",
        ),
        ({"good_1": {"mode": "I;16"}}, "images of mode I;16 (16-bit grey, scaled by 1/257): 1 (test/good/1.png)"),
        ({"good_1": {"mode": "RGBA"}}, "images of mode RGBA (alpha dropped): 1 (test/good/1.png)"),
        ({"good_1": {"mode": "CMYK"}}, "images of mode CMYK (converted to RGB): 1 (test/good/1.png)"),
        ({"good_1": {"orientation": 6}}, "images turned as their EXIF orientation says: 1 (test/good/1.png)"),
        (
            {f"cut_{n}": {"mode": "L"} for n in range(3)},
            "defective images differ from all normal ones in mode: L; RGB",
        ),
        (
            {f"good_{n}": {"width": 41} for n in range(2)},
            "normal test images differ from all training ones in size: 41x30; 40x30",
        ),
        ({"cut_1": {"warning": "odd"}}, 'images read with the warning "odd": 1 (test/cut/1.png)'),
    ],
)
def test_one_remark_at_a_time(changes, said) -> None:
    assert remarks(changed(**changes)) == [said]


def test_masks_that_lie_otherwise_than_their_images() -> None:
    assert remarks(changed(cut_0={"orientation": 3})) == [
        "images whose masks have another EXIF orientation, each turned as its own says: 1 (test/cut/0.png)",
        "images turned as their EXIF orientation says: 1 (test/cut/0.png)",
    ]
    turned = changed(cut_0={"orientation": 3, "mask_orientation": 3})
    assert remarks(turned) == ["images turned as their EXIF orientation says: 1 (test/cut/0.png)"]


def test_suffixes_of_cameras_and_in_capitals_are_right() -> None:
    assert remarks(changed(train_0={"path": "train/good/0.JPG", "format": "MPO"})) == []
    assert remarks(changed(train_0={"path": "train/good/0.TIFF", "format": "TIFF"})) == []


def test_categories_without_a_side() -> None:
    normal = [i for i in changed() if not i.label]
    assert remarks(normal) == ["no defective test images, so that AUROC and AUPRO are undefined"]
    defective = [i for i in changed() if i.split == "train" or i.label]
    assert remarks(defective) == ["no normal test images, so that the image AUROC is undefined"]


def test_many_are_counted_and_two_named() -> None:
    items = changed(**{f"train_{n}": {"orientation": 8} for n in range(3)})
    assert remarks(items) == [
        "images turned as their EXIF orientation says: 3 (train/good/0.png, train/good/1.png, ...)"
    ]


def test_groups_apart_by_chance_are_not_told() -> None:
    """Crops of as many sizes as images."""
    names = [f"{kind}_{n}" for kind, count in (("train", 3), ("good", 2), ("cut", 3)) for n in range(count)]
    assert remarks(changed(**{name: {"width": 50 + k} for k, name in enumerate(names)})) == []


def test_names_with_newlines_and_undecodable_bytes_are_escaped() -> None:
    items = changed(train_0={"path": "train/good/a\n\udcff.png", "orientation": 2}, cut_0={"warning": "a\nb"})
    assert all(remark.isprintable() and remark.encode() for remark in remarks(items))
    assert len(remarks(items)) == 2


@given(st.data())
def test_the_words_are_a_function_of_the_items(data) -> None:
    """Bytes drawn from few: against a count of pairs, by loops; asked twice, the same words."""
    items = [replace(i, sha256=data.draw(st.sampled_from("uvwxyz"))) for i in changed()]
    found = remarks(items)
    assert found == remarks(items)
    groups = [[i for i in items if (i.split, i.label) == key] for key in (("train", 0), ("test", 0), ("test", 1))]
    leaks = sum(any(t.sha256 == i.sha256 for t in groups[0]) for i in groups[1])
    told = [r for r in found if r.startswith("normal test images that are training images byte for byte: ")]
    assert [int(r.split(": ")[1].split(" ")[0]) for r in told] == ([leaks] if leaks else [])
    repeats = sum(any(groups[0][m].sha256 == groups[0][n].sha256 for m in range(n)) for n in range(3))
    told = [r for r in found if r.startswith("training images that repeat others byte for byte: ")]
    assert [int(r.split(": ")[1].split(" ")[0]) for r in told] == ([repeats] if repeats else [])


def test_alterations_come_first() -> None:
    flags = data_flags("mvtec_ad", "bottle", changed(cut_0={"mask_pixels": 1200}))
    counts = "images (training, normal, defective): (3, 2, 3), published (209, 20, 63)"
    assert flags[0] == Flag("altered", f"data altered: {counts}") and flags[0].forbids_comparison
    assert flags[-1] == Flag("remark", "masks of the whole image: 1 (g/cut/0.png)")
    assert str(flags[-1]) == "data: masks of the whole image: 1 (g/cut/0.png)" and not flags[-1].forbids_comparison
