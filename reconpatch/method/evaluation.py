"""What is computed of anomaly scores against the truth: metrics, and the counts from which intervals are drawn."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from reconpatch.method.bootstrap import image_wins, pixel_wins, to_tensors
from reconpatch.method.metrics import Metrics, image_metrics, pixel_metrics

Floats = NDArray[np.float32]


def evaluate(
    image: Floats, labels: NDArray[np.int64], maps: Floats, masks: NDArray[np.bool_]
) -> tuple[Metrics, dict[str, NDArray[Any]]]:
    """((N,) image scores, (N,) labels, 1 anomalous, (N, H, W) maps, (N, H, W) masks) -> (metrics; tensors of the wins).

    The latter have the names they are saved by. Raises ReconpatchError when shapes differ or a score is not finite.
    """
    metrics = image_metrics(image, labels) | pixel_metrics(maps, masks)
    return metrics, to_tensors(image_wins(image, labels), "image") | to_tensors(pixel_wins(maps, masks), "pixel")
