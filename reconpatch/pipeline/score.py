"""The step that scores the test images of a category with one run's memory bank and writes the record."""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NotRequired, TypedDict

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from reconpatch.data.layouts import Item
from reconpatch.data.manifest import read_manifest
from reconpatch.data.published import anomaly_kinds, record_flags
from reconpatch.errors import ReconpatchError
from reconpatch.files import replacing, sha256_of
from reconpatch.method.memory_bank import MemoryBank, coreset_size
from reconpatch.method.metrics import Special, by_kind, evaluate, normal_threshold
from reconpatch.method.saturated import Defects
from reconpatch.method.scoring import Scored, anomaly_maps, score_features
from reconpatch.method.search import Engine, search_in
from reconpatch.pipeline.job import Job
from reconpatch.records.provenance import bank_digests, stage_facts
from reconpatch.records.record import Bank, Data, Record, StageFacts, Weights, read_stage, write_record
from reconpatch.runtime import take_device


@dataclass(frozen=True)
class ScoreFiles:
    """What the step reads: manifest, features of the test and of the validation images, masks, the defects one by one,
    memory bank, and the facts of the stages before it, of the training where the run has one. What it writes: the
    record and the scores.
    """

    manifest: Path
    test: Path
    validation: Path
    masks: Path
    defects: Path
    bank: Path
    features: Path
    bank_facts: Path
    training: Path | None
    record: Path
    scores: Path


@dataclass(frozen=True)
class Target:
    """What is scored: a category of a data set in a layout, and the name of the run."""

    dataset: str
    category: str
    run: str
    layout: str


class ScoreSettings(TypedDict):
    """The fields of a run that scoring looks at. It is handed all that its result depends on, for the record."""

    seed: int
    weights: str
    coreset: float
    neighbours: int
    reweight: str | None
    distance: str
    blur: float
    augment: NotRequired[str]


def score_run(job: Job, files: ScoreFiles, run: ScoreSettings, target: Target) -> None:
    """Features of the test images, masks, memory bank, a run's settings -> scores and record."""
    take_device(job.device, job.note)
    items, manifest_digest = read_manifest(files.manifest)
    tests = [item for item in items if item.split == "test"]
    labels, kinds = np.array([item.label for item in tests]), anomaly_kinds(target.layout, tests)
    whole = MemoryBank.load(files.bank)
    bank = whole.first(coreset_size(whole.training_patches, run["coreset"]))
    began = time.perf_counter()
    score = scorer(job, bank, run)
    image, patch, engine = score(np.load(files.test, mmap_mode="r"))
    masks = np.load(files.masks)
    maps = anomaly_maps(patch, masks.shape[1:], run["blur"])
    seconds = round((time.perf_counter() - began) / len(labels), 6)
    validation = np.load(files.validation, mmap_mode="r")
    normal = score(validation).patch if len(validation) else np.zeros((0, *patch.shape[1:]), np.float32)
    del score  # the metrics need the memory of its index
    measured = (image, labels, maps, masks)
    special: Special = {
        "defects": Defects.from_tensors(load_file(files.defects)),
        "threshold": normal_threshold(anomaly_maps(each[None], masks.shape[1:], run["blur"]) for each in normal),
    }
    metrics, wins = evaluate(*measured, **special)
    saved = {"image": image, "patch": np.ascontiguousarray(patch), "label": labels, "validation": normal} | wins
    with replacing(files.scores) as temporary:
        save_file({name: np.ascontiguousarray(array) for name, array in saved.items()}, temporary)
        digests = {"scores": sha256_of(temporary)} | bank_digests(bank)
    digests |= {"masks": sha256_of(files.masks), "defects": sha256_of(files.defects)}
    device, per_image = searched_on(engine), {"test": seconds}
    own = stage_facts(job.code, job.threads, device, job.usage(), folder=target.run, s_per_image=per_image)
    earlier = _EarlierStages.read(files)
    record = Record(
        dataset=target.dataset,
        category=target.category,
        run=target.run,
        seed=run["seed"],
        description=dict(run),
        metrics=metrics,
        kinds=by_kind(kinds, *measured, **special),
        flags=record_flags(run["weights"], target.layout, target.category, items),
        data=_data(target.layout, manifest_digest, items),
        weights=earlier.weights,
        bank=Bank(patches=len(bank.patches), of=bank.training_patches, grid=list(patch.shape[1:])),
        masks=files.masks.parent.name,
        digests=digests | earlier.digests,
        stages=earlier.stages | {"score": own},
        # Where only the test images are augmented, the bank is made of other features than those that are scored.
        training_features=earlier.training_features if run.get("augment") == "test" else None,
    )
    write_record(files.record, record)
    job.note(json.dumps(metrics))


class PatchSettings(TypedDict):
    """The fields of a run that say how patches are scored."""

    neighbours: int
    reweight: str | None
    distance: str


def scorer(job: Job, bank: MemoryBank, run: PatchSettings) -> Callable[[NDArray[Any]], Scored]:
    """A job, the memory bank as a run uses it, the run's settings -> what scores (N, H, W, C) patch features, with one
    search for all calls.
    """
    return partial(
        score_features,
        bank=bank,
        neighbours=run["neighbours"],
        reweight_map=run["reweight"] == "map",
        squared=run["distance"] == "squared",
        search=search_in(bank.patches, job.threads, job.device),
    )


def searched_on(engine: Engine) -> str:
    """What searched -> the device in a record: the GPU's name with the library, whose sums may differ, or cpu."""
    if engine == "faiss on the CPU":
        return "cpu"
    from reconpatch.device import name  # PyTorch, which a search on the CPU does without

    return f"{name('cuda')}, {engine.split()[0]}"


@dataclass(frozen=True)
class _EarlierStages:
    """What the stages before this one say of the weights, of the features and of themselves."""

    weights: Weights
    digests: dict[str, str]
    stages: dict[str, StageFacts]
    training_features: StageFacts | None

    @staticmethod
    def read(files: ScoreFiles) -> "_EarlierStages":
        features, bank = read_stage(files.features), read_stage(files.bank_facts)
        if features.weights is None:
            raise ReconpatchError(
                "does not say which weights made the features", where=files.features, fix="remove its folder"
            )
        stages = {"features": features.stage, "bank": bank.stage}
        if files.training is not None:
            stages["training"] = read_stage(files.training).stage
        digests = {
            "test_features": features.digests["test_features"],
            "validation_features": features.digests["validation_features"],
            "train_features": bank.digests["train_features"],
        }
        return _EarlierStages(features.weights, digests, stages, bank.features)


def _data(layout: str, manifest_digest: str, items: Sequence[Item]) -> Data:
    tests = [item for item in items if item.split == "test"]
    return Data(
        layout=layout,
        manifest=manifest_digest,
        train=sum(item.split == "train" for item in items),
        test_normal=sum(item.label == 0 for item in tests),
        test_anomalous=sum(item.label == 1 for item in tests),
        validation=sum(item.split == "validation" for item in items),
        masks=sum(bool(item.masks) for item in tests),
    )
