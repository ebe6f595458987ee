import unicodedata
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from drawing import write_mask

from reconpatch.detector.photographs import Photograph
from reconpatch.detector.truth import (
    GOOD_LABELS,
    Truth,
    doubtful_types,
    surplus_masks,
    truth_from_file,
    truth_from_folders,
)
from reconpatch.errors import ReconpatchError

NAMES = ["good/0.png", "scratch/0.png", "line 1/ok/0.png", "day/bent/1.png"]


def photographs(*names: str) -> list[Photograph]:
    return [Photograph(name, Path("/photos") / name) for name in names]


def test_folders_say_what_is_normal_and_which_defect() -> None:
    assert truth_from_folders(photographs(*NAMES)) == [
        *(Truth(0, "good", None), Truth(1, "scratch", None), Truth(0, "good", None), Truth(1, "bent", None))
    ]
    assert [truth.label for truth in truth_from_folders(photographs(*NAMES), {"Scratch"})] == [1, 0, 1, 1]
    assert truth_from_folders(photographs("OK/0.png", "Good/0.png")) == [Truth(0, "good", None)] * 2
    with pytest.raises(ReconpatchError, match="lies in no folder") as error:
        truth_from_folders(photographs("good/0.png", "0.png"))
    assert error.value.where.endswith("/0.png") and "--labels" in error.value.fix


def test_masks_are_found_in_the_same_folders(tmp_path) -> None:
    """Whatever the case of their suffix; hidden files are no masks, and those of good images are found, to be
    refused if they mark anything."""
    for place in ("scratch/0_mask.png", "bent/1.BMP", "other/2.png", "good/0.png", "scratch/._0.png"):
        write_mask(tmp_path / place)
    truths = truth_from_folders(photographs(*NAMES, "other/3.png"), masks=tmp_path)
    assert [truth.mask and truth.mask.relative_to(tmp_path).as_posix() for truth in truths] == [
        *("good/0.png", "scratch/0_mask.png", None, "bent/1.BMP", None)
    ]
    assert surplus_masks(photographs(*NAMES), truths) == []  # other/ holds no mask of these photographs
    write_mask(tmp_path / "scratch/5_mask.png")
    assert surplus_masks(photographs(*NAMES), truths) == [tmp_path / "scratch/5_mask.png"]
    with pytest.raises(ReconpatchError, match=r"0_mask\.png.*scratch/0\.png.*scratch/0\.jpg"):
        truth_from_folders(photographs(*NAMES, "scratch/0.jpg"), masks=tmp_path)
    write_mask(tmp_path / "scratch/0.png")
    with pytest.raises(ReconpatchError, match="masks of one image"):
        truth_from_folders(photographs(*NAMES), masks=tmp_path)


def test_a_mask_that_may_be_of_two_images_is_refused(tmp_path) -> None:
    """Of images in two folders of one name; with a mask in each image's own folder it is clear."""
    write_mask(tmp_path / "scratch/01.png")
    two = photographs("A/scratch/01.png", "B/scratch/01.png")
    with pytest.raises(ReconpatchError, match=r"A/scratch/01\.png and of B/scratch/01\.png") as error:
        truth_from_folders(two, masks=tmp_path)
    assert error.value.where == str(tmp_path / "scratch/01.png") and "A/scratch and B/scratch" in error.value.fix
    for folder in ("A", "B"):
        write_mask(tmp_path / folder / "scratch/01.png")
    masks = [truth.mask for truth in truth_from_folders(two, masks=tmp_path)]
    assert masks == [tmp_path / folder / "scratch/01.png" for folder in ("A", "B")]


def test_an_image_is_not_its_own_mask(tmp_path) -> None:
    """Where the folder of images is given as that of the masks, too."""
    write_mask(tmp_path / "bent/0.png")
    here = [Photograph("bent/0.png", tmp_path / "bent/0.png")]
    with pytest.raises(ReconpatchError, match="no mask of any image"):
        truth_from_folders(here, masks=tmp_path)
    write_mask(tmp_path / "bent/0_mask.png")
    assert truth_from_folders(here, masks=tmp_path) == [Truth(1, "bent", tmp_path / "bent/0_mask.png")]


@pytest.mark.parametrize("forms", [("NFD", "NFC"), ("NFC", "NFD")])
def test_masks_are_found_however_an_umlaut_is_written(forms, tmp_path) -> None:
    """Macs write it as two characters."""
    write_mask(tmp_path / f"scratch/{unicodedata.normalize(forms[0], 'für')}_mask.png")
    truths = truth_from_folders(photographs(unicodedata.normalize(forms[1], "scratch/für.png")), masks=tmp_path)
    assert truths[0].mask is not None


