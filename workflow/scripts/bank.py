"""Build the memory bank of one category: the ordered coreset of its represented patches."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from safetensors.numpy import load_file

from reconpatch.files import replacing, write_text
from reconpatch.method.bank import build_bank
from reconpatch.method.memory_bank import Representation
from reconpatch.pipeline.job import job
from reconpatch.records.provenance import stage_facts

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

run = snakemake.params.run
with job(snakemake.log[0], f"coreset {snakemake.wildcards.dataset}/{snakemake.wildcards.category}") as running:
    patches = np.load(snakemake.input.train[0], mmap_mode="r")
    f = load_file(snakemake.input.f[0]) if snakemake.input.f else {}
    epoch = run.get("epoch", run.get("epochs"))
    weight, bias = (f[f"{epoch}.weight"], f[f"{epoch}.bias"]) if f else (None, None)
    bank = build_bank(
        patches.reshape(-1, patches.shape[-1]),
        Representation(run["dim"], weight, bias),
        ratio=snakemake.params.ratio,
        coreset_dim=run["coreset_dim"],
        seed=run["seed"],
        threads=snakemake.threads,
        progress=lambda done, total: running.progress("picks", done, total),
    )
    with replacing(Path(snakemake.output.bank)) as destination:
        bank.save(destination)
    features = json.loads(Path(snakemake.input.features[0]).read_text())
    stage = stage_facts(snakemake.params.code, snakemake.threads, "cpu", running.usage())
    made_from = {"train_features": features["digests"]["train_features"]}
    facts = {"digests": made_from, "features": features["stage"], "stage": stage}
    write_text(Path(snakemake.output.facts), json.dumps(facts, indent=1) + "\n")
