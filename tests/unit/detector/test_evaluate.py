import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from drawing import write_mask
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy import ndimage
from scipy.stats import binomtest
from sklearn.metrics import average_precision_score, roc_auc_score

from reconpatch.data.images import mask_array, view
from reconpatch.detector.detector import Detection
from reconpatch.detector.evaluate import assess, lines, seen_mask
from reconpatch.detector.photographs import Photograph
from reconpatch.detector.truth import Truth
from reconpatch.errors import ReconpatchError

SEEN = view(48, 40, size=32, resize=36, aspect="crop")
PADDED = view(48, 40, size=32, resize=36, aspect="pad")


class Said:
    """Stands for a detector: says what it was told to."""

    run = SimpleNamespace(crop=32)
    threads = 2

    def __init__(self, scores, maps=None, seen=SEEN) -> None:
        self.scores = scores
        self.maps = maps if maps is not None else [np.zeros((32, 32), np.float32)] * len(scores)
        self.seen = seen

    def __call__(self, photographs):
        for number, _ in enumerate(photographs):
            yield Detection(number, self.scores[number], self.maps[number], self.seen)


class Never(Said):
    def __call__(self, photographs):
        raise AssertionError("scored")


@pytest.fixture(scope="module", autouse=True)
def picture(tmp_path_factory):
    """The file of every photograph."""
    global FILE
    FILE = tmp_path_factory.mktemp("picture") / "p.png"
    Image.new("RGB", (48, 40)).save(FILE)


def photographs(count: int) -> list[Photograph]:
    return [Photograph(f"{n}.png", FILE) for n in range(count)]


def judged(scores, truths, threshold=None, maps=None, seen=SEEN):
    return assess(Said(scores, maps, seen), photographs(len(truths)), truths, threshold, lambda *_: None)


def truth(kind: str, mask: Path | None = None) -> Truth:
    return Truth(int(kind != "good"), kind, mask)


@settings(max_examples=30)
@given(st.lists(st.tuples(st.integers(0, 6), st.sampled_from(["good", "bent", "cut"])), min_size=1, max_size=30))
def test_images_against_scikit_learn_and_counting(pairs) -> None:
    scores, truths = [float(s) for s, _ in pairs], [truth(kind) for _, kind in pairs]
    got = judged(scores, truths, threshold=3.0)
    labels = [t.label for t in truths]
    assert (got["normal"], got["anomalous"], got["masks"]) == (labels.count(0), labels.count(1), 0)
    if len(set(labels)) == 2:
        assert got["metrics"]["image_auroc"] == pytest.approx(roc_auc_score(labels, scores), abs=1e-6)
        assert got["metrics"]["image_ap"] == pytest.approx(average_precision_score(labels, scores), abs=1e-6)
        low, high = got["image_auroc_interval"]
        assert 0 <= low <= high <= 1
    else:
        assert got["metrics"]["image_auroc"] is None and "image_auroc_interval" not in got
    at = got["threshold"]
    for kinds, found in [
        (["good"], at["false_alarms"]),
        (["bent", "cut"], at["found"]),
        *(([kind], each) for kind, each in at["found_by_kind"].items()),
    ]:
        chosen = [score for score, (_, kind) in zip(scores, pairs, strict=True) if kind in kinds]
        if not chosen:
            assert found is None
            continue
        above = sum(score > 3 for score in chosen)
        want = binomtest(above, len(chosen)).proportion_ci(0.95, "exact")
        assert (found["above"], found["of"]) == (above, len(chosen))
        assert found["interval"] == pytest.approx((want.low, want.high))
    assert at["found_by_kind"].keys() == {t.kind for t in truths if t.label}
    assert json.loads(json.dumps(got, allow_nan=False))["normal"] == got["normal"]
    assert lines(got)[0].startswith(f"{got['normal']} normal and {got['anomalous']} anomalous images")


