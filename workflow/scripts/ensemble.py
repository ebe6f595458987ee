"""Combine the scores of several runs on one category and write the record of the ensemble."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from safetensors.numpy import load_file, save_file

from reconpatch.data import read_manifest
from reconpatch.ensemble import combine_maps, combine_scores
from reconpatch.files import replacing
from reconpatch.jobs import job
from reconpatch.maps import anomaly_maps
from reconpatch.metrics import image_metrics, pixel_metrics
from reconpatch.records import combined_record, read_record, stage_facts, write_record
from reconpatch.statistics import image_wins, pixel_wins, to_tensors

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

how, where = snakemake.params.combine, snakemake.wildcards
with job(snakemake.log[0], f"ensemble {where.dataset}/{where.category} {where.run}") as running:
    records = [read_record(Path(file)) for file in snakemake.input.records]
    scores = [load_file(file) for file in snakemake.input.scores]
    references = [load_file(file) for file in snakemake.input.training] or None
    items = read_manifest(Path(snakemake.input.manifest))[0]
    labels = np.array([item.label for item in items if item.split == "test"])
    image = combine_scores([s["image"] for s in scores], references and [r["image"] for r in references], how)
    sizes = [(r.description["crop"], r.description["blur"]) for r in records]
    maps = combine_maps(
        (anomaly_maps(s["patch"], *size) for s, size in zip(scores, sizes, strict=True)),
        references and [r["patch"] for r in references],
        how,
    )
    masks = np.load(snakemake.input.masks[0])
    metrics = image_metrics(image, labels) | pixel_metrics(maps, masks)
    wins = to_tensors(image_wins(image, labels), "image") | to_tensors(pixel_wins(maps, masks), "pixel")
    with replacing(Path(snakemake.output.scores)) as destination:
        save_file({"image": image, "label": labels} | wins, destination)
    own = stage_facts(snakemake.params.code, snakemake.threads, "cpu", running.usage())
    write_record(Path(snakemake.output.record), combined_record(where.run, how, records, metrics, own))
    running.note(json.dumps(metrics))
