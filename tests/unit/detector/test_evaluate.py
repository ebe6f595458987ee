import json
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from drawing import write_mask
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import aupro_by_thresholds
from PIL import Image
from scipy.stats import binomtest
from sklearn.metrics import average_precision_score, roc_auc_score

from reconpatch.data.images import mask_array, view
from reconpatch.data.index import index
from reconpatch.data.published import remarks
from reconpatch.data.remarks import ImageFacts
from reconpatch.detector.detector import Detection
from reconpatch.detector.evaluate import Evaluation, evaluate, seen_mask, whole_mask
from reconpatch.detector.photographs import Photograph, find_photographs
from reconpatch.detector.truth import Truth, truth_from_folders
from reconpatch.errors import ReconpatchError

FACTS = ImageFacts("", "", "", 48, 40)
SEEN = view(48, 40, size=32, resize=36, aspect="crop")
PADDED = view(48, 40, size=32, resize=36, aspect="pad")


class FakeDetector:
    """Gives the scores and maps it was made with."""

    run = SimpleNamespace(crop=32, resize=36, aspect="crop")
    threads = 2
    modes = ("RGB",)

    def __init__(self, scores, maps=None, seen=SEEN) -> None:
        self.scores, self.seen = scores, seen
        self.maps = maps if maps is not None else [np.zeros((32, 32), np.float32)] * len(scores)

    def __call__(self, photographs):
        for number, _ in enumerate(photographs):
            yield Detection(number, self.scores[number], self.maps[number], self.seen, FACTS)


class NeverScores(FakeDetector):
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


def evaluated(scores, truths, threshold=None, maps=None, seen=SEEN, **options) -> Evaluation:
    detector = FakeDetector(scores, maps, seen)
    return evaluate(detector, photographs(len(truths)), truths, threshold, lambda *_: None, **options)


def truth(defect_type: str, mask: Path | None = None) -> Truth:
    return Truth(int(defect_type != "good"), defect_type, mask)


@settings(max_examples=30)
@given(st.lists(st.tuples(st.integers(0, 6), st.sampled_from(["good", "bent", "cut"])), min_size=1, max_size=30))
def test_images_against_scikit_learn_and_counting(pairs) -> None:
    scores, truths = [float(s) for s, _ in pairs], [truth(name) for _, name in pairs]
    result = evaluated(scores, truths, threshold=3.0)
    labels = [t.label for t in truths]
    assert (result.normal, result.anomalous, result.masks) == (labels.count(0), labels.count(1), 0)
    if len(set(labels)) == 2:
        assert result.metrics["image_auroc"] == pytest.approx(roc_auc_score(labels, scores), abs=1e-6)
        assert result.metrics["image_ap"] == pytest.approx(average_precision_score(labels, scores), abs=1e-6)
        low, high = result.intervals["image_auroc"]
        assert 0 <= low <= high <= 1
    else:
        assert result.metrics["image_auroc"] is None and not result.intervals
    for name, value in result.type_auroc.items():
        chosen = [n for n, (_, other) in enumerate(pairs) if other in ("good", name)]
        assert value == pytest.approx(roc_auc_score([labels[n] for n in chosen], [scores[n] for n in chosen]), abs=1e-6)
    assert set(result.type_auroc) == ({name for _, name in pairs} - {"good"} if 0 in labels else set())
    at = result.threshold
    for names, share in [
        (["good"], at.false_alarms),
        (["bent", "cut"], at.detected),
        *(([name], at.detected_by_type.get(name)) for name in ("bent", "cut")),
    ]:
        chosen = [score for score, (_, name) in zip(scores, pairs, strict=True) if name in names]
        if not chosen:
            assert share is None
            continue
        above = sum(score > 3 for score in chosen)
        want = binomtest(above, len(chosen)).proportion_ci(0.95, "exact")
        assert (share.above, share.of) == (above, len(chosen)) and share.interval == pytest.approx(
            (want.low, want.high)
        )
    assert json.loads(json.dumps(result.to_json(), allow_nan=False))["normal"] == result.normal
    assert len(result.lines()) >= 5


