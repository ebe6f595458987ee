import copy
import json
import subprocess

import pytest
from drawing import make_record, make_stage
from hypothesis import given
from hypothesis import strategies as st

from reconpatch.errors import ReconpatchError
from reconpatch.records import compare as differences
from reconpatch.records.compare import ABSENT, changed_modules, compare, explain, flat, short
from reconpatch.records.record import Record, combined_record, write_record

SAME = "identical: settings, data, weights, code, packages, machine and results"
SAME_RESULTS = "identical results: every metric and every intermediate result is the same"
FINITE = st.floats(allow_nan=False, allow_infinity=False)
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | FINITE | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)
FACTS = {"code": "c0", "commit": "a" * 40, "changed": False, "packages": {"numpy": "2.0", "torch": "2.9"}}
FACTS |= {"python": "3.11.7", "platform": "Linux", "processor": "a processor", "cores": 2, "threads": 1}
FACTS |= {"device": "cpu", "driver": None, "numerics": {"torch": {"deterministic": False}, "pools": ["openblas 1"]}}
FACTS |= {"wall_s": 1.0, "start_s": 0.1, "cpu_s": 1.0, "peak_mb": 10.0}
DIGESTS = {name: name * 2 for name in ("masks", "train_features", "test_features", "f", "bank", "scores")}


def record(**changes) -> Record:
    fields = {
        "description": {"method": "reconpatch", "backbone": "net", "epochs": 10, "levels": [2, 3]},
        "metrics": {"image_auroc": 0.84, "pixel_auroc": 0.92, "aupro_30": None},
        "flags": ["drawn"],
        "data": {"layout": "folder", "manifest": "m", "train": 4},
        "weights": {"source": "file w", "sha256": "0" * 64},
        "bank": {"patches": 10, "of": 100, "grid": [6, 6]},
        "digests": DIGESTS,
        "stages": {stage: copy.deepcopy(FACTS) for stage in ("features", "training", "bank", "score")},
    }
    return make_record(**(fields | changes))


def unknown(stage: str, a: str, b: str) -> list[str] | None:
    """Stands for a repository that does not know the commits."""
    return None


def fact(**changes) -> dict:
    """Stages of which one fact differs in `score`."""
    stages = record().stages
    return stages | {"score": stages["score"].model_dump() | changes}


CHANGES = [
    ({"dataset": "other"}, "settings: dataset: mine | other"),
    ({"category": "bolt"}, "settings: category: nut | bolt"),
    ({"run": "base-2"}, "settings: run: base-1 | base-2"),
    ({"seed": 1}, "settings: seed: 0 | 1"),
    ({"description": record().description | {"epochs": 11}}, "settings: description.epochs: 10 | 11"),
    ({"description": record().description | {"levels": [2]}}, "settings: description.levels: [2, 3] | [2]"),
    ({"description": record().description | {"blur": 4.0}}, f"settings: description.blur: {ABSENT} | 4.0"),
    ({"data": record().data.model_dump() | {"manifest": "n"}}, "data: data.manifest: m | n"),
    ({"data": record().data.model_dump() | {"train": 5}}, "data: data.train: 4 | 5"),
    ({"flags": []}, "data: flag only in the first: drawn"),
    ({"flags": ["drawn", "drawn"]}, "data: flag only in the second: drawn"),
    ({"weights": {"source": "file w", "sha256": "1" * 64}}, "weights: weights.sha256: 000000000000 | 111111111111"),
    ({"weights": {"source": "random", "sha256": "0" * 64}}, "weights: weights.source: file w | random"),
    ({"stages": fact(code="c1")}, "code: score: c0 | c1; commit aaaaaaaaaa | aaaaaaaaaa, which git does not know both"),
    ({"stages": fact(commit=None)}, "code: score: commit aaaaaaaaaa | unknown, but the same code"),
    (
        {"stages": fact(changed=True)},
        "code: score: commit aaaaaaaaaa | aaaaaaaaaa with uncommitted changes, but the same code",
    ),
    ({"stages": fact(packages={"numpy": "2.1", "torch": "2.9"})}, "packages: packages.numpy: 2.0 | 2.1 (score)"),
    ({"stages": fact(packages={"numpy": "2.0"})}, f"packages: packages.torch: 2.9 | {ABSENT} (score)"),
    ({"stages": fact(python="3.12")}, "packages: python: 3.11.7 | 3.12 (score)"),
    ({"stages": fact(platform="Darwin")}, "machine: platform: Linux | Darwin (score)"),
    ({"stages": fact(processor="other")}, "machine: processor: a processor | other (score)"),
    ({"stages": fact(cores=4)}, "machine: cores: 2 | 4 (score)"),
    ({"stages": fact(threads=2)}, "machine: threads: 1 | 2 (score)"),
    ({"stages": fact(device="cuda: a GPU")}, "machine: device: cpu | cuda: a GPU (score)"),
    ({"stages": fact(driver="570")}, "machine: driver: null | 570 (score)"),
    (
        {"stages": fact(numerics=FACTS["numerics"] | {"torch": {"deterministic": True}})},
        "machine: numerics.torch.deterministic: false | true (score)",
    ),
]


