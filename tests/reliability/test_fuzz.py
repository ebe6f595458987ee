"""Readers given anything: what they return is sound, and the only exception is the one meant for the user. Metrics
given any floats: laws that hold for all scores, and scikit-learn.
"""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from drawing import make_record
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from running import ROOT
from sklearn.metrics import average_precision_score, roc_auc_score

from reconpatch.data.layouts import Item, Mask
from reconpatch.data.manifest import manifest_json, read_manifest
from reconpatch.errors import ReconpatchError
from reconpatch.experiments.config import Config, Experiment, read_config, read_experiment, read_yaml
from reconpatch.experiments.plan import run_name
from reconpatch.experiments.rows import expand
from reconpatch.experiments.run import BASELINE, fitted
from reconpatch.experiments.stages import description
from reconpatch.experiments.value_types import shown
from reconpatch.method.bootstrap import auroc, image_wins, pixel_wins
from reconpatch.method.memory_bank import MemoryBank, Representation
from reconpatch.method.metrics import image_metrics, pixel_metrics
from reconpatch.method.scoring import patch_scores
from reconpatch.method.search import FaissSearch
from reconpatch.records.record import read_record, write_record

DEFAULT = yaml.safe_load((ROOT / "configs/default.yaml").read_text())
EXPERIMENT = yaml.safe_load((ROOT / "configs/ablations/table_mvtec.yaml").read_text())

# The same examples on every machine and day; files are written anew for each, so the folder may be shared.
stable = settings(
    derandomize=True,
    deadline=None,
    max_examples=100,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

ODD = [10**400, -(10**20), 2**31, 2**63, 1e400, float("nan"), 5e-324, -0.0, "1e400", "9" * 5000, "-1", "٣", "", " "]
ODD += ["\x00", "../x", "a\nb", "/etc/passwd", "~", "~nobody-of-this-name/x", "$HOME", "CON", "x" * 300, "\ud800"]
scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from(ODD)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


def paths_of(content: Any, above: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """Every key of nested dictionaries, as a path."""
    if not isinstance(content, dict):
        return []
    return [path for key in content for path in [(*above, key), *paths_of(content[key], (*above, key))]]


def replaced(content: dict, path: tuple[str, ...], value: Any) -> dict:
    """Nested dictionaries with one value changed, or added."""
    changed = copy.deepcopy(content)
    section = changed
    for key in path[:-1]:
        section = section[key]
    section[path[-1]] = value
    return changed


SECTIONS = [(), ("baseline",), ("datasets",), ("datasets", "btad"), ("overrides",), ("stand_ins",), ("weight_files",)]
known = st.sampled_from(paths_of(DEFAULT))
unknown = st.builds(lambda section, key: (*section, key), st.sampled_from(SECTIONS), st.text(max_size=8))


@stable
@given(known | unknown, values)
def test_configuration_is_read_or_the_key_is_named(path, value) -> None:
    try:
        config = read_config(replaced(DEFAULT, path, value))
    except ReconpatchError as error:
        message = str(error)
        assert path[-1] in message or shown(path[-1]) in message or ascii(path[-1]) in message, (path, message)
        assert len(message) < 20_000 and all(line.isprintable() for line in message.split("\n"))
    else:
        assert isinstance(config, Config)
        try:
            run = fitted(config.baseline, lambda _, levels, __: [64] * len(levels), "baseline")
        except ReconpatchError as error:  # widths that do not fit each other
            assert str(error).startswith("baseline: ")
        else:
            name = run_name(run, BASELINE)
            assert len(name) < 80 and name.isascii() and not set(name) & set("/\\\n ~$:"), name
            json.dumps(description(run, "score"), allow_nan=False)  # what runs are named by


@stable
@given(values)
def test_anything_in_place_of_the_configuration(content) -> None:
    with pytest.raises(ReconpatchError, match="configuration"):
        read_config(content)


@stable
@given(content=st.recursive(st.text(max_size=5) | st.integers() | st.booleans() | st.none(), st.lists, max_leaves=8))
def test_what_yaml_wrote_is_read_as_it_was(content, tmp_path) -> None:
    (tmp_path / "c.yaml").write_text(yaml.safe_dump({"key": content}))
    assert read_yaml(tmp_path / "c.yaml") == {"key": content}


# --- files: each reader raises an error that names the file, or returns what can be used ------------------------------

ITEMS = [
    Item("train/good/0.png", "train", 0, "good"),
    Item("validation/good/0.png", "validation", 0, "good"),
    Item("test/bad/0.png", "test", 1, "bad", (Mask("m.png", pixels=3), Mask("n.png", classes=True, saturation=2))),
]


def use_experiment(file: Path) -> None:
    experiment = read_experiment(file)
    assert isinstance(experiment, Experiment)
    try:
        rows, out = expand("e.yaml", experiment, read_config(DEFAULT), lambda *_: (64, 128))
    except ReconpatchError as error:
        assert "experiment e.yaml" in str(error)
    else:
        assert rows or out


def use_manifest(file: Path) -> None:
    """A damaged manifest is never read as another."""
    assert read_manifest(file) == (ITEMS, json.loads(manifest_json(ITEMS))["digest"])


def use_bank(file: Path) -> None:
    bank = MemoryBank.load(file)
    f = bank.representation
    patches = np.zeros((2, f.dim if f.weight is None else f.weight.shape[1]), np.float16)
    distances, weights = patch_scores(patches, bank, FaissSearch(bank.patches), min(2, len(bank.order)))
    assert distances.shape == weights.shape == (2,) and np.isfinite(weights).all()


def save_bank(file: Path, *f: np.ndarray) -> None:
    patches = np.random.default_rng(0).random((5, 3), np.float32)
    MemoryBank(patches, np.arange(5)[::-1].copy(), Representation(3, *f), 9).save(file)


READERS: dict[str, tuple[Callable[[Path], object], Callable[[Path], object]]] = {  # file: how it is written, and read
    "e.yaml": (lambda file: file.write_text(yaml.safe_dump(EXPERIMENT)), use_experiment),
    "record.json": (lambda file: write_record(file, make_record()), read_record),
    "nut.json": (lambda file: file.write_text(manifest_json(ITEMS)), use_manifest),
    "bank.safetensors": (save_bank, use_bank),
    "learnt.safetensors": (lambda file: save_bank(file, np.eye(3, 6, dtype="f"), np.ones(3, "f")), use_bank),
}


def damaged(data: st.DataObject, whole: bytes) -> bytes:
    """Bytes with a few of them changed, cut off, put in or left out."""
    content = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 4))):
        where = data.draw(st.integers(0, max(len(content) - 1, 0)))
        how = data.draw(st.sampled_from(["change", "cut", "insert", "remove"]))
        if how == "change" and content:
            content[where] = data.draw(st.integers(0, 255))
        elif how == "cut":
            del content[where:]
        elif how == "insert":
            content[where:where] = data.draw(st.binary(max_size=8))
        else:
            del content[where : where + data.draw(st.integers(1, 20))]
    return bytes(content)


