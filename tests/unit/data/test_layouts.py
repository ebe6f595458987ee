"""What is taken for a category, an image, a mask or neither, before any file is opened."""

import os
import shutil
import unicodedata
from pathlib import Path

import pytest
from drawing import write_mask
from hypothesis import given
from hypothesis import strategies as st

from reconpatch.data.layouts import Item, categories, list_items, pair_masks
from reconpatch.data.manifest import listing
from reconpatch.detector.photographs import find_photographs
from reconpatch.detector.truth import truth_from_folders
from reconpatch.errors import ReconpatchError

CALLED = [  # how a mask of `000.png` may be called: its ending
    *(
        ".png",
        ".bmp",
        "_mask.png",
        "_MASK.PNG",
        "-Mask.tif",
        ".mask.png",
        "_masks.png",
        "_gt.png",
        " GT.bmp",
        "_label.bmp",
    ),
    *(
        "_labels.png",
        "_ground_truth.png",
        "_GroundTruth.tiff",
        ".png.png",
        ".PNG.png",
        "_mask.png.png",
        ".jpg_mask.png",
    ),
]
OTHERWISE = ["-seg.png", "_defect.png", "mask.png", "_mask2.png", "(1).png"]


def problems_of(layout: str, folder: Path) -> list[str]:
    problems: list[str] = []
    list(list_items(layout, folder, problems))
    return problems


def paths_of(layout: str, folder: Path) -> list[str]:
    return [name for i in list_items(layout, folder, []) for name in (i.path, *masks_of(i))]


def masks_of(item: Item) -> list[str]:
    return [mask.path for mask in item.masks]


def test_categories_come_in_the_papers_order(tmp_path) -> None:
    for name in ("wood", "cable", "bottle", "zzz", "carpet", "__MACOSX", ".trash"):
        (tmp_path / name / "train").mkdir(parents=True)
    (tmp_path / "notes").mkdir()
    assert categories("mvtec_ad", tmp_path) == ["bottle", "cable", "carpet", "wood", "zzz"]


def test_roots_without_categories_are_named(tmp_path, mvtec) -> None:
    (tmp_path / "names/a b/train").mkdir(parents=True)
    for root, message in ((tmp_path / "absent", "no such folder"), (tmp_path / "names", r"'a b'.*rename it")):
        with pytest.raises(ReconpatchError, match=message):
            categories("mvtec_ad", root)


def test_what_systems_leave_behind_is_no_part_of_the_data(mvtec) -> None:
    nut = mvtec / "nut"
    before, state = paths_of("mvtec_ad", nut), listing("mvtec_ad", mvtec, "nut")
    for name in (
        *("train/good/._000.png", "test/bent/._000.png", "ground_truth/bent/._000_mask.png", "test/good/Thumbs.db"),
        *("test/.ipynb_checkpoints/000-checkpoint.png", "train/good/.ipynb_checkpoints/000.png", "test/good/notes.txt"),
        *("test/@eaDir/000.png/SYNOFILE_THUMB_M.png", "train/good/#recycle/9.png", "test/$RECYCLE.BIN/9.png"),
        *("test/Thumbnails/9.png", "train/good/thumbs/9.png", "ground_truth/bent/.thumbs/9.png"),
        *("ground_truth/lost+found/9.png", "System Volume Information/9.png"),
        *("__MACOSX/train/good/._000.png", "train/good/.hidden.gif", "ground_truth/.x/000.png", "license.txt"),
    ):
        (nut / name).parent.mkdir(parents=True, exist_ok=True)
        (nut / name).write_bytes(b"\0\5\x16\7")
    assert paths_of("mvtec_ad", nut) == before and problems_of("mvtec_ad", nut) == []
    assert listing("mvtec_ad", mvtec, "nut") == state


