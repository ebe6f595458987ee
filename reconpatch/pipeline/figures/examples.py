"""The steps that draw example images with their anomaly maps: of one category by both methods, and one image of every
category.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file

from reconpatch.data.augmentation import drawn_augmentations
from reconpatch.data.images import image_array, mask_array
from reconpatch.data.layouts import Item
from reconpatch.data.manifest import frame_shape, read_manifest
from reconpatch.errors import ReconpatchError
from reconpatch.method.scoring import anomaly_maps
from reconpatch.records.record import read_record
from reconpatch.results.figures.common import panel_titles, save
from reconpatch.results.figures.maps import Example, gallery, median_image, qualitative, typical_images


@dataclass(frozen=True)
class QualitativeFiles:
    """What the step reads: manifest and folder of the category, record and scores of every run. What it writes: the
    figure.
    """

    manifest: Path
    folders: list[Path]
    runs: list[Path]
    scores: list[Path]
    figure: Path


def draw_qualitative(files: QualitativeFiles, departures: Sequence[str]) -> None:
    """Scores of the test images by several runs -> figure of typical images with the maps of each run."""
    records = [read_record(file) for file in files.runs]
    titles, run = panel_titles(records), records[0].description
    tensors = [load_file(file) for file in files.scores]
    tests = [item for item in read_manifest(files.manifest)[0] if item.split == "test"]
    chosen = typical_images(tensors[0]["image"], [item.defect for item in tests])
    shape = frame_shape(tests, run)
    maps = [anomaly_maps(each["patch"][chosen], shape, run["blur"]) for each in tensors]
    examples = [
        load_example(tests[i], tests[i].defect, files.folders[0], run, [each[n] for each in maps])
        for n, i in enumerate(chosen)
    ]
    thresholds = [record.metrics["pixel_f1_threshold"] for record in records]
    remark = f"The scores of {titles[0]} choose the images." if len(titles) > 1 else ""
    save(qualitative(examples, titles, thresholds), files.figure, records, departures, remark)


@dataclass(frozen=True)
class GalleryFiles:
    """What the step reads: manifest, folder, record and scores of every category. What it writes: the figure."""

    runs: list[Path]
    scores: list[Path]
    manifests: list[Path]
    folders: list[Path]
    figure: Path


def draw_gallery(files: GalleryFiles, departures: Sequence[str]) -> None:
    """Results of the categories -> figure of one defective image of each.

    Raises ReconpatchError for a category without masks.
    """
    records = [read_record(file) for file in files.runs]
    examples = []
    for record, scores, manifest, folder in zip(records, files.scores, files.manifests, files.folders, strict=True):
        run, tensors = record.description, load_file(scores)
        tests = [item for item in read_manifest(manifest)[0] if item.split == "test"]
        masked = [n for n, item in enumerate(tests) if item.masks]
        if not masked:
            raise ReconpatchError(
                f"{record.category} has no masks", where="figures: gallery", fix="leave it out of the experiment"
            )
        i = median_image(tensors["image"], masked)
        maps = anomaly_maps(tensors["patch"][[i]], frame_shape(tests, run), run["blur"])
        examples.append(load_example(tests[i], f"{record.category}, {tests[i].defect}", folder, run, [maps[0]]))
    thresholds = [record.metrics["pixel_f1_threshold"] for record in records]
    save(gallery(examples, panel_titles(records[:1])[0], thresholds), files.figure, records, departures)


def load_example(
    item: Item, title: str, folder: Path, run: Mapping[str, Any], maps: list[NDArray[np.float32]]
) -> Example:
    """A test image, its anomaly maps -> image, mask and maps as the network saw it; the mask is empty where there is
    none.
    """
    augmentation = drawn_augmentations([item.path], run)[0]
    resize, crop, aspect = run.get("resize"), run["crop"], run.get("aspect", "crop")
    image = image_array(folder / item.path, resize, crop, run["interpolation"], augmentation, aspect)
    mask = np.zeros(image.shape[:2], bool)
    for each in item.masks:
        mask |= mask_array(folder / each.path, resize, crop, run["mask_rule"], augmentation, aspect, each.classes)
    return Example(title.replace("_", " "), image, mask, maps)
