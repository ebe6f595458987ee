import csv
import json
import platform
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from reconpatch.records.findings import Findings, Source
from reconpatch.records.locations import stage_names
from reconpatch.records.record_checks import check_record
from reconpatch.records.table_checks import DERIVED, is_at_place
from reconpatch.records.verification import verify
from results_folder import CATEGORY, CONFIG, DATASET, TRAIN, Results, code, items_of, run_of, write_results, write_run
from safetensors.numpy import load_file, save_file

from reconpatch.data.layouts import Item
from reconpatch.data.manifest import manifest_json
from reconpatch.errors import ReconpatchError
from reconpatch.experiments.config import read_config, read_experiment
from reconpatch.experiments.rows import expand
from reconpatch.experiments.run import description
from reconpatch.experiments.stages import STAGES
from reconpatch.files import sha256_of, write_text
from reconpatch.method.memory_bank import MemoryBank
from reconpatch.records.provenance import code_digest, stage_codes
from reconpatch.records.record import USAGE, Record, content_digest, read_record, repeatable

ROOT = Path(__file__).parents[3]
PLACE = f"{DATASET}/{CATEGORY}"
RECORDED = [name for name, stage in STAGES.items() if stage.recorded]
CODES = {stage: code(stage) for stage in RECORDED}
OTHERS = "made by other code, packages or settings than today's"


@pytest.fixture(scope="session")
def made(tmp_path_factory) -> Results:
    return write_results(tmp_path_factory.mktemp("made") / "results")


@pytest.fixture
def results(made, tmp_path) -> Results:
    """A copy to tamper with."""
    root = tmp_path / "results"
    shutil.copytree(made.root, root)
    moved = [[root / p.relative_to(made.root) for p in part] for part in (made.runs, made.ensembles, [made.table])]
    return Results(root, moved[0], moved[1], moved[2][0])


def lines(target: Path, **more) -> tuple[list[str], list[str]]:
    """(what is reported, problems)."""
    said: list[str] = []
    problems = verify(target, said.append, **more)
    return said, problems


def line_of(folder: Path, results: Results, **more) -> str:
    """The line on one record, when all of the results are verified."""
    name = f"{folder.relative_to(results.root).as_posix()}/record.json: "
    (line,) = [line for line in lines(results.root, **more)[0] if line.startswith(name)]
    return line.removeprefix(name)


def edit(folder: Path, forge: bool = True, **changes) -> None:
    """Change fields of a record; forged, its own digest fits again."""
    content = json.loads((folder / "record.json").read_text()) | changes
    if forge:
        content["digest"] = ""
        content["digest"] = content_digest(Record.model_validate(content))
    (folder / "record.json").write_text(json.dumps(content))


def edit_scores(folder: Path, change: Callable[[dict[str, np.ndarray]], object], forge: bool = False) -> None:
    """Change saved scores; forged, the record has their digest."""
    file = folder / "scores.safetensors"
    tensors = load_file(file)
    change(tensors)
    save_file(tensors, file)
    if forge:
        edit(folder, digests=read_record(folder / "record.json").digests | {"scores": sha256_of(file)})


def test_untouched_results_are_ok(results) -> None:
    said, problems = lines(results.root, codes=CODES)
    assert problems == []
    assert said[:-1] == [
        *(f"{folder.relative_to(results.root)}/record.json: ok" for folder in sorted(results.ensembles)),
        *(f"{folder.relative_to(results.root)}/record.json: ok" for folder in sorted(results.runs)),
        *("tables/costs.csv: ok", "tables/small.csv: ok"),
    ]
    counts = "ok, 0 rounding, 0 DIFFERS, 0 cannot be checked"
    assert said[-1] == f"5 records: 5 {counts}; 2 tables: 2 {counts}"


def test_any_folder_or_record_below_can_be_verified(results) -> None:
    first = results.runs[0]
    for target, count in (
        (results.root / "runs", 3),
        (results.root / "runs" / DATASET, 3),
        (results.root / "ensembles" / PLACE, 2),
        (first, 1),
        (first / "record.json", 1),
        (results.root / "tables", 2),
        (results.table, 1),
    ):
        said, problems = lines(target)
        assert len(said) == count + 1 and not problems and all(line.endswith(": ok") for line in said[:-1]), target
    with pytest.raises(ReconpatchError, match=r"no record or table of results in it"):
        lines(results.root / "masks")
    with pytest.raises(ReconpatchError, match=r"no record or table of results in it"):
        lines(first / "scores.safetensors")
    with pytest.raises(ReconpatchError, match=r"no record or table of results in it"):
        lines(results.root / "nowhere")


