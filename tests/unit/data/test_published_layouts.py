"""The layouts of the published data sets: what is listed of them, and what is said where a copy is not as published."""

import csv
import json
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from reconpatch.data.images import read_masks
from reconpatch.data.index import index
from reconpatch.data.layouts import categories, list_items, unlabelled_images
from reconpatch.data.manifest import listing
from reconpatch.data.miniatures import write_miniature
from reconpatch.data.published import as_published
from reconpatch.data.saturation import read_saturations
from reconpatch.errors import ReconpatchError, quote


def problems_of(layout: str, folder: Path) -> list[str]:
    problems: list[str] = []
    list(list_items(layout, folder, problems))
    return problems


# Published images of each category: training, normal test, defective (of each type of defect, where there are several),
# validation, and without truth, in each of the two folders.
REAL: dict[str, dict[str, tuple[int, int, dict[str, int], int, int]]] = {
    "mvtec_ad": {
        name: (train, good, {"defect": bad}, 0, 0)
        for name, train, good, bad in (
            *(("bottle", 209, 20, 63), ("cable", 224, 58, 92), ("capsule", 219, 23, 109), ("hazelnut", 391, 40, 70)),
            *(("metal_nut", 220, 22, 93), ("pill", 267, 26, 141), ("screw", 320, 41, 119), ("toothbrush", 60, 12, 30)),
            *(("transistor", 213, 60, 40), ("zipper", 240, 32, 119), ("carpet", 280, 28, 89), ("grid", 264, 21, 57)),
            *(("leather", 245, 32, 92), ("tile", 230, 33, 84), ("wood", 247, 19, 60)),
        )
    },
    "btad": {
        "01": (400, 21, {"ko": 49}, 0, 0),
        "02": (399, 30, {"ko": 200}, 0, 0),
        "03": (1000, 400, {"ko": 41}, 0, 0),
    },
    "visa": {
        name: (train, good, {"anomaly": 100}, 0, 0)
        for name, train, good in (
            *(("candle", 900, 100), ("capsules", 542, 60), ("cashew", 450, 50), ("chewinggum", 453, 50)),
            *(("fryum", 450, 50), ("macaroni1", 900, 100), ("macaroni2", 900, 100), ("pcb1", 904, 100)),
            *(("pcb2", 901, 100), ("pcb3", 905, 101), ("pcb4", 904, 101), ("pipe_fryum", 450, 50)),
        )
    },
    "mvtec_loco": {
        name: (train, good, {"logical_anomalies": logical, "structural_anomalies": structural}, validation, 0)
        for name, train, validation, good, logical, structural in (
            *(("breakfast_box", 351, 62, 102, 83, 90), ("juice_bottle", 335, 54, 94, 142, 94)),
            *(("pushpins", 372, 69, 138, 91, 81), ("screw_bag", 360, 60, 122, 137, 82)),
            ("splicing_connectors", 360, 60, 119, 108, 85),
        )
    },
    "mpdd": {
        "bracket_black": (289, 32, {"hole": 12, "scratches": 35}, 0, 0),
        "bracket_brown": (185, 26, {"bend_and_parts_mismatch": 17, "parts_mismatch": 34}, 0, 0),
        "bracket_white": (110, 30, {"defective_painting": 13, "scratches": 17}, 0, 0),
        "connector": (128, 30, {"parts_mismatch": 14}, 0, 0),
        "metal_plate": (54, 26, {"major_rust": 14, "scratches": 34, "total_rust": 23}, 0, 0),
        "tubes": (122, 32, {"anomalous": 69}, 0, 0),
    },
    "mvtec_ad_2": {
        name: (train, good, {"bad": bad}, validation, private)
        for name, train, validation, good, bad, private in (
            *(("can", 412, 46, 72, 90, 321), ("fabric", 387, 43, 66, 90, 314), ("fruit_jelly", 263, 37, 20, 60, 255)),
            *(("rice", 313, 35, 42, 90, 277), ("sheet_metal", 137, 19, 24, 90, 142), ("vial", 291, 41, 35, 105, 276)),
            *(("wallplugs", 293, 33, 60, 90, 232), ("walnuts", 432, 48, 60, 90, 228)),
        )
    },
    "dtd_synthetic": {"Woven_001": (80, 20, {"bad": 60}, 0, 0)},  # these counts are made up
}


