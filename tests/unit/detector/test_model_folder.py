import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from products import SIZE, detector, product, write_products
from running import ROOT
from safetensors.numpy import save_file

from reconpatch.detector import model_folder as saved
from reconpatch.detector.card import BANK, CARD, IMAGES, NETWORK, Card, digest_of, read_card
from reconpatch.detector.estimator import ReConPatch
from reconpatch.detector.model_folder import load
from reconpatch.errors import ReconpatchError
from reconpatch.files import sha256_of
from reconpatch.method.memory_bank import MemoryBank

NAMES = (CARD, NETWORK, BANK, IMAGES)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A fitted model, its card and its folder. One image has a name that csv must quote, one is there twice."""
    folder = tmp_path_factory.mktemp("saved")
    good = write_products(folder / "good", 10)
    product(90).save(good / 'odd, "name"\nof two lines.png')
    product(91).save(good / os.fsdecode(b"latin\xe9.png"))
    shutil.copy(good / "000.png", good / "copy.png")
    model = detector().fit(good)
    return model, model.save(folder / "model"), folder / "model"


def test_the_folder_holds_what_it_says(made) -> None:
    model, card, folder = made
    assert sorted(p.name for p in folder.iterdir()) == sorted(NAMES)
    assert card.files == {name: sha256_of(folder / name) for name in (NETWORK, BANK, IMAGES)}
    assert read_card(folder) == card
    assert card.images == {"fitted": len(model.fitted_.facts) - len(card.scores), "held out": 2, "different": 12}
    assert card.bank == {"patches": len(model.detector_.bank.patches), "of": 16 * card.images["fitted"]}
    assert len(card.training) == 2 and card.run.epochs == 2 and card.weights["source"] == "random"
    bank = MemoryBank.load(folder / BANK)
    np.testing.assert_array_equal(bank.patches, model.detector_.bank.patches)


def test_the_list_of_images_can_be_read(made) -> None:
    _, card, folder = made
    with open(folder / IMAGES, newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    names = {row["image"] for row in rows}
    assert len(rows) == 13 and 'odd, "name"\nof two lines.png' in names and r"latin\udce9.png" in names
    good = folder.parent / "good"
    for row in rows:
        if (good / row["image"]).exists():
            assert row["sha256"] == sha256_of(good / row["image"])
        assert (row["width"], row["height"]) == ("52", "40")
    uses = [row["use"] for row in rows]
    assert uses.count("held out") == card.images["held out"] and uses.count("fitted") == card.images["fitted"]


@settings(max_examples=200)
@given(st.data())
def test_a_changed_byte_is_refused_or_changes_nothing(made, data) -> None:
    _, card, folder = made
    name = data.draw(st.sampled_from(NAMES))
    file = folder / name
    whole = file.read_bytes()
    place = data.draw(st.integers(0, len(whole) - 1))
    byte = data.draw(st.integers(0, 255).filter(lambda b: b != whole[place]))
    try:
        with open(file, "r+b") as stream:
            stream.seek(place)
            stream.write(bytes([byte]))
        try:
            got = read_card(folder)
        except ReconpatchError as error:
            assert name in str(error)
        else:
            assert name == CARD and got == card
    finally:
        file.write_bytes(whole)


@pytest.mark.parametrize("name", NAMES)
def test_a_cut_file_is_refused(name, made, tmp_path) -> None:
    copy = shutil.copytree(made[2], tmp_path / "copy")
    content = (copy / name).read_bytes()
    (copy / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(ReconpatchError, match=name):
        load(copy, device="cpu")


def test_files_of_two_models_do_not_mix(made, tmp_path) -> None:
    other = detector(seed=1).fit(made[2].parent / "good")
    other.save(tmp_path / "other")
    for name in NAMES:
        copy = shutil.copytree(made[2], tmp_path / name)
        shutil.copy(tmp_path / "other" / name, copy / name)
        if (copy / name).read_bytes() != (made[2] / name).read_bytes():
            with pytest.raises(ReconpatchError, match="edited or damaged"):
                read_card(copy)
    assert (tmp_path / "other" / BANK).read_bytes() != (made[2] / BANK).read_bytes()


def test_the_identity_holds_again(made, tmp_path) -> None:
    """Fitted again, all but how it was made is the same, to the byte."""
    _, card, folder = made
    again = detector().fit(folder.parent / "good").save(tmp_path / "again")
    assert again.identity == card.identity and again.digest != card.digest
    for name in (NETWORK, BANK, IMAGES):
        assert (tmp_path / "again" / name).read_bytes() == (folder / name).read_bytes()


SCRIPT = """
import socket, sys
def refuse(*_, **__):
    raise OSError("no network here")
socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse
from reconpatch import ReConPatch
from PIL import Image
model = ReConPatch.load(sys.argv[1], device="cpu", threads=1)
print(*(score.hex() for score in model.anomaly_scores(sys.argv[2:])))
"""


def test_a_fresh_process_elsewhere_without_network_or_home(made, tmp_path) -> None:
    model, _, folder = made
    for n in (200, 201):
        product(n, defect=n == 201).save(tmp_path / f"{n}.png")
    empty = tmp_path / "home"
    empty.mkdir()
    paths = [str(tmp_path / f"{n}.png") for n in (200, 201)]
    environment = {"HOME": str(empty), "PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(folder), *paths], cwd=empty, env=environment, text=True, capture_output=True
    )
    assert done.returncode == 0, done.stderr
    here = [float(score).hex() for score in model.anomaly_scores(paths)]
    assert done.stdout.split() == here


def test_loaded_it_says_what_it_said(made) -> None:
    model, card, folder = made
    images = [product(300), product(301, defect=True)]
    for batch in (1, 8):
        found, again = load(folder, device="cpu", threads=1, batch=batch)
        assert again == card and found.batch == batch
        for a, b in zip(found(images), model.detect(images), strict=True):
            assert a.score == pytest.approx(b.score, rel=1e-4) and a.view == b.view
            np.testing.assert_allclose(a.map, b.map, rtol=1e-3, atol=1e-6)


def test_nothing_but_made_depends_on_the_device(made, monkeypatch, tmp_path) -> None:
    """What is saved is as on a CPU: names of devices stand in `made` alone, tensors are plain."""
    _, card, folder = made
    told = card.model_dump(mode="json")
    assert told["made"]["device"] == "cpu"
    for text in (
        json.dumps(told["run"]),
        (folder / IMAGES).read_text(),
        (folder / BANK).read_bytes()[:2000].decode("latin-1"),
    ):
        assert "cpu" not in text and "cuda" not in text


def test_of_no_model(tmp_path) -> None:
    for place in (tmp_path, tmp_path / "nowhere", Path(__file__)):
        with pytest.raises(ReconpatchError, match="no model"):
            ReConPatch.load(place)


def forged(folder: Path, card: dict[str, Any], tensors: dict[str, Any] | None = None, **run: Any) -> Path:
    """A model changed by one who can make all digests fit."""
    content = json.loads((folder / CARD).read_text()) | card
    if tensors is not None:
        header = json.dumps({"dim": (content["run"] | run)["dim"], "training_patches": content["bank"]["of"]})
        save_file(tensors, folder / BANK, metadata={"reconpatch": header})
        content["files"] = content["files"] | {BANK: sha256_of(folder / BANK)}
    content["run"] = content["run"] | run
    card_ = Card.model_validate(content)
    card_.identity = digest_of(card_, "made", "identity")
    card_.digest = digest_of(card_)
    (folder / CARD).write_text(json.dumps(card_.model_dump(mode="json")))
    assert read_card(folder) == card_  # nothing else is wrong with it
    return folder


def zeros(*shape: int) -> np.ndarray:
    return np.zeros(shape, np.float32)


PARTS = {"memory_bank": zeros(20, 16), "order": np.arange(20), "f.weight": zeros(16, 32), "f.bias": zeros(16)}
BANKS = {
    "as the run's": ({}, {}, None),
    "f takes other features": ({"f.weight": zeros(16, 33)}, {}, r"f.weight \(16, 33\).* instead of .*\(16, 32\)"),
    "other dimensions": ({"memory_bank": zeros(20, 17)}, {}, r"memory_bank \(20, 17\)"),
    "other rows": ({"memory_bank": zeros(21, 16)}, {}, r"memory_bank \(21, 16\)"),
    "something else": ({"more": zeros(1)}, {}, r"more \(1,\)"),
    "f in PatchCore": ({}, {"method": "patchcore"}, r"f.weight"),
    "neighbours beyond it": ({}, {"neighbours": 21}, "neighbours = 21 in a memory bank of 20"),
    "patches beyond the grid": ({}, {"patch_size": 31}, "patch_size 31"),
}


@pytest.mark.parametrize("name", BANKS)
def test_digests_that_fit_do_not_make_parts_fit(name, made, tmp_path) -> None:
    changes, run, said = BANKS[name]
    copy = shutil.copytree(made[2], tmp_path / "copy")
    forged(copy, {"bank": {"patches": 20, "of": 176}}, PARTS | changes, **run)
    if said is None:
        assert len(load(copy, device="cpu")[0](product(1) for _ in [0]).__next__().map) == SIZE
        return
    with pytest.raises(ReconpatchError, match=said):
        load(copy, device="cpu")


def test_a_bank_of_patchcore_needs_no_f(made, tmp_path) -> None:
    """5 does not divide the 32 channels: features are pooled to it directly."""
    copy = shutil.copytree(made[2], tmp_path / "copy")
    bank = {"memory_bank": zeros(20, 5), "order": np.arange(20)}
    forged(copy, {"bank": {"patches": 20, "of": 176}}, bank, method="patchcore", dim=5)
    assert load(copy, device="cpu")[0].width == 5


def test_a_model_too_large_for_the_machine_is_refused_before_it_is_loaded(made, tmp_path, monkeypatch) -> None:
    copy = shutil.copytree(made[2], tmp_path / "copy")
    monkeypatch.setattr(saved, "load_backbone", lambda *_, **__: pytest.fail("loaded"))
    monkeypatch.setattr(saved.MemoryBank, "load", lambda *_: pytest.fail("loaded"))
    with pytest.raises(ReconpatchError, match=r"GB of memory with 100000000 images a pass, there are .* batch_images"):
        load(copy, device="cpu", batch=10**8)
    with pytest.raises(ReconpatchError, match="GB of memory with 8 images a pass"):
        load(forged(copy, {}, resize=8192, crop=8192), device="cpu")
    monkeypatch.setattr(saved, "machine_mb", lambda: 100.0)
    with pytest.raises(ReconpatchError, match=r"there are 0\.1 GB"):
        load(made[2], device="cpu")