def test_a_relative_path_will_do(results, monkeypatch) -> None:
    monkeypatch.chdir(results.root.parent)
    assert lines(Path("results"))[1] == [] and lines(Path("results/runs") / PLACE)[1] == []


def check(folder: Path) -> tuple[Findings, Record | None]:
    """Everything found of one record, not only the first few."""
    return check_record(folder / "record.json", Source(folder.parents[3], sha256_of))


METRICS = ("image_auroc", "image_ap", "image_f1", "image_f1_threshold", "pixel_auroc", "pixel_ap")
METRICS = (*METRICS, "pixel_f1", "pixel_f1_threshold", "aupro_30")


@pytest.mark.parametrize("which", [0, 2, "ensemble"])
@pytest.mark.parametrize("metric", METRICS)
def test_a_forged_metric_differs(metric, which, results) -> None:
    folder = results.ensembles[0] if which == "ensemble" else results.runs[which]
    record = read_record(folder / "record.json")
    value = record.metrics[metric]
    edit(folder, metrics=record.metrics | {metric: value - 1e-4})
    assert line_of(folder, results) == f"DIFFERS: metrics.{metric}: stored {value - 1e-4!r}, recomputed {value!r}"


@pytest.mark.parametrize(("change", "said"), [(None, "undefined"), (1e300, "1e+300")])
def test_a_metric_that_is_no_such_number_differs(change, said, results) -> None:
    folder = results.runs[0]
    metrics = read_record(folder / "record.json").metrics
    edit(folder, metrics=metrics | {"pixel_ap": change})
    assert line_of(folder, results).startswith(f"DIFFERS: metrics.pixel_ap: stored {said}, recomputed 0.")
    edit(folder, metrics={k: v for k, v in metrics.items() if k != "pixel_ap"} | {"made_up": 1.0})
    assert line_of(folder, results) == "DIFFERS: metrics.pixel_ap: only recomputed; metrics.made_up: only stored"


def test_numbers_that_differ_by_rounding_are_not_called_ok_nor_different(results) -> None:
    folder = results.runs[0]
    metrics = read_record(folder / "record.json").metrics
    edit(folder, metrics=metrics | {"pixel_auroc": metrics["pixel_auroc"] + 5e-7})
    assert line_of(folder, results).startswith("rounding: metrics.pixel_auroc: stored 0.")
    said, problems = lines(folder)
    assert problems == [] and said[-1] == "1 record: 0 ok, 1 rounding, 0 DIFFERS, 0 cannot be checked"


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("metrics", {"image_auroc": 1.0}, "metrics.image_auroc: stored 1.0, recomputed"),
        ("flags", [], "flags: stored [], found 'untrained (random) weights' to be true"),
        ("run", "another", "run: stored another, found backbone=resnet18_weights=random-"),
        ("category", "bolt", "category: stored bolt, found nut"),
        ("dataset", "other", "dataset: stored other, found mine"),
        ("seed", 7, "seed: stored 7, found 0"),
        ("weights", {"source": "pretrained", "sha256": "0"}, "weights.source: stored pretrained, found random"),
        ("bank", {"patches": 15, "of": 144, "grid": [6, 6]}, "bank.patches: stored 15, found 14"),
        ("bank", {"patches": 14, "of": 144, "grid": [6, 7]}, "bank.grid: stored [6, 7], found [6, 6]"),
    ],
)
@pytest.mark.parametrize("forge", [True, False])
def test_every_edited_field_is_named(field, value, said, forge, results) -> None:
    """Without a forged digest of the record, that tells too."""
    folder = results.runs[2]
    edit(folder, forge, **{field: value})
    line = line_of(folder, results)
    assert line.startswith("DIFFERS: ") and said in line
    assert ("digest of the record's content: stored" in line) is not forge


@pytest.mark.parametrize("key", ["coreset", "crop", "blur", "backbone", "seed", "epochs", "levels", "reweight"])
def test_an_edited_setting_does_not_fit_the_name_of_the_run(key, results) -> None:
    folder = results.runs[2]
    new = {"coreset": 0.2, "crop": 32, "blur": 3.0, "backbone": "resnet50", "seed": 1, "epochs": 3, "levels": [1]}
    new |= {"reweight": "image"}
    edit(folder, description=read_record(folder / "record.json").description | {key: new[key]})
    assert "digest in the run's name: stored 4304e46c, found" in line_of(folder, results)


@pytest.mark.parametrize("forge", [True, False])
def test_an_extra_flag_is_named(forge, results) -> None:
    edit(results.runs[0], forge, flags=[{"kind": "remark", "text": "made up"}])
    line = line_of(results.runs[0], results)
    assert line.endswith("flags: stored data: made up, found not to be true")
    assert line.startswith("DIFFERS: digest of the record's content: stored") is not forge


