"""What is taken for a category, an image, a mask or neither, before any file is opened."""

import os
import shutil
import unicodedata
from pathlib import Path

import pytest
from drawing import write_mask

from reconpatch.data.layouts import categories, list_items
from reconpatch.data.manifest import listing
from reconpatch.errors import ReconpatchError


def problems_of(layout: str, folder: Path) -> list[str]:
    problems: list[str] = []
    list(list_items(layout, folder, problems))
    return problems


def paths_of(layout: str, folder: Path) -> list[str]:
    return [name for i in list_items(layout, folder, []) for name in (i.path, i.mask) if name]


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
    masks = {i.path: i.mask for i in list_items("mvtec_ad", nut, []) if i.defect == "bent"}
    assert masks == {
        f"test/bent/{mac}.PNG": f"ground_truth/bent/{other}_mask.png",
        "test/bent/001.png": "ground_truth/bent/001_mask.Tif",
    }


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
