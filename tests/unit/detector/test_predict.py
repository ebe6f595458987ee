import csv
import os
from dataclasses import asdict

import numpy as np
import pytest
from drawing import write_image
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy import ndimage

from reconpatch.data.images import ASPECTS, LONGEST, view
from reconpatch.data.remarks import ImageFacts
from reconpatch.detector.detector import Detection
from reconpatch.detector.photographs import find_photographs, load_with_facts
from reconpatch.detector.predict import (
    COLUMNS,
    OUTLINE_COLOUR,
    SCORES,
    TEXT_HEIGHT,
    UNSEEN_BRIGHTNESS,
    ColourScale,
    PredictOptions,
    defect_mask,
    overlay,
    predict,
)
from reconpatch.errors import ReconpatchError

NO_PICTURES = PredictOptions(None, None, 0.0, overlays=False)


class FakeDetector:
    """Scores 0.1, 0.2, ... and a map with a bump."""

    batch = 2
    modes = ("RGB",)

    def __call__(self, photographs, unreadable):
        for number, photograph in enumerate(photographs):
            try:
                image, facts = load_with_facts(photograph)
            except ReconpatchError as error:
                unreadable(number, error)
                continue
            values = np.zeros((16, 16), np.float32)
            values[4:7, 8:12] = 1 + number
            seen = view(*image.size, size=16, resize=18, aspect="crop")
            yield Detection(number, (number + 1) / 10, values, seen, facts)


def quiet(*_: object) -> None:
    """No progress is shown."""


