"""Draw one category's test images with both methods' maps."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from safetensors.numpy import load_file

from reconpatch.data.augmentation import drawn_augmentations
from reconpatch.data.images import image_array, mask_array
from reconpatch.data.index import read_manifest
from reconpatch.method.maps import anomaly_maps
from reconpatch.pipeline.job import job
from reconpatch.records.record import read_record
from reconpatch.results.captions import footnote, panels
from reconpatch.results.examples import typical_examples
from reconpatch.results.figures.maps import Example, qualitative, save

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with job(snakemake.log[0], f"qualitative {snakemake.wildcards.category}"):
    records = [read_record(Path(file)) for file in snakemake.input.runs]
    names = panels(records)
    scores = [load_file(file) for file in snakemake.input.scores]
    tests = [i for i in read_manifest(Path(snakemake.input.manifest))[0] if i.split == "test"]
    folder, run = Path(snakemake.params.folder), records[0].description
    chosen = typical_examples(scores[0]["image"], [item.defect for item in tests])
    moved = drawn_augmentations([tests[i].path for i in chosen], run)
    rule = run["mask_rule"]
    maps = [anomaly_maps(s["patch"][chosen], run["crop"], run["blur"]) for s in scores]
    blank = np.zeros((run["crop"], run["crop"]), bool)
    examples = [
        Example(
            tests[i].defect.replace("_", " "),
            image_array(folder / tests[i].path, run["resize"], run["crop"], run["interpolation"], moved[n]),
            mask_array(folder / tests[i].mask, run["resize"], run["crop"], rule, moved[n]) if tests[i].mask else blank,
            [m[n] for m in maps],
        )
        for n, i in enumerate(chosen)
    ]
    figure = qualitative(examples, names, [r.metrics["pixel_f1_threshold"] for r in records])
    save(figure, Path(snakemake.output[0]), footnote(records))
