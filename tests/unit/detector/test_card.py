import json
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconpatch.detector.card import BANK, CARD, IMAGES, NETWORK, SCHEMA, Card, digest_of, read_card
from reconpatch.errors import ReconpatchError
from reconpatch.experiments.run import BASELINE

FILES = {NETWORK: b"weights", BANK: b"bank", IMAGES: b"image,sha256,width,height,use\n"}


def content(**changes) -> dict:
    """What a card holds, by hand."""
    told = {
        "schema_version": SCHEMA,
        "run": BASELINE.model_dump(mode="json"),
        "aspect": "crop",
        "false_alarm_rate": 0.05,
        "scores": [1.0, 2.5],
        "peaks": [0.5, 0.75],
        "level": 0.1,
        "images": {"fitted": 8, "held out": 2, "different": 10},
        "seen": 0.9,
        "bank": {"patches": 3, "of": 300},
        "weights": {"source": "random", "sha256": "ab"},
        "training": [{"epoch": 1.0, "loss": 2.0}],
        "files": {name: sha256(data).hexdigest() for name, data in FILES.items()},
        "made": {"device": "cpu", "threads": 2},
    }
    return told | changes


def sealed(told: dict) -> dict:
    """With both digests, as anyone who can write could make them."""
    card = Card.model_validate(told)
    plain = card.model_dump(mode="json")

    def seal(*without: str) -> str:
        left = {key: value for key, value in plain.items() if key not in {*without, "digest"}}
        return sha256(json.dumps(left, sort_keys=True).encode()).hexdigest()

    plain["identity"] = seal("made", "identity")
    plain["digest"] = seal()
    return plain


@pytest.fixture
def folder(tmp_path):
    for name, data in FILES.items():
        (tmp_path / name).write_bytes(data)
    (tmp_path / CARD).write_text(json.dumps(sealed(content())))
    return tmp_path


def test_digests_are_of_canonical_json(folder) -> None:
    """Against hashlib and json, and they are what `read_card` compares."""
    card = read_card(folder)
    assert card.model_dump(mode="json") == sealed(content())
    assert card.digest == digest_of(card) and card.identity == digest_of(card, "made", "identity")


@given(st.sampled_from(sorted(content())), st.integers(0, 5))
def test_identity_depends_on_all_but_how_it_was_made(key, by) -> None:
    changes = {
        "run": BASELINE.model_dump(mode="json") | {"seed": by},
        "aspect": ["crop", "stretch", "pad"][by % 3],
        "schema_version": SCHEMA,
        "images": {"fitted": 8 + by, "held out": 2, "different": 10},
        "bank": {"patches": 3 + by, "of": 300},
        "weights": {"source": "random", "sha256": f"ab{by or ''}"},
        "training": [{"epoch": 1.0, "loss": 2.0 + by}],
        "files": content()["files"] | {BANK: f"{by}" if by else content()["files"][BANK]},
        "made": {"device": "cpu", "threads": 2 + by},
        **{name: [1.0 + by, 2.5] for name in ("scores",)},
        "peaks": [0.5 + by, 0.75],
        **{name: content()[name] + by for name in ("false_alarm_rate", "level", "seen")},
    }
    before, after = sealed(content()), sealed(content(**{key: changes[key]}))
    changed = before != after
    assert (before["digest"] != after["digest"]) == changed
    assert (before["identity"] != after["identity"]) == (changed and key != "made")


def test_of_all_that_is_said_only_made_names_the_device(folder) -> None:
    told = read_card(folder).model_dump(mode="json")
    del told["made"]
    assert "device" not in json.dumps(told) and "cpu" not in json.dumps(told)


@pytest.mark.parametrize("name", [CARD, *FILES])
def test_a_missing_file_is_named(name, folder) -> None:
    (folder / name).unlink()
    with pytest.raises(ReconpatchError, match=f"{'no model, it has no model.json' if name == CARD else name}"):
        read_card(folder)


@pytest.mark.parametrize("name", list(FILES))
def test_a_file_that_grew_or_shrank_is_named(name, folder) -> None:
    for data in (FILES[name] + b"\0", FILES[name][:-1], b""):
        (folder / name).write_bytes(data)
        with pytest.raises(ReconpatchError, match=f"{name}: edited or damaged"):
            read_card(folder)


