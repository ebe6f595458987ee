import copy
import json
import subprocess
from typing import Any

import pytest
from drawing import make_record, make_stage
from hypothesis import given, settings
from hypothesis import strategies as st

from reconpatch.records import compare as comparison
from reconpatch.records.compare import ABSENT, changed_modules, compare, explain
from reconpatch.records.record import Record, combined_record, write_record

SAME = "identical: settings, data, weights, code, packages, machine and results"
SAME_RESULTS = "identical results: every metric and every intermediate result is the same"
FINITE = st.floats(allow_nan=False, allow_infinity=False)
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | FINITE | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)
FACTS: dict[str, Any] = {"code": "c0", "commit": "a" * 40, "changed": False, "packages": {"numpy": "2.0"}, "cores": 2}
FACTS |= {"numerics": {"pools": [], "torch": {"deterministic": False}}}
DESCRIPTION = {"method": "reconpatch", "backbone": "net", "epochs": 10, "levels": [2, 3]}
FEATURES = ("train_features", "test_features", "validation_features")
DIGESTS = {name: name * 2 for name in ("masks", "defects", *FEATURES, "f", "bank", "scores")}


def record(score: dict[str, Any] | None = None, **changes: Any) -> Record:
    """A record, some fields or facts of its scoring changed."""
    stages = dict.fromkeys(("features", "training", "bank"), FACTS) | {"score": FACTS | (score or {})}
    fields = {"description": DESCRIPTION, "digests": DIGESTS, "stages": stages, "flags": ["drawn"]}
    return make_record(**(fields | changes))


def unknown(stage: str, a: str, b: str) -> None:
    """Stands for a repository that does not know the commits."""


COMMITS = "commit aaaaaaaaaa | aaaaaaaaaa"
CHANGES: list[tuple[dict[str, Any], str]] = [
    ({"description": DESCRIPTION | {"levels": [2]}}, "settings: description.levels: [2, 3] | [2]"),
    ({"description": DESCRIPTION | {"blur": 4.0}}, f"settings: description.blur: {ABSENT} | 4.0"),
    ({"data": {"manifest": "n"}}, "data: data.manifest: m | n"),
    ({"flags": []}, "data: flag only in the first: drawn"),
    ({"weights": {"sha256": "1" * 64}}, "weights: weights.sha256: 000000000000 | 111111111111"),
    ({"score": {"code": "c1"}}, f"code: score: c0 | c1; {COMMITS}, which git does not know both"),
    ({"score": {"changed": True}}, f"code: score: {COMMITS} with uncommitted changes, but the same code"),
    ({"score": {"packages": {"numpy": "2.1"}}}, "packages: packages.numpy: 2.0 | 2.1 (score)"),
    ({"score": {"cores": 4}}, "machine: cores: 2 | 4 (score)"),
    ({"score": {"device": "cuda: a GPU"}}, "machine: device: cpu | cuda: a GPU (score)"),
]


@pytest.mark.parametrize(("changes", "line"), CHANGES, ids=[line[:50] for _, line in CHANGES])
def test_one_change_is_named_in_its_group_and_results_stay_identical(changes, line) -> None:
    first, last = compare(record(), record(**changes), unknown)
    assert first.startswith(line) and last == SAME_RESULTS


SETTINGS = st.dictionaries(st.text(max_size=4), PLAIN, max_size=3)


@settings(max_examples=30)
@given(SETTINGS, SETTINGS)
def test_whatever_differs_is_found_from_both_sides(a, b) -> None:
    first, second = make_record(description=a), make_record(description=b)
    one, two = compare(first, second), compare(second, first)
    assert len(one) == len(two) and compare(first, copy.deepcopy(first)) == [SAME]
    assert (one == [SAME]) == (json.dumps(a, sort_keys=True) == json.dumps(b, sort_keys=True))


def test_where_two_runs_part() -> None:
    changed = {"train_features", "bank", "scores"}
    other = record(digests={name: "x" if name in changed else value for name, value in DIGESTS.items()})
    line, verdict = compare(record(), other)
    assert verdict == "same metrics, from intermediate results that differ"
    assert line == (
        "intermediate: the runs part at train_features; the same before: masks, defects; also differ: bank, scores; "
        "the same after: test_features, validation_features, f"
    )


def test_metrics_come_with_their_difference() -> None:
    both = record().metrics | {"image_auroc": 0.51, "aupro_30": 0.5, "new": 0.5}
    kinds = [{"logical": {"image_auroc": value}} for value in (0.75, 0.5)]
    lines = compare(record(kinds=kinds[0]), record(metrics=both, kinds=kinds[1]))
    assert "metrics: kinds.logical.image_auroc: 0.75 | 0.5 (-0.25)" in lines
    assert [line for line in lines if "0.51" in line] == ["metrics: image_auroc: 0.5 | 0.51 (+0.01)"]
    assert f"metrics: new: {ABSENT} | 0.5" in lines and "metrics: aupro_30: undefined | 0.5" in lines
    assert lines[-1] == f"metrics differ: 4 of {len(both) + 1}"
    assert compare(record(), record(kinds=kinds[0]))[-1].startswith("metrics differ: 1 of ")


