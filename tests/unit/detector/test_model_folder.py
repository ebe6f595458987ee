import json
import os
import shutil
import subprocess
import sys
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from products import SIZE, product, write_products
from running import ROOT
from safetensors.numpy import save_file

from reconpatch.detector.model_folder import (
    BANK,
    CARD,
    IMAGES,
    NETWORK,
    SCHEMA,
    Card,
    card_json,
    card_lines,
    load,
    read_card,
    seal,
    thresholds,
)
from reconpatch.detector.threshold import choose_threshold
from reconpatch.errors import ReconpatchError
from reconpatch.files import sha256_of
from reconpatch.method import backbones
from reconpatch.method.memory_bank import MemoryBank

NAMES = (CARD, NETWORK, BANK, IMAGES)


@pytest.fixture
def copy(saved, tmp_path) -> Path:
    """A copy of the saved model that a test may change."""
    return shutil.copytree(saved, tmp_path / "copy")


def changed(card: Card, **changes: Any) -> Card:
    """The card with other values and digests that fit, as anyone could make it who can write."""
    made = Card.model_validate(card.model_dump(mode="json") | changes)
    seal(made)
    return made


# What is saved and loaded


def test_the_folder_holds_what_the_card_says(model, saved) -> None:
    card = read_card(saved)
    assert sorted(p.name for p in saved.iterdir()) == sorted(NAMES)
    assert card.files == {name: sha256_of(saved / name) for name in (NETWORK, BANK, IMAGES)}
    assert (card.images.fitted, card.images.held_out, card.images.different) == (19, 5, 24)
    assert (card.bank.patches, card.bank.of) == (len(model.detector_.bank.patches), 16 * 19)
    assert len(card.training) == 2 and card.run.epochs == 2 and card.weights.source == "random"
    np.testing.assert_array_equal(MemoryBank.load(saved / BANK).patches, model.detector_.bank.patches)


def test_digests_are_of_canonical_json(saved) -> None:
    """Against hashlib and json. The identity holds nothing of the machine."""
    content = json.loads((saved / CARD).read_text())

    def digest(*without: str) -> str:
        rest = {key: value for key, value in content.items() if key not in {*without, "digest"}}
        assert not {"identity", "made"} <= set(without) or "cpu" not in json.dumps(rest)
        return sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()

    assert content["digest"] == digest() and content["identity"] == digest("made", "identity")