def test_a_flag_given_twice_is_named(results) -> None:
    edit(results.runs[2], flags=[{"kind": "weights", "text": "untrained (random) weights"}] * 2)
    assert (
        line_of(results.runs[2], results) == "DIFFERS: flags: stored untrained (random) weights, found not to be true"
    )


@pytest.mark.parametrize("which", ["layout", "masks", "manifest", "train"])
def test_data_have_exactly_their_keys(which, results) -> None:
    data = results.record(results.runs[0]).data
    edit(results.runs[0], data={key: value for key, value in data.items() if key != which})
    assert f"data.{which}: stored (absent), found" in line_of(results.runs[0], results)
    edit(results.runs[0], data=data | {"made up": 1})
    assert line_of(results.runs[0], results) == "DIFFERS: data.made up: stored 1, found (absent)"


def test_the_patches_a_bank_is_of_are_those_its_file_says(results) -> None:
    bank = results.record(results.runs[0]).bank
    edit(results.runs[0], bank=bank | {"of": bank["of"] + 1})  # of which as many are kept
    line = line_of(results.runs[0], results)
    assert line.startswith("DIFFERS: bank.of, training patches of bank/") and line.endswith("stored 145, found 144")


def rewrite(file: Path, change: Callable[[dict], object]) -> None:
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))


def test_a_stage_that_ran_again_for_other_results_takes_other_time_and_memory_and_no_more(results) -> None:
    """Files are as they were: only the facts were written anew."""
    spent = {"wall_s": 99.0, "start_s": 9.0, "cpu_s": 99.0, "peak_mb": 9.0}
    for stage in ("features", "training", "bank"):
        for file in (results.root / stage).rglob(f"{stage}.json"):
            taken = {"s_per_image": {"train": 9.0, "test": 9.0}} if stage == "features" else {}
            rewrite(file, lambda content, more=spent | taken: content["stage"].update(more))
    member = results.record(results.runs[0])
    edit(results.runs[0], stages=member.stages | {"score": member.stages["score"] | spent})
    said, problems = lines(results.root / "runs")
    assert not problems and lines(results.root / "ensembles")[1] == [] and said[-1].startswith("3 records: 3 ok")
    for file in (results.root / "training").rglob("training.json"):
        rewrite(file, lambda content: content["stage"].update(threads=7))
    assert line_of(results.runs[2], results) == "DIFFERS: stages.training.threads: stored 1, found 7"


@pytest.mark.parametrize("method", ["patchcore", "reconpatch"])
def test_what_else_is_planned_changes_no_record(method, tmp_path) -> None:
    """A larger ratio makes a longer bank, another epoch's runs more checkpoints: the run used neither."""
    run = run_of(method=method, backbone="resnet18")
    alone = write_run(tmp_path / "alone", run)
    beside = write_run(tmp_path / "beside", run, ratio=0.5, checkpoints=[1])
    for name in ("bank.safetensors", *(["f.safetensors"] if method == "reconpatch" else [])):
        one, two = (next((tmp_path / part).rglob(name)).read_bytes() for part in ("alone", "beside"))
        assert one != two
    one, two = (read_record(folder / "record.json") for folder in (alone, beside))
    assert json.dumps(repeatable(one)) == json.dumps(repeatable(two))
    assert set(one.digests) == {"train_features", "test_features", "bank", "masks", "scores"} | (
        {"f"} if method == "reconpatch" else set()
    )
    for root in ("alone", "beside"):
        write_text(tmp_path / root / "index" / f"{PLACE}.json", manifest_json(items_of()))
        assert lines(tmp_path / root)[1] == []
    bank = MemoryBank.load(next((tmp_path / "beside").rglob("bank.safetensors")))
    bank.patches[14] += 1  # the first row the run did not use
    bank.save(next((tmp_path / "beside").rglob("bank.safetensors")))
    assert lines(tmp_path / "beside")[1] == []
    bank.patches[13] += 1
    bank.save(next((tmp_path / "beside").rglob("bank.safetensors")))
    assert "digest of what was used in bank/" in lines(tmp_path / "beside")[1][0]
    bank.first(13).save(next((tmp_path / "beside").rglob("bank.safetensors")))
    assert "bank.safetensors has 13 rows, not the 14 that were used" in lines(tmp_path / "beside")[1][0]


