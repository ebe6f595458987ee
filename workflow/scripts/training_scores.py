"""Score the training images of one category with one run's memory bank: what an ensemble's z-scores refer to."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from safetensors.numpy import save_file

from reconpatch.files import replacing
from reconpatch.gpus import take_device
from reconpatch.method.memory_bank import MemoryBank, coreset_size
from reconpatch.method.scoring import image_scores, patch_scores
from reconpatch.pipeline.job import job

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

run, where = snakemake.params.run, snakemake.wildcards
with job(snakemake.log[0], f"training scores {where.dataset}/{where.category} {where.run}") as running:
    take_device(snakemake.config["device"], running.note)
    features = np.load(snakemake.input.train[0], mmap_mode="r")
    whole = MemoryBank.load(Path(snakemake.input.bank[0]))
    distances, weights, _ = patch_scores(
        features.reshape(-1, features.shape[-1]),
        whole.first(coreset_size(whole.training_patches, run["coreset"])),
        neighbours=run["neighbours"],
        threads=snakemake.threads,
        device=snakemake.config["device"],
    )
    grid = features.shape[:3]
    image, patch = image_scores(distances.reshape(grid), weights.reshape(grid), run["reweight"] == "map")
    with replacing(Path(snakemake.output[0])) as destination:
        save_file({"image": image, "patch": np.ascontiguousarray(patch)}, destination)
