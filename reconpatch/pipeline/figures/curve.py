"""The step that draws one category's loss, mean pairwise similarity and AUROC over epochs."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from reconpatch.errors import ReconpatchError
from reconpatch.records.record import Record, read_record
from reconpatch.results.figures.common import epoch_of, save
from reconpatch.results.figures.sweeps import curve

PANELS = {"image": "image_auroc", "pixel": "pixel_auroc"}


@dataclass(frozen=True)
class CurveFiles:
    """What the step reads: the record of every run, and for every run of ReConPatch the facts of its training. What it
    writes: the figure.
    """

    runs: list[Path]
    training: list[Path]
    figure: Path


def draw_curve(files: CurveFiles, departures: Sequence[str]) -> None:
    """Records of runs that use different epochs of the trainings of one or several seeds -> figure.

    A record of PatchCore, where there is one, is drawn as a level line, the untrained f as epoch 0. Raises
    ReconpatchError for several trainings of a seed, and for seeds that differ in their epochs.
    """
    records = [read_record(file) for file in files.runs]
    patchcore, untrained, trained = (
        [record for record in records if record.description["method"] == method]
        for method in ("patchcore", "untrained", "reconpatch")
    )
    trainings = {(record.seed, file) for record, file in zip(trained, files.training, strict=True)}
    of_seed = dict(sorted(trainings))
    if not trainings or len(of_seed) < len(trainings):
        raise ReconpatchError(
            "draws one training of ReConPatch for each seed",
            where="figures: curve",
            fix="choose axis values that leave one",
        )
    points = {(record.seed, epoch_of(record)): record for record in [*untrained, *trained]}
    epochs = sorted({epoch for _, epoch in points})
    if any((seed, epoch) not in points for seed in of_seed for epoch in epochs):
        raise ReconpatchError("some seeds lack an epoch", where="figures: curve", fix="run the missing seeds")
    history = [json.loads(file.read_text())["epochs"] for file in of_seed.values()]
    figure = curve(
        [epoch["epoch"] for epoch in history[0]],
        np.array([[epoch["loss"] for epoch in each] for each in history], float),
        np.array([[epoch["pairwise"] for epoch in each] for each in history], float),
        epochs,
        {
            name: np.array([[_percent(points[seed, epoch], metric) for epoch in epochs] for seed in of_seed])
            for name, metric in PANELS.items()
        },
        {
            name: np.array([_percent(record, metric) for record in patchcore])
            for name, metric in PANELS.items()
            if patchcore
        },
    )
    save(figure, files.figure, records, departures)


def _percent(record: Record, metric: str) -> float:
    """A metric of a record in percent; NaN where it is undefined."""
    value = record.metrics[metric]
    return float("nan") if value is None else 100 * value
