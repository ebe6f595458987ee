import json

import pytest
from drawing import make_record, make_stage
from hypothesis import given
from hypothesis import strategies as st

from reconpatch.errors import ReconpatchError
from reconpatch.records.record import (
    LARGEST,
    SCHEMA,
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


@given(st.dictionaries(st.text(max_size=5), PLAIN, max_size=4), st.dictionaries(st.text(), FINITE, max_size=3))
def test_what_is_read_is_what_was_written_and_so_is_its_digest(tmp_path_factory, description, metrics) -> None:
    path = tmp_path_factory.mktemp("record") / "record.json"
    record = make_record(description=description, metrics=metrics, training_features=make_stage())
    write_record(path, record)
    again = read_record(path)
    assert again == record and content_digest(again) == record.digest == content_digest(record)


def test_what_varies_between_two_runs_of_the_same_thing_is_kept_apart() -> None:
    other = {"score": make_stage(wall_s=99.0, platform="another")}
    one, two = make_record(), make_record(stages=other, training_features=make_stage())
    assert one.digest != two.digest and repeatable(one) == repeatable(two)
    members = [make_record(members=[record]) for record in (one, two)]
    assert members[0].digest != members[1].digest and repeatable(members[0]) == repeatable(members[1])
    for changes in (
        {"metrics": {"x": 0.1}},
        {"kinds": {"x": {"image_auroc": 0.1}}},
        {"data": {"validation": 1}},
        {"digests": {"f": "x"}},
        {"bank": {"of": 1}},
        {"weights": {"sha256": "1"}},
    ):
        assert repeatable(make_record(**changes)) != repeatable(one)


@pytest.mark.parametrize(
    "changes",
    [
        *({"metrics": {"image_auroc": 0.51}}, {"kinds": {}}, {"flags": []}, {"stages": {}}),
        *({"seed": 1}, {"run": "other"}, {"members": []}),
    ],
)
def test_an_edited_record_breaks_its_seal(changes, tmp_path) -> None:
    full = make_record(kinds={"logical": {"image_auroc": 0.5}}, flags=["drawn"], members=[make_record()])
    write_record(tmp_path / "r.json", full)
    content = json.loads((tmp_path / "r.json").read_text())
    (tmp_path / "r.json").write_text(json.dumps(content | changes))
    with pytest.raises(ReconpatchError, match="edited or damaged"):
        read_record(tmp_path / "r.json")
    edited = read_record(tmp_path / "r.json", sealed=False)
    assert edited.digest != content_digest(edited)


@pytest.mark.parametrize("version", [1, SCHEMA - 1, SCHEMA + 1])
def test_a_record_of_another_schema_says_what_to_do(version, tmp_path) -> None:
    (tmp_path / "r.json").write_text(json.dumps({"schema_version": version, "run": "x"}))
    with pytest.raises(ReconpatchError) as error:
        read_record(tmp_path / "r.json")
    assert "r.json" in error.value.where and f"schema {version}" in error.value.what
    assert ("newer" if version > SCHEMA else "--configfile") in error.value.fix


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace('"description": {', '"description": {"x": ' + "[" * 5000 + "]" * 5000 + ","),
        lambda text: text.replace('"image_auroc": 0.5', '"image_auroc": 1e999'),
        lambda text: text.replace('"seed": 0', '"seed": ' + "9" * 5000),
        lambda text: text.replace('"threads"', '"surplus": 1, "threads"'),
        lambda text: text.replace('"digest": "', '"digests": "'),
        lambda text: "\0" + text,
    ],
)
def test_hostile_files_are_refused_by_name_in_few_words(change, tmp_path) -> None:
    (tmp_path / "r.json").write_text(change(make_record().model_dump_json().replace('":', '": ')))
    with pytest.raises(ReconpatchError, match="not a record") as error:
        read_record(tmp_path / "r.json")
    assert "r.json" in error.value.where and len(str(error.value)) < 600 and "\n" not in str(error.value)


def test_a_file_too_large_is_not_even_read(tmp_path) -> None:
    with open(tmp_path / "r.json", "wb") as file:
        file.truncate(2**40)  # a hole: takes no disk
    with pytest.raises(ReconpatchError, match=str(LARGEST)):
        read_record(tmp_path / "r.json")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_not_a_number_cannot_be_recorded(value) -> None:
    with pytest.raises(ValueError, match="finite number"):
        make_record(metrics={"image_auroc": value})
    with pytest.raises(ValueError, match="not JSON compliant"):
        make_record(description={"blur": [value]})


def test_the_record_of_an_ensemble_holds_its_members(tmp_path) -> None:
    shared = {"method": "reconpatch", "dim": 384}
    members = [
        make_record(
            **{"run": f"r{n}", "description": shared | {"backbone": f"net{n}"} | ({"epoch": 40} if n else {})},
            **{"bank": {"patches": 10 + n, "of": 100}, "flags": [f"flag {n}", "shared flag"]},
        )
        for n in (0, 1)
    ]
    kinds = {"logical": {"image_auroc": 0.6}}
    given = {"image_auroc": 0.7}, kinds, "m", {"scores": "s"}, make_stage(), ["a", "b"]
    write_record(tmp_path / "r.json", combined_record("e", "zscore", members, *given))
    record = read_record(tmp_path / "r.json")
    assert record.metrics == {"image_auroc": 0.7} and record.combine == "zscore"  # its own, no mean of the members'
    assert record.kinds == kinds
    assert record.description == shared | {"backbone": "net0 + net1"}  # the epoch is not shared
    assert [str(flag) for flag in record.flags] == ["flag 0", "flag 1", "shared flag"]
    assert (record.bank.patches, record.bank.of) == (21, 200)
    assert [(m.run, m.description, m.digests["training_scores"]) for m in record.members] == [
        (member.run, member.description, own) for member, own in zip(members, "ab", strict=True)
    ]
    assert [path for path, _, _ in record.all_stages()] == ["ensemble", "members[0].score", "members[1].score"]
