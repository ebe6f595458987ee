"""The step that brings the masks of a category's test images onto the grid of the anomaly maps."""

from dataclasses import dataclass
from pathlib import Path
from typing import NotRequired, TypedDict

import numpy as np

from reconpatch.data.augmentation import drawn_augmentations
from reconpatch.data.images import read_masks as read_mask_files
from reconpatch.data.manifest import check_unchanged, frame_shape, read_manifest
from reconpatch.files import replacing
from reconpatch.pipeline.job import Job


@dataclass(frozen=True)
class MaskFiles:
    """What the step reads: manifest and folder of the category. What it writes: the masks."""

    manifest: Path
    folder: Path
    masks: Path


class MaskSettings(TypedDict):
    """The fields of a run that masks depend on. Those of the augmentation are there where images are augmented."""

    aspect: NotRequired[str]  # where it is not crop, without `resize`
    resize: NotRequired[int]
    crop: int
    mask_rule: str


def read_masks(job: Job, files: MaskFiles, run: MaskSettings) -> None:
    """The category's masks, a run's settings -> an .npy file of (N, H, W) bool, True on a defect."""
    tests = [item for item in read_manifest(files.manifest)[0] if item.split == "test"]
    check_unchanged(files.folder, tests, "masks", job.threads)
    masks = read_mask_files(
        [files.folder / item.mask if item.mask else None for item in tests],
        frame_shape(tests, run),
        run.get("resize"),
        run["crop"],
        run["mask_rule"],
        job.threads,
        drawn_augmentations([item.path for item in tests], run),
        run.get("aspect", "crop"),
    )
    with replacing(files.masks) as temporary:
        np.save(temporary, masks)
