"""The step that builds the memory bank of a category: the ordered coreset of its represented patches."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NotRequired, TypedDict

import numpy as np
from safetensors.numpy import load_file

from reconpatch.files import replacing
from reconpatch.method.memory_bank import Representation, build_bank
from reconpatch.pipeline.job import Job
from reconpatch.records.provenance import stage_facts
from reconpatch.records.record import StageFile, read_stage, write_stage
from reconpatch.runtime import take_device


@dataclass(frozen=True)
class CoresetFiles:
    """What the step reads: features of the training images, their facts, and f of ReConPatch. What it writes: the
    memory bank, and the facts of the stage.
    """

    train: Path
    features: Path
    f: Path | None
    bank: Path
    facts: Path


class CoresetSettings(TypedDict):
    """The fields of a run that the memory bank depends on, besides those of features and training."""

    method: str
    dim: int
    coreset_dim: int
    seed: int
    init: NotRequired[str]  # of an f, as bias
    bias: NotRequired[bool]
    epochs: NotRequired[int]  # of ReConPatch
    epoch: NotRequired[int]  # whose f is used, where that is not the last


def select_coreset(job: Job, files: CoresetFiles, run: CoresetSettings, ratio: float) -> None:
    """Features of the training images, f, a run's settings -> the memory bank with a share `ratio` of the patches.

    `ratio` is the largest of all runs that share the bank: the first rows of a coreset are a smaller coreset.
    """
    device = shown = "cpu"
    if job.gpu_coreset:
        from reconpatch.device import name, repeatable, resolve  # PyTorch, which a coreset on the CPU does without

        take_device(job.device, job.note)
        device = resolve(job.device)
        repeatable(device, job.threads)
        shown = name(device)
    features = np.load(files.train, mmap_mode="r")
    patches = features.reshape(-1, features.shape[-1])
    representation = Representation(run["dim"])
    if run["method"] == "untrained":
        representation = Representation.untrained(patches, run["dim"], run["seed"], run["init"], run["bias"])
    elif files.f is not None:
        f, epoch = load_file(files.f), run.get("epoch", run.get("epochs"))
        representation = Representation(run["dim"], f[f"{epoch}.weight"], f[f"{epoch}.bias"])
    bank = build_bank(
        patches,
        representation,
        ratio=ratio,
        coreset_dim=run["coreset_dim"],
        seed=run["seed"],
        threads=job.threads,
        device=device,
        progress=partial(job.progress, "picks"),
    )
    with replacing(files.bank) as temporary:
        bank.save(temporary)
    features_facts = read_stage(files.features)
    facts = StageFile(
        stage=stage_facts(job.code, job.threads, shown, job.usage(), folder=files.facts.parent.name),
        digests={"train_features": features_facts.digests["train_features"]},
        features=features_facts.stage,
    )
    write_stage(files.facts, facts)
