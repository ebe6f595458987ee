"""anomalib on one category: python benchmarks/anomalib_category.py ROOT CATEGORY --ratio 0.1.

Its engine with AUROC and AUPRO as metrics, without drawn images. Its defaults besides: the test images also serve for
validation, so they are scored twice. `--lean` leaves out validation and post-processing, which its defaults have.
"""

import tempfile
import time
from typing import Any

import torch
from anomalib.data import MVTecAD
from anomalib.engine import Engine
from anomalib.metrics import AUPRO, AUROC, Evaluator
from anomalib.models import Patchcore
from measure import category_parser, emit, measured, threads, timed


def run(
    root: str, category: str, ratio: float, batch: int, resize: int, crop: int, lean: bool, scratch: str
) -> dict[str, Any]:
    """The category from files to metrics -> metrics, CPU seconds of the stages, size of the bank."""
    torch.manual_seed(0)
    data = MVTecAD(root, category, train_batch_size=batch, eval_batch_size=batch, num_workers=0)
    metrics = [
        AUROC(fields=["pred_score", "gt_label"], prefix="image_"),
        AUROC(fields=["anomaly_map", "gt_mask"], prefix="pixel_"),
        AUPRO(fields=["anomaly_map", "gt_mask"], prefix="pixel_"),
    ]
    model = Patchcore(
        pre_trained=False,
        coreset_sampling_ratio=ratio,
        num_neighbors=1,  # as the others: no re-weighting
        pre_processor=Patchcore.configure_pre_processor((resize, resize), (crop, crop)),
        post_processor=not lean,
        evaluator=Evaluator(test_metrics=metrics),
        visualizer=False,
    )
    engine = Engine(
        default_root_dir=scratch,
        accelerator="cpu",
        devices=1,
        enable_progress_bar=False,
        enable_model_summary=False,
        limit_val_batches=0 if lean else None,
    )
    _, fit = timed(lambda: engine.fit(model, datamodule=data))
    found, test = timed(lambda: engine.test(model, datamodule=data, verbose=False))
    values = {name: float(value) for name, value in found[0].items()}
    return values | {"fit_cpu_s": fit, "test_cpu_s": test, "bank": len(model.model.memory_bank)}


def main() -> None:
    """The command line."""
    parser = category_parser(__doc__)
    parser.add_argument("--lean", action="store_true")
    given = parser.parse_args()
    torch.set_num_threads(threads())
    imported = time.process_time()  # all before this
    with tempfile.TemporaryDirectory() as scratch:
        values, costs = measured(lambda: run(**vars(given), scratch=scratch))
    emit(**costs, **values, import_cpu_s=imported)


if __name__ == "__main__":
    main()