def touch(folder: Path, names: list[str]) -> None:
    for parent in {name.rpartition("/")[0] for name in names}:
        (folder / parent).mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).touch()


def real_names(layout: str, category: str) -> Iterator[str]:
    """The files of a published category, below its own folder. Those of VisA: see `touch_visa`."""
    train, good, defects, validation, private = REAL[layout][category]
    normal, test = ("ok", "test") if layout == "btad" else ("good", "test_public" if private else "test")
    digits, light = (4, "") if layout == "btad" else (3, "_regular" if private else "")
    suffix = ".bmp" if layout == "btad" and category != "02" else ".png"
    folders = {f"train/{normal}": train, "validation/good": validation, f"{test}/{normal}": good}
    for folder, count in (folders | {f"{test}/{defect}": count for defect, count in defects.items()}).items():
        yield from (f"{folder}/{n:0{digits}}{light}{suffix}" for n in range(count))
    for defect, count in defects.items():
        for n in range(count):
            if layout == "mvtec_loco":
                yield from (f"ground_truth/{defect}/{n:03}/{k:03}.png" for k in range(1 + n % 2))
            elif layout == "btad":
                yield f"ground_truth/ko/{n:04}{suffix if category == '03' else '.png'}"
            else:
                masks = "test_public/ground_truth" if private else "ground_truth"
                yield f"{masks}/{defect}/{n:03}{light}_mask.png"
    yield from (f"test_private/{n:03}_regular.png" for n in range(private))
    yield from (f"test_private_mixed/{n:03}_mixed.png" for n in range(private))


def touch_visa(root: Path) -> None:
    """Test images stand among the training images; the table says which they are."""
    rows = ["object,split,label,image,mask"]
    for category, (train, good, _, _, _) in REAL["visa"].items():
        digits = 3 if category in ("capsules", "cashew", "chewinggum", "fryum", "pipe_fryum") else 4
        names = [f"{category}/Data/Images/Normal/{n:0{digits}}.JPG" for n in range(train + good)]
        every = (train + good) // good
        tests = set(names[::every][:good])
        rows += [f"{category},{'test' if name in tests else 'train'},normal,{name}," for name in names]
        bad = {
            f"{category}/Data/Images/Anomaly/{n:03}.JPG": f"{category}/Data/Masks/Anomaly/{n:03}.png"
            for n in range(100)
        }
        rows += [f"{category},test,anomaly,{image},{mask}" for image, mask in bad.items()]
        touch(root, [*names, *bad, *bad.values()])
    (root / "split_csv").mkdir()
    (root / "split_csv/1cls.csv").write_text("\r\n".join([*rows, ""]), newline="")


