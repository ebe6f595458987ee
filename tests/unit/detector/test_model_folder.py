import json
import shutil
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from products import detector
from safetensors.numpy import save_file
from safetensors.torch import save_file as save_tensors

from reconpatch.detector.estimator import ReConPatch
from reconpatch.detector.model_folder import (
    BANK,
    CARD,
    IMAGES,
    NETWORK,
    Card,
    card_lines,
    load,
    read_card,
    seal,
    thresholds,
)
from reconpatch.detector.settings import Machine
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


def test_the_folder_holds_what_the_card_says(model, saved) -> None:
    card = read_card(saved)
    assert sorted(p.name for p in saved.iterdir()) == sorted(NAMES)
    assert card.files == {name: sha256_of(saved / name) for name in (NETWORK, BANK, IMAGES)}
    assert (card.images.fitted, card.images.held_out, card.images.different) == (19, 5, 24)
    assert (card.bank.patches, card.bank.of) == (len(model.detector_.bank.patches), 16 * 19)
    assert len(card.training) == 2 and card.run.epochs == 2 and card.weights.source == "random"
    np.testing.assert_array_equal(MemoryBank.load(saved / BANK).patches, model.detector_.bank.patches)


def test_digests_are_of_canonical_json(saved) -> None:
    """Against hashlib and json. The identity holds nothing of the machine, and no names of files."""
    content = json.loads((saved / CARD).read_text())

    def digest(content: dict[str, Any]) -> str:
        return sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    assert content["digest"] == digest({key: value for key, value in content.items() if key != "digest"})
    model = {key: value for key, value in content.items() if key not in ("made", "modes", "identity", "digest")}
    assert "cpu" not in json.dumps(model)
    del model["files"][IMAGES], model["weights"]["source"]
    assert content["identity"] == digest(model)
    rows = [line.rsplit(",", 4)[1:] for line in (saved / IMAGES).read_text().splitlines()]
    assert content["images_sha256"] == sha256("".join(",".join(row) + "\n" for row in rows).encode()).hexdigest()


def test_names_of_files_are_no_part_of_what_a_model_is(good, tmp_path) -> None:
    """Images and weights called otherwise, in another folder, give the same identity; other ones do not."""
    photographs = sorted(good.iterdir())[:8]
    state = timm.create_model("resnet10t").state_dict()
    save_tensors(state, tmp_path / "a.safetensors")
    torch.save({"state_dict": {f"module.{key}": value for key, value in state.items()}}, tmp_path / "b.bin")
    save_tensors({key: value + (key == "conv1.0.weight") for key, value in state.items()}, tmp_path / "c")

    def identity(name: str, weights: str, images: Sequence[Path] = photographs) -> str:
        folder = tmp_path / name
        (folder / "photos").mkdir(parents=True)
        for n, image in enumerate(images):
            shutil.copy(image, folder / "photos" / f'{name} {n}, "{n}"\n{image.suffix}')
        options = {
            "backbone": "resnet10t",
            "dim": 16,
            "size": 32,
            "aspect": "crop",
            "epochs": 1,
            "coreset": 0.5,
            "threads": 1,
        }
        fitted = ReConPatch(**options, weight_file=tmp_path / weights).fit(folder / "photos").save(folder / "model")
        return read_card(folder / "model").identity if fitted else ""

    one = identity("one", "a.safetensors")
    assert one == identity("two", "b.bin")
    assert one != identity("three", "c") and one != identity("four", "a.safetensors", photographs[1:])


@pytest.mark.parametrize("version", [1, 2])
def test_models_of_older_schemas_are_read(version, saved, copy) -> None:
    """Their identity is of everything but `made` and the digests; in the second names of files do not count. The aspect
    stood beside the run.
    """
    content = json.loads((saved / CARD).read_text()) | {"schema_version": version}
    content["aspect"] = content["run"].pop("aspect")
    if version == 1:
        del content["images_sha256"]
    del content["modes"], content["digest"]
    rest = {key: value for key, value in content.items() if key not in ("made", "identity")}
    if version == 2:
        rest["weights"] = {"sha256": rest["weights"]["sha256"]}
        rest["files"] = {name: digest for name, digest in rest["files"].items() if name != IMAGES}
    content["identity"] = sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()
    content["digest"] = sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    (copy / CARD).write_text(json.dumps(content))
    assert read_card(copy).identity == content["identity"]
    assert read_card(copy).run.aspect == "crop"


def test_the_modes_of_the_images_are_kept_and_older_models_have_none(saved, copy) -> None:
    content = json.loads((saved / CARD).read_text())
    assert content["modes"] == ["RGB"] == load(saved, Machine(device="cpu"))[0].modes
    (copy / CARD).write_text(json.dumps(content | {"modes": ["L"]}))
    with pytest.raises(ReconpatchError, match="edited or damaged"):
        read_card(copy)
    del content["modes"], content["digest"]
    content["digest"] = sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    (copy / CARD).write_text(json.dumps(content))
    assert load(copy, Machine(device="cpu"))[0].modes == [] and read_card(copy).identity == content["identity"]


def test_a_list_of_other_images_is_refused_though_its_digest_fits(copy) -> None:
    card, other = read_card(copy), (copy / IMAGES).read_text().replace("held out", "fitted")
    (copy / IMAGES).write_text(other)
    forged = changed(card, files=card.files | {IMAGES: sha256_of(copy / IMAGES)})
    (copy / CARD).write_text(forged.model_dump_json())
    assert forged.identity == card.identity
    with pytest.raises(ReconpatchError, match=rf"{IMAGES}: lists other images"):
        read_card(copy)