def test_why_code_differs_is_said_once_for_all_stages() -> None:
    stages = {stage: FACTS | {"code": "c1", "cores": 4} for stage in ("features", "score")}
    one = record(stages=dict.fromkeys(stages, FACTS))
    code, machine, _ = compare(one, record(stages=stages), lambda stage, a, b: ["maps", "score.py"])
    assert code.startswith("code: features, score: c0 | c1; commit ") and code.endswith(": maps, score.py")
    assert machine == "machine: cores: 2 | 4 (features, score)"


def test_members_of_ensembles_are_compared_too() -> None:
    def ensemble(*members: Record) -> Record:
        digests = {"masks": "m", "defects": "d", "scores": "s"}
        return combined_record("e", "zscore", members, {}, {}, "m", digests, make_stage())

    changes = {"description": DESCRIPTION | {"epochs": 11}, "digests": DIGESTS | {"f": "x", "scores": "y"}}
    one = ensemble(record(), record())
    lines = compare(one, ensemble(record(), record(score={"cores": 4}, **changes)))
    assert "settings: members[1].description.epochs: 10 | 11" in lines
    assert "machine: cores: 2 | 4 (members[1].score)" in lines
    (parting,) = [line for line in lines if "part at" in line]
    assert parting.startswith("intermediate: the runs part at members[1].f; the same before: members[0].masks, ")
    assert "also differ: members[1].scores; the same after: members[1].bank, masks, defects, scores" in parting
    assert "settings: members: 2 | 1" in compare(one, ensemble(record()))


def test_records_and_folders_of_runs_are_read_and_edited_ones_named(tmp_path) -> None:
    write_record(tmp_path / "a/record.json", record())
    write_record(tmp_path / "b/record.json", record(metrics={"image_auroc": 0.4}))
    assert explain(tmp_path / "a", tmp_path / "a/record.json") == ([SAME], True)
    assert explain(tmp_path / "a", tmp_path / "b")[1] is False
    write_record(tmp_path / "c/record.json", record(kinds={"logical": {"image_auroc": 0.4}}))
    assert explain(tmp_path / "a", tmp_path / "c")[1] is False
    content = json.loads((tmp_path / "a/record.json").read_text()) | {"seed": 5}
    (tmp_path / "b/record.json").write_text(json.dumps(content))
    edited, *lines = explain(tmp_path / "a", tmp_path / "b")[0]
    assert edited.startswith(f"edited: {tmp_path / 'b'}, after") and lines == ["settings: seed: 0 | 5", SAME_RESULTS]


@pytest.fixture
def repository(tmp_path, monkeypatch) -> tuple[str, str]:
    """Two commits of a small package: `near`, which the script uses, changes in logic, `far` only in prose."""

    def git(*arguments: str) -> str:
        own = ["-c", "user.name=n", "-c", "user.email=e", "-c", "commit.gpgsign=false"]
        done = subprocess.run(["git", *own, *arguments], cwd=tmp_path, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    files = {
        "workflow/scripts/score.py": "from reconpatch.room.near import f\n\nf()\n",
        "reconpatch/room/near.py": "def f():\n    from reconpatch.far import g\n    return g()\n",
        "reconpatch/far.py": "def g():\n    return 1\n",
        "reconpatch/other.py": "x = 1\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    git("init", "--quiet")
    git("add", ".")
    git("commit", "--quiet", "--message", "one")
    first = git("rev-parse", "HEAD")
    near = tmp_path / "reconpatch/room/near.py"
    near.write_text(near.read_text().replace("g()\n", "g() + 1\n"))
    (tmp_path / "reconpatch/far.py").write_text(files["reconpatch/far.py"] + "# a remark\n")
    (tmp_path / "reconpatch/other.py").write_text("x = 2\n")
    git("commit", "--quiet", "--all", "--message", "two")
    monkeypatch.setattr(comparison, "PACKAGE_FOLDER", tmp_path / "reconpatch")
    return first, git("rev-parse", "HEAD")


def test_modules_that_changed_between_two_commits(repository) -> None:
    first, second = repository
    assert changed_modules("score", first, second) == ["room.near"]
    assert changed_modules("score", first, first) == []
    assert changed_modules("score", first, "0" * 40) is None
    for stage, commit in (("score", "--output=x"), ("../score", second), ("score", "None")):
        assert changed_modules(stage, first, commit) is None
