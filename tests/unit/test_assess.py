import json
from pathlib import Path

import numpy as np
import pytest
from drawing import write_mask
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.stats import binomtest
from sklearn.metrics import average_precision_score, roc_auc_score

from reconpatch.assess import assess, lines, seen_mask
from reconpatch.detector import Detection
from reconpatch.errors import ReconpatchError
from reconpatch.geometry import view
from reconpatch.images import mask_array
from reconpatch.labels import Truth
from reconpatch.photographs import Photograph

SEEN = view(48, 40, size=32, resize=36, aspect="crop")


class Said:
    """Stands for a detector: says what it was told to."""

    def __init__(self, scores, maps=None) -> None:
        self.scores = scores
        self.maps = maps if maps is not None else [np.zeros((32, 32), np.float32)] * len(scores)

    def __call__(self, photographs):
        for number, _ in enumerate(photographs):
            yield Detection(number, self.scores[number], self.maps[number], SEEN)


def photographs(count: int) -> list[Photograph]:
    return [Photograph(f"{n}.png", Path(f"{n}.png")) for n in range(count)]


def judged(scores, truths, threshold=None, maps=None):
    return assess(Said(scores, maps), photographs(len(truths)), truths, threshold, lambda *_: None)


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

    class Never:
        def __call__(self, photographs):
            raise AssertionError("scored")

    truths = [truth("good"), truth("bent", tmp_path / "m.png"), truth("bent"), truth("cut")]
    with pytest.raises(ReconpatchError, match=r"2 of 3 anomalous images have no mask, first 2\.png"):
        assess(Never(), photographs(4), truths, None, lambda *_: None)


def test_a_threshold_decides_as_predict_does() -> None:
    """Scores are float32; a threshold the user writes is not rounded to it."""
    score = float(np.float32(0.1))  # 0.10000000149
    assert judged([score], [truth("good")], threshold=0.1)["threshold"]["false_alarms"]["above"] == 1
    assert judged([score], [truth("good")], threshold=score)["threshold"]["false_alarms"]["above"] == 0


def test_lines_tell_everything() -> None:
    got = judged([0.1, 0.9, 0.8, 0.2], [truth("good"), truth("bent"), truth("cut"), truth("good")], threshold=0.5)
    said = "\n".join(lines(got))
    for part in ("2 normal and 2 anomalous", "image_auroc: 1.0000 (95 % interval", "at the threshold 0.5:"):
        assert part in said
    assert "  false alarms: 0 of 2, 0.0% (95 % interval 0.0% to 84.2%)" in said
    assert "    of bent: 1 of 1, 100.0%" in said and "anomalous images found: 2 of 2" in said
    alone = lines(judged([0.1], [truth("good")], threshold=0.5))
    assert "  image_auroc: undefined" in alone and not any("found" in line for line in alone)
