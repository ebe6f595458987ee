"""What the index says of files once they are opened."""

import hashlib
import os
import shutil
import warnings
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from drawing import write_image, write_mask
from PIL import Image

from reconpatch.data.decoding import decode
from reconpatch.data.index import index
from reconpatch.data.manifest import manifest_json
from reconpatch.data.published import KNOWN, remarks
from reconpatch.errors import ReconpatchError


def test_mvtec_layout(mvtec) -> None:
    items = index("mvtec_ad", mvtec, "nut")
    assert [i.path for i in items] == sorted(i.path for i in items if i.split == "train") + sorted(
        i.path for i in items if i.split == "test"
    )
    assert [(i.defect, i.label, i.mask) for i in items if i.split == "test"][:3] == [
        ("bent", 1, "ground_truth/bent/000_mask.png"),
        ("bent", 1, "ground_truth/bent/001_mask.png"),
        ("good", 0, None),
    ]
    assert {(i.width, i.height, i.mode) for i in items} == {(48, 40, "RGB")}
    assert all(len(i.sha256) == 64 and i.bytes for i in items)


def test_folder_masks_are_all_or_none(own) -> None:
    write_mask(own / "ground_truth/broken/0.png")
    with pytest.raises(ReconpatchError, match=r"all or none"):
        index("folder", own, "own")
    for i in range(1, 5):
        write_mask(own / f"ground_truth/broken/{i}_mask.png")
    assert all(i.mask for i in index("folder", own, "own") if i.label)


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


def test_what_is_hashed_is_what_is_decoded(mvtec, monkeypatch) -> None:
    """A file replaced by every read: one read, so digest, size and pixels are of the same content."""
    reads: list[Path] = []
    contents = {}
    for side in (30, 31):
        buffer = BytesIO()
        Image.new("RGB", (side, side)).save(buffer, "PNG")
        contents[side] = buffer.getvalue()

    def read(path: Path) -> bytes:
        reads.append(path)
        return contents[30 + len(reads) % 2]

    monkeypatch.setattr(Path, "read_bytes", read)
    shutil.rmtree(mvtec / "nut/test/bent"), shutil.rmtree(mvtec / "nut/test/scratch")
    shutil.rmtree(mvtec / "nut/ground_truth")
    items = index("mvtec_ad", mvtec, "nut")
    assert len(reads) == len(items) == 6
    assert {i.width for i in items} == {30, 31}
    for item in items:
        assert item.sha256 == hashlib.sha256(contents[item.width]).hexdigest()
        assert item.bytes == len(contents[item.width])


def test_facts_of_masks_are_counted(mvtec) -> None:
    values = np.zeros((40, 48), np.uint8)
    values[0, :7], values[1, :5], values[2, 0] = 255, 128, 1
    mask = mvtec / "nut/ground_truth/bent/000_mask.png"
    Image.fromarray(values).save(mask)
    items = {i.path: i for i in index("mvtec_ad", mvtec, "nut")}
    bent = items["test/bent/000.png"]
    assert (bent.mask_pixels, bent.mask_between) == (13, 6)
    assert bent.mask_bytes == len(mask.read_bytes())
    assert bent.mask_sha256 == hashlib.sha256(mask.read_bytes()).hexdigest()
    plain = items["test/bent/001.png"]
    assert (plain.mask_pixels, plain.mask_between) == (14 * 12, 0)
    assert (items["test/good/000.png"].mask, items["test/good/000.png"].mask_bytes) == (None, 0)


def test_masks_are_compared_after_each_is_turned_by_its_own_exif(mvtec, rng) -> None:
    """Turned by 90 degrees, 48x40 px are 40x48: a mask drawn upright fits, one that lies like the file does not."""
    nut = mvtec / "nut"
    turned = Image.fromarray(rng.integers(0, 256, (40, 48, 3)).astype(np.uint8))
    for name in ("000", "001"):
        turned.save(nut / f"test/bent/{name}.png", exif=exif(6))
    write_mask(nut / "ground_truth/bent/000_mask.png", (40, 48))
    assert problems_of(mvtec) == [
        f"{nut}/ground_truth/bent/001_mask.png: mask is 48x40 px, {nut}/test/bent/001.png is 40x48; make them equal"
    ]
    Image.open(nut / "ground_truth/bent/001_mask.png").save(nut / "ground_truth/bent/001_mask.png", exif=exif(6))
    items = {i.path: i for i in index("mvtec_ad", mvtec, "nut")}
    upright, lying = items["test/bent/000.png"], items["test/bent/001.png"]
    assert (upright.width, upright.height, upright.orientation, upright.mask_orientation) == (40, 48, 6, 1)
    assert (lying.width, lying.height, lying.orientation, lying.mask_orientation) == (40, 48, 6, 6)


def test_warnings_go_to_the_image_they_are_about(mvtec, monkeypatch) -> None:
    """Whatever Python is told to do with warnings; from several threads; each file's own."""

    def warn(content: bytes, path: Path) -> object:
        if path.name in ("001.png", "001_mask.png"):
            warnings.warn(f"strange\n {path.parent.name}", stacklevel=1)
        return decode(content, path)

    monkeypatch.setattr("reconpatch.data.index.decode", warn)
    texts, show = [], warnings.showwarning
    for action in ("error", "ignore", "once"):
        with warnings.catch_warnings():
            warnings.simplefilter(action)
            items = index("mvtec_ad", mvtec, "nut", threads=4)
        texts.append(manifest_json(items))
    assert {i.path: i.warning for i in items if i.warning} == {
        "train/good/001.png": "strange good",
        "test/good/001.png": "strange good",
        "test/bent/001.png": "strange bent",
        "test/scratch/001.png": "strange scratch",
    }
    assert len(set(texts)) == 1 and warnings.showwarning is show