@pytest.mark.parametrize(("changes", "said"), CHANGES, ids=[said[:50] for _, said in CHANGES])
def test_one_change_is_named_in_its_group_and_results_stay_identical(changes, said) -> None:
    assert compare(record(), record(**changes), unknown) == [said, SAME_RESULTS]


@pytest.mark.parametrize("key", ["wall_s", "start_s", "cpu_s", "peak_mb", "s_per_image"])
def test_what_a_run_costs_is_no_difference(key) -> None:
    assert compare(record(), record(stages=fact(**{key: 99.0})), unknown) == [SAME]


def test_groups_come_in_the_order_of_causes() -> None:
    other = {
        "description": {"method": "patchcore"},
        "data": {"train": 9},
        "weights": {"source": "x"},
        "metrics": {"image_auroc": 0.5},
        "flags": [],
    }
    facts = {"code": "c1", "python": "3.12", "cores": 4}
    other |= {"stages": fact(**facts), "digests": DIGESTS | {"bank": "x"}, "bank": {"of": 7}, "seed": 1}
    lines = compare(record(), record(**other), unknown)
    groups = list(dict.fromkeys(line.split(":")[0] for line in lines[:-1]))
    assert groups == ["settings", "data", "weights", "code", "packages", "machine", "intermediate", "metrics"]
    assert lines[-1] == "metrics differ: 3 of 3"


@given(
    st.dictionaries(st.text(max_size=5), PLAIN, max_size=3),
    st.dictionaries(st.text(max_size=5), st.none() | FINITE, max_size=3),
    st.dictionaries(st.text(max_size=9), st.text(max_size=5), max_size=5),
)
def test_a_record_is_identical_to_itself(description, metrics, digests) -> None:
    fields = {"description": description, "metrics": metrics, "digests": digests}
    assert compare(make_record(**fields), make_record(**copy.deepcopy(fields))) == [SAME]


@given(
    st.dictionaries(st.text(max_size=3), PLAIN, max_size=3),
    st.dictionaries(st.text(max_size=3), PLAIN, max_size=3),
)
def test_whatever_differs_is_found_from_both_sides(a, b) -> None:
    first, second = (make_record(description=settings, stages={}) for settings in (a, b))
    one, two = compare(first, second), compare(second, first)
    assert len(one) == len(two)
    assert (one == [SAME]) == (json.dumps(a, sort_keys=True) == json.dumps(b, sort_keys=True))


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (
            {"scores"},
            "the runs part at scores; the same before: masks, train_features, test_features, f, bank",
        ),
        (
            {"f", "bank", "scores"},
            "the runs part at f; the same before: masks, train_features, test_features; also differ: bank, scores",
        ),
        (
            {"train_features", "bank", "scores"},
            "the runs part at train_features; the same before: masks; also differ: bank, scores; "
            "the same after: test_features, f",
        ),
        (
            {"masks", *list(DIGESTS)},
            "the runs part at masks; also differ: train_features, test_features, f, bank, scores",
        ),
    ],
)
def test_where_two_runs_part(changed, said) -> None:
    other = record(digests={name: "x" if name in changed else value for name, value in DIGESTS.items()})
    verdict = "same metrics, from intermediate results that differ"
    assert compare(record(), other) == [f"intermediate: {said}", verdict]


