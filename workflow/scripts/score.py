"""Score the test images of one category with one run's memory bank and write the record."""

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from safetensors.numpy import save_file

from reconpatch.data.index import read_manifest
from reconpatch.data.remarks import record_flags
from reconpatch.files import replacing, sha256_of
from reconpatch.gpus import take_device
from reconpatch.method.evaluation import evaluate
from reconpatch.method.maps import anomaly_maps
from reconpatch.method.memory_bank import MemoryBank, coreset_size
from reconpatch.method.scoring import image_scores, patch_scores
from reconpatch.pipeline.job import job
from reconpatch.records.provenance import bank_digests, stage_facts
from reconpatch.records.record import Record, write_record

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

run, where = snakemake.params.run, snakemake.wildcards
with job(snakemake.log[0], f"score {where.dataset}/{where.category} {where.run}") as running:
    take_device(snakemake.config["device"], running.note)
    items, digest = read_manifest(Path(snakemake.input.manifest))
    tests = [item for item in items if item.split == "test"]
    labels = np.array([item.label for item in tests])
    features, masks = np.load(snakemake.input.test[0], mmap_mode="r"), np.load(snakemake.input.masks[0])
    whole = MemoryBank.load(Path(snakemake.input.bank[0]))
    bank = whole.first(coreset_size(whole.training_patches, run["coreset"]))
    began = time.perf_counter()
    distances, weights, scoring_device = patch_scores(
        features.reshape(-1, features.shape[-1]),
        bank,
        neighbours=run["neighbours"],
        threads=snakemake.threads,
        device=snakemake.config["device"],
    )
    grid = features.shape[:3]
    image, patch = image_scores(distances.reshape(grid), weights.reshape(grid), run["reweight"] == "map")
    maps = anomaly_maps(patch, run["crop"], run["blur"])
    taken = round((time.perf_counter() - began) / len(tests), 6)
    metrics, wins = evaluate(image, labels, maps, masks)
    with replacing(Path(snakemake.output.scores)) as destination:
        save_file({"image": image, "patch": np.ascontiguousarray(patch), "label": labels} | wins, destination)
        made = {"scores": sha256_of(destination), "masks": sha256_of(Path(snakemake.input.masks[0]))}

    facts = {"features": snakemake.input.features[0], "bank": snakemake.input.bank_facts[0]}
    facts |= {"training": snakemake.input.training[0]} if snakemake.input.training else {}
    stages = {stage: json.loads(Path(file).read_text()) for stage, file in facts.items()}
    sides = {"train_features": stages["bank"], "test_features": stages["features"]}
    made |= {name: fact["digests"][name] for name, fact in sides.items()} | bank_digests(bank)
    if run.get("augment") == "test":  # the bank is of images as they are
        stages["training features"] = {"stage": stages["bank"]["features"]}
    own = stage_facts(snakemake.params.code, snakemake.threads, scoring_device, running.usage()) | {
        "s_per_image": taken
    }
    record = Record(
        dataset=where.dataset,
        category=where.category,
        run=where.run,
        seed=run["seed"],
        description=run,
        metrics=metrics,
        flags=record_flags(run["weights"], snakemake.params.layout, where.category, items),
        data={
            "layout": snakemake.params.layout,
            "manifest": digest,
            "train": len(items) - len(tests),
            "test_normal": int((labels == 0).sum()),
            "test_anomalous": int((labels == 1).sum()),
            "masks": sum(item.mask is not None for item in tests),
        },
        weights=stages["features"]["weights"],
        bank={"patches": len(bank.patches), "of": bank.training_patches, "grid": list(grid[1:])},
        digests=made,
        stages={stage: fact["stage"] for stage, fact in stages.items()} | {"score": own},
    )
    write_record(Path(snakemake.output.record), record)
    running.note(json.dumps(metrics))
