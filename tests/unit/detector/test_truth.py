import csv
import os
import unicodedata
from pathlib import Path

import pytest
from drawing import write_mask

from reconpatch.detector.photographs import Photograph, cell
from reconpatch.detector.truth import GOOD, Truth, find_mask, from_file, from_folders
from reconpatch.errors import ReconpatchError

NAMES = ["good/0.png", "scratch/0.png", "line 1/ok/0.png", "day/bent/1.png"]


def photographs(*names: str) -> list[Photograph]:
    return [Photograph(name, Path("/photos") / name) for name in names]


def test_folders_say_what_is_normal_and_which_defect() -> None:
    got = from_folders(photographs(*NAMES))
    assert [(t.label, t.kind, t.mask) for t in got] == [(0, "good", None), (1, "scratch", None)] * 1 + [
        (0, "good", None),
        (1, "bent", None),
    ]
    assert [t.label for t in from_folders(photographs(*NAMES), {"scratch"})] == [1, 0, 1, 1]


def test_a_photograph_in_no_folder() -> None:
    with pytest.raises(ReconpatchError, match=r"0\.png: lies in no folder.*--labels"):
        from_folders(photographs("good/0.png", "0.png"))


def test_masks_lie_at_the_same_place(tmp_path) -> None:
    for place in ("scratch/0_mask.png", "bent/1.BMP", "other/2.png", "good/0.png"):
        write_mask(tmp_path / place)
    got = from_folders(photographs(*NAMES, "other/3.png"), masks=tmp_path)
    places = [None, "scratch/0_mask.png", None, "bent/1.BMP", None]  # the good one's is not asked for
    assert [t.mask for t in got] == [p if p is None else tmp_path / p for p in places]
    write_mask(tmp_path / "scratch/0.png")
    with pytest.raises(ReconpatchError, match="masks of one image"):
        find_mask(tmp_path, "scratch/0.png", {})


def test_masks_pair_however_an_umlaut_is_written(tmp_path) -> None:
    """Macs write it as two characters; hidden files are no masks."""
    for place in (f"scratch/{unicodedata.normalize('NFD', 'für')}_mask.png", "scratch/._für.png"):
        write_mask(tmp_path / place)
    got = from_folders(photographs(unicodedata.normalize("NFC", "scratch/für.png")), masks=tmp_path)
    assert got[0].mask is not None and got[0].mask.name.endswith("r_mask.png")
    write_mask(tmp_path / f"bent/{unicodedata.normalize('NFC', 'ö')}.png")
    assert find_mask(tmp_path, unicodedata.normalize("NFD", "bent/ö.png"), {}) is not None


def test_a_folder_of_masks_is_read_once(tmp_path, monkeypatch) -> None:
    for n in range(20):
        write_mask(tmp_path / f"scratch/{n}.png")
    read: list[Path] = []
    real = Path.iterdir
    monkeypatch.setattr(Path, "iterdir", lambda folder: (read.append(folder), real(folder))[1])
    got = from_folders(photographs(*(f"scratch/{n}.jpg" for n in range(20))), masks=tmp_path)
    assert [t.mask for t in got] == [tmp_path / f"scratch/{n}.png" for n in range(20)]
    assert read == [tmp_path / "scratch"]


def test_every_name_that_results_give_is_found(tmp_path) -> None:
    """The table of `predict` with a column label: blanks at the ends, line breaks, undecodable bytes and all."""
    names = [" blank.png", "tail.png ", "two\nlines.png", "carriage\rreturn.png", "a\r\nb.png"]
    names += ['comma, "quote".png', os.fsdecode(b"latin\xe9.png"), "日本.png"]
    with open(tmp_path / "l.csv", "w", newline="", encoding="utf-8") as stream:
        table = csv.writer(stream, lineterminator="\n")
        table.writerows([["image", "label"], *([cell(name), n % 2] for n, name in enumerate(names))])
    assert [t.label for t in from_file(tmp_path / "l.csv", photographs(*names))] == [n % 2 for n in range(len(names))]
    with pytest.raises(ReconpatchError, match="no line for 1 images, first blank"):
        from_file(tmp_path / "l.csv", photographs(*names, "blank.png"))


def test_a_folder_without_the_masks_is_not_taken_for_none(tmp_path) -> None:
    with pytest.raises(ReconpatchError, match="no such folder of masks"):
        from_folders(photographs(*NAMES), masks=tmp_path / "ground_thruth")
    with pytest.raises(ReconpatchError, match=r"holds no mask of any image.*scratch/0\.png"):
        from_folders(photographs(*NAMES), masks=tmp_path)
    assert [t.mask for t in from_folders(photographs("good/0.png"), masks=tmp_path)] == [None]


def test_labels_of_a_file(tmp_path) -> None:
    """Any order, any case, a byte order mark, names with commas and line breaks, masks beside the file."""
    write_mask(tmp_path / "m/1.png")
    odd = 'a, "b"\nc.png'
    file = tmp_path / "labels.csv"
    text = '\ufeffimage,label,mask\nx.png,Riss,m/1.png\n\n"a, ""b""\nc.png",good,\nsub/y.png, ok ,\n'
    file.write_text(text, encoding="utf-8")
    got = from_file(file, photographs("sub/y.png", odd, "x.png"))
    assert got == [Truth(0, "good", None), Truth(0, "good", None), Truth(1, "Riss", tmp_path / "m/1.png")]


@pytest.mark.parametrize("word", sorted(GOOD))
def test_every_word_for_good(word, tmp_path) -> None:
    (tmp_path / "l.csv").write_text(f"label,image\n{word.title()},a.png\n")
    assert from_file(tmp_path / "l.csv", photographs("a.png")) == [Truth(0, "good", None)]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "first line is image,label"),
        ("picture,label\na.png,0\n", "first line is image,label"),
        ("image;label\na.png;0\n", "first line is image,label"),
        ("image,label\n", "no line for 1 images, first a.png"),
        ("image,label\nb.png,0\n", "no line for 1 images, first a.png"),
        ("image,label\na.png,0\nb.png,0\n", "1 lines of no image given, first b.png"),
        ("image,label\na.png,0\nb.png, \n", "line 3: no label"),
        ("image,label\n\n\na.png,0\n\nb.png,\n", "line 6: no label"),
        ('image,label\n"b\nc.png",0\na.png,\n', "line 4: no label"),
        ("image,label\na.png\n", "line 2: no label"),
        ("image,label\na.png,0\na.png,0\n", "line 3: a.png is there twice"),
        ("image,label,mask\na.png,1,m.png\n", "line 2: .*m.png: no such file"),
    ],
)
def test_what_is_wrong_with_a_file_is_said_with_its_line(text, said, tmp_path) -> None:
    (tmp_path / "labels.csv").write_text(text)
    with pytest.raises(ReconpatchError, match=r"labels\.csv.*" + said):
        from_file(tmp_path / "labels.csv", photographs("a.png"))


def test_files_that_are_no_text(tmp_path) -> None:
    (tmp_path / "a.csv").write_bytes(b"image,label\n\xff\xfe,0\n")
    (tmp_path / "b.csv").write_text(f"image,label\n{'x' * 200_000},0\n")
    for name in ("a.csv", "b.csv", "nothing.csv", "."):
        with pytest.raises(ReconpatchError, match="cannot be read"):
            from_file(tmp_path / name, photographs("a.png"))