def test_pixels_against_scikit_learn(tmp_path, rng) -> None:
    """On the squares the network sees, with masks brought there as the workflow does."""
    kinds = ["good", "bent", "bent", "good"]
    maps = rng.random((4, 32, 32)).astype(np.float32)
    masks = []
    for n, kind in enumerate(kinds):
        if kind != "good":
            write_mask(tmp_path / f"{n}.png", (48, 40), (10 + n, 8, 30, 22 + n))
        masks.append(None if kind == "good" else tmp_path / f"{n}.png")
    truths = [truth(kind, mask) for kind, mask in zip(kinds, masks, strict=True)]
    got = judged([0.1, 0.4, 0.3, 0.2], truths, maps=maps)
    want = np.stack([np.zeros((32, 32), bool) if m is None else mask_array(m, 36, 32) for m in masks])
    assert want.any() and got["masks"] == 2
    assert got["metrics"]["pixel_auroc"] == pytest.approx(roc_auc_score(want.ravel(), maps.ravel()), abs=1e-6)
    assert got["metrics"]["pixel_ap"] == pytest.approx(average_precision_score(want.ravel(), maps.ravel()), abs=1e-6)
    assert 0 <= got["metrics"]["aupro_30"] <= 1 and "threshold" not in got


@settings(max_examples=40)
@given(st.integers(20, 90), st.integers(20, 90), st.integers(0, 10**6), st.integers(8, 24), st.integers(0, 8))
def test_masks_of_a_crop_are_the_workflows(tmp_path_factory, width, height, seed, size, more) -> None:
    rng = np.random.default_rng(seed)
    file = tmp_path_factory.mktemp("mask") / "m.png"
    Image.fromarray(rng.integers(0, 3, (height, width)).astype(np.uint8)).save(file)
    seen = view(width, height, size=size, resize=size + more, aspect="crop")
    got = seen_mask(truth("bent", file), seen, photographs(1)[0])
    np.testing.assert_array_equal(got, mask_array(file, size + more, size))


def test_no_defect_on_padding(tmp_path) -> None:
    Image.new("L", (40, 10), 255).save(tmp_path / "m.png")
    seen = view(40, 10, size=32, resize=32, aspect="pad")
    got = seen_mask(truth("bent", tmp_path / "m.png"), seen, photographs(1)[0])
    np.testing.assert_array_equal(got, seen.content(32))
    assert got.sum() == 32 * 8
    assert not seen_mask(truth("good"), seen, photographs(1)[0]).any()


def test_a_mask_of_another_size_is_named(tmp_path) -> None:
    write_mask(tmp_path / "m.png", (40, 48))
    with pytest.raises(ReconpatchError, match=r"m\.png: 40x48 px, its image 0\.png has 48x40"):
        judged([1.0], [truth("bent", tmp_path / "m.png")])


def test_some_masks_missing_are_said_before_any_scoring(tmp_path) -> None:
    write_mask(tmp_path / "m.png")

    truths = [truth("good"), truth("bent", tmp_path / "m.png"), truth("bent"), truth("cut")]
    with pytest.raises(ReconpatchError, match=r"2 of 3 anomalous images have no mask, first 2\.png"):
        assess(Never([]), photographs(4), truths, None, lambda *_: None)


def test_all_that_is_wrong_is_said_before_any_scoring(tmp_path) -> None:
    write_mask(tmp_path / "good.png")
    write_mask(tmp_path / "turned.png", (40, 48))
    (tmp_path / "text.png").write_text("no image")
    sources = photographs(5)
    sources[4] = Photograph("4.png", tmp_path / "text.png")
    masks = [tmp_path / name for name in ("good.png", "turned.png", "text.png", "missing.png", "turned.png")]
    with pytest.raises(ReconpatchError) as caught:
        assess(Never([]), sources, [truth("bent", mask) for mask in masks], None, lambda *_: None)
    said = str(caught.value).splitlines()
    assert len(said) == 5 and "turned.png: 40x48 px, its image 1.png has 48x40" in said[1]
    assert "text.png" in said[2] and "missing.png" in said[3] and "text.png" in said[4]
    with pytest.raises(ReconpatchError, match=r"and 3 more$"):
        assess(Never([]), [sources[4]] * 23, [truth("good")] * 23, None, lambda *_: None)


def test_memory_is_looked_at_before_any_scoring(tmp_path, monkeypatch) -> None:
    write_mask(tmp_path / "m.png")
    monkeypatch.setattr("reconpatch.detector.evaluate.machine_mb", lambda: 900.0)
    with pytest.raises(ReconpatchError, match=r"2 images: .* about 1\.0 GB of memory, there are 0\.9 GB"):
        assess(Never([]), photographs(2), [truth("good"), truth("bent", tmp_path / "m.png")], None, lambda *_: None)
    assert judged([1.0], [truth("good")])["normal"] == 1  # without masks nothing is kept


