"""Miniatures have the layouts as published, with every trap; and what the package makes of each. What is expected is
written out here: neither the names nor the numbers come from the code that writes or reads them.
"""

import re
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from reconpatch.data.images import mask_array, read_masks
from reconpatch.data.index import index
from reconpatch.data.layouts import Item, categories, unlabelled_images
from reconpatch.data.manifest import check_unchanged, manifest_json, read_manifest
from reconpatch.data.miniatures import write_miniature
from reconpatch.data.published import alterations, record_flags, remarks
from reconpatch.errors import ReconpatchError

CATEGORIES = {
    "mvtec_ad": "bottle cable capsule hazelnut metal_nut pill screw toothbrush transistor zipper carpet grid leather "
    "tile wood",
    "btad": "01 02 03",
    "visa": "candle capsules cashew chewinggum fryum macaroni1 macaroni2 pcb1 pcb2 pcb3 pcb4 pipe_fryum",
    "mvtec_loco": "breakfast_box juice_bottle pushpins screw_bag splicing_connectors",
    "mpdd": "bracket_black bracket_brown bracket_white connector metal_plate tubes",
    "mvtec_ad_2": "can fabric fruit_jelly rice sheet_metal vial wallplugs walnuts",
    "dtd_synthetic": "Blotchy_099 Fibrous_183 Marbled_078 Matted_069 Mesh_114 Perforated_037 Stratified_154 Woven_001 "
    "Woven_068 Woven_104 Woven_125 Woven_127",
}
EVERY = [(layout, category) for layout, names in CATEGORIES.items() for category in names.split()]
# The files of a category; 000-002 are three.
FILES = {
    ("mvtec_ad", "grid"): "train/good/000-005.png test/good/000-002.png "
    "test/broken/000-002.png test/contamination/000-002.png "
    "ground_truth/broken/000-002_mask.png ground_truth/contamination/000-002_mask.png",
    ("btad", "01"): "train/ok/0000-0005.bmp test/ok/0000-0002.bmp test/ko/0000-0002.bmp ground_truth/ko/0000-0002.png",
    ("btad", "02"): "train/ok/0000-0005.png test/ok/0000-0002.png test/ko/0000-0002.png ground_truth/ko/0000-0002.png",
    ("btad", "03"): "train/ok/0000-0005.bmp test/ok/0000-0002.bmp test/ko/0000-0002.bmp ground_truth/ko/0000-0002.bmp",
    ("visa", "candle"): "Data/Images/Normal/0000-0008.JPG Data/Images/Anomaly/000-002.JPG "
    "Data/Masks/Anomaly/000-002.png image_anno.csv",
    ("visa", "capsules"): "Data/Images/Normal/000-008.JPG Data/Images/Anomaly/000-002.JPG "
    "Data/Masks/Anomaly/000-002.png image_anno.csv",
    ("mvtec_loco", "juice_bottle"): "train/good/000-005.png validation/good/000-001.png test/good/000-002.png "
    "test/logical_anomalies/000-002.png test/structural_anomalies/000-002.png "
    "ground_truth/logical_anomalies/000/000.png ground_truth/logical_anomalies/001/000-001.png "
    "ground_truth/logical_anomalies/002/000.png ground_truth/structural_anomalies/000/000-001.png "
    "ground_truth/structural_anomalies/001/000.png ground_truth/structural_anomalies/002/000.png defects_config.json",
    ("mpdd", "metal_plate"): "train/good/000-005.png test/good/000-002.png test/major_rust/000-002.png "
    "test/scratches/000-002.png test/total_rust/000-002.png ground_truth/major_rust/000-002_mask.png "
    "ground_truth/scratches/000-002_mask.png ground_truth/total_rust/000-002_mask.png",
    ("mvtec_ad_2", "vial"): "train/good/000-005_regular.png validation/good/000-001_regular.png "
    "test_public/good/000-002_regular.png test_public/good/000_overexposed.png test_public/good/001_underexposed.png "
    "test_public/good/002_shift_1.png test_public/bad/000-002_regular.png test_public/bad/000_overexposed.png "
    "test_public/bad/001_underexposed.png test_public/bad/002_shift_1.png "
    "test_public/ground_truth/bad/000-002_regular_mask.png test_public/ground_truth/bad/000_overexposed_mask.png "
    "test_public/ground_truth/bad/001_underexposed_mask.png test_public/ground_truth/bad/002_shift_1_mask.png "
    "test_private/000-002_regular.png test_private_mixed/000-002_mixed.png",
    ("dtd_synthetic", "Woven_001"): "train/good/000-005.png test/good/000-002.png test/bad/000-002.png "
    "ground_truth/bad/000-002_mask.png",
}
# Split and defect type of a category's images: how many.
NORMAL = {("train", "good"): 6, ("test", "good"): 3}
VALIDATION = {("validation", "good"): 2}
DEFECTS = {
    "mvtec_ad": {"broken": 3, "contamination": 3},
    "btad": {"ko": 3},
    "visa": {
        "different colour spot": 1,
        "small scratches": 1,
        "different colour spot + small scratches": 1,
    },
    "mvtec_loco": {"logical_anomalies": 3, "structural_anomalies": 3},
    "bracket_black": {"hole": 3, "scratches": 3},
    "bracket_brown": {"bend_and_parts_mismatch": 3, "parts_mismatch": 3},
    "bracket_white": {"defective_painting": 3, "scratches": 3},
    "connector": {"parts_mismatch": 3},
    "metal_plate": {"major_rust": 3, "scratches": 3, "total_rust": 3},
    "tubes": {"anomalous": 3},
    "mvtec_ad_2": {"bad": 6},
    "dtd_synthetic": {"bad": 3},
}
RATIOS = {  # width by height, where it is not 1
    **{"breakfast_box": 1600 / 1280, "juice_bottle": 800 / 1600, "pushpins": 1700 / 1000, "screw_bag": 1600 / 1100},
    **{"splicing_connectors": 1700 / 850, "can": 2232 / 1024, "fabric": 2448 / 2048, "fruit_jelly": 2100 / 1520},
    **{"rice": 2448 / 2048, "sheet_metal": 4224 / 1056, "vial": 1400 / 1900, "wallplugs": 2448 / 2048},
    **{"walnuts": 2448 / 2048, "03": 800 / 600},
}
# MVTec LOCO AD: values in masks of pushpins, and how many px must be found of so many marked ones.
PUSHPINS = {
    253: lambda marked: min(300, marked),  # missing_pushpin
    255: lambda marked: min(6300, marked),  # 1_additional_pushpin
    249: lambda marked: marked,  # color, relative 1.0
    248: lambda marked: marked // 2,  # contamination, relative 0.5
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every miniature below a folder of its layout's name. Read it only."""
    folder = tmp_path_factory.mktemp("miniatures")
    for layout in CATEGORIES:
        write_miniature(layout, folder / layout)
    return folder


def spelt_out(words: str) -> set[str]:
    """Names with numbers from-to -> the single names."""
    names: set[str] = set()
    for word in words.split():
        before, first, last, after = re.fullmatch(r"(.*?)(?:(\d+)-(\d+))?([^/]*?)", word).groups()
        numbers = [f"{n:0{len(first)}}" for n in range(int(first), int(last) + 1)] if first else [""]
        names.update(f"{before}{number}{after}" for number in numbers)
    return names


def content(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def pixels(path: Path) -> NDArray[np.int64]:
    return np.asarray(Image.open(path)).astype(int)


@pytest.mark.parametrize(("layout", "category"), FILES)
def test_names_are_the_published_ones(layout, category, made) -> None:
    assert set(content(made / layout / category)) == spelt_out(FILES[layout, category]) | {"MADE_UP.txt"}


@pytest.mark.parametrize("layout", CATEGORIES)
def test_a_miniature_is_flagged_wherever_it_is_used(layout, made, tmp_path) -> None:
    """Whatever else its data look like, and also as somebody's own; without its mark it is not."""
    category = CATEGORIES[layout].split()[0]
    items = index(layout, made / layout, category)
    for used_as in (layout, "folder"):
        flags = record_flags("pretrained", used_as, category, items)
        assert flags[0].kind == "sample" and "made up by us" in flags[0].text and flags[0].forbids_comparison
    assert not any("made up" in flag.text for flag in flags[1:])
    copy = shutil.copytree(made / layout, tmp_path / "copy")
    (copy / category / "MADE_UP.txt").unlink()
    assert not any(f.kind == "sample" for f in record_flags("", layout, category, index(layout, copy, category)))


@pytest.mark.parametrize("layout", CATEGORIES)
def test_a_miniature_follows_from_layout_category_and_seed(layout, made, tmp_path) -> None:
    one = CATEGORIES[layout].split()[1]
    write_miniature(layout, tmp_path / "again")
    write_miniature(layout, tmp_path / "alone", categories=[one, one])
    write_miniature(layout, tmp_path / "other", categories=[one], seed=1)
    assert content(tmp_path / "again") == content(made / layout)
    before, alone, other = (content(folder / one) for folder in (made / layout, tmp_path / "alone", tmp_path / "other"))
    assert alone == before and other.keys() == before.keys()
    assert not any(before[name] == other[name] for name in before if "/good/" in name or "Normal" in name)
    assert len(set(content(made / layout).values())) > 9 * len(CATEGORIES[layout].split())  # categories differ, too


@pytest.mark.parametrize(
    ("layout", "chosen", "words"),
    [("folder", None, "mvtec_ad.*dtd"), ("visa", ["apple"], "candle"), ("mpdd", ["tubes", "a"], "'a'")],
)
def test_what_was_not_published_is_refused(layout, chosen, words, tmp_path) -> None:
    with pytest.raises(ReconpatchError, match=words):
        write_miniature(layout, tmp_path, categories=chosen)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("layout", CATEGORIES)
def test_all_categories_are_found(layout, made) -> None:
    assert sorted(categories(layout, made / layout)) == sorted(CATEGORIES[layout].split())


@pytest.mark.parametrize(("layout", "category"), EVERY)
def test_every_miniature_is_indexed_without_problems(layout, category, made, tmp_path) -> None:
    items = index(layout, made / layout, category)
    defects = DEFECTS.get(category) or DEFECTS[layout]
    normal = NORMAL | (VALIDATION if layout in ("mvtec_loco", "mvtec_ad_2") else {})
    if layout == "mvtec_ad_2":  # each scene under two lights
        normal = normal | {("test", "good"): 6}
    expected = normal | {("test", name): count for name, count in defects.items()}
    assert Counter((item.split, item.defect) for item in items) == expected
    assert all(item.label == (item.defect != "good") == bool(item.masks) for item in items)
    counted = sorted(len(item.masks) for item in items if item.label)
    assert counted == ([1, 1, 1, 1, 2, 2] if layout == "mvtec_loco" else [1] * sum(defects.values()))
    assert all(mask.classes == (layout in ("visa", "mvtec_loco")) for item in items for mask in item.masks)
    (size,) = {(item.width, item.height) for item in items}
    ratio = 3 / 2 if layout == "visa" else RATIOS.get(category, 1)
    assert min(size) == 64 and size[0] / size[1] == pytest.approx(ratio, rel=0.01)
    form = {"visa": "JPEG", "btad": "PNG" if category == "02" else "BMP"}.get(layout, "PNG")
    grey = layout == "mvtec_ad" and category in ("grid", "screw", "zipper")
    assert {(item.format, item.mode) for item in items} == {(form, "L" if grey else "RGB")}
    assert remarks(items) == []
    altered = alterations(layout, category, items)
    assert bool(altered) == (layout != "dtd_synthetic")  # of that no counts are known
    (tmp_path / "manifest.json").write_text(manifest_json(items))
    assert read_manifest(tmp_path / "manifest.json")[0] == items
    for files in ("images", "masks"):
        check_unchanged(made / layout / category, items, files)


@pytest.mark.parametrize(("layout", "category"), EVERY)
def test_defects_can_be_seen_where_the_masks_are_and_only_there(layout, category, made) -> None:
    """Against the median of the training images. Lights of MVTec AD 2 change every pixel."""
    folder, items = made / layout / category, index(layout, made / layout, category)
    usual = np.median([pixels(folder / item.path) for item in items if item.split == "train"], axis=0)
    for item in items:
        if not item.label or (layout == "mvtec_ad_2" and "regular" not in item.path):
            continue
        marked = np.any([pixels(folder / mask.path) > 0 for mask in item.masks], axis=0)
        differs = abs(pixels(folder / item.path) - usual).reshape(*marked.shape, -1).mean(-1)
        assert 20 < marked.sum() < marked.size / 3
        assert differs[marked].mean() > 2 * differs[~marked].mean(), item.path


@pytest.mark.parametrize("category", CATEGORIES["mvtec_loco"].split())
def test_logical_anomalies_lack_or_double_a_part(category, made) -> None:
    """Normal images have three dark parts of 253 px; one defective image lacks one, one has one more, one has both."""
    folder, items = made / "mvtec_loco" / category, index("mvtec_loco", made / "mvtec_loco", category)
    dark = {item.path: (pixels(folder / item.path).max(-1) < 85).sum() / 253 for item in items}
    parts = {path: round(share) for path, share in dark.items()}
    assert {parts[item.path] for item in items if not item.label} == {3}
    assert [parts[f"test/logical_anomalies/{n:03}.png"] for n in range(3)] == [2, 3, 4]


def test_values_of_masks(made) -> None:
    """Black and white but for VisA, whose values are numbers of kinds, and MVTec LOCO AD, whose values are 234 to 255,
    one in each file.
    """
    for layout, category in EVERY:
        folder = made / layout / category
        items = index(layout, made / layout, category)
        values = [set(np.unique(pixels(folder / m.path)).tolist()) - {0} for item in items for m in item.masks]
        if layout == "visa":
            assert values == [{1}, {1, 2}, {2}]
        elif layout == "mvtec_loco":
            assert all(len(each) == 1 and min(each) >= 234 for each in values)
            assert len({value for each in values for value in each}) == 4
        else:
            assert values == [{255}] * len(values)


def test_visas_tables_are_as_published(made) -> None:
    table = (made / "visa/split_csv/1cls.csv").read_bytes()
    lines = table.split(b"\r\n")
    assert table.endswith(b"\r\n") and table.count(b"\n") == len(lines) - 1 == 1 + 12 * 12
    assert lines[0] == b"object,split,label,image,mask"
    assert lines[1] == b"candle,train,normal,candle/Data/Images/Normal/0000.JPG,"
    assert lines[7] == b"candle,test,normal,candle/Data/Images/Normal/0006.JPG,"
    assert lines[10] == (b"candle,test,anomaly,candle/Data/Images/Anomaly/000.JPG,candle/Data/Masks/Anomaly/000.png")
    assert lines[13].startswith(b"capsules,train,normal,capsules/Data/Images/Normal/000.JPG,")
    types = (made / "visa/candle/image_anno.csv").read_text().splitlines()
    assert types[:2] == ["image,label,mask", "candle/Data/Images/Normal/0000.JPG,normal,"]
    assert types[11] == (
        'candle/Data/Images/Anomaly/001.JPG,"different colour spot, small scratches",candle/Data/Masks/Anomaly/001.png'
    )
    assert (made / "visa/candle/Data/Images/Anomaly/000.JPG").read_bytes().startswith(b"\xff\xd8\xff")


def defective(made: Path, layout: str, category: str) -> tuple[Path, list[Item]]:
    items = [item for item in index(layout, made / layout, category) if item.label]
    return made / layout / category, items


def test_what_must_be_found_of_every_kind_of_defect(made) -> None:
    """A share of the defect, or px, at most all of them."""
    folder, items = defective(made, "mvtec_loco", "pushpins")
    found = {mask.path: mask.saturation for item in items for mask in item.masks}
    expected, seen = {}, set()
    for name in found:
        mask = pixels(folder / name)
        seen.add(int(mask.max()))
        expected[name] = PUSHPINS[int(mask.max())](np.count_nonzero(mask))
    assert found == expected and seen == PUSHPINS.keys()
    marked = {name: np.count_nonzero(pixels(folder / name)) for name in found}
    assert any(300 == found[name] < marked[name] for name in found)  # absolute
    assert all(mask.saturation == 0 for item in defective(made, "visa", "candle")[1] for mask in item.masks)


@pytest.mark.parametrize("rule", ["any", "official"])
def test_defects_that_overlap_are_joined_in_the_mask_and_kept_apart(rule, made) -> None:
    folder, items = defective(made, "mvtec_loco", "splicing_connectors")
    masks, defects = read_masks(items, folder, (64, 128), None, 64, rule, 1, [None] * len(items), "keep")
    alone = [(n, pixels(folder / mask.path) > 0) for n, item in enumerate(items) for mask in item.masks]
    assert defects["image"].tolist() == [n for n, _ in alone] and len(alone) == 8
    assert np.array_equal(defects["mask"], np.stack([mask for _, mask in alone]))
    assert defects["saturation"].tolist() == [mask.saturation for item in items for mask in item.masks]
    overlaps = []
    for n, joined in enumerate(masks):
        of_image = [mask for m, mask in alone if m == n]
        assert np.array_equal(joined, np.logical_or.reduce(of_image))
        if len(of_image) == 2:
            overlaps.append(int((of_image[0] & of_image[1]).sum()))
    assert len(overlaps) == 2 and all(0 < px < 120 for px in overlaps)


@pytest.mark.parametrize(("aspect", "frame"), [("keep", (32, 64)), ("crop", (32, 32)), ("stretch", (32, 32))])
def test_what_must_be_found_shrinks_with_the_image(aspect, frame, made) -> None:
    """128x64 px become 64x32, of which `crop` cuts out 32x32, or 32x32: a fourth or an eighth of the px."""
    folder, items = defective(made, "mvtec_loco", "splicing_connectors")
    less = 8 if aspect == "stretch" else 4
    _, defects = read_masks(items, folder, frame, 32, 32, "any", 1, [None] * len(items), aspect)
    whole = [(n, mask) for n, item in enumerate(items) for mask in item.masks]
    kept = [
        (n, mask.saturation)
        for n, mask in whole
        if mask_array(folder / mask.path, 32, 32, "any", None, aspect, classes=True).any()
    ]
    assert defects["image"].tolist() == [n for n, _ in kept] and len(kept) >= (4 if aspect == "crop" else 8)
    for (_, px), mask, found in zip(kept, defects["mask"], defects["saturation"], strict=True):
        assert found == min(max(round(px / less), 1), mask.sum())


@pytest.mark.parametrize("rule", ["any", "official"])
@pytest.mark.parametrize("aspect", ["crop", "stretch", "pad", "keep"])
def test_numbers_of_kinds_mark_the_defect_as_white_does(rule, aspect, made, tmp_path) -> None:
    """As VisA's users make masks white before they use PatchCore's code, which counts 255 alone."""
    folder, items = defective(made, "visa", "candle")
    white: list[NDArray[np.bool_]] = []
    for item in items:
        (mask,) = item.masks
        numbers = pixels(folder / mask.path)
        Image.fromarray(np.where(numbers > 0, 255, 0).astype(np.uint8)).save(tmp_path / "white.png")
        white.append(mask_array(tmp_path / "white.png", 56, 48, rule, None, aspect))
    masks, defects = read_masks(items, folder, white[0].shape, 56, 48, rule, 1, [None] * 3, aspect)
    assert np.array_equal(masks, white) and np.any(white, axis=(1, 2)).sum() >= 2  # thin ones are lost by "official"
    assert len(defects["mask"]) == 0


def test_masks_of_mvtec_ad_2_are_no_images_and_private_images_are_apart(made) -> None:
    for category in CATEGORIES["mvtec_ad_2"].split():
        folder, items = made / "mvtec_ad_2" / category, index("mvtec_ad_2", made / "mvtec_ad_2", category)
        assert {item.defect for item in items} == {"good", "bad"}
        assert not any("ground_truth" in item.path or "private" in item.path for item in items)
        private = [f"test_private/{n:03}_regular.png" for n in range(3)]
        private += [f"test_private_mixed/{n:03}_mixed.png" for n in range(3)]
        assert [path.relative_to(folder).as_posix() for path in unlabelled_images("mvtec_ad_2", folder)] == private
    for layout, category in EVERY:
        if layout != "mvtec_ad_2":
            assert unlabelled_images(layout, made / layout / category) == []


def test_private_images_that_cannot_be_read_are_named(tmp_path) -> None:
    write_miniature("mvtec_ad_2", tmp_path, categories=["can"])
    (tmp_path / "can/test_private/003_regular.heic").touch()
    with pytest.raises(ReconpatchError, match=r"test_private/003_regular\.heic: images in this format are not read"):
        unlabelled_images("mvtec_ad_2", tmp_path / "can")
