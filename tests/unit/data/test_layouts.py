"""What is taken for an image, a mask or neither, before any file is opened."""

import os
import shutil
import unicodedata
from pathlib import Path

import pytest
from drawing import write_image, write_mask

from reconpatch.data.layouts import list_items
from reconpatch.data.manifest import listing
from reconpatch.errors import quote


def problems_of(layout: str, folder: Path) -> list[str]:
    problems: list[str] = []
    list(list_items(layout, folder, problems))
    return problems


def paths_of(layout: str, folder: Path) -> list[str]:
    return [name for i in list_items(layout, folder, []) for name in (i.path, i.mask) if name]


@pytest.mark.parametrize(
    "name",
    [
        *("train/good/._000.png", "test/bent/._000.png", "ground_truth/bent/._000_mask.png", "test/good/Thumbs.db"),
        *("test/.ipynb_checkpoints/000-checkpoint.png", "train/good/.ipynb_checkpoints/000.png", "test/good/notes.txt"),
        *("__MACOSX/train/good/._000.png", "train/good/.hidden.gif", "ground_truth/.x/000.png", "license.txt"),
    ],
)
def test_what_systems_leave_behind_is_no_part_of_the_data(name, mvtec) -> None:
    nut = mvtec / "nut"
    before, state = paths_of("mvtec_ad", nut), listing("mvtec_ad", mvtec, "nut")
    (nut / name).parent.mkdir(parents=True, exist_ok=True)
    (nut / name).write_bytes(b"\0\5\x16\7")
    assert paths_of("mvtec_ad", nut) == before and problems_of("mvtec_ad", nut) == []
    assert listing("mvtec_ad", mvtec, "nut") == state


def test_upper_case_suffixes_are_images_and_masks(mvtec, rng) -> None:
    nut = mvtec / "nut"
    (nut / "test/bent/000.png").rename(nut / "test/bent/000.PNG")
    (nut / "ground_truth/bent/001_mask.png").rename(nut / "ground_truth/bent/001_mask.Tif")
    assert problems_of("mvtec_ad", nut) == []
    masks = {i.path: i.mask for i in list_items("mvtec_ad", nut, []) if i.defect == "bent"}
    assert masks == {
        "test/bent/000.PNG": "ground_truth/bent/000_mask.png",
        "test/bent/001.png": "ground_truth/bent/001_mask.Tif",
    }


@pytest.mark.parametrize("name", ["train/good/9.gif", "test/bent/9.HEIC", "ground_truth/bent/9_mask.jp2"])
def test_images_of_other_formats_are_not_passed_over(name, mvtec) -> None:
    (mvtec / "nut" / name).touch()
    (problem,) = problems_of("mvtec_ad", mvtec / "nut")
    assert problem == f"{mvtec}/nut/{name}: images in this format are not read; save it as png, or move it elsewhere"


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
    assert problems_of(layout, folder) == []
    for number in (9, 8):
        file = folder / name.replace("9", str(number))
        file.parent.mkdir(exist_ok=True)
        file.touch()
    (problem,) = problems_of(layout, folder)
    assert problem == f"{file.parent}: 2 image(s) here have no place in the layout, for example {file.name}; move them"


def test_images_beside_a_folder_of_good_ones_are_named(own) -> None:
    """train/*.png counts only where there is no train/good."""
    shutil.copytree(own / "train", own / "train/good")
    (problem,) = problems_of("folder", own)
    assert problem == f"{own}/train: 5 image(s) here have no place in the layout, for example 0.png; move them"


def test_masks_must_be_clear(mvtec) -> None:
    nut = mvtec / "nut"
    write_mask(nut / "ground_truth/bent/000.bmp")
    shutil.copy(nut / "test/scratch/002.png", nut / "test/scratch/002.jpg")
    shutil.copy(nut / "train/good/001.png", nut / "train/good/001.jpg")  # without masks nothing is unclear
    assert problems_of("mvtec_ad", nut) == [
        f"{nut}/ground_truth/bent/000_mask.png: 000.bmp is a mask of the same image; remove one",
        f"{nut}/test/scratch/002.jpg: another image differs only in suffix, so that its mask is unclear; rename",
        f"{nut}/test/scratch/002.png: another image differs only in suffix, so that its mask is unclear; rename",
    ]


def test_each_missing_and_each_surplus_mask_is_named(mvtec) -> None:
    nut = mvtec / "nut"
    (nut / "ground_truth/scratch/001_mask.png").unlink()
    write_mask(nut / "ground_truth/scratch/7_mask.png")
    write_mask(nut / "ground_truth/good/9_mask.png")
    assert problems_of("mvtec_ad", nut) == [
        f"{nut}/ground_truth/good/9_mask.png: mask without a normal image in {nut}/test/good; remove it",
        f"{nut}/test/scratch/001.png: no mask in {nut}/ground_truth/scratch; add it",
        f"{nut}/ground_truth/scratch/7_mask.png: mask without a defective image in {nut}/test/scratch; remove it",
    ]