def test_images_and_masks_are_paired_by_stem(mvtec) -> None:
    """Suffixes in upper case; Macs write letters with accents as two characters."""
    nut = mvtec / "nut"
    mac, other = (unicodedata.normalize(form, "über") for form in ("NFD", "NFC"))
    (nut / "test/bent/000.png").rename(nut / f"test/bent/{mac}.PNG")
    (nut / "ground_truth/bent/000_mask.png").rename(nut / f"ground_truth/bent/{other}_mask.png")
    (nut / "ground_truth/bent/001_mask.png").rename(nut / "ground_truth/bent/001_mask.Tif")
    assert problems_of("mvtec_ad", nut) == []
    masks = {i.path: masks_of(i) for i in list_items("mvtec_ad", nut, []) if i.defect == "bent"}
    assert masks == {
        f"test/bent/{mac}.PNG": [f"ground_truth/bent/{other}_mask.png"],
        "test/bent/001.png": ["ground_truth/bent/001_mask.Tif"],
    }


def rename_masks(folder: Path, ending: str) -> None:
    for mask in sorted(folder.iterdir()):
        mask.rename(folder / mask.name.replace("_mask.png", ending))


@pytest.mark.parametrize("layout", ["mvtec_ad", "folder"])
@pytest.mark.parametrize("ending", CALLED)
def test_usual_names_of_masks_pair_them_for_check_and_evaluate(ending, layout, mvtec) -> None:
    """Also where an image's own name ends like a mask's, and another image has the rest of its name."""
    nut = mvtec / "nut"
    rename_masks(nut / "ground_truth/bent", ending)
    for number, stem in enumerate(("gas", "gas_mask", "part_gt")):
        (nut / f"test/scratch/00{number}.png").rename(nut / f"test/scratch/{stem}.png")
        (nut / f"ground_truth/scratch/00{number}_mask.png").rename(nut / f"ground_truth/scratch/{stem}{ending}")
    assert problems_of(layout, nut) == []
    stems = {"bent": ("000", "001"), "scratch": ("gas", "gas_mask", "part_gt")}
    expected = {f"{d}/{stem}.png": f"ground_truth/{d}/{stem}{ending}" for d in stems for stem in stems[d]}
    items = [item for item in list_items(layout, nut, []) if item.label]
    assert {item.path.removeprefix("test/"): masks_of(item) for item in items} == {k: [v] for k, v in expected.items()}
    photographs = find_photographs([nut / "test"])[0]
    truths = truth_from_folders(photographs, masks=nut / "ground_truth")
    found = {p.name: t.mask for p, t in zip(photographs, truths, strict=True) if t.mask}
    assert found == {name: nut / mask for name, mask in expected.items()}


@pytest.mark.parametrize("ending", OTHERWISE)
def test_masks_called_otherwise_are_asked_about(ending, mvtec) -> None:
    """They may be the user's only truth: no message says to remove them, and each says what masks are called."""
    nut = mvtec / "nut"
    for folder in ("bent", "scratch"):
        rename_masks(nut / "ground_truth" / folder, ending)
    for layout in ("mvtec_ad", "folder"):
        assert len(problems_of(layout, nut)) == 2  # one for each folder
    with pytest.raises(ReconpatchError) as caught:
        truth_from_folders(find_photographs([nut / "test"])[0], masks=nut / "ground_truth")
    (nut / f"ground_truth/bent/000{ending}").rename(nut / "ground_truth/bent/000.png")
    partly = problems_of("mvtec_ad", nut)
    assert len(partly) == 3  # the image without its mask, the mask without its image, and the other folder
    for message in (str(caught.value), *partly, *problems_of("folder", nut)):
        assert "00" in message and "_mask.png" in message and "_gt" in message and "remove" not in message


STEMS = [a + b + c for a in ("a", "b") for b in ("", "_mask", "_GT", ".png") for c in ("", "_mask", ".jpg", "-label")]


@given(st.sets(st.sampled_from(STEMS), min_size=1), st.sampled_from([*CALLED, ".webp"]))
def test_one_way_of_calling_masks_pairs_all_whatever_the_images_are_called(stems, ending) -> None:
    masks = {stem: [Path("masks", stem + ending)] for stem in stems}
    assert pair_masks(stems, [mask for (mask,) in masks.values()]) == masks