def test_of_augmented_test_images_both_stages_of_features_are_looked_at(tmp_path) -> None:
    write_text(tmp_path / "index" / f"{PLACE}.json", manifest_json(items_of()))
    run = run_of(method="reconpatch", backbone="resnet18")
    plain, drawn = (write_run(tmp_path, run.model_copy(update={"augment": kind})) for kind in ("none", "test"))
    one, two = (read_record(folder / "record.json") for folder in (plain, drawn))
    assert one.digests["train_features"] == two.digests["train_features"]
    assert one.digests["test_features"] != two.digests["test_features"]
    assert set(two.stages) == {*one.stages, "training features"}
    codes = {name: code for name, code in CODES.items() if name != "ensemble"}
    assert lines(tmp_path, codes=codes)[1] == [] and OTHERS not in "".join(lines(tmp_path, codes=codes)[0])
    at = tmp_path / "features" / PLACE / stage_names(two.description)["training features"] / "features.json"
    rewrite(at, lambda content: content["stage"].update(threads=7))
    problems = lines(tmp_path)[1]
    assert len(problems) == 2
    assert any("DIFFERS: stages.training features.threads: stored 1, found 7" in line for line in problems)
    assert any("DIFFERS: stages.features.threads: stored 1, found 7" in line for line in problems)


def test_f_of_another_epoch_is_not_the_one_that_was_used(results) -> None:
    (file,) = (results.root / "training").rglob("f.safetensors")
    tensors = load_file(file)
    save_file({key.replace("2.", "1."): value for key, value in tensors.items()}, file)
    assert line_of(results.runs[2], results).endswith("f.safetensors has no f of epoch 2")


def test_a_reason_is_said_once(results) -> None:
    """Members that share a lost file."""
    (results.runs[0] / "scores.safetensors").unlink()
    for line in lines(results.root)[0]:
        reasons = line.split(": ", 2)[-1].split("; ")
        assert len(reasons) == len(set(reasons)), line


@pytest.mark.parametrize("forge", [True, False])
@pytest.mark.parametrize(
    ("tensor", "place", "said"),
    [
        ("image", 3, "image score 3: stored"),
        ("patch", (1, 2, 3), "image score 1: stored"),
        ("label", 4, "label of test image 4: stored 0, the manifest has 1"),
        ("image_pairs", (2, 0), "image_pairs[2, 0]: stored"),
        ("pixel_pairs", (2, 0), "pixel_pairs[2, 0]: stored"),
        ("pixel_negatives", 1, "pixel_negatives[1]: stored"),
        ("image_positives", 2, "image_positives[2]: stored"),
    ],
)
def test_changed_scores_differ(tensor, place, said, forge, results) -> None:
    """By their digest; and where that is forged, because numbers do not follow from them."""
    folder = results.runs[2]

    def change(tensors: dict[str, np.ndarray]) -> None:
        tensors[tensor][place] = 0 if tensor == "label" else tensors[tensor][place] + 5

    edit_scores(folder, change, forge)
    line = line_of(folder, results)
    name = f"{folder.relative_to(results.root)}/scores.safetensors"
    assert line.startswith("DIFFERS: ") and said in line
    assert (f"digest of {name}: stored" in line) is not forge


def test_changed_scores_of_a_member_show_in_the_ensemble(results) -> None:
    def change(tensors: dict[str, np.ndarray]) -> None:
        tensors["image"][0] += 5

    edit_scores(results.runs[0], change, forge=True)
    for folder in results.ensembles:
        line = line_of(folder, results)
        assert line.startswith("DIFFERS: ") and "image score" in line
        assert f"digest of {results.runs[0].relative_to(results.root)}/scores.safetensors: stored" in line


def test_changed_training_scores_show_in_the_ensemble_that_uses_them(results) -> None:
    file = results.runs[1] / "training.safetensors"
    save_file({k: v * 2 for k, v in load_file(file).items()}, file)
    assert "image score" in line_of(
        results.ensembles[0], results
    ) and f"digest of {file.relative_to(results.root)}" in (line_of(results.ensembles[0], results))
    assert line_of(results.ensembles[1], results) == "ok"  # min-max does not look at them


@pytest.mark.parametrize("field", ["description", "flags", "data", "weights", "bank", "digests", "stages"])
def test_an_ensemble_must_follow_from_its_members(field, results) -> None:
    folder = results.ensembles[1]
    content = json.loads((folder / "record.json").read_text())[field]
    new = (
        [*content, "made up"] if isinstance(content, list) else content | {"made_up": {} if field == "stages" else "1"}
    )
    edit(folder, **{field: new})
    line = line_of(folder, results)
    assert line.startswith(f"DIFFERS: {field}") and "made up" in line.replace("made_up", "made up")


def test_a_member_swapped_for_another_does_not_fit_the_name(results) -> None:
    folder = results.ensembles[0]
    description = read_record(folder / "record.json").description
    members = [description["members"][0] | {"run": results.runs[2].name}, description["members"][1]]
    edit(folder, description=description | {"members": members})
    assert "digest in the ensemble's name: stored" in line_of(folder, results)
    edit(folder, description=description | {"members": [{"run": "../../../x"}]})
    assert line_of(folder, results) == "cannot be checked: description.members does not name runs"


