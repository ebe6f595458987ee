"""The step that trains the representation f of ReConPatch on the normal patches of a category."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from safetensors.torch import save_file

from reconpatch.device import name, repeatable, resolve
from reconpatch.files import replacing
from reconpatch.method.cuda_graph import captured
from reconpatch.method.training import Epoch, train
from reconpatch.method.training_settings import TrainingSettings
from reconpatch.pipeline.job import Job
from reconpatch.records.provenance import stage_facts
from reconpatch.records.record import StageFile, write_stage
from reconpatch.runtime import take_device


@dataclass(frozen=True)
class TrainingFiles:
    """What the step reads: features of the training images. What it writes: f, and the facts of the stage."""

    train: Path
    f: Path
    facts: Path


def train_representation(job: Job, files: TrainingFiles, run: Mapping[str, object], checkpoints: Sequence[int]) -> None:
    """Features of the training images, a run's settings -> f after each epoch of `checkpoints` and after the last."""
    take_device(job.device, job.note)
    device = resolve(job.device)
    repeatable(device, job.threads)
    features, settings = np.load(files.train, mmap_mode="r"), TrainingSettings.of(run)

    def progress(epoch: Epoch) -> None:
        job.progress(f"loss {epoch.loss:.4f}, mean pairwise {epoch.pairwise:.3f}, epoch", epoch.epoch, settings.epochs)

    graph = device == "cuda" and job.cuda_graph
    if device == "cuda" and not graph:
        job.note("each step without a CUDA graph; cuda_graph: true tries it")
    f, history = train(
        features.reshape(-1, features.shape[-1]),
        settings,
        images=[features.shape[1] * features.shape[2]] * len(features),
        checkpoints=checkpoints,
        device=device,
        threads=job.threads,
        capture=captured if graph else None,
        note=job.note,
        progress=progress,
    )
    with replacing(files.f) as temporary:
        save_file(f, temporary)
    computed_on = f"{name(device)}{', CUDA graph' if graph else ''}"
    stage = stage_facts(job.code, job.threads, computed_on, job.usage(), folder=files.facts.parent.name)
    write_stage(files.facts, StageFile(stage=stage, epochs=[asdict(epoch) for epoch in history]))
