"""The step that makes the thumbnails of one category's test images for the report."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from safetensors.numpy import load_file

from reconpatch.data.manifest import frame_shape, read_manifest
from reconpatch.method.scoring import anomaly_maps
from reconpatch.pipeline.figures.examples import load_example
from reconpatch.records.record import read_record
from reconpatch.results.figures.captions import facts_of
from reconpatch.results.figures.common import panel_titles
from reconpatch.results.thumbnails import (
    LIMIT,
    Thumbnail,
    Thumbnails,
    counted,
    group_of,
    in_order,
    panel_shape,
    picture,
    worst,
    write_thumbnails,
)

CHUNK = 64  # maps that are held at once


@dataclass(frozen=True)
class ThumbnailFiles:
    """What the step reads: manifest and folder of the category, record and scores of every run, the one that orders
    the images last. What it writes: the thumbnails.
    """

    manifest: Path
    folder: Path
    runs: list[Path]
    scores: list[Path]
    thumbnails: Path


def make_thumbnails(files: ThumbnailFiles, keep: Literal["all", "worst"], departures: Sequence[str]) -> None:
    """Scores of the test images by one or two runs, which images to keep, settings other than the paper's -> file of
    thumbnails.

    Colours of a method's maps span its lowest to its highest value in all test images. Pictures beyond LIMIT bytes are
    left out, as the report could not show them.
    """
    records = [read_record(file) for file in files.runs]
    tensors = [load_file(file) for file in files.scores]
    tests = [item for item in read_manifest(files.manifest)[0] if item.split == "test"]
    scores = [[float(each["image"][i]) for each in tensors] for i in range(len(tests))]
    thresholds = [record.metrics["image_f1_threshold"] for record in records]
    cuts = [cut for cut in thresholds if cut is not None]
    judged = len(cuts) == len(records)
    alarms = [[score >= cut for score, cut in zip(row, cuts, strict=True)] if judged else [] for row in scores]
    truth = [bool(item.label) for item in tests]
    groups = [group_of(anomalous, row) for anomalous, row in zip(truth, alarms, strict=True)]
    chosen = in_order(groups, [row[-1] for row in scores])
    chosen = chosen if keep == "all" else worst(chosen, groups, truth)

    run = records[0].description
    shape = panel_shape(*frame_shape(tests, run))
    blur = run["blur"] * min(shape) / run["crop"]  # in px of a panel
    limits = []
    for each in tensors:
        ends = []
        for start in range(0, len(tests), CHUNK):
            part = anomaly_maps(each["patch"][start : start + CHUNK], shape, blur)
            ends += [float(part.min()), float(part.max())]
        limits.append((min(ends), max(ends)))

    images: list[Thumbnail] = []
    size = 0
    for i in chosen:
        maps = [anomaly_maps(each["patch"][[i]], shape, blur)[0] for each in tensors]
        example = load_example(tests[i], "", files.folder, run, maps)
        uri = picture(example.image, example.mask, example.maps, limits)
        if (size := size + len(uri)) > LIMIT:
            break
        images.append(
            Thumbnail(
                path=tests[i].path,
                defect_type=tests[i].defect,
                anomalous=truth[i],
                scores=scores[i],
                alarms=alarms[i],
                group=groups[i],
                picture=uri,
            )
        )
    write_thumbnails(
        files.thumbnails,
        Thumbnails(
            dataset=records[0].dataset,
            category=records[0].category,
            panel=shape,
            methods=panel_titles(records),
            runs=[record.run for record in records],
            digests=[record.digests["scores"] for record in records],
            thresholds=thresholds,
            about=" ".join(facts_of(records, departures)),
            counts=counted(groups),
            dropped=len(chosen) - len(images),
            images=images,
        ),
    )