def test_a_changed_mask_shows_in_every_record_that_used_it(results) -> None:
    (file,) = (results.root / "masks").rglob("masks.npy")
    masks = np.load(file)
    masks[3, 0, 0] ^= True
    np.save(file, masks)
    name = file.relative_to(results.root).as_posix()
    for folder in (*results.runs, *results.ensembles):
        line = line_of(folder, results)
        assert line.startswith(f"DIFFERS: digest of {name}: stored")
        assert any(said.startswith("pixel_positives[3]: stored") for said in check(folder)[0].differs)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda c: c["images"][TRAIN].update(label=1), "data.test_normal: stored 2, found 1"),
        (lambda c: c["images"][0].update(sha256="z"), "data.manifest: stored"),
        (lambda c: c["images"].pop(), "labels: stored of 5 images, the manifest has 4 test images"),
    ],
)
def test_a_changed_manifest_differs(change, said, results) -> None:
    """With a digest of its own that fits; one that does not makes it no manifest."""
    file = results.root / "index" / f"{PLACE}.json"
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))
    for folder in (*results.runs, *results.ensembles):
        line = line_of(folder, results)
        assert line.startswith("cannot be checked: ") and "its digest does not fit its images" in line
    file.write_text(manifest_json([Item(**row) for row in content["images"]]))
    assert all(line_of(folder, results).startswith("DIFFERS: ") for folder in (*results.runs, *results.ensembles))
    found, _ = check(results.runs[0])
    assert any(said in line for line in found.differs)


@pytest.mark.parametrize("name", ["bank/*/*/reconpatch*/bank.safetensors", "training/*/*/*/f.safetensors"])
def test_a_changed_bank_or_representation_differs(name, results) -> None:
    (file,) = results.root.glob(name)
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    what = "f" if file.name == "f.safetensors" else "what was used"
    said = f"DIFFERS: digest of {what} in {file.relative_to(results.root)}: stored"
    assert line_of(results.runs[2], results).startswith(said) and line_of(results.runs[0], results) == "ok"


@pytest.mark.parametrize("stage", ["features", "training", "bank"])
def test_what_a_record_says_of_a_stage_is_what_the_stage_wrote(stage, results) -> None:
    folder = results.runs[2]
    stages = read_record(folder / "record.json").stages
    edit(folder, stages=stages | {stage: stages[stage] | {"commit": "f" * 40}})
    assert line_of(folder, results).startswith(f"DIFFERS: stages.{stage}.commit: stored ffffffffffff, found")


NEEDED = {
    "index/mine/nut.json": range(5),
    "masks/*/*/*/masks.npy": range(5),
    "bank/*/*/reconpatch*/bank.safetensors": [2],
    "bank/*/*/reconpatch*/bank.json": [2],
    "training/*/*/*/f.safetensors": [2],
    "training/*/*/*/training.json": [2],
    "features/*/*/resnet34*/features.json": [1],
    "runs/*/*/*resnet34*/scores.safetensors": [1, 3, 4],
    "runs/*/*/*resnet34*/training.safetensors": [3],
    "ensembles/*/*/*zscore*/scores.safetensors": [3],
}