@pytest.mark.parametrize("layout", REAL)
def test_the_published_images_are_listed(layout, tmp_path) -> None:
    """Empty files, called as published."""
    if layout == "visa":
        touch_visa(tmp_path)
    else:
        for category in REAL[layout]:
            touch(tmp_path / category, list(real_names(layout, category)))
    assert sorted(categories(layout, tmp_path)) == sorted(REAL[layout])
    for category, (train, good, defects, validation, private) in REAL[layout].items():
        problems: list[str] = []
        items = list(list_items(layout, tmp_path / category, problems))
        expected = Counter({("train", "good"): train, ("test", "good"): good, ("validation", "good"): validation})
        expected.update({("test", defect): count for defect, count in defects.items()})
        assert Counter((item.split, item.defect) for item in items) == +expected and not problems
        masks = {"mvtec_loco": sum(n + n // 2 for n in defects.values())}.get(layout, sum(defects.values()))
        assert sum(len(item.masks) for item in items) == masks
        assert all(bool(item.masks) == item.label for item in items)
        assert len(unlabelled_images(layout, tmp_path / category)) == 2 * private
        assert as_published(layout, category, items) == (layout != "dtd_synthetic")


@pytest.fixture
def visa(tmp_path: Path) -> Path:
    """Root with candle and pcb1: normal 0000-0005 for training and 0006-0008 to test, 3 defective ones each."""
    write_miniature("visa", tmp_path / "visa", categories=["candle", "pcb1"])
    return tmp_path / "visa"


def change_rows(root: Path, change: Callable[[list[list[str]]], None]) -> None:
    """Change candle's rows, lines 2 to 13 of the table; the others stay."""
    table = root / "split_csv/1cls.csv"
    with table.open(newline="") as lines:
        head, *rows = csv.reader(lines)
    candle = rows[:12]
    change(candle)
    with table.open("w", newline="") as file:
        csv.writer(file).writerows([head, *candle, *rows[12:]])


NORMAL, ANOMALY = "candle/Data/Images/Normal", "candle/Data/Images/Anomaly"
OUTSIDE = "must lie in the folder of the category"


def cell(row: int, column: int, value: str) -> Callable[[list[list[str]]], None]:
    """A change of one cell; columns are object, split, label, image and mask."""
    return lambda rows: rows[row].__setitem__(column, value)


def more(image: str, label: str = "normal", mask: str = "") -> Callable[[list[list[str]]], None]:
    """One row more, the last of candle."""
    return lambda rows: rows.append(["candle", "test", label, image, mask])


@pytest.mark.parametrize(
    ("change", "line", "image", "problem"),
    [
        (cell(2, 1, "val"), 4, f"{NORMAL}/0002.JPG", "split val: must be train or test"),
        (cell(2, 2, "good"), 4, f"{NORMAL}/0002.JPG", "label good: must be normal or anomaly"),
        (cell(9, 1, "train"), 11, f"{ANOMALY}/000.JPG", "a defective image for training"),
        (more(f"{NORMAL}/0003.JPG"), 14, f"{NORMAL}/0003.JPG", "named twice"),
        (more("candle/./Data/Images/Normal/0003.JPG"), 14, "candle/./Data/Images/Normal/0003.JPG", "named twice"),
        (more(f"{NORMAL}/9.JPG"), 14, f"{NORMAL}/9.JPG", f"image {NORMAL}/9.JPG: no such file"),
        (more("candle/" + "x" * 300), 14, "candle/" + "x" * 300, "no such file"),
        (more("pcb1/Data/Images/Normal/0000.JPG"), 14, "pcb1/Data/Images/Normal/0000.JPG", OUTSIDE),
        (more("candle/../pcb1/1.JPG"), 14, "candle/../pcb1/1.JPG", OUTSIDE),
        (more("/candle/1.JPG"), 14, "/candle/1.JPG", OUTSIDE),
        (more(""), 14, "", "names no image"),
        (more("", "anomaly", "candle/Data/Masks/Anomaly/000.png"), 14, "", "names no image"),
        (lambda rows: rows.append(["candle", "train", "normal"]), 14, "", "names no image"),
        (more(f"{ANOMALY}/9.JPG", "anomaly"), 14, f"{ANOMALY}/9.JPG", "a defective image without a mask"),
        (cell(10, 4, "candle/9.png"), 12, f"{ANOMALY}/001.JPG", "mask candle/9.png: no such file"),
        (cell(10, 4, "pcb1/9.png"), 12, f"{ANOMALY}/001.JPG", f"mask pcb1/9.png: {OUTSIDE}"),
    ],
)
def test_each_wrong_row_of_visas_table_is_one_problem(change, line, image, problem, visa) -> None:
    """Its image is not reported again as one without a place. A mask that no row names any more is."""
    change_rows(visa, change)
    found = [text for text in problems_of("visa", visa / "candle") if "Masks/Anomaly: 1 image(s)" not in text]
    (one,) = found
    assert one.startswith(f"{visa}/split_csv/1cls.csv, line {line}, {quote(image)}: ") and one.endswith(problem)
    assert problems_of("visa", visa / "pcb1") == []
    with pytest.raises(ReconpatchError, match=r"candle: \d problem(?s:.*)1cls\.csv, line"):
        index("visa", visa, "candle")


def test_a_mask_of_two_images_is_named(visa) -> None:
    change_rows(visa, lambda rows: rows[10].__setitem__(4, rows[9][4]))
    twice, left = problems_of("visa", visa / "candle")
    assert "line 12, candle/Data/Images/Anomaly/001.JPG: named twice" in twice and "001.png" in left


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"object,split,label,image\r\ncandle,train,normal,candle/Data/Images/Normal/0000.JPG\r\n", "no column mask"),
        (b"", "no column object, split, label, image, mask"),
        (b"object,split,label,image,mask\r\ncandle,train,normal,\xff.JPG,\r\n", "cannot be read as CSV in UTF-8"),
        (b'object,split,label,image,mask\r\ncandle,"train"x,normal,a.JPG,\r\n', "cannot be read as CSV in UTF-8"),
        (b"object,split,label,image,mask\r\npcb1,train,normal,pcb1/Data/1.JPG,\r\n", "names no image of candle"),
        (None, "No such file"),
    ],
)
def test_a_table_that_cannot_be_used_is_one_problem(content, words, visa) -> None:
    table = visa / "split_csv/1cls.csv"
    table.unlink()
    if content is not None:
        table.write_bytes(content)
    (problem,) = problems_of("visa", visa / "candle")
    assert problem.startswith(f"{table}: ") and words in problem
    with pytest.raises(ReconpatchError) as caught:
        index("visa", visa, "candle")
    assert str(caught.value) == f"candle: 1 problem(s) in the data:\n  {problem}"


