"""A folder of results made for tests by the functions the workflow uses, with random scores instead of networks."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from safetensors.numpy import load_file, save_file

from reconpatch.data.layouts import Item
from reconpatch.data.manifest import manifest_json
from reconpatch.data.published import Flag
from reconpatch.experiments.config import read_config
from reconpatch.experiments.plan import run_name, stage_name
from reconpatch.experiments.run import Run, description, digest, of_training
from reconpatch.files import sha256_of, write_text
from reconpatch.method.ensemble import combine_runs
from reconpatch.method.memory_bank import MemoryBank, Representation, coreset_size
from reconpatch.method.metrics import evaluate
from reconpatch.method.scoring import anomaly_maps, image_scores
from reconpatch.records.provenance import bank_digests, stage_facts
from reconpatch.records.record import (
    Bank,
    Data,
    Record,
    StageFile,
    Weights,
    combined_record,
    read_record,
    write_record,
    write_stage,
)
from reconpatch.results.make_table import write_table

CONFIG = Path(__file__).parents[1] / "configs/default.yaml"
TRAIN, GRID, DATASET, CATEGORY = 4, (6, 6), "mine", "nut"
LABELS = np.array([0, 0, 1, 1, 1])
USAGE = {"wall_s": 1.5, "start_s": 0.5, "cpu_s": 2.0, "peak_mb": 100.0}


@cache
def _baseline() -> Run:
    return read_config(yaml.safe_load(CONFIG.read_text())).baseline


def run_of(**changes: Any) -> Run:
    """The baseline of the configuration, made small, with changes."""
    baseline = _baseline()
    small = {"resize": 32, "crop": 24, "dim": 8, "feature_dim": 16, "coreset": 0.1, "blur": 2.0, "epochs": 2}
    return Run.model_validate(baseline.model_dump() | small | changes)


def items_of() -> list[Item]:
    """Images of which nothing is to be remarked."""
    plain = {"mode": "RGB", "format": "PNG", "width": 24, "height": 24}
    items = [Item(f"train/good/{n}.png", "train", 0, "good", None, f"t{n}", **plain) for n in range(TRAIN)]
    for n, label in enumerate(LABELS):
        defect = "bad" if label else "good"
        item = Item(f"test/{defect}/{n}.png", "test", int(label), defect, None, f"x{n}", **plain)
        items.append(replace(item, mask=f"ground_truth/bad/{n}.png", mask_pixels=42) if label else item)
    return items


@dataclass
class Results:
    """The folder, and the folders of the runs and ensembles in it."""

    root: Path
    runs: list[Path]
    ensembles: list[Path]
    table: Path

    def record(self, folder: Path) -> Record:
        return read_record(folder / "record.json")


def code(stage: str) -> str:
    """Digest that stands for a stage's code."""
    return digest(stage, 16)


def _facts(folder: Path, stage: str, **more: Any) -> StageFile:
    """Write what a stage says of itself."""
    images = {"train": 0.1, "test": 0.1} if stage == "features" else {}
    own = stage_facts(code(stage), 1, "cpu", USAGE, folder=folder.name, s_per_image=images)
    facts = StageFile(stage=own, **more)
    write_stage(folder / f"{stage}.json", facts)
    return facts


def _save(tensors: dict[str, Any], file: Path) -> str:
    file.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, file)
    return sha256_of(file)