def test_a_folder_of_masks_that_is_not_there_is_one_problem(mvtec) -> None:
    shutil.rmtree(mvtec / "nut/ground_truth/scratch")
    (problem,) = problems_of("mvtec_ad", mvtec / "nut")
    assert problem.endswith(f"ground_truth/scratch: no masks of the 3 images in {mvtec}/nut/test/scratch; add them")


@pytest.mark.parametrize("name", ["Ground_Truth", "ground truth", "groundtruth", "masks", "GT"])
def test_folders_of_masks_by_another_name_are_named(name, mvtec, own) -> None:
    nut = mvtec / "nut"
    (nut / "ground_truth").rename(nut / name)
    problems = problems_of("mvtec_ad", nut)
    assert len(problems) == 3 and problems[-1].startswith(f"{nut}/{name}: if these are the masks, call the folder")
    (own / name).mkdir()
    (problem,) = problems_of("folder", own)
    assert "call the folder ground_truth" in problem
    (own / "ground_truth").mkdir()
    assert problems_of("folder", own) == []


@pytest.mark.parametrize("name", ["Good", "OK", "NORMAL"])
def test_normal_images_are_not_taken_for_defects_because_of_their_case(name, mvtec, own) -> None:
    (mvtec / "nut/test/good").rename(mvtec / "nut/test" / name)
    (own / "test/good").rename(own / "test" / name)
    told = f"{name}: would count as defective; if its images are normal, call it good"
    assert f"{mvtec}/nut/test/{told}" in problems_of("mvtec_ad", mvtec / "nut")
    assert problems_of("folder", own) == [f"{own}/test/{told}"]


def test_spaces_letters_of_any_language_and_newlines(mvtec) -> None:
    nut = mvtec / "nut"
    for number, name in enumerate(["a b", "ü 漢字"]):
        (nut / f"test/scratch/00{number}.png").rename(nut / f"test/scratch/{name}.png")
        (nut / f"ground_truth/scratch/00{number}_mask.png").rename(nut / f"ground_truth/scratch/{name}_mask.png")
    (nut / "train/good/000.png").rename(nut / "train/good/two\nlines.png")
    assert problems_of("mvtec_ad", nut) == []
    assert {"test/scratch/ü 漢字.png", "train/good/two\nlines.png"} < set(paths_of("mvtec_ad", nut))
    (nut / "ground_truth/scratch/a b_mask.png").rename(nut / "ground_truth/scratch/a\nb_mask.png")
    for problem in problems_of("mvtec_ad", nut):
        assert problem.isprintable()
    (nut / "test/bent").rename(nut / "test/be\nnt")
    (nut / "ground_truth/bent").rename(nut / "ground_truth/be\nnt")
    assert f"{nut}/test/be\\nnt: rename it, the name of a defect is shown in figures" in problems_of("mvtec_ad", nut)


def test_a_mac_and_another_system_may_have_named_image_and_mask(mvtec) -> None:
    nut = mvtec / "nut"
    mac, other = (unicodedata.normalize(form, "über") for form in ("NFD", "NFC"))
    assert mac != other
    (nut / "test/bent/000.png").rename(nut / f"test/bent/{mac}.png")
    (nut / "ground_truth/bent/000_mask.png").rename(nut / f"ground_truth/bent/{other}_mask.png")
    assert problems_of("mvtec_ad", nut) == []


def test_bytes_that_are_no_text(mvtec) -> None:
    name = os.fsdecode(b"train/good/\xff.gif")
    (mvtec / "nut" / name).touch()
    (problem,) = problems_of("mvtec_ad", mvtec / "nut")
    assert problem.encode() and quote(name) == r"train/good/\udcff.gif"


def test_folders_that_may_not_be_listed_are_named(mvtec, monkeypatch) -> None:
    def denied(path: Path) -> object:
        raise PermissionError(13, "Permission denied", str(path))

    listed = Path.iterdir
    monkeypatch.setattr(Path, "iterdir", lambda path: denied(path) if path.name == "bent" else listed(path))
    problems = problems_of("mvtec_ad", mvtec / "nut")
    assert f"{mvtec}/nut/test/bent: cannot be listed (Permission denied)" in problems


def test_the_order_of_the_file_system_does_not_matter(mvtec, btad, own, rng, monkeypatch) -> None:
    write_image(mvtec / "nut/test/stray.png", rng)
    places = (("mvtec_ad", mvtec / "nut"), ("btad", btad / "03"), ("folder", own))
    before = [(list(list_items(*place, [])), problems_of(*place)) for place in places]
    state = listing("btad", btad, "01")
    listed, walked = Path.iterdir, os.walk
    monkeypatch.setattr(Path, "iterdir", lambda path: iter(sorted(listed(path), reverse=True)))

    def backwards(top):
        for place, folders, files in walked(top):
            folders.sort(reverse=True)
            yield place, folders, sorted(files, reverse=True)

    monkeypatch.setattr(os, "walk", backwards)
    assert [(list(list_items(*place, [])), problems_of(*place)) for place in places] == before
    assert listing("btad", btad, "01") == state
