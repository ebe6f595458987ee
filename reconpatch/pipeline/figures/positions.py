"""The step that draws UMAP layouts of a few patch positions over one category's training images, one panel a model."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from reconpatch.data.augmentation import drawn_augmentations
from reconpatch.data.images import image_array
from reconpatch.data.manifest import read_manifest
from reconpatch.method.memory_bank import MemoryBank
from reconpatch.records.record import read_record
from reconpatch.results.figures.common import epoch_of, panel_titles, save
from reconpatch.results.figures.embedding import embed, positions

PAPER_POSITIONS = ((9, 14), (15, 15), (10, 16), (16, 17))  # (x, y) of the paper's figure, on a grid of 28 x 28
PAPER_GRID = 28


@dataclass(frozen=True)
class PositionFiles:
    """What the step reads: manifest and folder of the category and, for every run, record, features of the training
    images and memory bank. What it writes: the figure.
    """

    manifest: Path
    folders: list[Path]
    runs: list[Path]
    features: list[Path]
    banks: list[Path]
    figure: Path


def draw_positions(files: PositionFiles, departures: Sequence[str]) -> None:
    """Results of the runs to draw -> figure with the first training image beside the layouts."""
    records = [read_record(file) for file in files.runs]
    layouts, which = [], np.zeros(0, np.int64)
    for record, features_file, bank_file in zip(records, files.features, files.banks, strict=True):
        features, bank = np.load(features_file, mmap_mode="r"), MemoryBank.load(bank_file)
        grid = (features.shape[1], features.shape[2])
        chosen = on_grid(*grid)
        points = np.concatenate([bank.representation(features[:, y, x]) for x, y in chosen])
        which = np.repeat(np.arange(len(chosen)), len(features))
        layouts.append(embed(points, record.seed))
    run = records[0].description
    path = next(item.path for item in read_manifest(files.manifest)[0] if item.split == "train")
    augmentation = drawn_augmentations([path], run)[0] if run.get("augment") == "both" else None
    image = image_array(
        files.folders[0] / path,
        run.get("resize"),
        run["crop"],
        run["interpolation"],
        augmentation,
        run.get("aspect", "crop"),
    )
    titles = [
        f"ReConPatch, epoch {epoch_of(record)}" if record.description["method"] == "reconpatch" else title
        for title, record in zip(panel_titles(records), records, strict=True)
    ]
    save(positions(layouts, which, titles, image, chosen, grid), files.figure, records, departures)


def on_grid(height: int, width: int) -> list[tuple[int, int]]:
    """A grid of patches -> the (x, y) on it that lie where the paper's positions do. On coarse grids some coincide."""
    return [(x * width // PAPER_GRID, y * height // PAPER_GRID) for x, y in PAPER_POSITIONS]
