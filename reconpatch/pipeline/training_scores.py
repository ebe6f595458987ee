"""The step that scores a category's training images with one run's memory bank, for the z-scores of an ensemble."""

from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

import numpy as np
from safetensors.numpy import save_file

from reconpatch.files import replacing
from reconpatch.method.memory_bank import MemoryBank, coreset_size
from reconpatch.method.scoring import score_features
from reconpatch.pipeline.job import Job
from reconpatch.runtime import take_device


@dataclass(frozen=True)
class TrainingScoreFiles:
    """What the step reads: features of the training images, and the memory bank. What it writes: the scores."""

    train: Path
    bank: Path
    scores: Path


class TrainingScoreSettings(TypedDict):
    """The fields of a run that scoring looks at."""

    coreset: float
    neighbours: int
    reweight: str | None
    distance: str


def score_training(job: Job, files: TrainingScoreFiles, run: TrainingScoreSettings) -> None:
    """Features of the training images, memory bank, a run's settings -> (N,) "image" and (N, H, W) "patch" scores."""
    take_device(job.device, job.note)
    features = np.load(files.train, mmap_mode="r")
    whole = MemoryBank.load(files.bank)
    image, patch, _ = score_features(
        features,
        whole.first(coreset_size(whole.training_patches, run["coreset"])),
        neighbours=run["neighbours"],
        reweight_map=run["reweight"] == "map",
        squared=run["distance"] == "squared",
        threads=job.threads,
        device=job.device,
    )
    with replacing(files.scores) as temporary:
        save_file({"image": image, "patch": np.ascontiguousarray(patch)}, temporary)
