"""The step that draws one category's loss, mean pairwise similarity and AUROC over epochs."""

import json
from dataclasses import dataclass
from pathlib import Path

from reconpatch.errors import ReconpatchError
from reconpatch.records.record import Record, read_record
from reconpatch.results.figures.common import epoch_of, footnote, save
from reconpatch.results.figures.sweeps import curve

PANELS = ("image_auroc", "pixel_auroc")


@dataclass(frozen=True)
class CurveFiles:
    """What the step reads: the record of every run, and for every run of ReConPatch the facts of its training. What it
    writes: the figure.
    """

    runs: list[Path]
    training: list[Path]
    figure: Path


def draw_curve(files: CurveFiles) -> None:
    """Records of runs that use different epochs of one training -> figure.

    A record of PatchCore, where there is one, is drawn as a level line, the untrained f as epoch 0. Raises
    ReconpatchError for several trainings.
    """
    records = [read_record(file) for file in files.runs]
    ours = [record for record in records if record.description["method"] != "patchcore"]
    trained = [record for record in ours if record.description["method"] == "reconpatch"]
    patchcore = [record for record in records if record.description["method"] == "patchcore"]
    if len(files.training) != len(trained) or len(set(files.training)) != 1:
        raise ReconpatchError(
            "draws one training of ReconPatch", where="figures: curve", fix="choose axis values that leave one"
        )
    epochs = json.loads(files.training[0].read_text())["epochs"]
    ours.sort(key=epoch_of)
    figure = curve(
        [epoch["epoch"] for epoch in epochs],
        [epoch["loss"] for epoch in epochs],
        [epoch["pairwise"] for epoch in epochs],
        [epoch_of(record) for record in ours],
        [_points(record)[0] for record in ours],
        [_points(record)[1] for record in ours],
        _points(patchcore[0]) if patchcore else None,
    )
    save(figure, files.figure, footnote(records))


def _points(record: Record) -> tuple[float, float]:
    """Record -> image and pixel AUROC in points; NaN where one is undefined."""
    image, pixel = (100 * (record.metrics[name] or float("nan")) for name in PANELS)
    return image, pixel