def table(file) -> list[dict[str, str]]:
    with open(file, newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


@pytest.fixture
def photographs(tmp_path, rng):
    for n in range(4):
        write_image(tmp_path / f"in/{n}.png", rng, (40 + n, 30))
    return find_photographs([tmp_path / "in"])[0]


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


def test_a_row_holds_score_verdict_and_peak(photographs, out) -> None:
    options = PredictOptions(0.2, None, 0.0, overlays=False, masks=True)  # no mask is written without its threshold
    predictions = predict(FakeDetector(), photographs, out, options, quiet)
    rows = table(out / SCORES)
    assert tuple(rows[0]) == COLUMNS and [row["image"] for row in rows] == [f"{n}.png" for n in range(4)]
    assert [float(row["score"]) for row in rows] == [0.1, 0.2, 0.3, 0.4]
    assert [row["anomalous"] for row in rows] == ["0", "0", "1", "1"] and predictions.anomalous == 2
    for n, row in enumerate(rows):
        width = int(18 * (40 + n) / 30)  # px of the resized photograph, whose height is 18
        assert (int(row["width"]), int(row["height"])) == (40 + n, 30)
        assert int(row["peak_x"]) == int((8.5 + round((width - 16) / 2)) * (40 + n) / width)
        assert int(row["peak_y"]) == int((4.5 + 1) * 30 / 18)
        assert float(row["seen"]) == pytest.approx(256 / (18 * width), abs=1e-4)
    assert {key: str(value) for key, value in asdict(predictions.rows[2]).items()} == rows[2]
    assert [p.name for p in out.iterdir()] == [SCORES]


def test_what_cannot_be_read_is_left_out_and_named(photographs, out, damage, capsys) -> None:
    damage(photographs[1].path)
    photographs[3].path.unlink()
    predictions = predict(FakeDetector(), photographs, out, NO_PICTURES, quiet)
    assert [row["image"] for row in table(out / SCORES)] == ["0.png", "2.png"]
    assert [each.image for each in predictions.unreadable] == ["1.png", "3.png"]
    printed = capsys.readouterr()
    assert printed.out == "" and len(printed.err.splitlines()) == 2 and "left out: " in printed.err


def test_pictures_that_cannot_have_their_names_are_refused_before_any_work(tmp_path, out, rng) -> None:
    longest = "x" * 248 + ".png"
    for name in ("a/b.png", "a/b.png.png/c.png", f"d/{longest}"):
        write_image(tmp_path / "in" / name, rng)
    for folder, message in (("a", "a picture and a folder"), ("d", "too long")):
        chosen = find_photographs([tmp_path / "in" / folder])[0]
        with pytest.raises(ReconpatchError, match=message):
            predict(FakeDetector(), chosen, out, PredictOptions(None, None, 0.0), quiet)
        assert not out.exists()
    predict(FakeDetector(), chosen, out, NO_PICTURES, quiet)  # without pictures any name will do
    assert table(out / SCORES)[0]["image"] == longest


def test_pictures_have_the_names_of_their_photographs(tmp_path, out, rng) -> None:
    """Also names that csv must quote, and two photographs that differ in their suffix alone."""
    odd = ["a,b.png", 'a "quoted".png', "two\nlines.png", "carriage\rreturn.png", "é日本.png", " b.png", "=1+1.png"]
    names = [*odd, "a.png", "a.jpg", "deep/er/a.png", os.fsdecode(b"latin\xe9.png")]
    for name in names:
        write_image(tmp_path / "in" / name, rng, (300, 200))
    photographs = find_photographs([tmp_path / "in"])[0]
    predict(FakeDetector(), photographs, out, PredictOptions(0.15, 0.5, 0.1, True, True), quiet)
    in_table = {row["image"] for row in table(out / SCORES)}
    assert in_table == {*names} - {odd[3], names[-1]} | {r"carriage\rreturn.png", r"latin\udce9.png"}
    for folder in ("overlays", "masks"):
        found = {p.relative_to(out / folder).as_posix() for p in (out / folder).rglob("*.png") if p.is_file()}
        assert found == {f"{name}.png" for name in names}
    for photograph, detection in zip(photographs, FakeDetector()(photographs, None), strict=True):
        with Image.open(out / "masks" / f"{photograph.name}.png") as mask:
            np.testing.assert_array_equal(np.asarray(mask), np.asarray(defect_mask(detection, 0.5)))


# Overlays and masks


def drawn(width: int, height: int) -> Image.Image:
    """A photograph without pure white, the colour of outlines."""
    rng = np.random.default_rng(width)
    return Image.fromarray(rng.integers(0, 200, (height, width, 3)).astype(np.uint8))


def smooth(width: int, height: int, aspect: str, seed: int = 0) -> Detection:
    """A smooth map between 0 and 1."""
    values = ndimage.gaussian_filter(np.random.default_rng(seed).standard_normal((24, 24)), 3)
    values = ((values - values.min()) / np.ptp(values)).astype(np.float32)
    seen = view(width, height, size=24, resize=28, aspect=aspect)
    return Detection(0, 1.0, values, seen, ImageFacts("", "", "", width, height))


def picture(image: Image.Image) -> np.ndarray:
    """Without the line of text above it."""
    return np.asarray(image)[TEXT_HEIGHT:].astype(int)


@pytest.mark.parametrize("size", [(640, 480), (480, 640)])
def test_pixels_without_anomaly_keep_their_colours_and_unseen_ones_are_dark(size) -> None:
    photograph, detection = drawn(*size), smooth(*size, "crop")
    result = picture(overlay(photograph, detection, ColourScale(2.0, 3.0, 2.5), "nothing"))
    unseen = np.isnan(detection.view.back(detection.map))
    pixels = np.asarray(photograph).astype(int)
    assert unseen.any() and not unseen.all()
    np.testing.assert_array_equal(result[~unseen], pixels[~unseen])
    np.testing.assert_allclose(result[unseen], UNSEEN_BRIGHTNESS * pixels[unseen], atol=1)


@settings(max_examples=20)
@given(st.sampled_from(ASPECTS), st.integers(480, 560), st.integers(100, 560), st.integers(0, 99))
def test_the_outline_surrounds_what_is_above_the_threshold(aspect, width, height, seed) -> None:
    """Exactly the pixels that touch the region from outside."""
    detection = smooth(width, height, aspect, seed)
    threshold = float(np.quantile(detection.map, 0.8))
    result = picture(overlay(drawn(width, height), detection, ColourScale(0.0, 2 * threshold, threshold), ""))
    region = np.nan_to_num(detection.view.back(detection.map), nan=-1) > threshold
    padded, touching = np.pad(region, 1), np.zeros_like(region)
    for dy in range(3):
        for dx in range(3):
            touching |= padded[dy : dy + height, dx : dx + width]
    np.testing.assert_array_equal((result == OUTLINE_COLOUR).all(-1), touching & ~region)


@settings(max_examples=20)
@given(st.sampled_from(ASPECTS), st.integers(1, 60), st.integers(1, 60), st.floats(-0.1, 1.1))
def test_masks_have_the_photographs_size_and_hold_what_is_above(aspect, width, height, threshold) -> None:
    assume(aspect != "keep" or max(width, height) <= LONGEST * min(width, height))
    detection = smooth(width, height, aspect)
    mask = defect_mask(detection, threshold)
    values = detection.view.back(detection.map)
    assert mask.size == (width, height) and mask.mode == "L"
    with np.errstate(invalid="ignore"):
        np.testing.assert_array_equal(np.asarray(mask), np.where(values > threshold, 255, 0))