def used_or_named(file: Path) -> None:
    try:
        READERS[file.name][1](file)
    except ReconpatchError as error:
        assert file.name in str(error)


MARKUP = st.text("ab{}[]:&*!<,-\"'\n\t #|>%@?~0.entrufals", max_size=40).map(str.encode)


@pytest.mark.parametrize("name", READERS)
@stable
@given(data=st.data())
def test_files_of_any_bytes_and_damaged_ones(name, data, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(ROOT)
    file = tmp_path / name
    READERS[name][0](file)
    whole = file.read_bytes()
    if data.draw(st.booleans()):
        file.write_bytes(damaged(data, whole))
    else:
        file.write_bytes(data.draw(st.binary(max_size=60) | MARKUP))
    used_or_named(file)


AXES = st.dictionaries(
    st.sampled_from(["dim", "levels", "epoch", "epochs", "coreset", "method", "seed", "backbone", "teacher_norm"]),
    st.lists(st.sampled_from(["2", 2, 2.0, True, None, [2], [2, 3], "a", "1/2", 0.5, "9" * 5000, -1, {}]), max_size=3),
    max_size=3,
)
ADDED = [("ensemble",), ("x",), ("axes", "levels"), ("set", "dim")]


@stable
@given(change=st.tuples(st.sampled_from([*paths_of(EXPERIMENT), *ADDED]), values) | st.tuples(st.just(("axes",)), AXES))
def test_experiments_with_one_value_changed(change, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(ROOT)
    content = EXPERIMENT | {"set": {}} | ({"figures": {}} if change[0] == ("axes",) else {})
    try:
        text = yaml.safe_dump(replaced(content, *change), allow_unicode=True)
        (tmp_path / "e.yaml").write_text(text, encoding="utf-8", errors="surrogatepass")
    except ValueError:  # what YAML cannot write
        assume(False)
    used_or_named(tmp_path / "e.yaml")


RECORD = make_record().model_dump()


@stable
@given(path=st.sampled_from(paths_of(RECORD)), value=values)
def test_records_with_one_value_changed(path, value, tmp_path) -> None:
    file = tmp_path / "record.json"
    try:
        file.write_text(json.dumps(replaced(RECORD, path, value)))
    except ValueError:
        assume(False)
    used_or_named(file)


# --- metrics ----------------------------------------------------------------------------------------------------------

# Scores of any float32, subnormal and largest included, few enough different ones that ties are common.
EXTREMES = np.array([0, -0.0, 1e-45, -1e-45, 1.1754944e-38, 1, 1 + 2**-23, -1, 3.4028235e38, -3.4028235e38], np.float32)
score = st.sampled_from(EXTREMES.tolist()) | st.floats(width=32, allow_nan=False, allow_infinity=False)
scored = st.lists(st.tuples(score, st.booleans()), min_size=2, max_size=25)


def ranks(scores: np.ndarray) -> np.ndarray:
    """Any strictly rising transform is this one followed by another: 0 for the lowest, equal scores equal."""
    return np.unique(scores, return_inverse=True)[1].reshape(scores.shape).astype(np.float32)


@stable
@given(scored, st.randoms(use_true_random=False))
def test_image_metrics_depend_on_order_of_scores_alone(pairs, random) -> None:
    scores, labels = np.array([s for s, _ in pairs], np.float32), np.array([int(t) for _, t in pairs])
    assume(0 < labels.sum() < len(labels))
    got = image_metrics(scores, labels)
    order = random.sample(range(len(pairs)), len(pairs))
    for other in (image_metrics(scores[order], labels[order]), image_metrics(ranks(scores), labels)):
        for name in ("image_auroc", "image_ap", "image_f1"):
            assert other[name] == got[name]
    assert got["image_f1_threshold"] in scores[labels == 1]
    assert got["image_auroc"] + image_metrics(-scores, labels)["image_auroc"] == pytest.approx(1)
    assert got["image_auroc"] == pytest.approx(roc_auc_score(labels, ranks(scores)))
    assert got["image_ap"] == pytest.approx(average_precision_score(labels, ranks(scores)))
    assert got["image_auroc"] == pytest.approx(auroc(image_wins(scores, labels), np.ones((1, len(labels))))[0])


@stable
@given(st.integers(0, 10**6), st.sampled_from([0.01, 0.1, 0.5]), st.booleans())
def test_pixel_metrics_depend_on_order_of_scores_alone(seed, share, extreme) -> None:
    rng = np.random.default_rng(seed)
    masks = rng.random((3, 6, 7)) < share
    masks[rng.integers(3), 2, 2] = True  # with a share of 0.01 a single pixel, or few
    masks[rng.integers(3), 5, 5] = False
    maps = rng.choice(EXTREMES, masks.shape) if extreme else rng.random(masks.shape).round(1).astype(np.float32)
    got = pixel_metrics(maps, masks)
    names = ("pixel_auroc", "pixel_ap", "pixel_f1", "aupro_30", "aupro_05")
    order = rng.permutation(3)
    turned = pixel_metrics(maps[:, ::-1, ::-1].copy(), masks[:, ::-1, ::-1].copy())
    for other in (pixel_metrics(maps[order], masks[order]), pixel_metrics(ranks(maps), masks), turned):
        assert [other[n] for n in names] == pytest.approx([got[n] for n in names], abs=1e-12)
    assert got["pixel_auroc"] == pytest.approx(roc_auc_score(masks.ravel(), ranks(maps).ravel()))
    assert got["pixel_ap"] == pytest.approx(average_precision_score(masks.ravel(), ranks(maps).ravel()))
    assert got["pixel_auroc"] == pytest.approx(auroc(pixel_wins(maps, masks), np.ones((1, 3)))[0], abs=1e-6)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_scores_that_are_not_finite_are_refused_everywhere(bad) -> None:
    scores, labels = np.array([0, 1, bad, 2], np.float32), np.array([0, 1, 1, 0])
    maps, masks = scores[None, None], labels.astype(bool)[None, None]
    for function, arguments in (
        *((function, (scores, labels)) for function in (image_metrics, image_wins)),
        *((function, (maps, masks)) for function in (pixel_metrics, pixel_wins)),
    ):
        with pytest.raises(ReconpatchError, match="1 anomaly scores are not finite"):
            function(*arguments)
    bank = MemoryBank(np.eye(3, dtype=np.float32), np.arange(3), Representation(3), 3)
    patches = np.array([[0, 0, 0], [0, bad, 0]], np.float32)
    for neighbours in (1, 2):
        with pytest.raises(ReconpatchError, match="not finite"):
            patch_scores(patches, bank, FaissSearch(bank.patches), neighbours)