@pytest.mark.parametrize("how", ["missing", "empty", "truncated", "a folder", "text"])
@pytest.mark.parametrize("name", NEEDED)
def test_without_a_file_nothing_is_ok_that_needs_it(name, how, results) -> None:
    """Named, never a crash; damaged files of which a digest is known differ, others cannot be checked."""
    (file,) = results.root.glob(name)
    content = file.read_bytes()
    file.unlink()
    if how == "a folder":
        file.mkdir()
    elif how != "missing":
        file.write_bytes({"empty": b"", "truncated": content[: len(content) // 2], "text": b"hello"}[how])
    relative = file.relative_to(results.root).as_posix()
    folders = [*results.runs, *results.ensembles]
    for n, folder in enumerate(folders):
        line = line_of(folder, results)
        if n not in NEEDED[name]:
            assert line == "ok"
        elif how in ("missing", "a folder"):
            assert line.startswith("cannot be checked: ") and f"{relative} is missing" in line
        else:
            assert line.startswith(("cannot be checked: ", "DIFFERS: ")) and relative in line
            found, _ = check(folder)
            hashed = relative.endswith(("scores.safetensors", "training.safetensors", ".npy"))
            assert bool(found.differs) is hashed and (hashed or found.missing)


def test_a_lost_record_is_missed_by_the_table_and_leaves_its_scores_over(results) -> None:
    (results.runs[2] / "record.json").unlink()
    said, problems = lines(results.root)
    name = results.runs[2].relative_to(results.root).as_posix()
    assert f"{name}/scores.safetensors: left over, belongs to no result" in said
    (line,) = [line for line in problems if line.startswith("tables/small.csv")]
    assert f"{name}/record.json is missing" in line
    assert said[-1].endswith("2 files left over")


def test_leftovers_are_named_and_no_problem(results) -> None:
    (results.runs[0] / ".record.12.tmp.json").write_text("{")
    (results.root / "runs" / PLACE / "nothing").mkdir()
    said, problems = lines(results.root)
    assert problems == [] and said[-1].endswith("; 1 file left over")
    assert f"{results.runs[0].relative_to(results.root)}/.record.12.tmp.json: left over, belongs to no result" in said


@pytest.mark.parametrize(
    "content", ["", "{", "[" * 10**5, '{"schema_version": 1}', "NaN", '{"digest": "x", "seed": 1e999}']
)
def test_an_unreadable_record_is_named_and_the_others_are_checked(content, results) -> None:
    (results.runs[2] / "record.json").write_text(content)
    said, problems = lines(results.root / "runs")
    name = f"{results.runs[2].relative_to(results.root)}/record.json"
    assert len(problems) == 1 and problems[0].startswith(f"{name}: cannot be checked: {name}: ")
    assert said[-1] == "3 records: 2 ok, 0 rounding, 0 DIFFERS, 1 cannot be checked"


HOSTILE = {
    "crop": [10**9, -1, 24.0, "24", None, [24]],
    "blur": [1e300, -1, "2", None, 10**30],
    "backbone": ["../../../etc", 7, {"a": 1}],
    "levels": [{"x": [1] * 100}, "2"],
    "coreset": [0, 1e300, "x", [], None],
    "method": ["../x", None, 3],
    "augment": ["drawn", 1, []],
    "members": [[], [1], {}, "x"],
    "weights": [None, []],
}


@pytest.mark.parametrize(("key", "value"), [(k, v) for k, values in HOSTILE.items() for v in values])
def test_hostile_settings_are_never_ok_and_never_a_crash(key, value, results) -> None:
    folder = results.runs[2]
    edit(folder, description=read_record(folder / "record.json").description | {key: value})
    said, problems = lines(folder)
    assert len(problems) == 1 and len(problems[0]) < 3000 and "0 ok" in said[-1]


@pytest.mark.parametrize(
    "change",
    [
        lambda t: t.pop("patch"),
        lambda t: t.pop("pixel_pairs"),
        lambda t: t.update(patch=t["patch"][:3]),
        lambda t: t.update(patch=t["patch"].reshape(5, 36)),
        lambda t: t.update(patch=np.zeros((5, 0, 6), np.float32)),
        lambda t: t.update(image=t["image"].reshape(5, 1)),
        lambda t: t.update(label=t["label"].astype(np.float32)),
        lambda t: t.update(label=np.array(1)),
        lambda t: t.update(image=t["image"] * np.nan),
        lambda t: t.update(image_pairs=t["image_pairs"][:2]),
        lambda t: {t.update({k: v[:0]}) for k, v in list(t.items())},
    ],
)
@pytest.mark.parametrize("which", ["run", "ensemble"])
def test_saved_scores_of_wrong_shape_or_kind_are_named(change, which, results) -> None:
    folder = results.runs[0]
    edit_scores(folder, change, forge=True)
    line = line_of(folder if which == "run" else results.ensembles[0], results)
    assert f"{folder.relative_to(results.root)}/scores.safetensors" in line and not line.startswith(("ok", "rounding"))
    found, _ = check(folder)
    assert any(f"{folder.relative_to(results.root)}/scores.safetensors" in said for said in found.missing)


@pytest.mark.parametrize(
    "array",
    [np.zeros((5, 24, 24), np.uint8), np.zeros((5, 24), bool), np.zeros((0, 24, 24), bool), np.zeros((5, 9, 9), bool)],
)
def test_masks_of_wrong_shape_or_kind_are_named(array, results) -> None:
    (file,) = (results.root / "masks").rglob("masks.npy")
    np.save(file, array)
    found, _ = check(results.runs[0])
    assert len(found.missing) == 1 and ("masks.npy" in found.missing[0] or "masks of (9, 9) px" in found.missing[0])


def test_an_array_of_objects_is_not_unpickled(results, tmp_path) -> None:
    class Trap:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "sprung",))

    (file,) = (results.root / "masks").rglob("masks.npy")
    np.save(file, np.array([Trap()], object), allow_pickle=True)
    assert "cannot be read" in check(results.runs[0])[0].missing[0] and not (tmp_path / "sprung").exists()


def without_usage(file: Path) -> object:
    """Content of a JSON file but for time and memory, which a stage that is run again changes."""

    def strip(value: object) -> object:
        return {k: strip(v) for k, v in value.items() if k not in USAGE} if isinstance(value, dict) else value

    return strip(json.loads(file.read_text()))


@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_any_changed_byte_is_noticed(data, made, tmp_path_factory) -> None:
    """Of any file that is hashed; of JSON, any that changes its content, but for time and memory."""
    root = tmp_path_factory.mktemp("changed") / "results"
    shutil.copytree(made.root, root)
    names = [p for p in sorted(root.rglob("*")) if p.suffix in (".safetensors", ".npy", ".json") and p.is_file()]
    unused = made.runs[2].name + "/training.safetensors"  # of no ensemble
    file = data.draw(st.sampled_from([p for p in names if not str(p).endswith((unused, "training.json"))]))
    content = bytearray(file.read_bytes())
    content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    file.write_bytes(content)
    problems = lines(root / "runs")[1] + lines(root / "ensembles")[1]
    if not problems:
        original = made.root / file.relative_to(root)
        assert file.suffix == ".json" and without_usage(file) == without_usage(original)


def read_table(file: Path) -> list[dict[str, str]]:
    with file.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def write_rows(file: Path, rows: list[dict[str, str]]) -> None:
    with file.open("w", newline="", encoding="utf-8") as stream:
        table = csv.DictWriter(stream, list(rows[0]), lineterminator="\n")
        table.writeheader()
        table.writerows(rows)


@pytest.mark.parametrize("column", ["value", "low", "high", "difference"])
@pytest.mark.parametrize("row", [0, 3, 7, 12])
def test_a_changed_cell_is_named(column, row, results) -> None:
    rows = read_table(results.table)
    before = rows[row][column]
    if column == "difference":
        rows[row] |= {"paper": "0.5", column: str(float(rows[row]["value"]) - 0.5 + 1e-4)}
    elif not before:
        rows[row][column] = "0.5"  # an interval where there is none
    else:
        rows[row][column] = str(float(before) + 1e-4)
    write_rows(results.table, rows)
    (line,) = lines(results.root)[1]
    where = (
        f"nut, {rows[row]['place']}, {rows[row]['method']} {rows[row]['metric']} {column}: stored {rows[row][column]}"
    )
    assert line.startswith(f"tables/small.csv: DIFFERS: {where[:-3]}") and "; " not in line


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"flags": "untrained (random) weights"}, "flags: stored untrained (random) weights, found "),
        ({"seeds": "1"}, "seeds: stored 1, found 0"),
        ({"value": "high"}, "value: stored inf, recomputed"),
        ({"metric": "image_accuracy"}, "no record it names gives this row"),
        ({"runs": "none-1"}, "image_auroc value: stored 0.8333333333333334, recomputed undefined"),
        ({"links": "runs/../../x/record.json"}, "leaves out the record of method=patchcore_backbone=resnet18-b26f0d33"),
        ({"links": "", "value": ""}, "nut, 0: leaves out the record of method=patchcore_backbone=resnet18-b26f0d33"),
        ({"categories": "2"}, "no record it names gives this row"),
    ],
)
def test_a_row_must_be_what_its_records_give(changes, said, results) -> None:
    rows = read_table(results.table)
    rows[0] |= changes
    write_rows(results.table, rows)
    (problem,) = lines(results.root)[1]
    assert problem.startswith("tables/small.csv: DIFFERS: ") and said in problem