def test_labels_of_a_file(tmp_path) -> None:
    """Any order, any case, a byte order mark, names with commas and line breaks, masks beside the file."""
    write_mask(tmp_path / "m/1.png")
    text = '\ufeffimage,label,mask\nx.png,Riss,m/1.png\n\n"a, ""b""\nc.png",good,\nsub/y.png, ok ,\n'
    (tmp_path / "labels.csv").write_text(text, encoding="utf-8")
    truths = truth_from_file(tmp_path / "labels.csv", photographs("sub/y.png", 'a, "b"\nc.png', "x.png"))
    assert truths == [Truth(0, "good", None), Truth(0, "good", None), Truth(1, "Riss", tmp_path / "m/1.png")]
    for word in GOOD_LABELS:
        (tmp_path / "l.csv").write_text(f"label,image\n{word.title()},a.png\n")
        assert truth_from_file(tmp_path / "l.csv", photographs("a.png")) == [Truth(0, "good", None)]


def labelled(folder: Path, *labels: object) -> list[int]:
    """Labels of images 0.png, 1.png, ... -> 0 for those that are read as normal, 1 for the others."""
    names = [f"{n}.png" for n in range(len(labels))]
    pd.DataFrame({"image": names, "label": labels}).to_csv(folder / "labels.csv")
    return [truth.label for truth in truth_from_file(folder / "labels.csv", photographs(*names))]


@pytest.mark.parametrize(
    "labels",
    [
        (0, 1, 0, 1),
        (False, True, False, True),
        (0.0, 1.0, 0.0, 1.0),
        (1, -1, 1, -1),  # as `predict` gives them
        (1.0, -1.0, 1.0, -1.0),
        ("False", "True", "FALSE", "true"),
        (0, 2, 0, 3),
        ("good", 1, "ok", "scratch"),
        ("good", -1, "Normal", -1),
        (np.int64(0), np.int8(1), np.int64(0), np.int8(1)),
    ],
    ids=str,
)
def test_labels_as_pandas_and_predict_write_them(labels, tmp_path) -> None:
    assert labelled(tmp_path, *labels) == [0, 1, 0, 1]


def test_a_type_of_defect_is_one_with_and_without_decimals(tmp_path) -> None:
    (tmp_path / "labels.csv").write_text("image,label\na.png,1\nb.png,1.0\nc.png,Dent\n")
    truths = truth_from_file(tmp_path / "labels.csv", photographs("a.png", "b.png", "c.png"))
    assert [truth.defect_type for truth in truths] == ["1", "1", "Dent"]


@pytest.mark.parametrize("labels", [(1, 1), (-1, -1), (True, True), ("00", "1e0"), ("-0.5", 0.5), ("1_0", "dent")])
def test_other_labels_are_types_of_defects(labels, tmp_path) -> None:
    assert labelled(tmp_path, *labels) == [1, 1]


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ((0, -1), "labels -1, 0: is 1 normal"),
        ((1, -1, 0), "labels -1, 0, 1: is 1 normal"),
        ((1, -1, "scratch"), "labels -1, 1, scratch"),
        ((1, None), "line 3: no label"),
        ((1, float("nan"), 0), "line 3: no label"),
        ((1, "NaN"), r"line 3: no label \(NaN\)"),
        ((0, "None"), r"line 3: no label \(None\)"),
        ((0, "<NA>"), r"line 3: no label \(<NA>\)"),
    ],
)
def test_labels_that_are_missing_or_not_clear_are_refused(labels, message, tmp_path) -> None:
    with pytest.raises(ReconpatchError, match=message):
        labelled(tmp_path, *labels)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("image;label\na.png;0\n", "first line is image,label.*in the place of semicolons"),
        ("image,label\nb.png,0\n", "no line for 1 images, first a.png"),
        ("image,label\na.png,0\nb.png,0\n", "1 lines of no image .*, first b.png"),
        ('image,label\n"b\nc.png",0\na.png,\n', "line 4: no label"),
        ("image,label\na.png,0\na.png,0\n", "line 3: a.png has two lines"),
        ("image,label,mask\na.png,1,m.png\n", "line 2: .*m.png: no such file"),
        (b"image,label\n\xff\xfe,0\n", "cannot be read"),
    ],
)
def test_what_is_wrong_with_a_file_is_said_with_its_line(text, message, tmp_path) -> None:
    (tmp_path / "labels.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ReconpatchError, match=r"labels\.csv.*" + message):
        truth_from_file(tmp_path / "labels.csv", photographs("a.png"))


def test_types_that_sound_normal_are_remarked_on() -> None:
    truths = [Truth(1, name, None) for name in ("goood", "scratch", "Pass", "crack")] + [Truth(0, "good", None)]
    found = list(doubtful_types(truths, {"good", "ok"}))
    assert [each.split(" counts")[0] for each in found] == ["Pass", "goood"] and "means good" in found[1]
    assert not list(doubtful_types(truths[1:2], {"good"}))
