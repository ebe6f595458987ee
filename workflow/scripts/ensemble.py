"""Combine the scores of several runs on one category and write the record of the ensemble."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from safetensors.numpy import load_file, save_file

from reconpatch.data.index import read_manifest
from reconpatch.files import replacing, sha256_of
from reconpatch.method.ensemble import combine_runs
from reconpatch.method.evaluation import evaluate
from reconpatch.pipeline.job import job
from reconpatch.records.provenance import stage_facts
from reconpatch.records.record import combined_record, read_record, write_record

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

how, where = snakemake.params.combine, snakemake.wildcards
with job(snakemake.log[0], f"ensemble {where.dataset}/{where.category} {where.run}") as running:
    records = [read_record(Path(file)) for file in snakemake.input.records]
    items = read_manifest(Path(snakemake.input.manifest))[0]
    labels = np.array([item.label for item in items if item.split == "test"])
    image, maps = combine_runs(
        [load_file(file) for file in snakemake.input.scores],
        [load_file(file) for file in snakemake.input.training],
        [(r.description["crop"], r.description["blur"]) for r in records],
        how,
    )
    metrics, wins = evaluate(image, labels, maps, np.load(snakemake.input.masks[0]))
    digests = {f"{n} training_scores": sha256_of(Path(file)) for n, file in enumerate(snakemake.input.training)}
    digests["masks"] = sha256_of(Path(snakemake.input.masks[0]))
    with replacing(Path(snakemake.output.scores)) as destination:
        save_file({"image": image, "label": labels} | wins, destination)
        digests["scores"] = sha256_of(destination)
    own = stage_facts(snakemake.params.code, snakemake.threads, "cpu", running.usage())
    write_record(Path(snakemake.output.record), combined_record(where.run, how, records, metrics, own, digests))
    running.note(json.dumps(metrics))
