"""The step that scores test images whose truth only a server knows, and writes what the server of MVTec AD 2 takes.

Below the folder of a run: `anomaly_images/<category>/<split>/<image>.tiff`, a float16 map as large as the image, and
`anomaly_images_thresholded/<category>/<split>/<image>.png`, 255 where the map is above the threshold that the
validation images gave, else 0. Nothing else lies there, since the publisher's checker refuses other files.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image

from reconpatch.data.images import View, load_image, view_of
from reconpatch.data.layouts import unlabelled_images
from reconpatch.data.manifest import frame_shape, read_manifest
from reconpatch.device import name, repeatable, resolve
from reconpatch.errors import ReconpatchError
from reconpatch.files import replacing, sha256_of, write_text
from reconpatch.method.features import stream_features
from reconpatch.method.memory_bank import MemoryBank, coreset_size
from reconpatch.method.scoring import anomaly_maps, score_features
from reconpatch.method.search import search_in
from reconpatch.pipeline.features import FeatureSettings, prepared_backbone
from reconpatch.pipeline.job import Job
from reconpatch.records.provenance import stage_facts
from reconpatch.records.record import read_record
from reconpatch.runtime import keep_freed_memory, take_device

MAPS, MASKS = "anomaly_images", "anomaly_images_thresholded"  # folders of a submission


@dataclass(frozen=True)
class SubmissionFiles:
    """What the step reads: manifest and folder of the category, the file of the backbone's weights if the user gives
    one, the memory bank, and the record of the run. What it writes: the facts of the submission's part; the images lie
    in a folder beside it.
    """

    manifest: Path
    folder: Path
    weights: Path | None
    bank: Path
    record: Path
    facts: Path


class SubmissionSettings(FeatureSettings):
    """The fields of a run that features and scores depend on."""

    coreset: float
    neighbours: int
    reweight: str | None
    distance: str
    blur: float


def write_submission(
    job: Job,
    files: SubmissionFiles,
    run: SubmissionSettings,
    layout: str,
    category: str,
    batch: int,
    gpu_batch: int,
    weight_digests: Mapping[str, Sequence[str]],
) -> None:
    """A category's test images without truth, a run's settings, its memory bank -> their part of the submission, whole
    or not at all, in the folder `<data set>/<run>` beside the one of the facts, `<data set>/<category>`.

    The batches and digests are those of `extract_features`. Raises ReconpatchError where there are no such images, the
    run has no threshold, or an image is not seen whole.
    """
    destination = files.facts.parents[1] / files.facts.stem
    keep_freed_memory()
    take_device(job.device, job.note)
    device = resolve(job.device)
    repeatable(device, job.threads)
    batch = gpu_batch if device == "cuda" else batch
    images = unlabelled_images(layout, files.folder)
    record = read_record(files.record)
    threshold = record.metrics.get("pixel_f1_normal_threshold")
    if not images or threshold is None:
        what = "no validation images" if images else "no test images without truth"
        raise ReconpatchError(what, where=files.folder, fix="restore the published files")
    if run.get("aspect", "crop") not in ("stretch", "keep"):
        raise ReconpatchError(
            "the server wants a score of every pixel", where="aspect crop or pad", fix="set aspect to stretch or keep"
        )
    backbone = prepared_backbone(run, files.weights, device, weight_digests)
    whole = MemoryBank.load(files.bank)
    bank = whole.first(coreset_size(whole.training_patches, run["coreset"]))
    score = partial(
        score_features,
        bank=bank,
        neighbours=run["neighbours"],
        reweight_map=run["reweight"] == "map",
        squared=run["distance"] == "squared",
        search=search_in(bank.patches, job.threads, job.device),
    )
    shape = frame_shape(read_manifest(files.manifest)[0], run)
    views: dict[Path, View] = {}

    def read(file: Path) -> NDArray[np.uint8]:
        image = load_image(file)
        views[file] = view_of(file, image, run.get("resize"), run["crop"], run.get("aspect", "crop"))
        if views[file].shape != shape:
            raise ReconpatchError(
                f"{image.width} x {image.height} px, seen in another shape than the images of the category",
                where=file,
                fix="set aspect to stretch",
            )
        return views[file].framed(image, run["interpolation"])

    stream = stream_features(
        images,
        read,
        backbone,
        names=list(map(str, images)),
        patch_size=run["patch_size"],
        level_dim=run["level_dim"],
        dim=run["feature_dim"],
        batch=batch,
        pixels=batch * run["crop"] ** 2,
        threads=job.threads,
        progress=partial(job.progress, "private images"),
    )
    made: dict[str, str] = {}
    with (
        replacing(destination / MAPS / category) as maps_folder,
        replacing(destination / MASKS / category) as masks_folder,
    ):
        for file, features in zip(images, stream, strict=True):
            small = anomaly_maps(score(features[None]).patch, shape, run["blur"])[0]
            found = views.pop(file).back(small)
            place = file.relative_to(files.folder)
            tiff, png = maps_folder / place.with_suffix(".tiff"), masks_folder / place.with_suffix(".png")
            for target in (tiff, png):
                target.parent.mkdir(parents=True, exist_ok=True)
            tifffile.imwrite(tiff, found.astype(np.float16), compression=None)
            Image.fromarray(np.where(found > threshold, np.uint8(255), np.uint8(0))).save(png)
            made |= {f"{MAPS}/{category}/{place.with_suffix('.tiff').as_posix()}": sha256_of(tiff)}
            made |= {f"{MASKS}/{category}/{place.with_suffix('.png').as_posix()}": sha256_of(png)}
    own = stage_facts(job.code, job.threads, name(device), job.usage(), folder=destination.name, batch_images=batch)
    facts = {"record": record.digest, "threshold": threshold, "files": made, "stage": own.model_dump()}
    write_text(files.facts, json.dumps(facts, indent=1, allow_nan=False) + "\n")
    job.note(f"{len(images)} maps and masks below {destination}")