def test_a_table_without_training_or_test_images_is_named(visa) -> None:
    change_rows(visa, lambda rows: [row.__setitem__(1, "test") for row in rows])
    assert problems_of("visa", visa / "candle") == []
    with pytest.raises(ReconpatchError) as caught:
        index("visa", visa, "candle")
    assert str(caught.value).endswith(
        f"1 problem(s) in the data:\n  {visa}/split_csv/1cls.csv: no train images of candle"
    )


def test_the_table_says_what_an_image_is_and_not_its_folder(visa) -> None:
    """The same rows in another order, with blanks, a byte order mark and columns of other programs."""
    before = list(list_items("visa", visa / "candle", []))
    table = visa / "split_csv/1cls.csv"
    head, *rows = table.read_text().splitlines()
    text = "\n".join([f"{head},more", *(row.replace(",", " , ") + ",1" for row in reversed(rows)), ""])
    table.write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert problems_of("visa", visa / "candle") == [] and list(list_items("visa", visa / "candle", [])) == before
    table.write_bytes(text.replace("candle , train", "candle , test", 1).encode())
    assert sum(item.split == "test" for item in list_items("visa", visa / "candle", [])) == 3 + 3 + 1


def test_images_that_the_table_does_not_name_are_named(visa) -> None:
    for name in ("Images/Normal/0009.JPG", "Images/Normal/0010.JPG", "Images/Other/1.png", "Masks/Anomaly/9.png"):
        (visa / "candle/Data" / name).parent.mkdir(exist_ok=True)
        (visa / "candle/Data" / name).touch()
    found = problems_of("visa", visa / "candle")
    assert [line.split(" image(s)")[0] for line in sorted(found)] == [
        f"{visa}/candle/Data/Images/Normal: 2",
        f"{visa}/candle/Data/Images/Other: 1",
        f"{visa}/candle/Data/Masks/Anomaly: 1",
    ]


def types_of(root: Path) -> list[str]:
    return [item.defect for item in list_items("visa", root / "candle", []) if item.label]


