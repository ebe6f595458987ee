"""Train the representation f of ReConPatch on the normal patches of one category."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from safetensors.torch import save_file

from reconpatch.device import name, repeatable, resolve
from reconpatch.files import replacing, write_text
from reconpatch.gpus import take_device
from reconpatch.method.training import Epoch, train
from reconpatch.pipeline.job import job
from reconpatch.records.provenance import stage_facts

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

run = snakemake.params.run
with job(snakemake.log[0], f"training {snakemake.wildcards.dataset}/{snakemake.wildcards.category}") as running:
    take_device(snakemake.config["device"], running.note)
    device = resolve(snakemake.config["device"])
    repeatable(device, snakemake.threads)
    patches = np.load(snakemake.input.train[0], mmap_mode="r")

    def progress(epoch: Epoch) -> None:  # noqa: D103
        running.progress(
            f"loss {epoch.loss:.4f}, mean pairwise {epoch.pairwise:.3f}, epoch", epoch.epoch, run["epochs"]
        )

    settings = ("dim", "projection_dim", "epochs", "batch", "learning_rate", "weight_decay", "alpha", "k", "sigma")
    settings = {key: run[key] for key in (*settings, "margin", "gamma", "teacher_norm", "seed")}
    flat = patches.reshape(-1, patches.shape[-1])
    checkpoints = list(map(int, snakemake.params.checkpoints))
    f, history = train(flat, **settings, checkpoints=checkpoints, device=device, progress=progress)
    with replacing(Path(snakemake.output.f)) as destination:
        save_file(f, destination)
    stage = stage_facts(snakemake.params.code, snakemake.threads, name(device), running.usage())
    facts = {"epochs": [asdict(e) for e in history], "stage": stage}
    write_text(Path(snakemake.output.facts), json.dumps(facts, indent=1) + "\n")
