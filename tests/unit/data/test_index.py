"""What the index says of files once they are opened."""

import os
from pathlib import Path

import numpy as np
import pytest
from drawing import write_image, write_mask
from PIL import Image

from reconpatch.data.catalogue import CONTENTS, Counts
from reconpatch.data.index import index
from reconpatch.data.published import remarks
from reconpatch.errors import ReconpatchError


def problems_of(root: Path, layout: str = "mvtec_ad", category: str = "nut", threads: int = 2) -> list[str]:
    with pytest.raises(ReconpatchError) as caught:
        index(layout, root, category, threads)
    first, *rest = str(caught.value).split("\n  ")
    assert first == f"{category}: {len(rest)} problem(s) in the data:"
    return rest


def exif(orientation: int) -> Image.Exif:
    made = Image.Exif()
    made[0x0112] = orientation
    return made


def test_masks_are_compared_after_each_is_turned_by_its_own_exif(mvtec, rng) -> None:
    """Turned by 90 degrees, 48x40 px are 40x48: a mask drawn upright fits, one that lies like the file does not."""
    nut = mvtec / "nut"
    turned = Image.fromarray(rng.integers(0, 256, (40, 48, 3)).astype(np.uint8))
    for name in ("000", "001"):
        turned.save(nut / f"test/bent/{name}.png", exif=exif(6))
    write_mask(nut / "ground_truth/bent/000_mask.png", (40, 48))
    assert problems_of(mvtec) == [
        f"{nut}/ground_truth/bent/001_mask.png: mask is 48x40 px, its image 40x48; make them equal"
    ]
    Image.open(nut / "ground_truth/bent/001_mask.png").save(nut / "ground_truth/bent/001_mask.png", exif=exif(6))
    items = {i.path: i for i in index("mvtec_ad", mvtec, "nut")}
    upright, lying = items["test/bent/000.png"], items["test/bent/001.png"]
    for item, of_mask in ((upright, 1), (lying, 6)):
        assert (item.width, item.height, item.orientation) == (40, 48, 6)
        assert [mask.orientation for mask in item.masks] == [of_mask]


def test_copies_are_seen_however_they_are_saved(mvtec, rng) -> None:
    """A training image in the test set, saved in another format."""
    nut = mvtec / "nut"
    before = index("mvtec_ad", mvtec, "nut")
    Image.open(nut / "train/good/001.png").save(nut / "test/good/again.bmp")
    Image.open(nut / "train/good/001.png").save(nut / "train/good/other.tif", compression="tiff_lzw")
    said = {line.split(":")[0]: line for line in remarks(index("mvtec_ad", mvtec, "nut")) if " = " in line}
    assert len(said) == 2 and not any(" = " in line for line in remarks(before))
    assert "1 (train/good/other.tif = train/good/001.png)" in said["training images that repeat others pixel for pixel"]
    assert "1 (test/good/again.bmp = train/good/001.png)" in " ".join(said.values())


def test_published_categories_at_hand_have_no_problem_and_only_true_remarks(real) -> None:
    root = real / "mvtec_ad"
    items = index("mvtec_ad", root, "bottle", threads=2)
    assert remarks(items) == []
    assert {i.format for i in items} == {"JPEG"} and all(i.masks[0].pixels for i in items if i.label)


def test_an_empty_mask_of_a_published_category_is_remarked_on(mvtec, monkeypatch) -> None:
    """What stops on one's own images must not make a published data set impossible to run."""
    write_mask(mvtec / "nut/ground_truth/bent/000_mask.png", box=(0, 0, 0, 0))
    assert "bent/000_mask.png: mask of a defective image is empty" in problems_of(mvtec)[0]
    monkeypatch.setitem(CONTENTS["mvtec_ad"].counts, "nut", Counts(4, 2, 5))
    said = remarks(index("mvtec_ad", mvtec, "nut"))
    assert any("empty masks of defective images" in remark and "bent/000_mask.png" in remark for remark in said)


def test_every_kind_of_trouble_at_once(mvtec, rng, damage) -> None:
    """Each problem has the path of its file first; nothing else is wrong."""
    nut = mvtec / "nut"
    good, masks = nut / "train/good", nut / "ground_truth"
    write_image(good / "cut.png", rng)
    damage(good / "cut.png")
    (good / "empty.png").touch()
    (good / "link.png").symlink_to("nowhere.png")
    os.mkfifo(good / "pipe.png")
    (good / "folder.png").mkdir()
    (good / "other.heic").touch()
    Image.new("F", (48, 40)).save(good / "float.tif")
    damage(masks / "bent/000_mask.png")
    write_mask(masks / "bent/001_mask.png", (40, 48))
    write_mask(masks / "scratch/000_mask.png", box=(0, 0, 0, 0))
    Image.new("F", (48, 40)).save(masks / "scratch/001_mask.png", "TIFF")
    (masks / "scratch/002_mask.png").unlink()
    write_mask(masks / "good/000_mask.png", box=(0, 0, 4, 3))  # of a normal image
    write_mask(masks / "good/001_mask.png", box=(0, 0, 0, 0))  # as well, but empty
    names = ("cut.png", "empty.png", "link.png", "pipe.png", "folder.png", "other.heic", "float.tif")
    expected = {good / name for name in names} | {masks / "good/000_mask.png", nut / "test/scratch/002.png"}
    expected |= {masks / name for name in ("bent/000_mask.png", "bent/001_mask.png")}
    expected |= {masks / name for name in ("scratch/000_mask.png", "scratch/001_mask.png")}
    problems = problems_of(mvtec)
    assert sorted(problem.split(": ")[0] for problem in problems) == sorted(map(str, expected))
    assert problems_of(mvtec, threads=1) == problems
