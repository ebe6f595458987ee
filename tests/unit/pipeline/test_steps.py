"""The steps on a few small images: what the fixture `real_results` made with them."""

from contextlib import chdir
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from real_results import of_stage, real_plan
from safetensors.numpy import load_file
from scipy.ndimage import gaussian_filter, zoom
from sklearn.metrics import roc_auc_score

from reconpatch.experiments.run import of_training
from reconpatch.experiments.stages import description
from reconpatch.files import sha256_of
from reconpatch.pipeline.coreset import CoresetFiles, select_coreset
from reconpatch.pipeline.job import Job
from reconpatch.pipeline.training_scores import TrainingScoreFiles, score_training
from reconpatch.records.record import Record, read_record, read_stage

NUT = {"dataset": "mine", "category": "nut"}


def records(results: Path, experiment: str) -> list[Record]:
    """Records of an experiment on `nut`, in the order of its table."""
    plan = real_plan(results)
    kinds = {name: "runs" if name in plan.runs else "ensembles" for name in plan.members(experiment)}
    return [read_record(results / f"results/{kind}/mine/nut/{name}/record.json") for name, kind in kinds.items()]


def scores(results: Path, record: Record, file: str = "scores") -> dict[str, Any]:
    kind = "ensembles" if record.combine else "runs"
    return load_file(results / f"results/{kind}/mine/nut/{record.run}/{file}.safetensors")


def test_a_score_is_the_distance_to_the_nearest_row_of_the_bank_and_a_map_its_smooth_enlargement(real_results) -> None:
    """From the files of the stages to the metrics of the record, by loops, scipy and scikit-learn."""
    plan = real_plan(real_results)
    for record in records(real_results, "tiny") + records(real_results, "choices"):
        run = plan.runs[record.run]
        with chdir(real_results):
            features = np.load(of_stage(run, NUT, "features", "test")).astype(np.float64)
            bank = load_file(of_stage(run, NUT, "bank", "bank"))
            masks = np.load(of_stage(run, NUT, "masks", "masks"))
        if run.method != "patchcore":
            represented = features @ bank["f.weight"].T.astype(np.float64) + bank["f.bias"]
        else:
            represented = features.reshape(*features.shape[:3], run.dim, -1).mean(-1)
        rows = bank["memory_bank"][: int(run.coreset * 64)]
        assert record.bank.model_dump() == {"patches": len(rows), "of": 64, "grid": [4, 4]}
        squared = ((represented[..., None, :] - rows) ** 2).sum(-1).min(-1)
        patch = squared if run.distance == "squared" else np.sqrt(squared)
        saved = scores(real_results, record)
        np.testing.assert_allclose(saved["patch"], patch, rtol=1e-3, atol=1e-4)
        np.testing.assert_array_equal(saved["image"], saved["patch"].max((1, 2)))
        assert record.metrics["image_auroc"] == pytest.approx(roc_auc_score(saved["label"], saved["image"]))
        enlarged = [zoom(each, run.crop / 4, order=1, mode="nearest", grid_mode=True) for each in saved["patch"]]
        maps = np.stack([gaussian_filter(each, run.blur) for each in enlarged])
        assert record.metrics["pixel_auroc"] == pytest.approx(roc_auc_score(masks.ravel(), maps.ravel()), abs=2e-3)


def test_a_record_holds_the_digests_of_the_files_it_was_made_from(real_results) -> None:
    plan = real_plan(real_results)
    for record in records(real_results, "tiny"):
        run = plan.runs[record.run]
        files = {
            "train_features": of_stage(of_training(run), NUT, "features", "train"),
            "test_features": of_stage(run, NUT, "features", "test"),
            "validation_features": of_stage(run, NUT, "features", "validation"),
            "masks": of_stage(run, NUT, "masks", "masks"),
            "defects": of_stage(run, NUT, "masks", "defects"),
            "scores": Path(f"results/runs/mine/nut/{record.run}/scores.safetensors"),
        }
        digests = {name: sha256_of(real_results / file) for name, file in files.items()}
        assert digests.items() <= record.digests.items()
        assert set(record.digests) - set(digests) == {"bank"} | ({"f"} if run.method == "reconpatch" else set())
        trained = {"training"} if run.method == "reconpatch" else set()
        assert set(record.stages) == {"features", "bank", "score"} | trained
        assert record.data.model_dump(exclude={"manifest"}) == {
            **{"layout": "mvtec_ad", "train": 4, "test_normal": 3, "test_anomalous": 3, "validation": 0, "masks": 3}
        }


