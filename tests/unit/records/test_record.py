import json

import pytest
from drawing import make_record, make_stage
from hypothesis import given
from hypothesis import strategies as st

from reconpatch.errors import ReconpatchError
from reconpatch.records.record import (
    CODE,
    LARGEST,
    MACHINE,
    PACKAGES,
    SCHEMA,
    USAGE,
    StageFacts,
    StageFile,
    combined_record,
    content_digest,
    read_record,
    read_stage,
    repeatable,
    write_record,
    write_stage,
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


def test_what_a_stage_says_of_itself_is_read_back(tmp_path) -> None:
    facts = StageFile(stage=make_stage(), digests={"train_features": "x"}, epochs=[{"epoch": 1, "loss": 0.5}])
    write_stage(tmp_path / "training.json", facts)
    assert read_stage(tmp_path / "training.json") == facts
    (tmp_path / "training.json").write_text('{"stage": {"code": "x"}}')
    with pytest.raises(ReconpatchError) as error:
        read_stage(tmp_path / "training.json")
    assert "training.json" in error.value.where


def test_every_fact_of_a_stage_is_in_one_group_of_a_comparison() -> None:
    assert sorted([*CODE, *PACKAGES, *MACHINE, *USAGE, "folder"]) == sorted(StageFacts.model_fields)


def test_what_varies_between_two_runs_of_the_same_thing_is_kept_apart() -> None:
    other = {"score": make_stage(wall_s=99.0, platform="another")}
    one, two = make_record(), make_record(stages=other, training_features=make_stage())
    assert one.digest != two.digest and repeatable(one) == repeatable(two)
    members = [make_record(members=[record]) for record in (one, two)]
    assert members[0].digest != members[1].digest and repeatable(members[0]) == repeatable(members[1])
    for changes in (
        {"metrics": {"x": 0.1}},
        {"digests": {"f": "x"}},
        {"bank": {"of": 1}},
        {"weights": {"sha256": "1"}},
    ):
        assert repeatable(make_record(**changes)) != repeatable(one)


@pytest.mark.parametrize(
    "changes",
    [{"metrics": {"image_auroc": 0.51}}, {"flags": []}, {"stages": {}}, {"seed": 1}, {"run": "other"}, {"members": []}],
)
def test_an_edited_record_breaks_its_seal(changes, tmp_path) -> None:
    write_record(tmp_path / "r.json", make_record(flags=["drawn"], members=[make_record()]))
    content = json.loads((tmp_path / "r.json").read_text())
    (tmp_path / "r.json").write_text(json.dumps(content | changes))
    with pytest.raises(ReconpatchError, match="edited or damaged"):
        read_record(tmp_path / "r.json")
    edited = read_record(tmp_path / "r.json", sealed=False)
    assert edited.digest != content_digest(edited)


@pytest.mark.parametrize("version", [1, 3, SCHEMA + 1])
def test_a_record_of_another_schema_says_what_to_do(version, tmp_path) -> None:
    (tmp_path / "r.json").write_text(json.dumps({"schema_version": version, "run": "x"}))
    with pytest.raises(ReconpatchError) as error:
        read_record(tmp_path / "r.json")
    assert "r.json" in error.value.where and f"schema {version}" in error.value.what
    assert ("newer" if version > SCHEMA else "--configfile") in error.value.fix


def hostile() -> dict[str, str]:
    """What cannot be a record, by what is wrong with it."""
    good = make_record().model_dump()
    text = json.dumps(good)
    return {
        "nesting": text.replace('"description": {', '"description": {"x": ' + "[" * 5000 + "]" * 5000 + ","),
        "deep": "[" * 10**6,
        "nan": json.dumps(good | {"metrics": {"image_auroc": float("nan")}}),
        "infinite": text.replace('"image_auroc": 0.5', '"image_auroc": 1e999'),
        "infinite setting": text.replace('"method": "reconpatch"', '"blur": 1e999'),
        "huge": text.replace('"seed": 0', '"seed": ' + "9" * 5000),
        "text for a number": json.dumps(good | {"metrics": {"image_auroc": "0.5"}}),
        "a list": json.dumps([good]),
        "number for a name": json.dumps(good | {"run": 7}),
        "surplus": json.dumps(good | {"surplus": 1}),
        "surplus in a stage": text.replace('"threads"', '"surplus": 1, "threads"'),
        "no digest": json.dumps({k: v for k, v in good.items() if k != "digest"}),
        "empty digest": json.dumps(good | {"digest": ""}),
        "truncated": text[:-40],
        "empty": "",
        "bytes": "\x00\x01",
        "version": json.dumps(good | {"schema_version": "2"}),
    }


@pytest.mark.parametrize("problem", hostile())
def test_hostile_files_are_refused_by_name_in_few_words(problem, tmp_path) -> None:
    (tmp_path / "r.json").write_text(hostile()[problem])
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
            run=f"r{n}",
            description=shared | {"backbone": f"net{n}"} | ({"epoch": 40} if n else {}),
            weights={"source": f"file w{n}", "sha256": str(n) * 64},
            bank={"patches": 10 + n, "of": 100},
            flags=[f"flag {n}", "shared flag"],
            digests={"scores": f"s{n}"},
        )
        for n in (0, 1)
    ]
    record = combined_record(
        "e", "zscore", members, {"image_auroc": 0.7}, "m", {"scores": "s"}, make_stage(), ["a", "b"]
    )
    write_record(tmp_path / "r.json", record)
    record = read_record(tmp_path / "r.json")
    assert record.metrics == {"image_auroc": 0.7} and record.combine == "zscore"  # its own, no mean of the members'
    assert record.description == shared | {"backbone": "net0 + net1"}  # the epoch is not shared
    assert [str(flag) for flag in record.flags] == ["flag 0", "flag 1", "shared flag"]
    assert record.weights.source == "file w0 + file w1" and (record.bank.patches, record.bank.of) == (21, 200)
    assert [member.run for member in record.members] == ["r0", "r1"]
    assert record.members[1].description == members[1].description
    assert record.members[1].digests == {"scores": "s1", "training_scores": "b"}
    paths = [path for path, _, _ in record.all_stages()]
    assert paths == ["ensemble", "members[0].score", "members[1].score"]