def test_a_file_that_one_run_lacks_is_where_they_part() -> None:
    (line, _) = compare(record(), record(digests={k: v for k, v in DIGESTS.items() if k != "f"}))
    assert line.startswith("intermediate: the runs part at f, which only one has; the same before: masks")


@pytest.mark.parametrize(
    ("metrics", "said"),
    [
        ({"image_auroc": 0.85}, "metrics: image_auroc: 0.84 | 0.85 (+0.01)"),
        ({"image_auroc": 0.8399}, "metrics: image_auroc: 0.84 | 0.8399 (-0.0001)"),
        ({"image_auroc": None}, "metrics: image_auroc: 0.84 | undefined"),
        ({"aupro_30": 0.5}, "metrics: aupro_30: undefined | 0.5"),
        ({"new": 0.5}, f"metrics: new: {ABSENT} | 0.5"),
    ],
)
def test_metrics_come_with_their_difference(metrics, said) -> None:
    lines = compare(record(), record(metrics=record().metrics | metrics))
    assert lines == [said, f"metrics differ: 1 of {len(record().metrics | metrics)}"]


def test_what_stages_share_is_said_once() -> None:
    stages = {name: facts.model_dump() | {"code": "c1", "cores": 4} for name, facts in record().stages.items()}
    lines = compare(record(), record(stages=stages), lambda stage, a, b: ["metrics"])
    said = "c0 | c1; commit aaaaaaaaaa | aaaaaaaaaa; changed between them: metrics"
    names = "features, training, bank, score"
    assert lines == [f"code: {names}: {said}", f"machine: cores: 2 | 4 ({names})", SAME_RESULTS]


@pytest.mark.parametrize(
    ("changed", "dirty", "said"),
    [
        ([], False, "the same modules, so packages they import have other versions"),
        ([], True, "no change is committed between them"),
        (["maps", "score.py"], True, "changed between them: maps, score.py"),
    ],
)
def test_why_code_differs(changed, dirty, said) -> None:
    other = record(stages=fact(code="c1", changed=dirty))
    (line, _) = compare(record(), other, lambda stage, a, b: changed)
    assert line.startswith("code: score: c0 | c1; commit ") and line.endswith(f"; {said}")


def test_a_stage_of_one_run_alone_is_named() -> None:
    other = record(stages={k: v for k, v in record().stages.items() if k != "training"})
    assert compare(record(), other)[0] == "code: training: only in the first"
    assert compare(other, record())[0] == "code: training: only in the second"


def test_members_of_ensembles_are_compared_too() -> None:
    def ensemble(*members: Record) -> Record:
        return combined_record(
            "e-1", "zscore", members, {"image_auroc": 0.9}, "x", {"masks": "m", "scores": "s"}, make_stage()
        )

    changed = record(
        description=record().description | {"epochs": 11},
        digests=DIGESTS | {"f": "x", "scores": "y"},
        stages=fact(cores=4),
    )
    lines = compare(ensemble(record(), record()), ensemble(record(), changed))
    assert "settings: members[1].description.epochs: 10 | 11" in lines
    assert "machine: cores: 2 | 4 (members[1].score)" in lines
    (parting,) = [line for line in lines if "part at" in line]
    assert parting.startswith(
        "intermediate: the runs part at members[1].f; the same before: members[0].masks, members[0].train_features, "
    )
    assert "also differ: members[1].scores; the same after: members[1].bank, masks, scores" in parting
    assert lines[-1] == "same metrics, from intermediate results that differ"


def test_an_edited_record_is_said_to_be_one(tmp_path) -> None:
    for name in "ab":
        write_record(tmp_path / name / "record.json", record())
    edited = json.loads((tmp_path / "b/record.json").read_text()) | {"seed": 5}
    (tmp_path / "b/record.json").write_text(json.dumps(edited))
    said = f"{tmp_path / 'b'} was edited after it was written: its digest does not fit its content"
    assert explain(tmp_path / "a", tmp_path / "b")[0] == [said, "settings: seed: 0 | 5", SAME_RESULTS]
    assert explain(tmp_path / "b", tmp_path / "b")[0] == [said, said, SAME]


