"""Verification of real results: whatever is changed in them is found, and nothing else is called different."""

import json
import platform
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from reconpatch.errors import ReconpatchError
from reconpatch.files import sha256_of
from reconpatch.method.memory_bank import MemoryBank
from reconpatch.records.record import USAGE, Record, content_digest, read_record
from reconpatch.records.verify import OTHERS, Findings, Results, check_record, summary, verify


class Folder:
    """Results to tamper with: a run of ReConPatch with augmented test images, and ensembles with their members."""

    def __init__(self, root: Path) -> None:
        self.root = root
        records = {path.parent: read_record(path) for path in sorted(root.glob("*/mine/nut/*/record.json"))}
        self.run = next(folder for folder, record in records.items() if record.training_features)
        self.ensembles = {record.combine: folder for folder, record in records.items() if record.combine}
        member = records[self.ensembles["zscore"]].members[1].run
        self.member = root / "runs/mine/nut" / member

    def folder(self, which: str) -> Path:
        return {"run": self.run, "member": self.member, **self.ensembles}[which]

    def record(self, which: str) -> Record:
        return read_record(self.folder(which) / "record.json")

    def stage(self, stage: str, which: str = "run") -> Path:
        """The folder of a stage's files."""
        record = self.record(which)
        name = record.masks if stage == "masks" else record.stages[stage].folder
        return self.root / stage / "mine/nut" / name

    def check(self, which: str) -> Findings:
        """Everything found of a record."""
        return check_record(self.folder(which) / "record.json", Results(self.root, {}))[0]

    def edit(self, which: str, change: Callable[[dict], object], forge: bool = True) -> None:
        """Change a record; forged, its own digest fits again."""
        file = self.folder(which) / "record.json"
        content = json.loads(file.read_text())
        change(content)
        if forge:
            content["digest"] = content_digest(Record.model_validate(content))
        file.write_text(json.dumps(content))

    def edit_scores(self, which: str, change: Callable[[dict], object]) -> None:
        """Change saved scores and forge their digest."""
        file = self.folder(which) / "scores.safetensors"
        tensors = load_file(file)
        change(tensors)
        save_file(tensors, file)
        self.edit(which, lambda r: r["digests"].update(scores=sha256_of(file)))


@pytest.fixture(scope="module")
def shared(real_results: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Folder]:
    """A copy that every test leaves as it was."""
    yield Folder(shutil.copytree(real_results / "results", tmp_path_factory.mktemp("shared") / "results"))


@pytest.fixture
def restored(shared: Folder) -> Iterator[Folder]:
    """The shared copy, with small files put back after the test."""
    files = [p for p in shared.root.rglob("*") if p.is_file() and p.name not in ("train.npy", "test.npy")]
    kept = {path: path.read_bytes() for path in files}
    yield shared
    for path in shared.root.rglob("*.tmp.json"):
        path.unlink()
    for path, content in kept.items():
        if not path.is_file() or path.read_bytes() != content:
            path.write_bytes(content)


def lines(target: Path, **more) -> tuple[list[str], list[str]]:
    """(what is reported, problems)."""
    verdicts = list(verify(target, **more))
    reported = [*map(str, verdicts), summary(verdicts)]
    return reported, [str(verdict) for verdict in verdicts if verdict.is_problem]


def test_untouched_results_are_ok_from_any_folder(real_results: Path) -> None:
    root = real_results / "results"
    folder = next(root.glob("runs/mine/nut/*"))
    counts = {root: 25, root / "runs": 23, root / "ensembles/mine/nut": 2, folder: 1, folder / "record.json": 1}
    for target, count in counts.items():
        reported, problems = lines(target)
        assert not problems and all(line.endswith("/record.json: ok") for line in reported[:-1])
        texts = f"{count} ok, 0 rounding, 0 DIFFERS, 0 cannot be checked"
        assert reported[-1] == f"{count} record{'s' * (count > 1)}: {texts}"
    with pytest.raises(ReconpatchError, match="no record"):
        list(verify(root / "masks"))


def set_(*path: str | int, to: object) -> Callable[[dict], object]:
    """A change of one value in a nested record."""

    def change(content: dict) -> None:
        for key in path[:-1]:
            content = content[key]
        content[path[-1]] = to

    return change


