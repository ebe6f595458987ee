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
from reconpatch.detector.evaluate import Evaluation, evaluate, seen_mask
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


def evaluated(scores, truths, threshold=None, maps=None, seen=SEEN) -> Evaluation:
    return evaluate(FakeDetector(scores, maps, seen), photographs(len(truths)), truths, threshold, lambda *_: None)


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
    assert len(lines) == 4 and "turned.png: mask is 40x48 px" in lines[1] and "p.png is 48x40" in lines[1]
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
    masks[:2] = [seen_mask(truth("bent", f), PADDED) for f in files]
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
