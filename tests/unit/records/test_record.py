import json

import pytest
from drawing import make_record
from hypothesis import given
from hypothesis import strategies as st

from reconpatch.errors import ReconpatchError
from reconpatch.files import replacing, write_text
from reconpatch.records import record as records
from reconpatch.records.record import (
    SCHEMA,
    Record,
    combined_record,
    content_digest,
    read_record,
    repeatable,
    write_record,
)

FINITE = st.floats(allow_nan=False, allow_infinity=False)
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | FINITE | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


def test_round_trip(tmp_path) -> None:
    record = make_record()
    write_record(tmp_path / "a/record.json", record)
    assert read_record(tmp_path / "a/record.json") == record
    content = json.loads((tmp_path / "a/record.json").read_text())
    stage = content["stages"]["score"]
    assert stage["packages"]["numpy"] and stage["processor"] and stage["device"] == "cpu" and stage["wall_s"] == 1
    assert content["metrics"]["aupro_30"] is None


@given(st.dictionaries(st.text(max_size=5), PLAIN, max_size=4), st.dictionaries(st.text(), FINITE, max_size=3))
def test_what_is_read_is_what_was_written_and_so_is_its_digest(tmp_path_factory, description, metrics) -> None:
    path = tmp_path_factory.mktemp("record") / "record.json"
    record = make_record(description=description, metrics=metrics)
    write_record(path, record)
    again = read_record(path)
    assert again == record and content_digest(again) == record.digest == content_digest(record)


def test_every_field_is_in_one_group_and_these_are_all() -> None:
    """The golden list of a record; what changes it changes the number of the schema."""
    groups = [records.SETTINGS, records.DATA, records.WEIGHTS, records.RESULTS, records.CONDITIONS, records.FORM]
    fields = ["dataset", "category", "run", "seed", "description", "metrics", "flags", "data", "weights", "bank"]
    fields += ["digests", "stages", "schema_version", "digest"]
    assert sorted(field for group in groups for field in group) == sorted(fields) == sorted(Record.model_fields)
    assert SCHEMA == 4


def test_what_varies_between_two_runs_of_the_same_thing_is_kept_apart() -> None:
    one, two = make_record(), make_record(stages={"score": {"wall_s": 99.0, "platform": "another"}})
    assert one.digest != two.digest and repeatable(one) == repeatable(two)
    for field in ("metrics", "digests", "bank", "data", "weights", "description"):
        assert repeatable(make_record(**{field: {"changed": "1"} if field != "metrics" else {"x": 0.1}})) != repeatable(
            one
        )


@pytest.mark.parametrize("field", ["metrics", "flags", "stages", "description", "seed", "run"])
def test_an_edited_record_no_longer_has_its_digest(field, tmp_path) -> None:
    write_record(tmp_path / "r.json", make_record(flags=["drawn"]))
    content = json.loads((tmp_path / "r.json").read_text())
    new = {"metrics": {"image_auroc": 0.51}, "flags": [], "stages": {}, "description": {}, "seed": 1, "run": "other"}
    (tmp_path / "r.json").write_text(json.dumps(content | {field: new[field]}))
    with pytest.raises(ReconpatchError, match=r"r\.json: edited or damaged .* remove its folder and run again$"):
        read_record(tmp_path / "r.json")
    edited = read_record(tmp_path / "r.json", sealed=False)
    assert edited.digest != content_digest(edited)


@pytest.mark.parametrize("version", [1, SCHEMA + 1, 10**30])
def test_a_record_of_another_schema_says_what_to_do(version, tmp_path) -> None:
    (tmp_path / "r.json").write_text(json.dumps({"schema_version": version, "run": "x"}))
    said = rf"r\.json: a record of schema {version}, this version .* reads {SCHEMA}: remove its folder or run"
    with pytest.raises(ReconpatchError, match=said):
        read_record(tmp_path / "r.json")


def hostile() -> dict[str, str]:
    """What cannot be a record, by what is wrong with it."""
    good = make_record().model_dump()
    return {
        "nesting": json.dumps(good).replace(
            '"description": {', '"description": {"x": ' + "[" * 5000 + "]" * 5000 + ","
        ),
        "deep": "[" * 10**6,
        "nan": json.dumps(good | {"metrics": {"image_auroc": float("nan")}}),
        "infinite": json.dumps(good).replace('"image_auroc": 0.5', '"image_auroc": 1e999'),
        "infinite setting": json.dumps(good).replace('"method": "reconpatch"', '"blur": 1e999'),
        "huge": json.dumps(good).replace('"seed": 0', '"seed": ' + "9" * 5000),
        "text for a number": json.dumps(good | {"metrics": {"image_auroc": "0.5"}}),
        "a list": json.dumps([good]),
        "number for a name": json.dumps(good | {"run": 7}),
        "text for a list": json.dumps(good | {"flags": "none"}),
        "no digest": json.dumps({k: v for k, v in good.items() if k != "digest"}),
        "empty digest": json.dumps(good | {"digest": ""}),
        "truncated": json.dumps(good)[:-40],
        "empty": "",
        "bytes": "\x00\x01",
        "version": json.dumps(good | {"schema_version": "2"}),
    }