HOSTILE = {
    "empty": b"",
    "no JSON": b"hello",
    "a list": b"[]",
    "a number": b"1",
    "null": b"null",
    "no UTF-8": b'{"a": "\xff"}',
    "nested 100,000 deep": b"[" * 100_000,
    "nested and closed": b'{"made": ' * 5000 + b"1" + b"}" * 5000,
    "20 MB": b'{"made": "' + b"x" * 20_000_000 + b'"}',
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_what_is_no_card_is_refused(kind, folder) -> None:
    (folder / CARD).write_bytes(HOSTILE[kind])
    with pytest.raises(ReconpatchError, match=r"model\.json: not the card of a model") as error:
        read_card(folder)
    assert len(str(error.value)) < 1000


VALUES = {
    "NaN": "NaN",
    "infinity": "Infinity",
    "a number too large for a float": "1e999",
    "a number of 5,000 digits": "1" * 5000,
    "a surrogate": '"\\ud800"',
    "a NUL": '"\\u0000"',
    "a list 300 deep": "[" * 300 + "]" * 300,
}


@pytest.mark.parametrize("kind", VALUES)
@pytest.mark.parametrize("key", ["made", "scores", "level", "run", "schema_version", "identity"])
def test_odd_values_are_refused_wherever_they_are(kind, key, folder) -> None:
    told = sealed(content())
    told[key] = {"x": "HERE"} if key == "made" else ["HERE", 1.0] if key == "scores" else "HERE"
    (folder / CARD).write_text(json.dumps(told).replace('"HERE"', VALUES[kind]))
    with pytest.raises(ReconpatchError, match=r"model\.json"):
        read_card(folder)


WRONG = {
    "an unknown key": {"more": 1},
    "no images": {"images": {}},
    "other counts": {"images": {"fitted": 1, "held out": 1, "different": 1, "more": 1}},
    "no digest of weights": {"weights": {"source": "random"}},
    "no bank": {"bank": {"patches": 1}},
    "other files": {"files": {"../../etc/passwd": "ab"}},
    "a file more": {"files": content()["files"] | {"../x": "ab"}},
    "more scores than peaks": {"scores": [1.0, 2.0, 3.0]},
    "another aspect": {"aspect": "squash"},
    "a run that cannot be": {"run": BASELINE.model_dump(mode="json") | {"crop": 512}},
    "a run with a key more": {"run": BASELINE.model_dump(mode="json") | {"more": 1}},
    "a run without a key": {"run": {k: v for k, v in BASELINE.model_dump(mode="json").items() if k != "dim"}},
    "text as score": {"scores": ["high", 1.0]},
}


@pytest.mark.parametrize("kind", WRONG)
def test_cards_of_another_shape_are_refused(kind, folder) -> None:
    (folder / CARD).write_text(json.dumps(sealed(content()) | WRONG[kind]))
    with pytest.raises(ReconpatchError, match=r"model\.json: not the card of a model \((?!\W)"):
        read_card(folder)


@pytest.mark.parametrize("version", [0, 2, 99, -1])
def test_another_schema_is_said_before_anything_else(version, folder) -> None:
    (folder / CARD).write_text(json.dumps({"schema_version": version, "of": "the future"}))
    with pytest.raises(
        ReconpatchError, match=f"a model of schema {version}, this version of reconpatch reads {SCHEMA}"
    ):
        read_card(folder)


def test_an_edit_without_a_new_digest_is_refused(folder) -> None:
    for key, value in {
        "false_alarm_rate": 0.5,
        "scores": [1.0, 2.6],
        "made": {},
        "identity": "0",
        "digest": "0",
    }.items():
        (folder / CARD).write_text(json.dumps(sealed(content()) | {key: value}))
        with pytest.raises(ReconpatchError, match="edited or damaged"):
            read_card(folder)


def test_identity_must_fit_even_where_the_digest_does(folder) -> None:
    told = sealed(content())
    told["identity"] = "0" * 64
    left = {key: value for key, value in told.items() if key != "digest"}
    told["digest"] = sha256(json.dumps(left, sort_keys=True).encode()).hexdigest()
    (folder / CARD).write_text(json.dumps(told))
    with pytest.raises(ReconpatchError, match="edited or damaged"):
        read_card(folder)