def test_types_of_visas_defects_are_those_of_the_category(visa) -> None:
    """Several labels of one image in any order and with or without blanks; where nothing is said, an anomaly."""
    types = visa / "candle/image_anno.csv"
    assert types_of(visa) == ["different colour spot", "different colour spot + small scratches", "small scratches"]
    rows = [f"candle/Data/Images/Anomaly/00{n}.JPG" for n in range(3)]
    for labels, expected in (
        (('"b,a"', '"a , b,"', '"a,a"'), ["a + b", "a + b", "a"]),
        (("Bent", "normal", ""), ["Bent", "anomaly", "anomaly"]),
        (("good", "Good", "OK"), ["anomaly"] * 3),
    ):
        lines = [f"{row},{label}," for row, label in zip(rows, labels, strict=True)]
        types.write_text("\n".join(["image,label,mask", *lines]))
        assert types_of(visa) == expected and problems_of("visa", visa / "candle") == []
    types.write_text(f'image,label,mask\n{rows[0]},"a\nb",\n')
    (problem,) = problems_of("visa", visa / "candle")
    assert problem.startswith(f"{types}, line 3, ") and "rename it" in problem
    types.write_text("image,mask\n")
    (problem,) = problems_of("visa", visa / "candle")
    assert problem.startswith(f"{types}: no column label") and types_of(visa) == ["anomaly"] * 3
    types.unlink()
    assert types_of(visa) == ["anomaly"] * 3 and problems_of("visa", visa / "candle") == []


@pytest.fixture
def loco(tmp_path: Path) -> Path:
    """The category pushpins of MVTec LOCO AD."""
    write_miniature("mvtec_loco", tmp_path / "loco", categories=["pushpins"])
    return tmp_path / "loco/pushpins"


def index_problems(folder: Path) -> list[str]:
    with pytest.raises(ReconpatchError) as caught:
        index("mvtec_loco", folder.parent, folder.name)
    return str(caught.value).split("\n  ")[1:]


def test_masks_of_one_defect_have_one_known_value(loco) -> None:
    mask = loco / "ground_truth/logical_anomalies/000/000.png"
    values = np.asarray(Image.open(mask)).copy()
    values[0, 0] = 250
    Image.fromarray(values).save(mask)
    assert index_problems(loco) == [
        f"{mask}: holds the values 250, 253; a mask of one defect has one; restore the published file"
    ]
    Image.fromarray(np.where(values == 253, np.uint8(240), np.uint8(0))).save(mask)
    assert index_problems(loco) == [
        f"{mask}: value 240 is no pixel_value of the category's defects (248, 249, 253, 255)"
    ]


ENTRY = {"defect_name": "a", "pixel_value": 255, "saturation_threshold": 10, "relative_saturation": False}


@pytest.mark.parametrize(
    "content",
    [
        *("", "[", "{}x", '{"a": 1}', "[3]", "[{}]", "null", "3", "[" * 100_000),
        json.dumps([ENTRY, ENTRY]),
        *(json.dumps([ENTRY | {"pixel_value": value}]) for value in (0, 256, "255", 254.5, True, None)),
        *(json.dumps([ENTRY | {"saturation_threshold": v}]) for v in (0, -1, 1.5, "1", True, None, 10**400)),
        *(json.dumps([ENTRY | {"saturation_threshold": v}]) for v in (float("nan"), float("inf"))),
        *(json.dumps([ENTRY | {"saturation_threshold": v, "relative_saturation": True}]) for v in (0, 1.01, -0.5)),
        json.dumps([ENTRY | {"relative_saturation": 1}]),
        json.dumps([{key: value for key, value in ENTRY.items() if key != "saturation_threshold"}]),
        None,
    ],
)
def test_a_broken_file_of_saturations_is_one_problem(content, loco) -> None:
    file = loco / "defects_config.json"
    file.unlink()
    if content is not None:
        file.write_text(content)
    (problem,) = index_problems(loco)
    what = "no such file" if content is None else "must be a list of defect_name, pixel_value, saturation_threshold"
    assert problem.startswith(f"{file}: {what}") and "restore the published" in problem


def test_images_and_folders_of_masks_belong_together(loco) -> None:
    masks = loco / "ground_truth/structural_anomalies"
    (masks / "000").rename(masks / "007")
    image = loco / "test/structural_anomalies/000.png"
    assert problems_of("mvtec_loco", loco) == [
        f"{image}: no masks in {masks}/000; add them",
        f"{masks}/007: masks without an image in {image.parent}; move them",
    ]
    (masks / "007").rename(masks / "000")
    shutil.copy(masks / "000/000.png", masks / "000.png")  # as in other data sets
    (loco / "ground_truth/unknown/000").mkdir(parents=True)
    strange, left = problems_of("mvtec_loco", loco)
    assert strange.startswith(f"{loco}/ground_truth/unknown: masks for a folder") and left.startswith(
        f"{masks}: 1 image"
    )
    with pytest.raises(ReconpatchError, match="2 problem"):
        index("mvtec_loco", loco.parent, "pushpins")


