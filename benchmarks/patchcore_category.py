"""patchcore-inspection on one category, as its command runs it but for loading weights and writing a table.

python benchmarks/patchcore_category.py ROOT CATEGORY --ratio 0.1
"""

import random
import time
from typing import Any

import numpy as np
import torch
import torchvision
from measure import category_parser, emit, measured, threads, timed
from patchcore.common import FaissNN
from patchcore.datasets.mvtec import DatasetSplit, MVTecDataset
from patchcore.metrics import compute_imagewise_retrieval_metrics, compute_pixelwise_retrieval_metrics
from patchcore.patchcore import PatchCore
from patchcore.sampler import ApproximateGreedyCoresetSampler

CPU = torch.device("cpu")


def model(size: int, ratio: float) -> Any:
    """Input size in px, share of patches kept -> their PatchCore on WRN-50 with random weights."""
    made = PatchCore(CPU)
    made.load(
        backbone=torchvision.models.wide_resnet50_2(weights=None),
        layers_to_extract_from=["layer2", "layer3"],
        device=CPU,
        input_shape=(3, size, size),
        pretrain_embed_dimension=1024,
        target_embed_dimension=1024,
        featuresampler=ApproximateGreedyCoresetSampler(ratio, CPU),
        anomaly_score_num_nn=1,
        nn_method=FaissNN(False, threads()),
    )
    return made


def run(root: str, category: str, ratio: float, batch: int, resize: int, crop: int) -> dict[str, Any]:
    """The category from files to metrics -> metrics, CPU seconds of the stages, size of the bank."""
    for seeded in (random.seed, np.random.seed, torch.manual_seed):  # the peer draws from global streams
        seeded(0)
    sets = [MVTecDataset(root, category, resize, crop, split) for split in (DatasetSplit.TRAIN, DatasetSplit.TEST)]
    train, test = (torch.utils.data.DataLoader(one, batch_size=batch) for one in sets)
    network = model(crop, ratio)
    _, fit = timed(lambda: network.fit(train))
    (scores, maps, labels, masks), predict = timed(lambda: network.predict(test))

    def metrics() -> dict[str, Any]:
        image, truth = np.array(scores), np.array(masks)
        image = (image - image.min()) / np.ptp(image)
        lows = min(m.min() for m in maps)
        pixels = (np.array(maps) - lows) / (max(m.max() for m in maps) - lows)
        truth = truth.reshape(pixels.shape) > 0
        defective = truth.any((1, 2))
        compute_pixelwise_retrieval_metrics(pixels[defective], truth[defective])  # its third AUROC
        return {
            "image_auroc": float(compute_imagewise_retrieval_metrics(image, labels)["auroc"]),
            "pixel_auroc": float(compute_pixelwise_retrieval_metrics(pixels, truth)["auroc"]),
        }

    values, measures = timed(metrics)
    stages = {"fit_cpu_s": fit, "predict_cpu_s": predict, "metrics_cpu_s": measures}
    return values | stages | {"bank": len(network.anomaly_scorer.detection_features)}


def main() -> None:
    """The command line."""
    given = category_parser(__doc__).parse_args()
    torch.set_num_threads(threads())
    imported = time.process_time()  # all before this
    values, costs = measured(lambda: run(**vars(given)))
    emit(**costs, **values, import_cpu_s=imported)


if __name__ == "__main__":
    main()
