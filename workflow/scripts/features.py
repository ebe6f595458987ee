"""Extract the patch features of one category with one backbone."""

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING

from reconpatch.allocation import keep_freed_memory
from reconpatch.data.augmentation import drawn_augmentations
from reconpatch.data.index import check_unchanged, read_manifest
from reconpatch.device import name, repeatable, resolve
from reconpatch.files import replacing, sha256_of, write_text
from reconpatch.gpus import take_device
from reconpatch.method.backbones import load_backbone
from reconpatch.method.features import extract
from reconpatch.pipeline.job import job
from reconpatch.records.provenance import stage_facts

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

run, out, threads = snakemake.params.run, snakemake.output, snakemake.threads
with job(snakemake.log[0], f"features {snakemake.wildcards.dataset}/{snakemake.wildcards.category}") as running:
    keep_freed_memory()
    take_device(snakemake.config["device"], running.note)
    device = resolve(snakemake.config["device"])
    repeatable(device, threads)
    file = Path(snakemake.input.weights[0]) if snakemake.input.weights else None
    backbone = load_backbone(
        run["backbone"],
        run["levels"],
        run["weights"],
        file,
        seed=run.get("seed", 0),
        device=device,
        precision=run["precision"],
        pinned=snakemake.config["weight_digests"].get(run["backbone"], ()),  # no parameter: a right one changes nothing
    )
    folder, items = Path(snakemake.params.folder), read_manifest(Path(snakemake.input.manifest))[0]
    check_unchanged(folder, items, "images", threads)
    taken, digests = {}, {}
    for split in ("train", "test"):
        paths, began = [item.path for item in items if item.split == split], time.perf_counter()
        with replacing(Path(out[split])) as destination:
            extract(
                [folder / path for path in paths],
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
                augmentations=drawn_augmentations(paths, run),
                progress=lambda done, total, split=split: running.progress(f"{split} images", done, total),
            )
            taken[split] = round((time.perf_counter() - began) / len(paths), 6)
            digests[f"{split}_features"] = sha256_of(destination)
    stage = stage_facts(snakemake.params.code, threads, name(device), running.usage()) | {"s_per_image": taken}
    stage["batch_images"] = int(snakemake.config["batch_images"])
    facts = {"weights": backbone.weights, "digests": digests, "stage": stage}
    write_text(Path(out.facts), json.dumps(facts, indent=1) + "\n")
