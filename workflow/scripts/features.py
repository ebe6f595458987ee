"""Extract the patch features of one category with one backbone."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from reconpatch.backbones import load_backbone
from reconpatch.data import read_manifest
from reconpatch.device import name, resolve
from reconpatch.features import extract, read_masks
from reconpatch.files import replacing, write_text
from reconpatch.jobs import job
from reconpatch.records import stage_facts

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

run, out, threads = snakemake.params.run, snakemake.output, snakemake.threads
with job(snakemake.log[0], f"features {snakemake.wildcards.dataset}/{snakemake.wildcards.category}") as running:
    torch.set_num_threads(threads)
    device = resolve(snakemake.config["device"])
    file = Path(snakemake.input.weights[0]) if snakemake.input.weights else None
    backbone = load_backbone(run["backbone"], run["levels"], run["weights"], file, run.get("seed", 0), device)
    folder, items = Path(snakemake.params.folder), read_manifest(Path(snakemake.input.manifest))[0]
    for split in ("train", "test"):
        with replacing(Path(out[split])) as destination:
            extract(
                [folder / item.path for item in items if item.split == split],
                backbone,
                destination,
                resize=run["resize"],
                crop=run["crop"],
                interpolation=run["interpolation"],
                patch_size=run["patch_size"],
                level_dim=run["level_dim"],
                dim=run["feature_dim"],
                batch=int(snakemake.config["batch_images"]),
                threads=threads,
                progress=lambda done, total, split=split: running.progress(f"{split} images", done, total),
            )
    tests = [folder / item.mask if item.mask else None for item in items if item.split == "test"]
    with replacing(Path(out.masks)) as destination:
        np.save(destination, read_masks(tests, run["resize"], run["crop"], threads))
    stage = stage_facts(snakemake.params.code, threads, name(device), running.usage())
    facts = {"weights": backbone.weights, "stage": stage}
    write_text(Path(out.facts), json.dumps(facts, indent=1) + "\n")