def test_loaded_elsewhere_it_scores_as_before(model, saved, tmp_path) -> None:
    """In a process without network, home and repository, to the bit."""
    code = (
        "import sys\nfrom reconpatch import ReConPatch\n"
        "model = ReConPatch.load(sys.argv[1], device='cpu', threads=1)\n"
        "print(*(float(score).hex() for score in model.anomaly_scores(sys.argv[2:])))\n"
    )
    paths = [str(path) for path in sorted(write_products(tmp_path / "new", 2, start=300, defect=True).iterdir())]
    environment = {"HOME": str(tmp_path), "PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-c", code, str(saved), *paths]
    done = subprocess.run(command, cwd=tmp_path, env=environment, text=True, capture_output=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [float(score).hex() for score in model.anomaly_scores(paths)]


# What is refused


@settings(max_examples=100)
@given(st.data())
def test_a_changed_byte_is_refused_or_changes_nothing(saved, data) -> None:
    card = read_card(saved)
    name = data.draw(st.sampled_from(NAMES))
    whole = (saved / name).read_bytes()
    place = data.draw(st.integers(0, len(whole) - 1))
    byte = data.draw(st.integers(0, 255).filter(lambda b: b != whole[place]))
    try:
        (saved / name).write_bytes(whole[:place] + bytes([byte]) + whole[place + 1 :])
        try:
            assert read_card(saved) == card and name == CARD
        except ReconpatchError as error:
            assert name in error.where
    finally:
        (saved / name).write_bytes(whole)


@pytest.mark.parametrize("name", NAMES)
def test_a_missing_cut_or_longer_file_is_named(name, copy) -> None:
    whole = (copy / name).read_bytes()
    for content in (whole[: len(whole) // 2], whole + b"\0", b""):
        (copy / name).write_bytes(content)
        with pytest.raises(ReconpatchError, match=name):
            read_card(copy)
    (copy / name).unlink()
    with pytest.raises(ReconpatchError, match=name):
        read_card(copy)


HOSTILE = {
    "empty": b"",
    "no JSON": b"hello",
    "a list": b"[]",
    "null": b"null",
    "no UTF-8": b'{"a": "\xff"}',
    "nested 100,000 deep": b"[" * 100_000,
    "nested and closed": b'{"made": ' * 5000 + b"1" + b"}" * 5000,
    "20 MB": b'{"made": "' + b"x" * 20_000_000 + b'"}',
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_is_no_card_is_refused(name, copy) -> None:
    (copy / CARD).write_bytes(HOSTILE[name])
    with pytest.raises(ReconpatchError, match="not the card of a model") as error:
        read_card(copy)
    assert len(str(error.value)) < 1000


WRONG: dict[str, dict[str, Any]] = {
    "an unknown key": {"more": 1},
    "no images": {"images": {}},
    "other counts": {"images": {"fitted": 1, "held out": 1, "different": 1, "more": 1}},
    "no digest of weights": {"weights": {"source": "random"}},
    "other files": {"files": {"../../etc/passwd": "ab"}},
    "more scores than peaks": {"scores": [1.0] * 6},
    "another aspect": {"aspect": "squash"},
    "a run without its keys": {"run": {"crop": 512}},
    "an edit": {"false_alarm_rate": 0.5},
    "another identity": {"identity": "0" * 64},
}


@pytest.mark.parametrize("name", WRONG)
def test_cards_that_are_edited_or_of_another_form_are_refused(name, copy) -> None:
    (copy / CARD).write_text(json.dumps(json.loads((copy / CARD).read_text()) | WRONG[name]))
    with pytest.raises(ReconpatchError, match=r"model\.json"):
        read_card(copy)


@pytest.mark.parametrize("version", [0, 2, 99, -1])
def test_another_schema_is_named(version, copy) -> None:
    (copy / CARD).write_text(json.dumps({"schema_version": version, "of": "the future"}))
    with pytest.raises(ReconpatchError, match=f"schema {version}, this version of reconpatch reads {SCHEMA}"):
        read_card(copy)


def zeros(*shape: int) -> np.ndarray:
    return np.zeros(shape, np.float32)


def forge(folder: Path, tensors: dict[str, Any], **run: Any) -> None:
    """Other tensors and parameters, with digests that fit."""
    card = read_card(folder)
    parameters = card.run.model_dump(mode="json") | run
    header = json.dumps({"dim": parameters["dim"], "training_patches": 176})
    save_file(tensors, folder / BANK, metadata={"reconpatch": header})
    files = card.files | {BANK: sha256_of(folder / BANK)}
    forged = changed(card, run=parameters, files=files, bank={"patches": 20, "of": 176})
    (folder / CARD).write_text(forged.model_dump_json())
    assert read_card(folder) == forged  # nothing else is wrong with it


PARTS = {"memory_bank": zeros(20, 16), "order": np.arange(20), "f.weight": zeros(16, 32), "f.bias": zeros(16)}
BANKS: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "f takes other features": ({"f.weight": zeros(16, 33)}, {}, r"f.weight \(16, 33\).* instead of .*\(16, 32\)"),
    "other dimensions": ({"memory_bank": zeros(20, 17)}, {}, r"memory_bank \(20, 17\)"),
    "other rows": ({"memory_bank": zeros(21, 16)}, {}, r"memory_bank \(21, 16\)"),
    "something else": ({"more": zeros(1)}, {}, r"more \(1,\)"),
    "f in PatchCore": ({}, {"method": "patchcore"}, r"f.weight"),
    "neighbours beyond it": ({}, {"neighbours": 21}, "neighbours = 21"),
    "patches beyond the grid": ({}, {"patch_size": 31}, "patch_size 31"),
}


@pytest.mark.parametrize("name", BANKS)
def test_digests_that_fit_do_not_make_parts_fit(name, copy) -> None:
    changes, run, message = BANKS[name]
    forge(copy, PARTS | changes, **run)
    with pytest.raises(ReconpatchError, match=message):
        load(copy, device="cpu")


def test_other_banks_of_the_right_form_are_loaded(copy) -> None:
    """5 does not divide the 32 channels: PatchCore's features are pooled to it directly, and need no f."""
    forge(copy, PARTS)
    assert next(iter(load(copy, device="cpu")[0]([product(1)]))).map.shape == (SIZE, SIZE)
    forge(copy, {"memory_bank": zeros(20, 5), "order": np.arange(20)}, method="patchcore", dim=5)
    assert load(copy, device="cpu")[0].width == 5


def test_a_model_too_large_for_the_machine_is_refused_before_it_is_loaded(copy, monkeypatch) -> None:
    monkeypatch.setattr(backbones, "load_backbone", lambda *_, **__: pytest.fail("loaded"))
    monkeypatch.setattr(MemoryBank, "load", lambda *_: pytest.fail("loaded"))
    with pytest.raises(ReconpatchError, match="GB of memory with 100000000 images a pass") as error:
        load(copy, device="cpu", batch=10**8)
    assert "batch_images" in error.value.fix
    card = read_card(copy)
    (copy / CARD).write_text(
        changed(card, run=card.run.model_dump(mode="json") | {"resize": 8192, "crop": 8192}).model_dump_json()
    )
    with pytest.raises(ReconpatchError, match="GB of memory with 8 images a pass"):
        load(copy, device="cpu")


# What is said about a model


def test_thresholds_are_chosen_for_any_rate(saved) -> None:
    card = changed(read_card(saved), scores=[1.0, 5.0, 3.0, 2.0, 4.0], peaks=[0.1, 0.5, 0.3, 0.2, 0.4])
    assert thresholds(card, 0.34) == (choose_threshold(card.scores, 0.34), 0.4)
    threshold, map_threshold = thresholds(card, 0.5)
    assert threshold and threshold.value == 3 and map_threshold == 0.3
    assert thresholds(changed(card, scores=[], peaks=[])) == (None, None)
    with pytest.raises(ReconpatchError, match="--false-alarms"):
        thresholds(changed(card, scores=[], peaks=[]), 0.5)


def test_what_people_and_machines_are_told(saved) -> None:
    card = read_card(saved)
    text, content = "\n".join(card_lines(card)), json.loads(json.dumps(card_json(card)))
    for part in ("reconpatch, 2 epochs", "19 fitted, 5 held out, 24 different", "weights are random", card.identity):
        assert part in text
    assert content["threshold"]["sentence"] in text and content["identity"] == card.identity
    assert content["images"]["held out"] == 5 and content["made"]["threads"] == 1 and "training" not in content


def test_what_limits_a_model_is_told(saved) -> None:
    card = read_card(saved)
    poor = "\n".join(card_lines(changed(card, seen=0.5, scores=[], peaks=[], made={})))
    assert "no images were held out" in poor and "--aspect stretch or pad" in poor and "commit unknown" in poor
    copies = changed(card, images={"fitted": 20, "held out": 30, "different": 21})
    assert "30 held out (5 different)" in "\n".join(card_lines(copies))
