"""The step that brings the masks of a category's test images onto the grid of the anomaly maps."""

from dataclasses import dataclass
from pathlib import Path
from typing import NotRequired, TypedDict

import numpy as np
from safetensors.numpy import save_file

from reconpatch.data.augmentation import drawn_augmentations
from reconpatch.data.images import read_masks as read_mask_files
from reconpatch.data.manifest import check_unchanged, frame_shape, read_manifest
from reconpatch.files import replacing
from reconpatch.pipeline.job import Job


@dataclass(frozen=True)
class MaskFiles:
    """What the step reads: manifest and folder of the category. What it writes: the masks, and the defects that are
    marked one by one.
    """

    manifest: Path
    folder: Path
    masks: Path
    defects: Path


class MaskSettings(TypedDict):
    """The fields of a run that masks depend on. Those of the augmentation are there where images are augmented."""

    aspect: NotRequired[str]  # where it is not crop, without `resize`
    resize: NotRequired[int]
    crop: int
    mask_rule: str


def read_masks(job: Job, files: MaskFiles, run: MaskSettings) -> None:
    """The category's masks, a run's settings -> an .npy file of (N, H, W) bool, True on a defect, and a file of the
    defects one by one, empty where the data set does not say how much of each must be found.
    """
    tests = [item for item in read_manifest(files.manifest)[0] if item.split == "test"]
    check_unchanged(files.folder, tests, "masks", job.threads)
    masks, defects = read_mask_files(
        tests,
        files.folder,
        frame_shape(tests, run),
        run.get("resize"),
        run["crop"],
        run["mask_rule"],
        job.threads,
        drawn_augmentations([item.path for item in tests], run),
        run.get("aspect", "crop"),
    )
    marked = sum(mask.saturation > 0 for item in tests for mask in item.masks)
    if lost := marked - len(defects["image"]):
        job.note(f"{lost} of {marked} defects have no pixel left at the size of the maps and do not count in sPRO")
    with replacing(files.defects) as temporary:
        save_file(defects, temporary)
    with replacing(files.masks) as temporary:
        np.save(temporary, masks)
