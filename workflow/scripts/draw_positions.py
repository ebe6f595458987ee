"""Draw UMAP layouts of a few patch positions over one category's training images, one panel a model."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from reconpatch.data.augmentation import drawn_augmentations
from reconpatch.data.images import image_array
from reconpatch.data.index import read_manifest
from reconpatch.method.memory_bank import MemoryBank
from reconpatch.pipeline.job import job
from reconpatch.records.record import read_record
from reconpatch.results.captions import footnote, panels
from reconpatch.results.figures.maps import embed, save
from reconpatch.results.figures.sweeps import positions

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

PLACES = ((9, 14), (15, 15), (10, 16), (16, 17))  # (x, y) of the paper's figure, on a grid of 28 x 28
GRID = 28

with job(snakemake.log[0], f"positions {snakemake.wildcards.category}"):
    records = [read_record(Path(file)) for file in snakemake.input.runs]
    layouts, which = [], np.zeros(0, np.int64)
    for record, features_file, bank_file in zip(records, snakemake.input.features, snakemake.input.banks, strict=True):
        features, bank = np.load(features_file, mmap_mode="r"), MemoryBank.load(Path(bank_file))
        grid = (features.shape[1], features.shape[2])
        places = [(x * grid[1] // GRID, y * grid[0] // GRID) for x, y in PLACES]
        points = np.concatenate([bank.representation(features[:, y, x]) for x, y in places])
        which = np.repeat(np.arange(len(places)), len(features))
        layouts.append(embed(points, record.seed))
    run, first = records[0].description, read_manifest(Path(snakemake.input.manifest))[0]
    path = next(item.path for item in first if item.split == "train")
    moved = drawn_augmentations([path], run)[0] if run.get("augment") == "both" else None
    image = image_array(Path(snakemake.params.folder) / path, run["resize"], run["crop"], run["interpolation"], moved)
    names = [
        title
        if r.description["method"] == "patchcore"
        else f"ReConPatch, epoch {r.description.get('epoch') or r.description['epochs']}"
        for title, r in zip(panels(records), records, strict=True)
    ]
    save(positions(layouts, which, names, image, places, grid), Path(snakemake.output[0]), footnote(records))