def test_pixels_against_scikit_learn(tmp_path, rng) -> None:
    """On the squares the network sees, with masks brought there as in the workflow."""
    maps = rng.random((4, 32, 32)).astype(np.float32)
    masks = [None, tmp_path / "1.png", tmp_path / "2.png", None]
    for n in (1, 2):
        write_mask(tmp_path / f"{n}.png", (48, 40), (10 + n, 8, 30, 22 + n))
    truths = [truth("bent" if mask else "good", mask) for mask in masks]
    result = evaluated([0.1, 0.4, 0.3, 0.2], truths, maps=maps)
    want = np.stack([np.zeros((32, 32), bool) if m is None else mask_array(m, 36, 32) for m in masks])
    assert want.any() and result.masks == 2
    assert result.metrics["pixel_auroc"] == pytest.approx(roc_auc_score(want.ravel(), maps.ravel()), abs=1e-6)
    assert result.metrics["pixel_ap"] == pytest.approx(average_precision_score(want.ravel(), maps.ravel()), abs=1e-6)
    assert 0 <= result.metrics["aupro_30"] <= 1 and "threshold" not in result.to_json()


def test_all_that_is_wrong_is_said_before_any_scoring(tmp_path, monkeypatch) -> None:
    """Masks that some lack, files that cannot be read, sizes that differ, memory."""
    write_mask(tmp_path / "good.png")
    write_mask(tmp_path / "turned.png", (40, 48))
    (tmp_path / "text.png").write_text("no image")

    def refused(sources, truths) -> str:
        with pytest.raises(ReconpatchError) as error:
            evaluate(NeverScores([]), sources, truths, None, lambda *_: None)
        return str(error.value)

    good = tmp_path / "good.png"
    message = refused(photographs(4), [truth("good"), truth("bent", good), truth("bent"), truth("cut")])
    assert "2 of 3 anomalous images have no mask, first 2.png" in message
    sources = photographs(5)
    sources[4] = Photograph("4.png", tmp_path / "text.png")
    masks = [tmp_path / name for name in ("good.png", "turned.png", "text.png", "missing.png", "turned.png")]
    lines = refused(sources, [truth("bent", mask) for mask in masks]).splitlines()
    assert len(lines) == 4 and "turned.png: mask is 40x48 px, its image 48x40" in lines[1]
    assert lines[2].endswith(f": 2 ({tmp_path / 'text.png'}, {tmp_path / 'text.png'})") and "missing.png" in lines[3]
    monkeypatch.setattr("reconpatch.detector.evaluate.machine_mb", lambda: 900.0)
    assert "there are 0.9 GB" in refused(photographs(2), [truth("good"), truth("bent", good)])
    assert evaluated([1.0], [truth("good")]).normal == 1  # without masks no maps are kept


def test_padding_counts_in_no_metric(tmp_path, rng) -> None:
    """Whatever the map says there; against scikit-learn and a loop over thresholds that see no padding."""
    maps = rng.random((3, 32, 32)).astype(np.float32)
    counted = np.tile(PADDED.content((32, 32)), (3, 1, 1))
    files = [tmp_path / f"{n}.png" for n in range(2)]
    for n, file in enumerate(files):
        write_mask(file, (48, 40), (8 + n, 0, 30, 22))  # to the upper edge
    masks = np.zeros((3, 32, 32), bool)
    masks[:2] = [seen_mask(whole_mask(truth("bent", f), PADDED), PADDED) for f in files]
    maps[masks] += 0.2
    truths = [*(truth("bent", f) for f in files), truth("good")]
    found = [
        evaluated([0.1, 0.4, 0.3], truths, maps=np.where(counted, maps, np.float32(outside)), seen=PADDED).metrics
        for outside in (0, -5, 5)
    ]
    assert found[0] == found[1] == found[2]
    flat = masks[counted], maps[counted]
    assert found[0]["pixel_auroc"] == pytest.approx(roc_auc_score(*flat), abs=1e-6)
    assert found[0]["pixel_ap"] == pytest.approx(average_precision_score(*flat), abs=1e-6)
    assert found[0]["aupro_30"] == pytest.approx(aupro_by_thresholds(maps, masks, counted), abs=1e-6)


