"""The step that combines the scores of several runs on a category and writes the record of the ensemble."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

from reconpatch.data.manifest import frame_shape, read_manifest
from reconpatch.data.published import anomaly_kinds
from reconpatch.files import replacing, sha256_of
from reconpatch.method.ensemble import combine_runs
from reconpatch.method.metrics import by_kind, evaluate
from reconpatch.method.saturated import Defects
from reconpatch.pipeline.job import Job
from reconpatch.records.provenance import stage_facts
from reconpatch.records.record import combined_record, read_record, write_record


@dataclass(frozen=True)
class EnsembleFiles:
    """What the step reads: manifest, masks, the defects one by one, and of every member its record, its scores and, for
    z-scores, its scores of the training images. What it writes: the ensemble's record and scores.
    """

    manifest: Path
    masks: Path
    defects: Path
    records: list[Path]
    scores_of_members: list[Path]
    training: list[Path]
    record: Path
    scores: Path


def combine_ensemble(job: Job, files: EnsembleFiles, how: str, name: str) -> None:
    """Results of the members, how to combine them ("zscore" or "minmax"), the ensemble's name -> scores and record."""
    records = [read_record(file) for file in files.records]
    tests = [item for item in read_manifest(files.manifest)[0] if item.split == "test"]
    labels = np.array([item.label for item in tests])
    image, maps = combine_runs(
        [load_file(file) for file in files.scores_of_members],
        [load_file(file) for file in files.training],
        [(frame_shape(tests, record.description), record.description["blur"]) for record in records],
        how,
    )
    measured = (image, labels, maps, np.load(files.masks))
    defects = Defects.from_tensors(load_file(files.defects))
    metrics, wins = evaluate(*measured, defects=defects)
    digests = {"masks": sha256_of(files.masks), "defects": sha256_of(files.defects)}
    with replacing(files.scores) as temporary:
        save_file({"image": image, "label": labels} | wins, temporary)
        digests["scores"] = sha256_of(temporary)
    record = combined_record(
        name,
        how,
        records,
        metrics,
        by_kind(anomaly_kinds(records[0].data.layout, tests), *measured, defects=defects),
        masks=files.masks.parent.name,
        digests=digests,
        stage=stage_facts(job.code, job.threads, "cpu", job.usage(), folder=name),
        training_scores=[sha256_of(file) for file in files.training],
    )
    write_record(files.record, record)
    job.note(json.dumps(metrics))
