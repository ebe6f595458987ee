"""Kinds of anomalies that a data set's authors measure apart, as logical and structural ones of MVTec LOCO AD.

A kind is a label of a table: its results are of the images of this kind and all normal test images.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from reconpatch.data.catalogue import kinds_of
from reconpatch.method.bootstrap import of_images
from reconpatch.method.metrics import SavedScores
from reconpatch.results.comparison import Result
from reconpatch.results.names import KIND


def by_kind(results: Sequence[Result], layouts: Mapping[str, str]) -> list[Result]:
    """Results, layout of each data set -> the same, those on a data set with kinds once for each kind, labelled so."""
    return [part for result in results for part in _parts(result, kinds_of(layouts[result.dataset]))]


def _parts(result: Result, kinds: Mapping[str, frozenset[str]]) -> list[Result]:
    """A result, the kinds of its data set with their defect types -> the result of each kind."""
    if not kinds:
        return [result]
    parts = []
    for kind, defect_types in kinds.items():
        part = replace(result, labels=dict(result.labels) | {KIND: kind})
        if result.record is not None and result.saved is not None:
            metrics = result.record.kinds.get(kind, {})
            part = replace(
                part,
                record=result.record.model_copy(update={"metrics": metrics}),
                saved=_of_types(result.saved, result.defects, defect_types, metrics),
            )
        parts.append(part)
    return parts


def _of_types(
    saved: SavedScores, defects: Sequence[str], chosen: frozenset[str], metrics: Mapping[str, float | None]
) -> SavedScores:
    """Saved scores of N images, their defect types, "" of a normal one -> the scores of the normal images and of those
    with a chosen type; counts are kept for the levels of which a metric is defined.
    """
    kept = np.isin(defects, ["", *chosen])
    wins = {level: of_images(each, kept) for level, each in saved.wins.items()}
    defined = {level: each for level, each in wins.items() if metrics.get(f"{level}_auroc") is not None}
    return SavedScores(saved.image[kept], saved.labels[kept], defined)
