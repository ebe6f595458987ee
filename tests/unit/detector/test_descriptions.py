import json

import pytest

from reconpatch.detector.card import BANK, IMAGES, NETWORK, Card
from reconpatch.detector.descriptions import described, thresholds, told
from reconpatch.detector.threshold import choose
from reconpatch.errors import ReconpatchError
from reconpatch.experiments.run import BASELINE

SCORES, PEAKS = [1.0, 5.0, 3.0, 2.0, 4.0], [0.1, 0.5, 0.3, 0.2, 0.4]


def card(**changes) -> Card:
    fields = {
        "run": BASELINE.model_dump(mode="json") | {"epochs": 7},
        "aspect": "crop",
        "false_alarm_rate": 0.34,
        "scores": SCORES,
        "peaks": PEAKS,
        "level": 0.05,
        "images": {"fitted": 20, "held out": 5, "different": 24},
        "seen": 0.995,
        "bank": {"patches": 30, "of": 3000},
        "weights": {"source": "pretrained", "sha256": "0123456789abcdef" * 4},
        "training": [],
        "files": {NETWORK: "a", BANK: "b", IMAGES: "c"},
        "made": {"commit": "fedcba", "changed": False, "device": "cpu", "threads": 3, "wall_s": 12.4, "peak_mb": 900.2},
        "identity": "the identity",
    }
    return Card(**(fields | changes))


def test_thresholds_are_chosen_anew_for_any_rate() -> None:
    image, maps = thresholds(card())
    assert image == choose(SCORES, 0.34) and image.value == 4 and maps == 0.4
    assert thresholds(card(), 0.5)[0].value == 3 and thresholds(card(), 0.5)[1] == 0.3
    assert thresholds(card(scores=[], peaks=[])) == (None, None)
    with pytest.raises(ReconpatchError, match="false-alarm rate 3"):
        thresholds(card(), 3)


def test_lines_for_people() -> None:
    said = "\n".join(described(card()))
    for part in (
        "method: reconpatch, 7 epochs, 512 dimensions, coreset 0.01, seed 0",
        "weights: pretrained, SHA-256 0123456789abcdef...",
        "20 fitted, 5 held out, 24 different in all",
        "224 px, aspect crop, shorter side to 256 px first; at least 100% of every image is seen",
        "30 of 3000 patches",
        "threshold: 4: of good images 33.3%",
        "threshold of maps: 0.4",
        "commit fedcba, cpu, 3 threads, 12 s, 900 MB",
        "identity: the identity",
    ):
        assert part in said
    assert "emark" not in said.lower()


def test_copies_among_held_out_images_are_told() -> None:
    copied = card(images={"fitted": 20, "held out": 30, "different": 21}, scores=[1.0], peaks=[0.1])
    assert "images: 20 fitted, 30 held out (1 different), 21 different in all" in described(copied)


def test_lines_of_what_limits_a_model() -> None:
    poor = card(
        run=BASELINE.model_dump(mode="json") | {"weights": "random", "method": "patchcore"},
        seen=0.5,
        scores=[],
        peaks=[],
        made={},
    )
    said = "\n".join(described(poor))
    assert "none, as no images were held out" in said and "threshold of maps" not in said
    assert "weights are random" in said and "--aspect stretch or pad" in said and "commit unknown" in said
    assert "epochs" not in said
    assert "first" not in "\n".join(described(card(aspect="pad")))
    assert "with changes" in "\n".join(described(card(made={"commit": "x", "changed": True})))


def test_what_json_says() -> None:
    found = json.loads(json.dumps(told(card())))
    assert found["threshold"]["value"] == 4 and found["threshold"]["sentence"].startswith("4: of good images")
    assert found["map_threshold"] == 0.4 and found["identity"] == "the identity" and found["run"]["epochs"] == 7
    assert "training" not in found and found["made"]["threads"] == 3
    assert told(card(scores=[], peaks=[]))["threshold"] is None
