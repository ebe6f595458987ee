"""Draw one defective image of every category with its anomaly map."""

from pathlib import Path
from typing import TYPE_CHECKING

from safetensors.numpy import load_file

from reconpatch.data.augmentation import drawn_augmentations
from reconpatch.data.images import image_array, mask_array
from reconpatch.data.index import read_manifest
from reconpatch.errors import ReconpatchError
from reconpatch.method.maps import anomaly_maps
from reconpatch.pipeline.job import job
from reconpatch.records.record import read_record
from reconpatch.results.captions import footnote, panels
from reconpatch.results.examples import middle
from reconpatch.results.figures.maps import Example, gallery, save

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with job(snakemake.log[0], "gallery"):
    records = [read_record(Path(file)) for file in snakemake.input.runs]
    files = zip(records, snakemake.input.scores, snakemake.input.manifests, snakemake.params.folders, strict=True)
    examples = []
    for record, scores_file, manifest, folder in files:
        run, scores = record.description, load_file(scores_file)
        tests = [i for i in read_manifest(Path(manifest))[0] if i.split == "test"]
        masked = [n for n, item in enumerate(tests) if item.mask]
        if not masked:
            raise ReconpatchError(f"figures: gallery: {record.category} has no masks; leave it out of the experiment")
        i = middle(scores["image"], masked)
        moved = drawn_augmentations([tests[i].path], run)[0]
        examples.append(
            Example(
                f"{record.category.replace('_', ' ')}, {tests[i].defect.replace('_', ' ')}",
                image_array(Path(folder) / tests[i].path, run["resize"], run["crop"], run["interpolation"], moved),
                mask_array(Path(folder) / tests[i].mask, run["resize"], run["crop"], run["mask_rule"], moved),
                [anomaly_maps(scores["patch"][[i]], run["crop"], run["blur"])[0]],
            )
        )
    thresholds = [record.metrics["pixel_f1_threshold"] for record in records]
    save(gallery(examples, panels(records[:1])[0], thresholds), Path(snakemake.output[0]), footnote(records))