def test_training_images_are_scored_with_the_distances_of_their_run(real_results, tmp_path) -> None:
    """Of patches in the bank 0, of others squares or not."""
    plan, made = real_plan(real_results), records(real_results, "choices")
    run = next(plan.runs[record.run] for record in made if plan.runs[record.run].distance == "squared")
    with chdir(real_results):
        train, bank = of_stage(run, NUT, "features", "train").absolute(), of_stage(run, NUT, "bank", "bank").absolute()
    patch = {}
    for distance in ("euclidean", "squared"):
        described = description(run.model_copy(update={"distance": distance}), "score")
        score_training(Job("x", StringIO()), TrainingScoreFiles(train, bank, tmp_path / distance), described)
        patch[distance] = load_file(tmp_path / distance)["patch"]
    np.testing.assert_allclose(patch["squared"], patch["euclidean"] ** 2, rtol=1e-5)
    assert patch["squared"].max() > 0


def test_smaller_coresets_are_the_first_rows_of_the_largest(real_results, tmp_path) -> None:
    """A bank made for the smaller ratio alone gives the same digest."""
    plan = real_plan(real_results)
    record = next(r for r in records(real_results, "tiny") if r.bank.patches == 6)
    run = plan.runs[record.run]
    with chdir(real_results):
        files = CoresetFiles(
            of_stage(of_training(run), NUT, "features", "train").absolute(),
            of_stage(of_training(run), NUT, "features", "facts").absolute(),
            None,
            tmp_path / "bank.safetensors",
            tmp_path / "bank.json",
        )
    assert run.method == "patchcore"
    select_coreset(Job("x", StringIO()), files, record.description, run.coreset)
    with chdir(real_results):
        larger = load_file(of_stage(run, NUT, "bank", "bank"))
    smaller = load_file(files.bank)
    assert len(smaller["order"]) == 6 < len(larger["order"]) == 32
    np.testing.assert_array_equal(smaller["memory_bank"], larger["memory_bank"][:6])
    assert read_stage(files.facts).digests["train_features"] == record.digests["train_features"]


def test_an_ensemble_is_the_mean_of_its_members_normalised_scores(real_results) -> None:
    made = records(real_results, "combined")
    members = [record for record in made if not record.combine]
    assert len(members) == 2
    expected = {"zscore": 0.0, "minmax": 0.0}
    for member in members:
        image = scores(real_results, member)["image"].astype(float)
        reference = scores(real_results, member, "training")["image"].astype(float)
        deviation = 1.4826 * np.median(abs(reference - np.median(reference)))
        expected["zscore"] += (image - np.median(reference)) / deviation / 2
        expected["minmax"] += (image - image.min()) / np.ptp(image) / 2
    for record in made:
        if record.combine:
            got = scores(real_results, record)["image"]
            np.testing.assert_allclose(got, expected.pop(record.combine), rtol=1e-4, atol=1e-5)
            assert [member.run for member in record.members] == [member.run for member in members]
    assert not expected


def test_runs_share_what_augmentation_leaves_as_it_is(real_results) -> None:
    made = {r.description.get("augment", "none"): r for r in records(real_results, "augmented")}
    none, test, both = made["none"], made["test"], made["both"]
    assert none.stages["training"] == test.stages["training"] != both.stages["training"]
    assert none.digests["train_features"] == test.digests["train_features"] != both.digests["train_features"]
    assert none.digests["test_features"] != test.digests["test_features"] == both.digests["test_features"]
    assert none.digests["bank"] == test.digests["bank"] and none.digests["f"] == test.digests["f"]
    assert none.training_features is both.training_features is None
    assert test.training_features == none.stages["features"]
    assert len({record.metrics["pixel_auroc"] for record in made.values()}) == 3
