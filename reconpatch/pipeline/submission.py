"""The step that scores test images whose truth only a server knows, and writes what the server of MVTec AD 2 takes.

The archive of a category holds `anomaly_images/<category>/<split>/<image>.tiff`, a float16 map as large as the image,
and `anomaly_images_thresholded/<category>/<split>/<image>.png`, 255 where the map is above the threshold that the
validation images gave, else 0. The archives of all categories, unpacked into one folder, are a submission.
"""

import hashlib
import io
import json
import tarfile
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
from reconpatch.method.scoring import anomaly_maps
from reconpatch.pipeline.features import FeatureSettings, prepared_backbone
from reconpatch.pipeline.job import Job
from reconpatch.pipeline.score import scorer
from reconpatch.records.provenance import stage_facts
from reconpatch.records.record import read_record
from reconpatch.runtime import keep_freed_memory, take_device

MAPS, MASKS = "anomaly_images", "anomaly_images_thresholded"  # folders of a submission


@dataclass(frozen=True)
class SubmissionFiles:
    """What the step reads: manifest and folder of the category, the file of the backbone's weights if the user gives
    one, the memory bank, and the record of the run. What it writes: the category's part of a submission, and its facts.
    """

    manifest: Path
    folder: Path
    weights: Path | None
    bank: Path
    record: Path
    part: Path
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
    """A category's test images without truth, a run's settings, its memory bank -> their part of the submission.

    The batches and digests are those of `extract_features`. Raises ReconpatchError where there are no such images, the
    run has no threshold, the weights are not those of the run, or a map is not finite in half precision, as where an
    image is not seen whole.
    """
    keep_freed_memory()
    take_device(job.device, job.note)
    device = resolve(job.device)
    repeatable(device, job.threads)
    batch = gpu_batch if device == "cuda" else batch
    images = unlabelled_images(layout, files.folder)
    record = read_record(files.record)
    threshold = record.metrics.get("pixel_f1_normal_threshold")
    if not images or threshold is None:
        what = "its run has no threshold of validation images" if images else "no test images without truth"
        raise ReconpatchError(what, where=files.folder, fix="restore the published files")
    backbone = prepared_backbone(run, files.weights, device, weight_digests)
    if backbone.weights["sha256"] != record.weights.sha256:
        raise ReconpatchError(
            f"weights {backbone.weights['sha256']}, the run was made with {record.weights.sha256}",
            where=run["backbone"],
            fix="give the weights of the run, or make the run again",
        )
    whole = MemoryBank.load(files.bank)
    bank = whole.first(coreset_size(whole.training_patches, run["coreset"]))
    score = scorer(job, bank, run)
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
    made: dict[str, dict[str, str]] = {}
    with replacing(files.part) as temporary, tarfile.open(temporary, "w") as archive:
        for file, features in zip(images, stream, strict=True):
            small = anomaly_maps(score(features[None]).patch, shape, run["blur"])[0]
            found = views.pop(file).back(small)
            place = file.relative_to(files.folder).with_suffix("")
            contents = {
                f"{MAPS}/{category}/{place.as_posix()}.tiff": _tiff(file, found),
                f"{MASKS}/{category}/{place.as_posix()}.png": _png(found > threshold),
            }
            for member, content in contents.items():
                info = tarfile.TarInfo(member)  # without a time or an owner: the same bytes every time
                info.size, info.mode = len(content), 0o644
                archive.addfile(info, io.BytesIO(content))
            digests = {member: hashlib.sha256(content).hexdigest() for member, content in contents.items()}
            made[file.relative_to(files.folder).as_posix()] = {"image": sha256_of(file)} | digests
    own = stage_facts(job.code, job.threads, name(device), job.usage(), folder=files.part.stem, batch_images=batch)
    facts = {"record": record.digest, "threshold": threshold, "images": made, "stage": own.model_dump()}
    write_text(files.facts, json.dumps(facts, indent=1, allow_nan=False) + "\n")
    job.note(f"{len(images)} maps and masks in {files.part}")


def _tiff(file: Path, found: NDArray[np.float32]) -> bytes:
    """An image's file, (H, W) map of it -> the map in half precision as a TIFF file."""
    if not (found <= np.finfo(np.float16).max).all():  # false for NaN, too
        raise ReconpatchError(
            f"its map, up to {np.nanmax(found):g}, has pixels that half precision cannot hold, or that were not seen",
            where=file,
            fix="set aspect to stretch, pad or keep, and distance to euclidean",
        )
    content = io.BytesIO()
    tifffile.imwrite(content, found.astype(np.float16), compression=None)
    return content.getvalue()


def _png(anomalous: NDArray[np.bool_]) -> bytes:
    """(H, W) pixels above the threshold -> the mask as a PNG file."""
    content = io.BytesIO()
    Image.fromarray(np.where(anomalous, np.uint8(255), np.uint8(0))).save(content, "PNG")
    return content.getvalue()