@pytest.mark.parametrize("row", [0, 5, 13])
def test_a_row_that_is_left_out_is_missed(row, results) -> None:
    rows = read_table(results.table)
    gone = rows.pop(row)
    write_rows(results.table, rows)
    where = f"nut, {gone['place']}, {gone['method']} {gone['metric']}"
    problems = lines(results.root)[1]
    assert problems == [f"tables/small.csv: DIFFERS: lacks a row that its records give: {where}"]


@pytest.mark.parametrize("column", ["sd", "high", "links", "difference", "paper", "reasons"])
def test_a_table_without_one_of_its_columns_is_none(column, results) -> None:
    rows = read_table(results.table)
    write_rows(results.table, [{key: value for key, value in row.items() if key != column} for row in rows])
    (problem,) = lines(results.root)[1]
    assert problem == f"tables/small.csv: cannot be checked: tables/small.csv lacks the columns {column}"


def test_a_row_that_names_another_run_has_that_runs_numbers(results) -> None:
    rows = read_table(results.table)
    for row in rows[:3]:  # all metrics of the first place
        row |= {key: rows[3][key] for key in ("runs", "links", "flags")}
    write_rows(results.table, rows)
    (problem,) = lines(results.root)[1]
    assert "DIFFERS: nut, 0, patchcore image_auroc value: stored" in problem


