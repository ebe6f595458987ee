import csv
import errno
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from drawing import write_image
from PIL import Image

from reconpatch.data.images import view
from reconpatch.detector.detector import Detection
from reconpatch.detector.overlays import BAR, defect_mask
from reconpatch.detector.photographs import find, load
from reconpatch.detector.predict import COLUMNS, PART, SCORES, Look, row, score_photographs
from reconpatch.errors import ReconpatchError

QUIET = Look(None, None, 0.0, overlays=False)


class Said:
    """Stands for a detector: scores 0.1, 0.2, ... and a map with a bump; what cannot be read is told."""

    batch = 2

    def __call__(self, photographs, unreadable):
        for number, photograph in enumerate(photographs):
            try:
                image = load(photograph)
            except ReconpatchError as error:
                unreadable(number, error)
                continue
            values = np.zeros((16, 16), np.float32)
            values[4:7, 8:12] = 1 + number
            yield Detection(number, (number + 1) / 10, values, view(*image.size, size=16, resize=18, aspect="crop"))


def quiet(*_: object) -> None:
    """No progress is shown."""


def table(file: Path) -> list[dict[str, str]]:
    with open(file, newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


@pytest.fixture
def photographs(tmp_path, rng):
    for n in range(4):
        write_image(tmp_path / f"in/{n}.png", rng, (40 + n, 30))
    return find([tmp_path / "in"])[0]


def test_a_row_tells_score_verdict_and_place(photographs, tmp_path) -> None:
    found = score_photographs(Said(), photographs, tmp_path / "out", Look(0.25, None, 0.0, overlays=False), quiet)
    rows = table(tmp_path / "out" / SCORES)
    assert tuple(rows[0]) == COLUMNS and [r["image"] for r in rows] == [f"{n}.png" for n in range(4)]
    assert [float(r["score"]) for r in rows] == [0.1, 0.2, 0.3, 0.4]
    assert [r["anomalous"] for r in rows] == ["0", "0", "1", "1"]
    for n, r in enumerate(rows):
        assert (int(r["width"]), int(r["height"])) == (40 + n, 30)
        scale = 30 / 18
        left = round((int(18 * (40 + n) / 30) - 16) / 2)
        assert int(r["peak_x"]) == int((8.5 + left) * (40 + n) / int(18 * (40 + n) / 30))
        assert int(r["peak_y"]) == int((4.5 + 1) * scale)
        assert float(r["seen"]) == pytest.approx(256 / (18 * int(18 * (40 + n) / 30)), abs=1e-4)
    assert {k: str(v) for k, v in found.rows[2].items()} == rows[2] and found.unreadable == []
    assert not (tmp_path / "out" / PART).exists() and not (tmp_path / "out/overlays").exists()


def test_without_a_threshold_there_is_no_verdict(photographs, tmp_path) -> None:
    score_photographs(Said(), photographs, tmp_path / "out", QUIET, quiet)
    assert {r["anomalous"] for r in table(tmp_path / "out" / SCORES)} == {""}
    detection = next(iter(Said()(photographs, None)))
    assert row(photographs[0], detection, None)["anomalous"] is None
    assert row(photographs[0], detection, 0.1)["anomalous"] == 0  # exactly on the threshold


def test_rows_are_on_the_disk_as_they_come(photographs, tmp_path) -> None:
    """Whenever progress is told, the table so far can be read, under its other name."""
    seen = []

    def progress(step: str, done: int, total: int) -> None:
        assert not (tmp_path / "out" / SCORES).exists() and (step, total) == ("scoring", 4)
        seen.append((done, len(table(tmp_path / "out" / PART))))

    score_photographs(Said(), photographs, tmp_path / "out", QUIET, progress)
    assert [done for done, _ in seen] == [1, 2, 3, 4]
    assert all(rows >= done for done, rows in seen)  # pictures are drawn while further ones are scored


def test_what_was_scored_before_a_failure_stays(photographs, tmp_path) -> None:
    class Fails(Said):
        def __call__(self, photographs, unreadable):
            yield from list(super().__call__(photographs, unreadable))[:2]
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        score_photographs(Fails(), photographs, tmp_path / "out", QUIET, quiet)
    assert [r["image"] for r in table(tmp_path / "out" / PART)] == ["0.png", "1.png"]
    assert not (tmp_path / "out" / SCORES).exists()
    with pytest.raises(ReconpatchError, match=r"out: holds what a run that was cut off.* has made"):
        score_photographs(Said(), photographs, tmp_path / "out", QUIET, quiet)
    assert len(table(tmp_path / "out" / PART)) == 2  # and is not written over
    (tmp_path / "out" / PART).unlink()
    score_photographs(Said(), photographs, tmp_path / "out", QUIET, quiet)
    assert len(table(tmp_path / "out" / SCORES)) == 4 and not (tmp_path / "out" / PART).exists()


def test_where_not_one_can_be_read_nothing_is_left(photographs, tmp_path, damage) -> None:
    for photograph in photographs:
        damage(photograph.path)
    with pytest.raises(ReconpatchError, match="none of the 4 images can be read"):
        score_photographs(Said(), photographs, tmp_path / "out", QUIET, quiet)
    assert not list((tmp_path / "out").iterdir())


def test_pictures_that_cannot_be_called_so_are_refused_before_any_work(tmp_path, rng) -> None:
    longest = "x" * 248 + ".png"
    for name in ("a/b.png", "a/b.png.png/c.png", f"d/{longest}"):
        write_image(tmp_path / "in" / name, rng)
    pictures = Look(None, None, 0.0)
    for folder, said in (("a", "would be a picture and a folder"), ("d", "too long for the name of a picture")):
        chosen = find([tmp_path / "in" / folder])[0]
        with pytest.raises(ReconpatchError, match=said):
            score_photographs(Said(), chosen, tmp_path / "out", pictures, quiet)
        assert not (tmp_path / "out").exists()
    score_photographs(Said(), chosen, tmp_path / "out", QUIET, quiet)  # without pictures any name will do
    assert table(tmp_path / "out" / SCORES)[0]["image"] == longest


def test_names_that_csv_must_quote(tmp_path, rng) -> None:
    odd = ["a,b.png", 'a "quoted".png', "two\nlines.png", "carriage\rreturn.png", "é日本.png", " b.png", "=1+1.png"]
    for name in [*odd, os.fsdecode(b"latin\xe9.png")]:
        write_image(tmp_path / "in" / name, rng)
    photographs = find([tmp_path / "in"])[0]
    score_photographs(Said(), photographs, tmp_path / "out", Look(None, None, 0.0), quiet)
    got = {r["image"] for r in table(tmp_path / "out" / SCORES)}
    assert got == {*odd[:3], r"carriage\rreturn.png", *odd[4:], r"latin\udce9.png"}
    assert sorted(p.name for p in (tmp_path / "out/overlays").iterdir()) == sorted(f"{p.name}.png" for p in photographs)


def test_what_cannot_be_read_is_left_out_and_named(photographs, tmp_path, damage, capsys) -> None:
    damage(photographs[1].path)
    photographs[3].path.unlink()
    found = score_photographs(Said(), photographs, tmp_path / "out", QUIET, quiet)
    assert [r["image"] for r in table(tmp_path / "out" / SCORES)] == ["0.png", "2.png"]
    assert [each["image"] for each in found.unreadable] == ["1.png", "3.png"]
    told = capsys.readouterr()
    assert told.out == "" and len(told.err.splitlines()) == 2 and "left out: " in told.err


def test_pictures_lie_where_the_photographs_did(tmp_path, rng) -> None:
    """Of two photographs that differ in their suffix alone, both."""
    for name in ("a.png", "a.jpg", "deep/er/a.png"):
        write_image(tmp_path / "in" / name, rng, (300, 200))
    photographs = find([tmp_path / "in"])[0]
    score_photographs(Said(), photographs, tmp_path / "out", Look(0.15, 0.5, 0.1, True, True), quiet)
    for kind in ("overlays", "masks"):
        found = {p.relative_to(tmp_path / "out" / kind).as_posix() for p in (tmp_path / "out" / kind).rglob("*.png")}
        assert found == {"a.png.png", "a.jpg.png", "deep/er/a.png.png"}
    detections = list(Said()(photographs, None))
    for photograph, detection in zip(photographs, detections, strict=True):
        with Image.open(tmp_path / "out/masks" / f"{photograph.name}.png") as mask:
            np.testing.assert_array_equal(np.asarray(mask), np.asarray(defect_mask(detection, 0.5)))
        with Image.open(tmp_path / "out/overlays" / f"{photograph.name}.png") as overlay:
            assert overlay.size == (480, 320 + BAR)  # enlarged


def test_masks_need_a_threshold(photographs, tmp_path) -> None:
    score_photographs(Said(), photographs, tmp_path / "out", Look(None, None, 0.0, False, True), quiet)
    assert not (tmp_path / "out/masks").exists()


def test_what_is_there_is_not_touched(photographs, tmp_path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / SCORES).write_text("mine")

    def never(*_):
        raise AssertionError("scored")

    with pytest.raises(ReconpatchError, match=r"scores\.csv: is there already"):
        score_photographs(never, photographs, tmp_path / "out", QUIET, quiet)
    assert (tmp_path / "out" / SCORES).read_text() == "mine"
    with pytest.raises(ReconpatchError, match="is no folder"):
        score_photographs(never, photographs, tmp_path / "in/0.png", QUIET, quiet)


def test_a_full_disk_is_an_error_of_ours(photographs, tmp_path, monkeypatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(csv.DictWriter, "writerow", full)
        with pytest.raises(ReconpatchError, match=r"scores\.part\.csv: cannot be written \(No space left.*make room"):
            score_photographs(Said(), photographs, tmp_path / "out", QUIET, quiet)
    shutil.rmtree(tmp_path / "out")
    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(ReconpatchError, match=r"0\.png\.png: cannot be written \(No space left.*make room"):
        score_photographs(Said(), photographs, tmp_path / "two", Look(None, None, 0.0), quiet)
    assert len(table(tmp_path / "two" / PART)) >= 1
