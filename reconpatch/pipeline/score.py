"""The step that scores the test images of a category with one run's memory bank and writes the record."""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NotRequired, TypedDict

import numpy as np
from safetensors.numpy import save_file

from reconpatch.data.layouts import Item
from reconpatch.data.manifest import read_manifest
from reconpatch.data.published import record_flags
from reconpatch.errors import ReconpatchError
from reconpatch.files import replacing, sha256_of
from reconpatch.method.memory_bank import MemoryBank, coreset_size
from reconpatch.method.metrics import evaluate
from reconpatch.method.scoring import anomaly_maps, score_features
from reconpatch.pipeline.job import Job
from reconpatch.records.provenance import bank_digests, stage_facts
from reconpatch.records.record import Bank, Data, Record, read_stage, write_record
from reconpatch.runtime import take_device


@dataclass(frozen=True)
class ScoreFiles:
    """What the step reads: manifest, features of the test images, masks, memory bank, and the facts of the stages
    before it, of the training where the run has one. What it writes: the record and the scores.
    """

    manifest: Path
    test: Path
    masks: Path
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
    crop: int
    coreset: float
    neighbours: int
    reweight: str | None
    blur: float
    augment: NotRequired[str]


def score_run(job: Job, files: ScoreFiles, run: ScoreSettings, target: Target) -> None:
    """Features of the test images, masks, memory bank, a run's settings -> scores and record."""
    take_device(job.device, job.note)
    items, manifest_digest = read_manifest(files.manifest)
    labels = np.array([item.label for item in items if item.split == "test"])
    features, masks = np.load(files.test, mmap_mode="r"), np.load(files.masks)
    whole = MemoryBank.load(files.bank)
    bank = whole.first(coreset_size(whole.training_patches, run["coreset"]))
    began = time.perf_counter()
    image, patch, device = score_features(
        features,
        bank,
        neighbours=run["neighbours"],
        reweight_map=run["reweight"] == "map",
        threads=job.threads,
        device=job.device,
    )
    maps = anomaly_maps(patch, run["crop"], run["blur"])
    seconds = round((time.perf_counter() - began) / len(labels), 6)
    metrics, wins = evaluate(image, labels, maps, masks)
    with replacing(files.scores) as temporary:
        save_file({"image": image, "patch": np.ascontiguousarray(patch), "label": labels} | wins, temporary)
        digests = {"scores": sha256_of(temporary), "masks": sha256_of(files.masks)}
    features_facts, bank_facts = read_stage(files.features), read_stage(files.bank_facts)
    if features_facts.weights is None:
        raise ReconpatchError(
            "does not say which weights made the features", where=files.features, fix="remove its folder"
        )
    stages = {"features": features_facts.stage, "bank": bank_facts.stage}
    if files.training is not None:
        stages["training"] = read_stage(files.training).stage
    stages["score"] = stage_facts(
        job.code, job.threads, device, job.usage(), folder=target.run, s_per_image={"test": seconds}
    )
    digests["test_features"] = features_facts.digests["test_features"]
    digests["train_features"] = bank_facts.digests["train_features"]
    record = Record(
        dataset=target.dataset,
        category=target.category,
        run=target.run,
        seed=run["seed"],
        description=dict(run),
        metrics=metrics,
        flags=record_flags(run["weights"], target.layout, target.category, items),
        data=_data(target.layout, manifest_digest, items),
        weights=features_facts.weights,
        bank=Bank(patches=len(bank.patches), of=bank.training_patches, grid=list(patch.shape[1:])),
        masks=files.masks.parent.name,
        digests=digests | bank_digests(bank),
        stages=stages,
        # Where only the test images are augmented, the bank is made of other features than those that are scored.
        training_features=bank_facts.features if run.get("augment") == "test" else None,
    )
    write_record(files.record, record)
    job.note(json.dumps(metrics))


def _data(layout: str, manifest_digest: str, items: Sequence[Item]) -> Data:
    tests = [item for item in items if item.split == "test"]
    return Data(
        layout=layout,
        manifest=manifest_digest,
        train=len(items) - len(tests),
        test_normal=sum(item.label == 0 for item in tests),
        test_anomalous=sum(item.label == 1 for item in tests),
        masks=sum(item.mask is not None for item in tests),
    )