@pytest.mark.parametrize("content", ["", "a\n1\n", "dataset,category\nmine\n", '"', "\x00", "dataset\n" + "x," * 50])
def test_a_table_that_is_none_is_named(content, results) -> None:
    results.table.write_text(content)
    (problem,) = lines(results.root)[1]
    assert problem.startswith("tables/small.csv: cannot be checked: tables/small.csv ")


@pytest.mark.parametrize("changes", [{"dataset": "../x"}, {"category": "a/b"}, {"runs": "../../x"}])
def test_a_table_cannot_point_out_of_the_results(changes, results) -> None:
    rows = read_table(results.table)
    rows[0] |= changes
    write_rows(results.table, rows)
    (problem,) = lines(results.root)[1]
    assert problem.startswith("tables/small.csv: cannot be checked: tables/small.csv: a ")


@pytest.mark.parametrize("text", [None, "no notes", "interval of 999999999 bootstrap draws"])
def test_intervals_need_the_number_of_draws_in_the_notes(text, results) -> None:
    notes = results.table.with_suffix(".md")
    notes.unlink() if text is None else notes.write_text(text)
    (problem,) = lines(results.root)[1]
    assert problem.startswith("tables/small.csv: cannot be checked: tables/small.md ")


def test_a_changed_cost_is_no_runs(results) -> None:
    file = results.root / "tables/costs.csv"
    rows = read_table(file)
    rows[1]["coreset, s"] = "0.1"
    write_rows(file, rows)
    assert lines(results.root)[1] == ["tables/costs.csv: DIFFERS: row 2: no record has these costs"]


def test_results_of_other_code_are_ok_but_said_to_be(results) -> None:
    """Drift is no tampering: other code, packages or settings are named, and nothing fails."""
    said, problems = lines(results.root, codes=CODES | {"bank": "x", "ensemble": "y"}, planned=[])
    assert problems == []
    first = next(line for line in said if "patchcore_backbone=resnet18" in line)
    drift = "other code of bank; no run of this configuration: give its overlays with --configfile"
    assert first.endswith(f": ok | {OTHERS}: {drift}")
    ensemble = next(line for line in said if "zscore" in line)
    assert f"{OTHERS}: other code of ensemble, 0 bank, 1 bank" in ensemble
    assert said[-1].endswith(f"5 {OTHERS}")
    planned = [folder.relative_to(results.root).as_posix() for folder in (*results.runs, *results.ensembles)]
    assert not any("today" in line for line in lines(results.root, codes=CODES, planned=planned)[0])


def test_other_packages_than_installed_are_named(results) -> None:
    folder = results.runs[0]
    stages = read_record(folder / "record.json").stages
    packages = stages["score"]["packages"] | {"numpy": "0.1", "made-up": "3"}
    edit(folder, stages=stages | {"score": stages["score"] | {"packages": packages, "python": "2.7"}})
    line = line_of(folder, results, codes=CODES)
    now = f"numpy 0.1, now {np.__version__}; Python 2.7, now {platform.python_version()}"
    assert line == f"ok | {OTHERS}: made-up 3, now not installed; {now}"


def test_codes_are_those_the_workflow_gives_its_rules(tmp_path) -> None:
    scripts = ROOT / "workflow/scripts"
    assert stage_codes(scripts) == {stage: code_digest(scripts / f"{stage}.py") for stage in RECORDED}
    with pytest.raises(ReconpatchError, match="call this from the root of the repository"):
        stage_codes(tmp_path)


def test_a_row_of_another_place_or_method_than_its_run_is_named(results) -> None:
    """Rows can be exchanged with everything that they name: only the settings tell."""
    rows = read_table(results.table)
    for row in rows:
        row["method"] = "patchcore"
    write_rows(results.table, rows)
    (problem,) = lines(results.root)[1]
    said = "nut, method patchcore: the record of backbone=resnet18_weights=random-4304e46c has reconpatch"
    assert problem == f"tables/small.csv: DIFFERS: {said}"


def test_labels_that_settings_have_are_compared_in_the_plan_of_every_experiment() -> None:
    """No label of the workflow's own tables is taken for another than its run's; a wrong one is."""
    config = read_config(yaml.safe_load(CONFIG.read_text()))
    known = 0
    for name, file in config.experiments.items():
        for row in expand(name, read_experiment(ROOT / file), config)[0]:
            held = description(row.run, "score")
            for key, label in row.labels.items():
                known += key in held
                assert is_at_place(held, key, str(label)), (name, key, label)
                assert key not in held or key in DERIVED or not is_at_place(held, key, f"{label}9"), (name, key, label)
    assert known > 50
    assert is_at_place({"dim": 64, "members": []}, "dim", "ensemble")  # its place is labelled otherwise