@pytest.mark.parametrize(
    ("threshold", "relative", "marked", "px"),
    [
        *((6300, False, 5000, 5000), (6300, False, 9000, 6300), (6300.0, False, 6300, 6300), (1, False, 1, 1)),
        *((1.0, True, 777, 777), (0.5, True, 777, 388), (0.001, True, 777, 1), (0.999, True, 1000, 999)),
    ],
)
def test_how_much_of_a_defect_must_be_found(threshold, relative, marked, px, tmp_path) -> None:
    """A share of it rounded down, or px; at least one, at most all."""
    entry = ENTRY | {"saturation_threshold": threshold, "relative_saturation": relative}
    (tmp_path / "c.json").write_text(json.dumps([entry]))
    problems: list[str] = []
    saturations = read_saturations(tmp_path / "c.json", problems)
    assert not problems and saturations[255].px(marked) == px


def test_what_scaling_makes_less_than_one_px_is_one_px(loco) -> None:
    """109x64 px are seen as 27x16, a sixteenth of the px."""
    config = loco / "defects_config.json"
    entries = [
        entry | {"saturation_threshold": 7, "relative_saturation": False} for entry in json.loads(config.read_text())
    ]
    config.write_text(json.dumps(entries))
    items = index("mvtec_loco", loco.parent, "pushpins")
    assert {mask.saturation for item in items for mask in item.masks} == {7}
    _, defects = read_masks(items, loco, (16, 16), 16, 16, "any", 1, [None] * len(items))
    assert len(defects["mask"]) > 3 and defects["saturation"].tolist() == [1] * len(defects["mask"])


def test_the_listing_of_visa_changes_with_its_tables_and_only_then(visa) -> None:
    """Rows of another category, other tables, a new date and another place change nothing."""
    table, types = visa / "split_csv/1cls.csv", visa / "candle/image_anno.csv"
    before = listing("visa", visa, "candle")
    (visa / "split_csv/2cls_fewshot.csv").write_text("object,split,label,image,mask\n")
    (visa / "LICENSE-DATASET").write_text("CC BY 4.0\n")
    (visa / "pcb1/image_anno.csv").unlink()
    *kept, last = table.read_text().splitlines()
    table.write_text("\n".join(kept))
    types.touch()
    assert last.startswith("pcb1,") and listing("visa", visa, "candle") == before

    def swap(rows: list[list[str]]) -> None:
        rows[9][4], rows[10][4] = rows[10][4], rows[9][4]

    seen = [before]
    for change in (cell(0, 1, "test"), swap, list.pop, cell(1, 2, "anomaly")):
        change_rows(visa, change)
        seen.append(listing("visa", visa, "candle"))
    types.write_text(types.read_text().replace("small scratches", "large scratches"))
    seen.append(listing("visa", visa, "candle"))
    table.unlink()
    seen.append(listing("visa", visa, "candle"))
    assert len(set(seen)) == 7
    shutil.copytree(visa, visa.parent / "moved")
    assert listing("visa", visa.parent / "moved", "candle") == seen[-1]  # what is wrong is told without the place


def test_the_listing_of_mvtec_loco_ad_changes_with_what_must_be_found_and_only_then(loco) -> None:
    config, seen = loco / "defects_config.json", {listing("mvtec_loco", loco.parent, "pushpins")}
    (loco / "readme.txt").write_text("read me")
    (loco / "other_config.json").write_text("[]")
    assert listing("mvtec_loco", loco.parent, "pushpins") in seen
    config.write_text(config.read_text().replace("6300", "12600"))
    seen.add(listing("mvtec_loco", loco.parent, "pushpins"))
    config.unlink()
    seen.add(listing("mvtec_loco", loco.parent, "pushpins"))
    (loco / "ground_truth/structural_anomalies/000/001.png").unlink()
    seen.add(listing("mvtec_loco", loco.parent, "pushpins"))
    assert len(seen) == 4
