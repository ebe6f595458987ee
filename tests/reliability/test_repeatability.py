"""The method from images to metrics: the same bytes again, and the same numbers with another count of threads."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from threadpoolctl import threadpool_limits

from reconpatch.data.images import image_array, read_masks
from reconpatch.data.index import index
from reconpatch.data.sample import write_sample
from reconpatch.device import repeatable
from reconpatch.method.backbones import load_backbone
from reconpatch.method.features import write_features
from reconpatch.method.memory_bank import Representation, build_bank
from reconpatch.method.metrics import image_metrics, pixel_metrics
from reconpatch.method.scoring import anomaly_maps, score_features
from reconpatch.method.training import TrainingSettings, train

CROP = 128
TRAINING = {"dim": 64, "projection_dim": 32, "epochs": 3, "batch": 512, "learning_rate": 1e-4, "weight_decay": 1e-2}
TRAINING |= {"alpha": 0.5, "k": 5, "sigma": 1.0, "margin": 1.0, "gamma": 0.999, "teacher_norm": False}


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("sample")
    write_sample(root / "brick", "brick", 0)
    return root


@pytest.fixture(autouse=True)
def flags_restored():
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(False)


def chain(sample: Path, scratch: Path, threads: int) -> dict[str, Any]:
    """Everything from the images to the metrics of ReConPatch, with so many threads everywhere."""
    repeatable("cpu", threads)
    with threadpool_limits(threads):
        items = [i for i in index("sample", sample, "brick", threads) if i.path.endswith(("0.png", "5.png"))]
        net = load_backbone("tf_efficientnet_lite0", [2, 3], "embedded")
        found: dict[str, Any] = {}
        for split in ("train", "test"):
            paths = [sample / "brick" / i.path for i in items if i.split == split]
            write_features(
                paths,
                lambda path: image_array(path, CROP, CROP, "bilinear"),
                net,
                scratch / f"{split}.npy",
                **{"patch_size": 3, "level_dim": 128, "dim": 128, "batch": 8, "threads": threads},
            )
            found[split] = np.load(scratch / f"{split}.npy")
        flat = found["train"].reshape(-1, 128)
        f, _ = train(flat, TrainingSettings(**TRAINING, seed=0))
        found["f"] = f["3.weight"].numpy()
        representation = Representation(64, found["f"], f["3.bias"].numpy())
        bank = build_bank(flat, representation, ratio=0.1, coreset_dim=32, seed=0, threads=threads)
        found["order"] = bank.order
        tests = [i for i in items if i.split == "test"]
        found["image"], patch, _ = score_features(found["test"], bank, neighbours=3, reweight_map=True, threads=threads)
        maps = anomaly_maps(patch, CROP, 4.0)
        masks = [sample / "brick" / i.mask if i.mask else None for i in tests]
        truth = read_masks(masks, CROP, CROP, "any", threads, [None] * len(tests))
        labels = np.array([i.label for i in tests])
        found["metrics"] = image_metrics(found["image"], labels) | pixel_metrics(maps, truth)
    return found


def test_same_bytes_again_and_same_numbers_with_more_threads(sample: Path, tmp_path: Path) -> None:
    """Rounding may differ with the threads: 1e-3 of a feature (float16), and 1e-4 (0.01 points) of an AUROC."""
    one, again, two = (chain(sample, tmp_path, threads) for threads in (1, 1, 2))
    for key in ("train", "test", "f", "order", "image"):
        assert one[key].tobytes() == again[key].tobytes(), key
    assert one["metrics"] == again["metrics"] and one["metrics"]["image_auroc"] is not None
    for key in ("train", "test"):
        np.testing.assert_allclose(two[key].astype(np.float32), one[key].astype(np.float32), rtol=2e-3, atol=1e-3)
    np.testing.assert_allclose(two["f"], one["f"], rtol=1e-3, atol=1e-5)
    for key in ("image_auroc", "pixel_auroc", "aupro_30", "pixel_ap"):
        assert two["metrics"][key] == pytest.approx(one["metrics"][key], abs=1e-4), key