def write_run(root: Path, run: Run, ratio: float = 0, checkpoints: Sequence[int] = ()) -> Path:
    """Everything a run leaves behind, with the bank and the checkpoints that other runs want besides."""
    name = run_name(run, run_of())
    rng = np.random.default_rng(list(map(ord, name)))
    below = f"{DATASET}/{CATEGORY}"
    masks = np.zeros((len(LABELS), run.crop, run.crop), bool)
    masks[LABELS == 1, 4:10, 5:12] = True
    mask_file = root / "masks" / below / stage_name(run, "masks") / "masks.npy"
    mask_file.parent.mkdir(parents=True, exist_ok=True)
    np.save(mask_file, masks)

    weights = Weights(source=run.weights, sha256=digest(run.backbone, 64))
    at = root / "features" / below / stage_name(run, "features")
    drawn = run.augment != "none"
    made = {f"{part}_features": digest([run.backbone, part, drawn], 64) for part in ("train", "test")}
    stages = {"features": _facts(at, "features", digests=made, weights=weights)}
    training, weight, bias, drawn_side = of_training(run), None, None, None
    shared = np.random.default_rng(list(map(ord, stage_name(training, "bank"))))  # by runs with this bank
    digests, side = {"test_features": made["test_features"]}, stages["features"]
    if run.augment == "test":
        at = root / "features" / below / stage_name(training, "features")
        plain = {f"{part}_features": digest([run.backbone, part, False], 64) for part in ("train", "test")}
        side = drawn_side = _facts(at, "features", digests=plain, weights=weights)
    digests["train_features"] = side.digests["train_features"]
    if run.method == "reconpatch":
        weight, bias = shared.standard_normal((run.dim, run.feature_dim), np.float32), np.zeros(run.dim, np.float32)
        at = root / "training" / below / stage_name(training, "training")
        epochs = dict.fromkeys([2, *checkpoints])
        _save(
            {f"{n}.{part}": a for n in epochs for part, a in (("weight", weight), ("bias", bias))}, at / "f.safetensors"
        )
        stages["training"] = _facts(at, "training", epochs=[])
    offered = TRAIN * GRID[0] * GRID[1]
    size = coreset_size(offered, run.coreset)
    patches = shared.standard_normal((offered, run.dim), np.float32)[: coreset_size(offered, ratio or run.coreset)]
    bank = MemoryBank(patches, np.arange(len(patches)), Representation(run.dim, weight, bias), offered)
    at = root / "bank" / below / stage_name(training, "bank")
    at.mkdir(parents=True, exist_ok=True)
    bank.save(at / "bank.safetensors")
    made_from = {"train_features": digests["train_features"]}
    stages["bank"] = _facts(at, "bank", digests=made_from, features=side.stage)

    folder = root / "runs" / below / name
    raw = rng.random((len(LABELS) + TRAIN, *GRID), np.float32) + 1
    image, patch = image_scores(raw, np.ones_like(raw), run.reweight == "map")
    train = slice(len(LABELS), None)
    test = slice(0, len(LABELS))
    _save({"image": image[train], "patch": patch[train].copy()}, folder / "training.safetensors")
    metrics, wins = evaluate(image[test], LABELS, anomaly_maps(patch[test], run.crop, run.blur), masks)
    tensors = {"image": image[test], "patch": patch[test].copy(), "label": LABELS} | wins
    digests |= bank_digests(bank.first(size))
    digests |= {"scores": _save(tensors, folder / "scores.safetensors"), "masks": sha256_of(mask_file)}
    record = Record(
        dataset=DATASET,
        category=CATEGORY,
        run=name,
        seed=run.seed,
        description=description(run, "score"),
        metrics=metrics,
        flags=[Flag("weights", "untrained (random) weights")] if run.weights == "random" else [],
        data=Data(
            layout="folder",
            manifest=json.loads(manifest_json(items_of()))["digest"],
            **{"train": TRAIN, "test_normal": 2, "test_anomalous": 3, "masks": 3},
        ),
        weights=weights,
        bank=Bank(patches=size, of=offered, grid=list(GRID)),
        masks=mask_file.parent.name,
        digests=digests,
        stages={stage: fact.stage for stage, fact in stages.items()}
        | {"score": stage_facts(code("score"), 1, "cpu", USAGE, folder=name, s_per_image={"test": 0.1})},
        training_features=drawn_side.stage if drawn_side else None,
    )
    write_record(folder / "record.json", record)
    return folder


def write_ensemble(root: Path, members: list[Path], how: str) -> Path:
    """Everything an ensemble leaves behind."""
    records = [read_record(member / "record.json") for member in members]
    references = [] if how == "minmax" else [member / "training.safetensors" for member in members]
    image, maps = combine_runs(
        [load_file(member / "scores.safetensors") for member in members],
        [load_file(file) for file in references],
        [(r.description["crop"], r.description["blur"]) for r in records],
        how,
    )
    mask_file = next((root / "masks").rglob("masks.npy"))
    metrics, wins = evaluate(image, LABELS, maps, np.load(mask_file))
    name = f"patchcore_ensemble={how}_seed=0-{digest([[r.run for r in records], how])}"
    folder = root / "ensembles" / DATASET / CATEGORY / name
    digests = {"masks": sha256_of(mask_file)}
    digests["scores"] = _save({"image": image, "label": LABELS} | wins, folder / "scores.safetensors")
    own = stage_facts(code("ensemble"), 1, "cpu", USAGE, folder=name)
    scored = [sha256_of(file) for file in references]
    record = combined_record(name, how, records, metrics, mask_file.parent.name, digests, own, scored)
    write_record(folder / "record.json", record)
    return folder


def write_tables(root: Path, records: list[Record], measure: str = "auroc", name: str = "small") -> Path:
    """A table of runs, a numbered place each."""
    places = [
        {"labels": {"place": n}, "method": r.description["method"], "seed": r.seed} | {"run": r.run, "departures": ()}
        for n, r in enumerate(records)
    ]
    settings = {"title": "Small", "caption": "", "measure": measure, "absent": "", "cells": places}
    settings |= {"targets": [(DATASET, CATEGORY)], "layouts": {DATASET: "folder"}, "resamples": 100, "tolerance": 0.2}
    return write_table(settings, None, root, name)[-1]


def write_results(root: Path) -> Results:
    """Three runs, two ensembles of two of them, a table of everything and one of costs."""
    write_text(root / "index" / DATASET / f"{CATEGORY}.json", manifest_json(items_of()))
    small = [run_of(method="patchcore", backbone=name) for name in ("resnet18", "resnet34")]
    runs = [
        write_run(root, run) for run in (*small, run_of(method="reconpatch", backbone="resnet18", weights="random"))
    ]
    ensembles = [write_ensemble(root, runs[:2], how) for how in ("zscore", "minmax")]
    made = [read_record(folder / "record.json") for folder in (*runs, *ensembles)]
    write_tables(root, made[:3], "cost", "costs")
    return Results(root, runs, ensembles, write_tables(root, made))