def test_a_warning_is_a_remark(mvtec, rng) -> None:
    """A JPEG whose EXIF data are cut: Pillow reads it and warns."""
    image = Image.fromarray(rng.integers(0, 256, (40, 48, 3)).astype(np.uint8))
    described = Image.Exif()
    described[0x010E] = "a description that is longer than what is left of it"
    buffer = BytesIO()
    image.save(buffer, "JPEG", exif=described)
    content = buffer.getvalue()
    at = content.index(b"Exif")
    size = int.from_bytes(content[at - 2 : at])
    cut = content[: at - 2] + (26).to_bytes(2) + content[at : at + 24] + content[at + size - 2 :]
    (mvtec / "nut/train/good/new.jpg").write_bytes(cut)
    found = [r for r in remarks(index("mvtec_ad", mvtec, "nut")) if "warning" in r]
    assert len(found) == 1 and "EXIF" in found[0] and found[0].endswith(": 1 (train/good/new.jpg)")


def test_published_categories_at_hand_have_no_problem_and_only_true_remarks(real) -> None:
    root = real / "mvtec_ad"
    items = index("mvtec_ad", root, "bottle", threads=2)
    assert remarks(items) == []
    assert {i.format for i in items} == {"JPEG"} and all(i.mask_pixels for i in items if i.label)


def test_an_empty_mask_of_a_published_category_is_remarked_on(mvtec, monkeypatch) -> None:
    """What stops on one's own images must not make a published data set impossible to run."""
    write_mask(mvtec / "nut/ground_truth/bent/000_mask.png", box=(0, 0, 0, 0))
    assert "bent/000_mask.png: mask of a defective image is empty" in problems_of(mvtec)[0]
    monkeypatch.setitem(KNOWN["mvtec_ad"], "nut", (4, 2, 5))
    said = remarks(index("mvtec_ad", mvtec, "nut"))
    assert any("empty masks of defective images" in remark and "bent/000_mask.png" in remark for remark in said)


def test_every_kind_of_trouble_at_once(mvtec, rng, damage) -> None:
    """A bad file or two of each kind; each problem has the path first, and nothing else is wrong."""
    nut = mvtec / "nut"
    good = nut / "train/good"
    bad = {
        "cut.png": "cannot be decoded",
        "empty.png": "not an image that can be read (it is empty: 0 bytes)",
        "text.png": "not an image that can be read (it holds none of",
        "gif.png": "not an image that can be read (it holds a GIF; save it as png)",
        "frames.tif": "holds 2 pictures",
        "float.tif": "floating-point images have no stated range",
        "link.png": "broken link to nowhere.png",
        "pipe.png": "a device or pipe, not an image file",
        "folder.png": "a folder, not an image file",
        "other.heic": "images in this format are not read",
    }
    write_image(good / "cut.png", rng)
    damage(good / "cut.png")
    (good / "empty.png").touch()
    (good / "text.png").write_text("not an image")
    noise = Image.fromarray(rng.integers(0, 256, (40, 48, 3)).astype(np.uint8))
    noise.save(good / "gif.png", "GIF")
    noise.save(good / "frames.tif", save_all=True, append_images=[noise])
    Image.new("F", (48, 40)).save(good / "float.tif")
    (good / "link.png").symlink_to("nowhere.png")
    os.mkfifo(good / "pipe.png")
    (good / "folder.png").mkdir()
    (good / "other.heic").touch()
    damage(nut / "ground_truth/bent/000_mask.png")
    write_mask(nut / "ground_truth/bent/001_mask.png", (40, 48))
    write_mask(nut / "ground_truth/scratch/000_mask.png", box=(0, 0, 0, 0))
    Image.new("F", (48, 40)).save(nut / "ground_truth/scratch/001_mask.png", "TIFF")
    (nut / "ground_truth/scratch/002_mask.png").unlink()
    for name in ("000", "001"):  # of normal images, one of them empty
        write_mask(nut / f"ground_truth/good/{name}_mask.png", box=(0, 0, 4, 3) if name == "000" else (0, 0, 0, 0))
    expected = {good / name: message for name, message in bad.items()} | {
        nut / "ground_truth/bent/000_mask.png": "",
        nut / "ground_truth/bent/001_mask.png": f"mask is 40x48 px, {nut}/test/bent/001.png is 48x40",
        nut / "ground_truth/scratch/000_mask.png": "mask of a defective image is empty",
        nut / "ground_truth/scratch/001_mask.png": "floating-point images have no stated range",
        nut / "test/scratch/002.png": f"no mask in {nut}/ground_truth/scratch",
        nut / "ground_truth/good/000_mask.png": f"marks 12 px of a normal image, {nut}/test/good/000.png; move",
    }
    problems = problems_of(mvtec)
    assert len(problems) == len(expected)
    for path, message in expected.items():
        (problem,) = [p for p in problems if p.startswith(f"{path}: ")]
        assert problem.removeprefix(f"{path}: ").startswith(message)
    assert problems_of(mvtec, threads=1) == problems


def test_missing_categories_and_splits_are_named(mvtec) -> None:
    with pytest.raises(ReconpatchError, match="bolt: no such folder"):
        index("mvtec_ad", mvtec, "bolt")
    shutil.rmtree(mvtec / "nut/train/good")
    assert [line for line in problems_of(mvtec) if "train/good: no images" in line]
