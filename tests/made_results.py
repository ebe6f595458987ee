"""Results made for tests: maps of a few pixels with defects of several types, measured as the step `score` does."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from drawing import make_record

from reconpatch.method.metrics import METRICS, by_kind, evaluate, saved_scores
from reconpatch.results.comparison import Cell, Result

LOCO_TYPES = {"logical": "logical_anomalies", "structural": "structural_anomalies"}
SIDE = 6  # px of a map
Arrays = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]  # image scores, labels, maps, masks


def draw_types(counts: dict[str, int], seed: int = 0) -> list[str]:
    """Type of defect, "" of normal images -> number of images; as many types in a drawn order."""
    types = [each for each, count in counts.items() for _ in range(count)]
    return [types[n] for n in np.random.default_rng(seed).permutation(len(types))]


def draw_maps(types: Sequence[str], shifts: dict[str, float], seed: int) -> Arrays:
    """N types of defect, how much higher scores are on each type, seed -> scores of N images, with ties."""
    rng = np.random.default_rng(seed)
    labels = np.array([int(each != "") for each in types])
    masks = np.zeros((len(types), SIDE, SIDE), bool)
    for n in np.flatnonzero(labels):
        row, column = rng.integers(0, SIDE - 2, 2)
        masks[n, row : row + 2, column : column + 3] = True
    added = np.array([shifts.get(each, 0.0) for each in types])[:, None, None] * masks
    maps = (rng.normal(0, 1, masks.shape) + added).round(1).astype(np.float32)
    return maps.max((1, 2)), labels, maps, masks


def measured(arrays: Arrays, types: Sequence[str], **changes: Any) -> Result:
    """Scores of N images, their types of defect, fields of a Result -> the Result of a run with these scores. Of
    MVTec LOCO AD its record has the metrics of kinds.
    """
    metrics, tensors = evaluate(*arrays)
    fields = {"labels": {}, "method": "reconpatch", "seed": 0, "dataset": "mvtec_ad", "category": "bottle"}
    fields |= {"departures": (), "link": "runs/r/record.json"} | changes
    fields.setdefault("run", f"{fields['method']}-{fields['seed']}")
    kind_of = {defect: kind for kind, defect in LOCO_TYPES.items()} if fields["dataset"] == "mvtec_loco" else {}
    kinds = by_kind([kind_of.get(each, "") for each in types], *arrays) if kind_of else {}
    tensors |= {"image": arrays[0], "label": arrays[1]}
    record = make_record(metrics=metrics, kinds=kinds)
    return Result(record=record, saved=saved_scores(tensors, metrics), defects=list(types), **fields)


def by_pairs(scores: np.ndarray, positive: np.ndarray) -> float:
    """The AUROC as the share of pairs in order."""
    high, low = scores[positive][:, None], scores[~positive]
    return float(np.mean((high > low) + 0.5 * (high == low)))


def the(made: Sequence[Cell], labels: dict[str, Any] | None = None, **wanted: Any) -> Cell:
    """The only cell with these fields, of image AUROC and ReConPatch unless said otherwise."""
    wanted = {"metric": "image_auroc", "method": "reconpatch"} | wanted
    assert wanted["metric"] in METRICS
    (cell,) = (
        c for c in made if all(getattr(c, k) == v for k, v in wanted.items()) and labels in (None, dict(c.labels))
    )
    return cell


def holm_by_hand(p: Sequence[float]) -> list[float]:
    """Holm's procedure step by step."""
    corrected, least = [0.0] * len(p), 0.0
    for step, n in enumerate(sorted(range(len(p)), key=lambda n: p[n])):
        least = max(least, min(1.0, (len(p) - step) * p[n]))
        corrected[n] = least
    return corrected
