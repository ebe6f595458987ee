"""Read the masks of one category's test images onto the grid of the anomaly maps."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from reconpatch.data.augmentation import drawn_augmentations
from reconpatch.data.images import read_masks
from reconpatch.data.index import check_unchanged, read_manifest
from reconpatch.files import replacing
from reconpatch.pipeline.job import job

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

run = snakemake.params.run
with job(snakemake.log[0], f"masks {snakemake.wildcards.dataset}/{snakemake.wildcards.category}"):
    folder = Path(snakemake.params.folder)
    tests = [item for item in read_manifest(Path(snakemake.input.manifest))[0] if item.split == "test"]
    check_unchanged(folder, tests, "masks", snakemake.threads)
    masks = read_masks(
        [folder / item.mask if item.mask else None for item in tests],
        run["resize"],
        run["crop"],
        run["mask_rule"],
        snakemake.threads,
        drawn_augmentations([item.path for item in tests], run),
    )
    with replacing(Path(snakemake.output[0])) as destination:
        np.save(destination, masks)