def test_defects_out_of_view_are_counted(tmp_path) -> None:
    """A photograph of 48x40 px: its shorter side is brought to 36 px, of 43x36 px the central 32 are seen, so columns
    6 or 7 to 41 and rows 3 or 2 to 37 of the photograph. Boxes keep clear of the pixels at the edge.
    """
    boxes = {
        "inside": (12, 8, 30, 20),
        "left of it": (0, 5, 4, 30),
        "above it": (8, 0, 40, 2),
        "half": (0, 10, 12, 20),
        "corner": (0, 0, 3, 2),
    }
    files = [tmp_path / f"{n}.png" for n in range(len(boxes))]
    for file, box in zip(files, boxes.values(), strict=True):
        write_mask(file, (48, 40), box)
    truths = [*(truth(name, file) for name, file in zip(boxes, files, strict=True)), truth("good")]
    result = evaluated([5.0, 1.0, 9.0, 1.0, 1.0, 0.0], truths, threshold=2.0)
    view = result.view
    assert (view.of, view.outside, view.partly) == (5, ["1.png", "2.png", "4.png"], ["3.png"])
    half = 10 * np.count_nonzero(np.arange(12) + 0.5 >= (43 - 32) / 2 * 48 / 43)
    assert view.seen == pytest.approx((18 * 12 + half) / (18 * 12 + 4 * 25 + 32 * 2 + 120 + 6), abs=0.02)
    assert json.loads(json.dumps(result.to_json()))["out_of_view"]["outside"] == ["1.png", "2.png", "4.png"]
    text = "\n".join(result.lines())
    assert "3 of 5 wholly, 1 partly" in text and "of 3 defects not found, 2 lie wholly out of view" in text
    whole = evaluated([5.0, 1.0, 9.0, 1.0, 1.0, 0.0], truths, seen=PADDED).view
    assert (whole.outside, whole.partly, whole.seen) == ([], [], 1.0)
    assert evaluated([0.0, 1.0], [truth("good"), truth("bent")]).view is None  # without masks


def test_a_defect_that_vanishes_at_the_size_of_the_network_is_remarked_on(tmp_path) -> None:
    """One pixel of 480x400, of which the network sees 36 rows."""
    Image.new("RGB", (480, 400)).save(tmp_path / "p.png")
    large, small = view(480, 400, size=32, resize=36, aspect="crop"), np.zeros((32, 32), np.float32)
    for n, box in enumerate([(240, 200, 241, 201), (200, 150, 280, 250)]):
        write_mask(tmp_path / f"{n}.png", (480, 400), box)
    sources = [Photograph(f"{n}.png", tmp_path / "p.png") for n in range(3)]
    truths = [truth("dot", tmp_path / "0.png"), truth("hole", tmp_path / "1.png"), truth("good")]
    result = evaluate(FakeDetector([1.0, 2.0, 0.0], [small] * 3, large), sources, truths, None, lambda *_: None)
    assert [remark for remark in result.remarks if "no pixel of them is left" in remark and "1 (0.png)" in remark]
    assert result.view.outside == []


def grey_mask(file: Path) -> Path:
    """200 px white, 100 px of 128, 100 px of 127, 50 px of 1."""
    values = np.zeros((40, 48), np.uint8)
    for (row, height), value in zip([(10, 10), (20, 5), (25, 5)], (255, 128, 127), strict=True):
        values[row : row + height, 10:30] = value
    values[35, :25] = values[36, :25] = 1
    Image.fromarray(values).save(file)
    return file


@pytest.mark.parametrize(("least", "pixels"), [(1, 450), (2, 400), (128, 300), (129, 200), (255, 200)])
def test_rules_of_masks_against_counting(least, pixels, tmp_path) -> None:
    mask = grey_mask(tmp_path / "m.png")
    whole = whole_mask(truth("bent", mask), PADDED, least)
    assert whole.sum() == pixels and np.array_equal(whole, np.asarray(Image.open(mask)) >= least)
    maps = np.random.default_rng(0).random((2, 32, 32)).astype(np.float32)
    result = evaluated([1.0, 0.0], [truth("bent", mask), truth("good")], maps=maps, seen=PADDED, least=least)
    want = np.zeros((2, 32, 32), bool)
    want[0] = seen_mask(whole, PADDED)
    counted = np.tile(PADDED.content((32, 32)), (2, 1, 1))
    assert result.metrics["pixel_auroc"] == pytest.approx(roc_auc_score(want[counted], maps[counted]), abs=1e-6)
    (remark,) = [remark for remark in result.remarks if "--mask-rule" in remark]
    assert "450 px are above 0" in remark and "300 of them at least 128" in remark