@pytest.mark.parametrize(
    ("layout", "name"),
    [
        *(("mvtec_ad", "train/bad/9.png"), ("mvtec_ad", "train/9.png"), ("mvtec_ad", "test/9.png")),
        *(("mvtec_ad", "train/good/more/9.png"), ("mvtec_ad", "test/bent/x/9.JPG"), ("folder", "test/good/x/9.bmp")),
        *(("mvtec_ad", "ground_truth/9_mask.png"), ("folder", "train/monday/9.png"), ("btad", "train/good/9.bmp")),
    ],
)
def test_images_without_a_place_in_the_layout_are_named(layout, name, mvtec, btad, own) -> None:
    folder = {"mvtec_ad": mvtec / "nut", "btad": btad / "03", "folder": own}[layout]
    for number in (9, 8):
        file = folder / name.replace("9", str(number))
        file.parent.mkdir(exist_ok=True)
        file.touch()
    (problem,) = problems_of(layout, folder)
    assert problem.startswith(f"{file.parent}: 2 image(s) here") and file.name in problem


def test_unclear_missing_and_surplus_masks_are_named(mvtec) -> None:
    nut = mvtec / "nut"
    write_mask(nut / "ground_truth/bent/000.bmp")  # a second one of the same image
    shutil.copy(nut / "test/scratch/002.png", nut / "test/scratch/002.jpg")  # which of them is the mask of?
    shutil.copy(nut / "train/good/001.png", nut / "train/good/001.jpg")  # without masks nothing is unclear
    (nut / "ground_truth/scratch/001_mask.png").unlink()
    for name in ("scratch/7_mask.png", "good/9_mask.png", "brokne/0.png"):
        write_mask(nut / "ground_truth" / name)
    expected = [*("ground_truth/bent/000_mask.png", "ground_truth/good/9_mask.png", "test/scratch/001.png")]
    expected += [*("test/scratch/002.jpg", "test/scratch/002.png", "ground_truth/scratch/7_mask.png")]
    problems = problems_of("mvtec_ad", nut)
    assert [p.removeprefix(f"{nut}/").split(": ")[0] for p in problems] == [*expected, "ground_truth/brokne"]
    shutil.rmtree(nut / "ground_truth/scratch")  # one problem, not one for each image
    assert sum("ground_truth/scratch: no masks of the 4 images" in line for line in problems_of("mvtec_ad", nut)) == 1


@pytest.mark.parametrize("name", ["Ground_Truth", "ground truth", "masks", "GT"])
def test_folders_of_masks_by_another_name_are_named(name, mvtec, own) -> None:
    nut = mvtec / "nut"
    (nut / "ground_truth").rename(nut / name)
    problems = problems_of("mvtec_ad", nut)
    assert len(problems) == 3 and problems[-1].startswith(f"{nut}/{name}: if these are the masks, call the folder")
    (own / name).mkdir()
    assert len(problems_of("folder", own)) == 1
    (own / "ground_truth").mkdir()
    assert problems_of("folder", own) == []


def test_the_order_of_the_file_system_does_not_matter(mvtec, btad, own, monkeypatch) -> None:
    folders = (("mvtec_ad", mvtec / "nut"), ("btad", btad / "03"), ("folder", own))
    before = [list(list_items(*folder, [])) for folder in folders]
    state, listed, walked = listing("btad", btad, "01"), Path.iterdir, os.walk
    monkeypatch.setattr(Path, "iterdir", lambda path: iter(sorted(listed(path), reverse=True)))
    monkeypatch.setattr(os, "walk", lambda top: reversed([(f, s[::-1], n[::-1]) for f, s, n in walked(top)]))
    assert [list(list_items(*folder, [])) for folder in folders] == before
    assert listing("btad", btad, "01") == state
