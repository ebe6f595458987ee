"""The step that extracts the patch features of a category's images with one backbone."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NotRequired, TypedDict

import numpy as np
from numpy.typing import NDArray

from reconpatch.data.augmentation import Augmentation, drawn_augmentations
from reconpatch.data.images import image_array
from reconpatch.data.manifest import check_unchanged, frame_shape, read_manifest
from reconpatch.device import name, repeatable, resolve
from reconpatch.files import replacing, sha256_of
from reconpatch.method.backbones import Backbone, load_backbone
from reconpatch.method.features import write_empty, write_features
from reconpatch.pipeline.job import Job
from reconpatch.records.provenance import stage_facts
from reconpatch.records.record import StageFile, Weights, write_stage
from reconpatch.runtime import keep_freed_memory, take_device


@dataclass(frozen=True)
class FeatureFiles:
    """What the step reads: manifest and folder of the category and, if the user gives one, the file of the backbone's
    weights. What it writes: features of the training, test and validation images, and the facts of the stage.
    """

    manifest: Path
    folder: Path
    weights: Path | None
    train: Path
    test: Path
    validation: Path
    facts: Path


class FeatureSettings(TypedDict):
    """The fields of a run that features depend on. Those of the augmentation are there where images are augmented."""

    backbone: str
    levels: list[int]
    weights: str
    seed: NotRequired[int]  # of random weights and of augmentation
    precision: str
    batch_norm: str
    aspect: NotRequired[str]  # where it is not crop, without `resize`
    resize: NotRequired[int]
    crop: int
    interpolation: str
    patch_size: int
    level_dim: int | None  # None: every level keeps its channels
    feature_dim: int


def _image(run: FeatureSettings, item: tuple[Path, Augmentation | None]) -> NDArray[np.uint8]:
    """A run's settings, an image's file with its augmentation -> what the network sees of it."""
    file, augmentation = item
    aspect = run.get("aspect", "crop")
    return image_array(file, run.get("resize"), run["crop"], run["interpolation"], augmentation, aspect)


def prepared_backbone(
    run: FeatureSettings, weights: Path | None, device: str, weight_digests: Mapping[str, Sequence[str]]
) -> Backbone:
    """A run's settings, the file of its weights if the user gives one, cpu or cuda, digests as for `extract_features`
    -> its network.
    """
    return load_backbone(
        run["backbone"],
        run["levels"],
        run["weights"],
        weights,
        seed=run.get("seed", 0),
        device=device,
        precision=run["precision"],
        probed_at=run["crop"] if run["batch_norm"] == "probed" else None,
        pinned=weight_digests.get(run["backbone"], ()),
    )


def extract_features(
    job: Job,
    files: FeatureFiles,
    run: FeatureSettings,
    batch: int,
    gpu_batch: int,
    weight_digests: Mapping[str, Sequence[str]],
) -> None:
    """A category's images, a run's settings -> .npy files of (N, rows, columns, feature_dim) float16.

    `batch` is the number of images in a forward pass on the CPU, `gpu_batch` on a GPU. `weight_digests` are the SHA-256
    that a backbone's file of weights may have; a file that has one gives the same features without the list, so it is
    no field of the run.
    """
    keep_freed_memory()
    take_device(job.device, job.note)
    device = resolve(job.device)
    repeatable(device, job.threads)
    batch = gpu_batch if device == "cuda" else batch
    backbone = prepared_backbone(run, files.weights, device, weight_digests)
    items = read_manifest(files.manifest)[0]
    frame_shape(items, run)  # features of one shape fit into one file
    check_unchanged(files.folder, items, "images", job.threads)
    seconds, digests = {}, {}
    for split, file in (("train", files.train), ("test", files.test), ("validation", files.validation)):
        paths, began = [item.path for item in items if item.split == split], time.perf_counter()
        with replacing(file) as temporary:
            if split == "validation" and not paths:  # most data sets have none
                write_empty(temporary)
                digests[f"{split}_features"] = sha256_of(temporary)
                continue
            write_features(
                list(zip([files.folder / path for path in paths], drawn_augmentations(paths, run), strict=True)),
                partial(_image, run),
                backbone,
                temporary,
                names=[str(files.folder / path) for path in paths],
                patch_size=run["patch_size"],
                level_dim=run["level_dim"],
                dim=run["feature_dim"],
                batch=batch,
                pixels=batch * run["crop"] ** 2,
                threads=job.threads,
                progress=partial(job.progress, f"{split} images"),
            )
            seconds[split] = round((time.perf_counter() - began) / len(paths), 6)
            digests[f"{split}_features"] = sha256_of(temporary)
    stage = stage_facts(
        job.code,
        job.threads,
        name(device),
        job.usage(),
        folder=files.facts.parent.name,
        batch_images=batch,
        s_per_image=seconds,
    )
    write_stage(files.facts, StageFile(stage=stage, digests=digests, weights=Weights(**backbone.weights)))