TAMPERED = [
    ("run", set_("category", to="bolt"), "category: stored bolt"),
    ("run", set_("run", to="another"), "run: stored another"),
    ("run", set_("seed", to=7), "seed: stored 7, found 0"),
    ("run", set_("metrics", "pixel_ap", to=0.5), "metrics.pixel_ap: stored 0.5, recomputed"),
    ("run", set_("metrics", "pixel_ap", to=None), "metrics.pixel_ap: stored undefined, recomputed"),
    ("run", set_("metrics", "made_up", to=1.0), "names of the metrics: stored"),
    ("zscore", set_("metrics", "image_auroc", to=0.1), "metrics.image_auroc: stored 0.1"),
    ("run", set_("flags", to=[]), "flags: lacks 'untrained"),
    ("run", set_("kinds", "made_up", to={"image_auroc": 1.0}), "names of the kinds: stored"),
    ("run", set_("data", "masks", to=9), "data.masks: stored 9, found 3"),
    ("run", set_("data", "validation", to=9), "data.validation: stored 9, found 0"),
    ("run", set_("weights", "sha256", to="0"), "weights.sha256: stored 0"),
    ("run", set_("bank", "patches", to=1), "bank.patches: stored 1"),
    *(
        ("run", set_("digests", name, to="0"), "stored 0, found ")
        for name in ("f", "bank", "scores", "masks", "defects")
    ),
    *(
        ("run", set_("digests", f"{split}_features", to="0"), f"digests.{split}_features: stored 0")
        for split in ("train", "test", "validation")
    ),
    *(("run", set_("description", key, to=3), "digest in the run's name") for key in ("blur", "seed", "k")),
    ("run", set_("stages", "training", "code", to="0"), "training.code: stored 0"),
    ("run", set_("training_features", to=None), "training_features: stored false, found true"),
    ("minmax", set_("combine", to="zscore"), "digest in the ensemble's name"),
    ("minmax", set_("members", 0, "description", "blur", to=9.0), "members[0].description.blur: stored 9.0"),
    ("zscore", set_("members", 1, "digests", "training_scores", to="0"), "training.safetensors: stored 0"),
]


@pytest.mark.parametrize(("which", "change", "says"), TAMPERED, ids=[f"{w}: {s[:40]}" for w, _, s in TAMPERED])
def test_every_part_of_a_record_that_is_edited_is_named(which, change, says, restored: Folder) -> None:
    """Even where the record's own digest is forged."""
    restored.edit(which, change)
    findings = restored.check(which)
    assert findings.status == "DIFFERS" and any(says in text for text in findings.differs), findings


HOSTILE = [
    ("crop", 10**9),
    ("crop", None),
    ("blur", 1e300),
    ("backbone", "../../../etc"),
    ("coreset", 0),
    ("epochs", []),
]


@pytest.mark.parametrize(("key", "value"), HOSTILE)
def test_hostile_settings_are_never_ok_and_never_a_crash(key, value, restored: Folder) -> None:
    restored.edit("run", set_("description", key, to=value))
    reported, problems = lines(restored.run)
    assert len(problems) == 1 and len(problems[0]) < 3000 and "0 ok" in reported[-1]


def test_rounding_is_neither_ok_nor_a_problem(restored: Folder) -> None:
    restored.edit("run", lambda r: r["metrics"].update(pixel_auroc=r["metrics"]["pixel_auroc"] + 5e-7))
    reported, problems = lines(restored.run)
    assert not problems and ": rounding: metrics.pixel_auroc: stored 0." in reported[0]


def add(*place: int, to: float = 5) -> Callable[[np.ndarray], object]:
    def change(array: np.ndarray) -> None:
        array[place] += to

    return change


@pytest.mark.parametrize(
    ("which", "tensor", "change", "says"),
    [
        ("run", "image", add(3), "image score 3: stored"),
        ("run", "patch", add(1, 2, 3), "image score 1: stored"),
        ("run", "label", add(4, to=-1), "label of test image 4: stored"),
        ("run", "image_pairs", add(2, 0), "image_pairs[2, 0]: stored"),
        ("zscore", "image", add(0), "image score 0: stored"),
        ("minmax", "pixel_pairs", add(2, 0), "pixel_pairs[2, 0]: stored"),
    ],
)
def test_scores_whose_digest_is_forged_do_not_give_the_numbers(which, tensor, change, says, restored: Folder) -> None:
    restored.edit_scores(which, lambda tensors: change(tensors[tensor]))
    texts = restored.check(which)
    assert any(says in text for text in [*texts.differs, *texts.missing]), texts


def test_what_changes_in_a_member_shows_in_its_ensembles(restored: Folder) -> None:
    restored.edit_scores("member", lambda tensors: add(0)(tensors["image"]))
    for how in ("zscore", "minmax"):
        texts = restored.check(how).differs
        assert any(restored.member.name in text for text in texts) and any("image score" in text for text in texts)
    restored.edit("minmax", set_("members", 0, "run", to="../../x"))
    assert any("no name of a folder" in text for text in restored.check("minmax").missing)