def pro_by_thresholds(maps, masks, counted) -> float:
    """Mean share of regions found against the false positive rate among counted pixels, up to 0.3, by trapezoids."""
    points = [(0.0, 0.0)]
    for threshold in np.unique(maps[counted])[::-1]:
        found = []
        for m, mask in zip(maps, masks, strict=True):
            regions, count = ndimage.label(mask, np.ones((3, 3)))
            found += [(m[regions == n + 1] >= threshold).mean() for n in range(count)]
        points.append(((maps[counted & ~masks] >= threshold).mean(), np.mean(found)))
    x, y = np.array(points).T
    grid = np.union1d(x[x <= 0.3], 0.3)
    area = np.trapezoid(y[x <= 0.3], x[x <= 0.3])
    return float(area + (grid[-1] - x[x <= 0.3][-1]) * (y[x <= 0.3][-1] + np.interp(0.3, x, y)) / 2) / 0.3


def test_padding_is_neither_right_nor_wrong(tmp_path, rng) -> None:
    """Pixel metrics of the photograph's pixels alone: scikit-learn and a loop over thresholds see no others."""
    maps = rng.random((3, 32, 32)).astype(np.float32)
    counted = np.tile(PADDED.content(32), (3, 1, 1))
    assert 0 < counted.sum() < counted.size
    files = [tmp_path / f"{n}.png" for n in range(2)]
    for n, file in enumerate(files):
        write_mask(file, (48, 40), (8 + n, 0, 30, 22))  # to the upper edge
    masks = np.stack(
        [*(seen_mask(truth("bent", f), PADDED, photographs(1)[0]) for f in files), np.zeros((32, 32), bool)]
    )
    maps[masks] += 0.2
    truths = [*(truth("bent", f) for f in files), truth("good")]
    found = []
    for outside in (0, -5, 5):
        given = np.where(counted, maps, np.float32(outside))
        found.append(judged([0.1, 0.4, 0.3], truths, maps=given, seen=PADDED)["metrics"])
    assert found[0] == found[1] == found[2]
    flat = masks[counted], maps[counted]
    assert found[0]["pixel_auroc"] == pytest.approx(roc_auc_score(*flat), abs=1e-6)
    assert found[0]["pixel_ap"] == pytest.approx(average_precision_score(*flat), abs=1e-6)
    assert found[0]["aupro_30"] == pytest.approx(pro_by_thresholds(maps, masks, counted), abs=1e-6)
    assert found[0]["aupro_30"] < pro_by_thresholds(maps * counted, masks, np.ones_like(counted)) - 0.02


def test_kinds_may_have_the_name_of_normal_images() -> None:
    """A folder called good, of images that are anomalous, raises no false alarms."""
    truths = [Truth(0, "good", None), Truth(1, "good", None), Truth(1, "cut", None)]
    at = judged([0.1, 0.9, 0.2], truths, threshold=0.5)["threshold"]
    counts = {key: (at[key]["above"], at[key]["of"]) for key in ("false_alarms", "found")}
    assert counts == {"false_alarms": (0, 1), "found": (1, 2)}
    assert {k: (v["above"], v["of"]) for k, v in at["found_by_kind"].items()} == {"good": (1, 1), "cut": (0, 1)}


def test_a_threshold_decides_as_predict_does() -> None:
    """Scores are float32; a threshold the user writes is not rounded to it."""
    score = float(np.float32(0.1))  # 0.10000000149
    assert judged([score], [truth("good")], threshold=0.1)["threshold"]["false_alarms"]["above"] == 1
    assert judged([score], [truth("good")], threshold=score)["threshold"]["false_alarms"]["above"] == 0


def test_lines_tell_everything() -> None:
    got = judged([0.1, 0.9, 0.8, 0.2], [truth("good"), truth("bent"), truth("cut"), truth("good")], threshold=0.5)
    said = "\n".join(lines(got))
    assert "  image_f1 (best F1): 1.0000" in said
    for part in ("2 normal and 2 anomalous", "image_auroc: 1.0000 (95 % interval", "at the threshold 0.5:"):
        assert part in said
    assert "  false alarms: 0 of 2, 0.0% (95 % interval 0.0% to 84.2%)" in said
    assert "    of bent: 1 of 1, 100.0%" in said and "anomalous images found: 2 of 2" in said
    alone = lines(judged([0.1], [truth("good")], threshold=0.5))
    assert "  image_auroc: undefined" in alone and not any("found" in line for line in alone)