def test_another_file_than_a_record_says_what_to_give(tmp_path) -> None:
    (tmp_path / "table.csv").write_text("a,b\n")
    (tmp_path / "empty").mkdir()
    for name in ("table.csv", "empty", "nowhere"):
        with pytest.raises(ReconpatchError, match=rf"{name}.*: n.*"):
            explain(tmp_path / name, tmp_path / name)


def test_records_and_folders_of_runs_are_read(tmp_path) -> None:
    write_record(tmp_path / "a/record.json", record())
    write_record(tmp_path / "b/record.json", record(metrics={"image_auroc": 0.5}))
    assert explain(tmp_path / "a", tmp_path / "a/record.json") == ([SAME], True)
    lines, same = explain(tmp_path / "a", tmp_path / "b/record.json")
    assert not same and lines[-1] == "metrics differ: 3 of 3"
    write_record(tmp_path / "c/record.json", record(stages=fact(cores=4)))
    assert explain(tmp_path / "a", tmp_path / "c")[1]
    with pytest.raises(ReconpatchError, match=r"nothing: no such record; give a record"):
        explain(tmp_path / "a", tmp_path / "nothing")


def test_flat_and_short_values() -> None:
    nested = {"a": {"b": 1, "c": {}}, "d": [1, 2], "e": [{"f": 3}, []], "": 0}
    assert flat(nested) == {"a.b": 1, "a.c": {}, "d": [1, 2], "e[0].f": 3, "e[1]": [], "''": 0}
    assert flat({"a.b": 1}) == {"'a.b'": 1} and flat({"a": {"0": [[]]}}) != flat({"a": [[[]]]})
    assert short("0123456789ab" * 6) == "0123456789ab" * 6  # 72 digits: no SHA-256
    assert short("ab" * 32) == "ab" * 6 and short("x\ny") == "x y"
    assert len(short("long " * 99)) == 80 and short({"a": 1}) == '{"a": 1}'


@pytest.fixture
def repository(tmp_path, monkeypatch) -> tuple[str, str]:
    """Two commits of a small package: `near`, which the script uses, changes in logic, `far` only in prose."""

    def git(*arguments: str) -> str:
        own = ["-c", "user.name=n", "-c", "user.email=e", "-c", "commit.gpgsign=false"]
        done = subprocess.run(["git", *own, *arguments], cwd=tmp_path, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    files = {
        "workflow/scripts/score.py": "from reconpatch.near import f\n\nf()\n",
        "reconpatch/near.py": "def f():\n    from reconpatch.far import g\n    return g()\n",
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
    (tmp_path / "reconpatch/near.py").write_text(files["reconpatch/near.py"].replace("g()\n", "g() + 1\n"))
    (tmp_path / "reconpatch/far.py").write_text(files["reconpatch/far.py"] + "# a remark\n")
    (tmp_path / "reconpatch/other.py").write_text("x = 2\n")
    git("commit", "--quiet", "--all", "--message", "two")
    monkeypatch.setattr(differences, "PACKAGE_FOLDER", tmp_path / "reconpatch")
    return first, git("rev-parse", "HEAD")


def test_git_tells_which_modules_of_a_stage_changed(repository) -> None:
    first, second = repository
    assert changed_modules("score", first, second) == ["near"]
    assert changed_modules("score", first, first) == []


@pytest.mark.parametrize("commit", ["0" * 40, "HEAD", "--output=/tmp/x", "", "None"])
def test_commits_git_does_not_know_or_that_are_none(commit, repository) -> None:
    assert changed_modules("score", repository[0], commit) is None
    assert changed_modules("score", commit, repository[0]) is None


@pytest.mark.parametrize("stage", ["absent", "../../x", "-o"])
def test_a_stage_without_a_script_is_not_known(stage, repository) -> None:
    assert changed_modules(stage, *repository) is None