@settings(max_examples=50)
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
def test_a_cut_longer_or_missing_file_is_named(name, copy) -> None:
    whole = (copy / name).read_bytes()
    for content in (whole[: len(whole) // 2], whole + b"\0", None):
        (copy / name).unlink()
        if content is not None:
            (copy / name).write_bytes(content)
        with pytest.raises(ReconpatchError, match=name):
            read_card(copy)


HOSTILE = [
    b"",
    b"[]",
    b'{"a": "\xff"}',
    b'{"made": ' * 5000 + b"1" + b"}" * 5000,
    b'{"made": "' + b"x" * 20_000_000 + b'"}',
]
WRONG: list[dict[str, Any]] = [
    *({"more": 1}, {"images": {}}, {"schema_version": 99}, {"files": {"../../etc/passwd": "ab"}}),
    *({"scores": [1.0] * 6}, {"aspect": "squash"}, {"false_alarm_rate": 0.5}, {"identity": "0" * 64}),
]


def test_cards_that_are_edited_or_of_another_form_are_refused(copy) -> None:
    content = json.loads((copy / CARD).read_text())
    for text in [*HOSTILE, *(json.dumps(content | changes).encode() for changes in WRONG)]:
        (copy / CARD).write_bytes(text)
        with pytest.raises(ReconpatchError, match=r"model\.json") as error:
            read_card(copy)
        assert len(str(error.value)) < 1000


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
BANKS: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    ({"f.weight": zeros(16, 33)}, {}, r"f.weight \(16, 33\).* instead of .*\(16, 32\)"),
    ({"memory_bank": zeros(20, 17)}, {}, r"memory_bank \(20, 17\)"),
    ({}, {"method": "patchcore"}, r"f.weight"),
    ({}, {"neighbours": 21}, "neighbours = 21"),
]


@pytest.mark.parametrize(("changes", "run", "message"), BANKS)
def test_digests_that_fit_do_not_make_parts_fit(changes, run, message, copy) -> None:
    forge(copy, PARTS | changes, **run)
    with pytest.raises(ReconpatchError, match=message):
        load(copy, Machine(device="cpu", threads=1))


def test_a_model_too_large_for_the_machine_is_refused_before_it_is_loaded(copy, monkeypatch) -> None:
    monkeypatch.setattr(backbones, "load_network", lambda *_, **__: pytest.fail("loaded"))
    monkeypatch.setattr(MemoryBank, "load", lambda *_: pytest.fail("loaded"))
    with pytest.raises(ReconpatchError, match="GB of memory with 1000000 images a pass") as error:
        load(copy, Machine(device="cpu", batch_images=10**6))
    assert "batch_images" in error.value.fix
    card = read_card(copy)
    (copy / CARD).write_text(
        changed(card, run=card.run.model_dump(mode="json") | {"resize": 8192, "crop": 8192}).model_dump_json()
    )
    with pytest.raises(ReconpatchError, match="GB of memory with 8 images a pass"):
        load(copy, Machine(device="cpu", threads=1))


def test_thresholds_are_chosen_for_any_rate(saved) -> None:
    card = changed(read_card(saved), scores=[1.0, 5.0, 3.0, 2.0, 4.0], peaks=[0.1, 0.5, 0.3, 0.2, 0.4])
    assert thresholds(card, 0.34) == (choose_threshold(card.scores, 0.34), choose_threshold(card.peaks, 0.34).value)
    threshold, map_threshold = thresholds(card, 0.5)
    assert threshold and (threshold.value, map_threshold) == pytest.approx((3, 0.3), rel=1e-3)
    assert thresholds(changed(card, scores=[], peaks=[])) == (None, None)
    with pytest.raises(ReconpatchError, match="--false-alarms"):
        thresholds(changed(card, scores=[], peaks=[]), 0.5)


def test_older_models_of_held_out_images_do_not_say_how_they_were_kept(saved, copy) -> None:
    """Their digests, by hashlib, are of what they have."""
    content = json.loads((saved / CARD).read_text())
    del content["calibration"], content["digest"], content["identity"]
    rest = {key: value for key, value in content.items() if key not in ("made", "modes")}
    rest["files"] = {name: value for name, value in content["files"].items() if name != IMAGES}
    rest["weights"] = {"sha256": content["weights"]["sha256"]}
    content["identity"] = sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()
    content["digest"] = sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    (copy / CARD).write_text(json.dumps(content))
    card = read_card(copy)
    assert card.calibration.exact and thresholds(card) == thresholds(read_card(saved))


def test_a_model_of_folds(good, tmp_path) -> None:
    """What it says of its threshold, and that it is fitted again in the same way."""
    model = detector(method="patchcore", hold_out=None, folds=3).fit(good)
    card = model.save(tmp_path / "model")
    assert (card.images.fitted, card.images.held_out, len(card.scores)) == (24, 0, 24)
    uses = {row.rpartition(",")[2] for row in (tmp_path / "model" / IMAGES).read_text().splitlines()}
    assert card.calibration.folds == 3 and uses == {"use", "fold 1", "fold 2", "fold 3"}
    lines = "\n".join(card_lines(card))
    assert "24 fitted, each left out once in 3 folds" in lines and "approximate 95 % interval" in lines
    again = ReConPatch.load(tmp_path / "model", device="cpu", threads=1)
    assert again.threshold_ == model.threshold_ and (again.folds, again.hold_out) == (3, None)
    with pytest.raises(ValueError, match="groups of 99 images"):
        changed(card, calibration={"folds": 3, "group_of": [0] * 99})