@pytest.mark.parametrize(
    ("stage", "name"),
    [
        ("masks", "masks.npy"),
        ("masks", "defects.safetensors"),
        ("bank", "bank.safetensors"),
        ("training", "f.safetensors"),
        ("features", "features.json"),
    ],
)
def test_a_lost_or_damaged_file_is_named_and_never_ok(stage, name, restored: Folder) -> None:
    file = restored.stage(stage) / name
    content = file.read_bytes()
    for damaged in (None, b"", content[: len(content) // 2], b"hello"):
        file.unlink() if damaged is None else file.write_bytes(damaged)
        findings = restored.check("run")
        assert any(name in text for text in findings.missing), (damaged, findings)
        hashed = stage == "masks" and damaged is not None  # of the others the content is compared
        assert findings.status == ("DIFFERS" if hashed else "cannot be checked")


def test_the_bank_is_checked_as_far_as_the_run_used_it(restored: Folder) -> None:
    file, kept = restored.stage("bank", "member") / "bank.safetensors", restored.record("member").bank.patches
    bank = MemoryBank.load(file)
    longer = MemoryBank(
        np.vstack([bank.patches, bank.patches[:1]]),
        np.append(bank.order, 0),
        bank.representation,
        bank.training_patches,
    )
    longer.save(file)
    assert restored.check("member").status == "ok"  # a larger ratio was wanted later
    longer.patches[kept - 1] += 1
    longer.save(file)
    assert "digest of the used part of bank/" in restored.check("member").differs[0]
    longer.first(kept - 1).save(file)
    assert "rows, not the" in restored.check("member").missing[0]


def without_usage(content: object) -> object:
    return {k: without_usage(v) for k, v in content.items() if k not in USAGE} if isinstance(content, dict) else content


@settings(deadline=None, max_examples=15)
@given(data=st.data())
def test_any_changed_byte_is_noticed(shared: Folder, data) -> None:
    """Of files that are hashed; of JSON, where it changes the content, but for time and memory."""
    which = data.draw(st.sampled_from(["run", "zscore"]))
    folders = [shared.folder(which)] if which == "zscore" else [shared.run, shared.stage("masks")]
    files = [p for folder in folders for p in sorted(folder.iterdir()) if p.suffix in (".json", ".safetensors", ".npy")]
    file = data.draw(st.sampled_from(files))
    content = file.read_bytes()
    changed = bytearray(content)
    changed[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    try:
        file.write_bytes(changed)
        if shared.check(which).status == "ok":
            assert file.suffix == ".json"
            assert without_usage(json.loads(changed)) == without_usage(json.loads(content))
    finally:
        file.write_bytes(content)


def test_leftovers_and_unreadable_records_are_named_and_the_others_checked(restored: Folder) -> None:
    (restored.run / ".record.12.tmp.json").write_text("{")
    (restored.member / "record.json").unlink()
    (restored.ensembles["zscore"] / "record.json").write_text('{"schema_version": 3}')
    reported, problems = lines(restored.root)
    name = restored.run.relative_to(restored.root)
    assert f"{name}/.record.12.tmp.json: left over, belongs to no result" in reported
    assert [line.split(": ")[1] for line in problems] == ["cannot be checked"] * 2  # both ensembles
    assert any("schema 3" in line for line in problems) and reported[-1].endswith("3 files left over")


def test_other_code_packages_or_settings_are_said_and_no_problem(restored: Folder) -> None:
    def change(record: dict) -> None:
        record["stages"]["score"] |= {"python": "2.7", "packages": {"numpy": "0.1", "made-up": "3"}}

    restored.edit("run", change)
    codes = {stage: facts.code for _, stage, facts in restored.record("zscore").all_stages()}
    codes |= {stage: facts.code for _, stage, facts in restored.record("run").all_stages()}
    reported, problems = lines(restored.run, codes=codes | {"bank": "x"}, planned=[])
    assert not problems
    now = f"numpy 0.1, now {np.__version__}; Python 2.7, now {platform.python_version()}"
    expected = f"other code of bank; made-up 3, now not installed; {now}; no run of this configuration"
    assert f": ok | {OTHERS}: {expected}" in reported[0]
    planned = [folder.relative_to(restored.root).as_posix() for folder in restored.root.glob("*/mine/*/*")]
    assert OTHERS not in "".join(lines(restored.root / "ensembles", codes=codes, planned=planned)[0])