@pytest.mark.parametrize("kind", hostile())
def test_hostile_files_are_refused_by_name_in_few_words(kind, tmp_path) -> None:
    (tmp_path / "r.json").write_text(hostile()[kind])
    with pytest.raises(ReconpatchError, match=r"r\.json: not a record \(") as said:
        read_record(tmp_path / "r.json")
    assert len(str(said.value)) < 600 and "\n" not in str(said.value)


def test_a_file_too_large_is_not_even_read(tmp_path) -> None:
    with open(tmp_path / "r.json", "wb") as file:
        file.truncate(2**40)  # a hole: takes no disk
    with pytest.raises(ReconpatchError, match="1099511627776 bytes, a record has less"):
        read_record(tmp_path / "r.json")


def member(n: int, **changes) -> Record:
    """Record of a member of an ensemble, filled as the stages fill it."""
    shared = {"method": "reconpatch", "dim": 384, "levels": [2, 3]}
    fields = {
        "run": f"r{n}",
        "description": shared | {"backbone": f"net{n}", "weights": "file" if n else "pretrained"},
        "weights": {"source": f"file w{n}", "sha256": str(n) * 64},
        "bank": {"patches": 10 + n, "of": 100 * (n + 1), "grid": [28, 28]},
        "flags": [f"flag {n}", "shared flag"],
        "data": {"layout": "mvtec_ad", "manifest": "m", "train": 4},
        "digests": {"bank": f"b{n}", "scores": f"s{n}"},
    }
    return make_record(**(fields | changes))


def test_the_record_of_an_ensemble_holds_its_members(tmp_path) -> None:
    members = [member(0), member(1), member(2)]
    record = combined_record("e-1", "zscore", members, {"image_auroc": 0.75}, {"wall_s": 2.0}, {"scores": "s"})
    write_record(tmp_path / "r.json", record)
    record = read_record(tmp_path / "r.json")
    assert (record.dataset, record.category, record.run, record.seed) == ("mine", "nut", "e-1", 0)
    assert record.metrics == {"image_auroc": 0.75}  # its own, no mean of the members'
    assert record.description == {
        **{"method": "reconpatch", "dim": 384, "levels": [2, 3], "backbone": "net0 + net1 + net2"},
        **{"combine": "zscore", "members": [m.description | {"run": m.run} for m in members]},
    }
    assert [str(flag) for flag in record.flags] == ["flag 0", "flag 1", "flag 2", "shared flag"]
    assert record.data == members[0].data
    assert record.weights == {
        "source": "file w0 + file w1 + file w2",
        "sha256": " + ".join(str(n) * 64 for n in range(3)),
    }
    assert (record.bank["patches"], record.bank["of"]) == (10 + 11 + 12, 100 + 200 + 300)
    own = {"scores": "s", "0 bank": "b0", "0 scores": "s0", "1 bank": "b1", "1 scores": "s1"}
    assert record.digests == own | {"2 bank": "b2", "2 scores": "s2"}
    assert record.stages["ensemble"] == {"wall_s": 2.0}
    assert set(record.stages) == {"ensemble", "0 score", "1 score", "2 score"}
    assert record.stages["1 score"] == members[1].stages["score"]


def test_what_the_members_share_is_said_once() -> None:
    twice = [member(0), member(1, description=member(0).description, weights=member(0).weights)]
    record = combined_record("e", "minmax", twice, {}, {}, {})
    assert record.description["weights"] == "pretrained"
    assert record.weights["source"] == "file w0"
    only_one = member(1, description=member(1).description | {"epoch": 40})
    assert "epoch" not in combined_record("e", "minmax", [only_one, member(0)], {}, {}, {}).description
    assert "epoch" not in combined_record("e", "minmax", [member(0), only_one], {}, {}, {}).description


def test_another_file_is_no_record(tmp_path) -> None:
    for content in ("{}", "not json", json.dumps(make_record().model_dump() | {"surplus": 1})):
        (tmp_path / "r.json").write_text(content)
        with pytest.raises(ReconpatchError, match=r"r\.json: not a record"):
            read_record(tmp_path / "r.json")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_not_a_number_cannot_be_recorded(value) -> None:
    with pytest.raises(ValueError, match="finite number"):
        make_record(metrics={"image_auroc": value})
    with pytest.raises(ValueError, match="not JSON compliant"):
        make_record(description={"blur": [value]})


def test_failed_write_leaves_the_old_file_and_no_other(tmp_path) -> None:
    target = tmp_path / "x.json"
    write_text(target, "old")
    with pytest.raises(RuntimeError), replacing(target) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert target.read_text() == "old" and list(tmp_path.iterdir()) == [target]
