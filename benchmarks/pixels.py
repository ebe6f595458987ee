"""Metrics over the pixels of a category: python benchmarks/pixels.py {ours,wins,sklearn,patchcore,anomalib}.

`wins` is what the bootstrap intervals need, which no peer gives.
"""

import argparse
from typing import Any

import numpy as np
from inputs import maps_and_masks
from measure import emit, measured
from numpy.typing import NDArray

Maps = NDArray[np.float32]
Masks = NDArray[np.bool_]


def ours(maps: Maps, masks: Masks) -> dict[str, Any]:
    """AUROC, average precision, F1 and its threshold, AUPRO."""
    from reconpatch.method.metrics import pixel_metrics

    found = pixel_metrics(maps, masks)
    return {"auroc": found["pixel_auroc"], "aupro": found["aupro_30"]}


def wins(maps: Maps, masks: Masks) -> dict[str, Any]:
    """Wins of every pair of images."""
    from reconpatch.method.bootstrap import pixel_wins

    pixel_wins(maps, masks)
    return {}


def sklearn(maps: Maps, masks: Masks) -> dict[str, Any]:
    """AUROC."""
    from sklearn.metrics import roc_auc_score

    return {"auroc": float(roc_auc_score(masks.ravel(), maps.ravel()))}


def patchcore(maps: Maps, masks: Masks) -> dict[str, Any]:
    """AUROC with its curve, F1's threshold. Its command does this twice per category; here it is done once."""
    from patchcore.metrics import compute_pixelwise_retrieval_metrics

    return {"auroc": float(compute_pixelwise_retrieval_metrics(maps, masks)["auroc"])}


def anomalib(maps: Maps, masks: Masks) -> dict[str, Any]:
    """AUROC and AUPRO, updated with batches of eight maps as its evaluator does."""
    import torch
    from anomalib.metrics.aupro import _AUPRO
    from anomalib.metrics.auroc import _AUROC

    values = {}
    for name, metric in (("auroc", _AUROC()), ("aupro", _AUPRO())):
        # Scores between 0 and 1, as its post-processor gives them: others it would put through a sigmoid.
        scores, truth = torch.from_numpy(maps), torch.from_numpy(masks)
        for start in range(0, len(maps), 8):
            metric.update(scores[start : start + 8], truth[start : start + 8].int())
        values[name] = float(metric.compute())
    return values


def main() -> None:
    """The command line."""
    variants = {f.__name__: f for f in (ours, wins, sklearn, patchcore, anomalib)}
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("variant", choices=variants)
    parser.add_argument("--maps", type=int, default=100)
    parser.add_argument("--size", type=int, default=320)
    given = parser.parse_args()
    maps, masks = maps_and_masks(given.maps, given.size)
    maps = (maps - maps.min()) / np.ptp(maps)
    call = variants[given.variant]
    call(*maps_and_masks(4, 64))  # imports, and whatever is set up at first use
    values, costs = measured(lambda: call(maps, masks))
    emit(**costs, **values)


if __name__ == "__main__":
    main()
