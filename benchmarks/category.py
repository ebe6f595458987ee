"""This project on one category, PatchCore's method: python benchmarks/category.py ROOT CATEGORY --ratio 0.1.

What the workflow's jobs do, in one process: extract, bank, search, maps, metrics. The data is not indexed beforehand.
"""

import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measure import category_parser, emit, measured, threads, timed
from ours import DIM, backbone, extract_files

from reconpatch.data.images import read_masks
from reconpatch.data.layouts import Item, Mask
from reconpatch.method.bootstrap import image_wins, pixel_wins
from reconpatch.method.memory_bank import Representation, build_bank
from reconpatch.method.metrics import image_metrics, pixel_metrics
from reconpatch.method.scoring import anomaly_maps, score_features


def run(
    folder: Path, scratch: Path, ratio: float, batch: int, resize: int, crop: int, precision: str
) -> dict[str, Any]:
    """The category from files to metrics -> metrics, CPU seconds of the stages, size of the bank."""
    train = sorted((folder / "train/good").glob("*.png"))
    test = sorted((folder / "test").glob("*/*.png"))

    def item(path: Path) -> Item:
        defect = path.parent.name
        masks = () if defect == "good" else (Mask(f"ground_truth/{defect}/{path.stem}_mask.png"),)
        return Item(path.relative_to(folder).as_posix(), "test", len(masks), defect, masks)

    def features() -> None:
        network = backbone("wide_resnet50_2", precision)
        for paths, name in ((train, "train.npy"), (test, "test.npy")):
            extract_files(paths, network, scratch / name, resize, crop, threads(), batch)

    def bank() -> Any:
        patches = np.load(scratch / "train.npy", mmap_mode="r").reshape(-1, DIM)
        return build_bank(patches, Representation(DIM), ratio=ratio, coreset_dim=128, seed=0, threads=threads())

    def score() -> Any:
        patches = np.load(scratch / "test.npy", mmap_mode="r")
        image, patch, _ = score_features(patches, made, neighbours=1, reweight_map=False, threads=threads())
        return image, anomaly_maps(patch, crop, 4.0)

    def metrics() -> dict[str, Any]:
        items = [item(path) for path in test]
        masks, _ = read_masks(items, folder, (crop, crop), resize, crop, "any", threads(), [None] * len(items))
        labels = np.array([item.label for item in items])
        wins = image_wins(image, labels), pixel_wins(maps, masks)  # for the intervals, which no peer gives
        return image_metrics(image, labels) | pixel_metrics(maps, masks) | {"pairs": len(wins[0].pairs)}

    _, extract_cpu = timed(features)
    made, bank_cpu = timed(bank)
    (image, maps), score_cpu = timed(score)
    values, metrics_cpu = timed(metrics)
    stages = {"extract_cpu_s": extract_cpu, "bank_cpu_s": bank_cpu}
    stages |= {"score_cpu_s": score_cpu, "metrics_cpu_s": metrics_cpu}
    named = {name: values[name] for name in ("image_auroc", "pixel_auroc", "aupro_30")}
    return stages | named | {"bank": len(made.patches)}


def main() -> None:
    """The command line."""
    parser = category_parser(__doc__)
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="float32")
    given = parser.parse_args()
    torch.set_num_threads(threads())
    imported = time.process_time()  # all before this
    folder, sizes = Path(given.root) / given.category, (given.ratio, given.batch, given.resize, given.crop)
    with tempfile.TemporaryDirectory() as scratch:
        values, costs = measured(lambda: run(folder, Path(scratch), *sizes, given.precision))
    emit(**costs, **values, import_cpu_s=imported)


if __name__ == "__main__":
    main()
