"""The step that trains the representation f of ReConPatch on the normal patches of a category."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypedDict

import numpy as np
from safetensors.torch import save_file

from reconpatch.device import name, repeatable, resolve
from reconpatch.files import replacing
from reconpatch.gpus import take_device
from reconpatch.method.training import Epoch, train
from reconpatch.pipeline.job import Job
from reconpatch.records.provenance import stage_facts
from reconpatch.records.record import StageFile, write_stage


@dataclass(frozen=True)
class TrainingFiles:
    """What the step reads: features of the training images. What it writes: f, and the facts of the stage."""

    train: Path
    f: Path
    facts: Path


class TrainingFields(TypedDict):
    """The fields of a run that training depends on, besides those of the features."""

    dim: int
    projection_dim: int
    epochs: int
    batch: int
    learning_rate: float
    weight_decay: float
    alpha: float
    k: int
    sigma: float
    margin: float
    gamma: float
    teacher_norm: bool
    seed: int


def train_representation(job: Job, files: TrainingFiles, run: TrainingFields, checkpoints: Sequence[int]) -> None:
    """Features of the training images, a run's settings -> f after each epoch of `checkpoints` and after the last."""
    take_device(job.device, job.note)
    device = resolve(job.device)
    repeatable(device, job.threads)
    features = np.load(files.train, mmap_mode="r")

    def progress(epoch: Epoch) -> None:
        job.progress(f"loss {epoch.loss:.4f}, mean pairwise {epoch.pairwise:.3f}, epoch", epoch.epoch, run["epochs"])

    f, history = train(
        features.reshape(-1, features.shape[-1]),
        dim=run["dim"],
        projection_dim=run["projection_dim"],
        epochs=run["epochs"],
        batch=run["batch"],
        learning_rate=run["learning_rate"],
        weight_decay=run["weight_decay"],
        alpha=run["alpha"],
        k=run["k"],
        sigma=run["sigma"],
        margin=run["margin"],
        gamma=run["gamma"],
        teacher_norm=run["teacher_norm"],
        seed=run["seed"],
        checkpoints=checkpoints,
        device=device,
        progress=progress,
    )
    with replacing(files.f) as temporary:
        save_file(f, temporary)
    stage = stage_facts(job.code, job.threads, name(device), job.usage(), folder=files.facts.parent.name)
    write_stage(files.facts, StageFile(stage=stage, epochs=[asdict(epoch) for epoch in history]))