def test_masks_of_0_and_1_are_black_and_white_by_every_rule(tmp_path) -> None:
    write_mask(tmp_path / "m.png")
    Image.fromarray(np.asarray(Image.open(tmp_path / "m.png")) // 255).save(tmp_path / "m.png")
    truths = [truth("bent", tmp_path / "m.png"), truth("good")]
    found = [evaluated([1.0, 0.0], truths, least=least) for least in (1, 128, 255)]
    assert all(each.view.of == 1 and "mask" not in " ".join(each.remarks) for each in found)


def test_all_empty_masks_are_named_in_one_message(tmp_path) -> None:
    """Up to twenty of them; one that is empty by the rule alone says so."""
    for n in range(25):
        Image.new("L", (48, 40)).save(tmp_path / f"empty {n:02}.png")
    truths = [truth("bent", tmp_path / f"empty {n:02}.png") for n in range(25)]

    def refused(truths, **options) -> list[str]:
        with pytest.raises(ReconpatchError) as error:
            evaluate(NeverScores([]), photographs(len(truths)), truths, None, lambda *_: None, **options)
        return str(error.value).splitlines()[1:]

    (line,) = refused(truths[:20])
    assert "is empty" in line and all(f"empty {n:02}.png" in line for n in range(20))
    (line,) = refused(truths)
    assert ": 25 (" in line and "empty 19.png, ...)" in line and "empty 20.png" not in line
    faint = np.zeros((40, 48), np.uint8)
    faint[3:9, 3:9] = 100
    Image.fromarray(faint).save(tmp_path / "faint.png")
    (line,) = refused([truth("bent", tmp_path / "faint.png")], least=128)
    assert "faint.png" in line and "no value of at least 128" in line and "--mask-rule" in line


def test_masks_are_judged_as_check_judges_them(tmp_path) -> None:
    """The same masks in a data set, which the index reads, and as files to evaluate with."""
    root = tmp_path / "nut"
    noise = np.random.default_rng(0).integers(0, 256, (40, 48, 3)).astype(np.uint8)
    box = np.zeros((40, 48), np.uint8)
    box[10:20, 8:24] = 255
    jpeg, grey, opaque = BytesIO(), box // 2, np.full((40, 48), 255, np.uint8)
    Image.fromarray(box).save(jpeg, "JPEG", quality=75)
    kinds = {
        "plain": box,
        "empty": box * 0,
        "inverted": 255 - box,
        "whole": opaque,
        "grey": grey,
        "alpha": np.dstack([opaque] * 3 + [box]),
        "turned": box.T,
        "jpeg": np.asarray(Image.open(jpeg)),
        "sixteen": box.astype(np.uint16) * 257,
        "colour": np.dstack([box, box * 0, box * 0]),
    }
    for folder in ("train/good", "test/good", "test/bent", "ground_truth/bent", "ground_truth/good"):
        (root / folder).mkdir(parents=True)
    for n in range(2):
        Image.fromarray(noise + np.uint8(n)).save(root / f"train/good/{n}.png")
    for marks_good in (False, True):
        Image.fromarray(noise - np.uint8(3)).save(root / "test/good/9.png")
        Image.fromarray(box * marks_good).save(root / "ground_truth/good/9_mask.png")
        for kind, values in kinds.items():
            Image.fromarray(noise + np.uint8(5)).save(root / "test/bent/0.png")
            Image.fromarray(values).save(root / "ground_truth/bent/0_mask.png")
            found = find_photographs([root / "test"])[0]
            truths = truth_from_folders(found, masks=root / "ground_truth")
            try:
                said = remarks(index("mvtec_ad", tmp_path, "nut"))
            except ReconpatchError as error:
                with pytest.raises(ReconpatchError) as caught:
                    evaluate(NeverScores([]), found, truths, None, lambda *_: None)
                assert str(caught.value).splitlines()[1:] == [line.strip() for line in str(error).splitlines()[1:]]
                assert marks_good or kind in ("empty", "turned")
            else:
                assert not marks_good and kind not in ("empty", "turned")
                got = evaluate(FakeDetector([1.0, 0.5]), found, truths, None, lambda *_: None).remarks
                of_masks = [remark.replace("ground_truth/", "") for remark in said if "masks" in remark]
                assert [remark for remark in got if "masks" in remark] == of_masks
                assert bool(of_masks) == (kind not in ("plain", "sixteen"))
