"""The steps from images to metrics: the same bytes again, and the same numbers with another count of threads."""

import shutil
from contextlib import chdir
from pathlib import Path

import numpy as np
import pytest
import yaml
from process_state import restored
from real_results import run_steps
from running import ROOT
from safetensors.numpy import load_file
from threadpoolctl import threadpool_limits

from reconpatch.data.sample import write_sample
from reconpatch.experiments.plan import load_plan
from reconpatch.records.record import read_record

SETTINGS = {"backbone": "tf_efficientnet_lite0", "weights": "embedded", "resize": 128, "crop": 128, "level_dim": 128}
SETTINGS |= {"feature_dim": 128, "dim": 64, "projection_dim": 32, "epochs": 3, "batch": 512, "learning_rate": 1e-4}
SETTINGS |= {"coreset": 0.1, "coreset_dim": 32, "neighbours": 3}


def results(sample: Path, folder: Path, threads: int) -> Path:
    """Run the steps with so many threads everywhere, and return the folder of results."""
    shutil.copytree(ROOT / "configs", folder / "configs")
    experiment = {"title": "Bricks", "datasets": {"bricks": "all"}, "set": SETTINGS, "axes": {"seed": [0]}}
    (folder / "bricks.yaml").write_text(yaml.safe_dump(experiment))
    data = {"bricks": {"layout": "mvtec_ad", "root": str(sample)}}
    overlay = {"datasets": data, "experiments": {"bricks": "bricks.yaml"}, "device": "cpu"}
    (folder / "overlay.yaml").write_text(yaml.safe_dump(overlay))
    with chdir(folder), restored(), threadpool_limits(threads):
        run_steps(load_plan([Path("overlay.yaml")], ["bricks"]), threads)
    return folder / "results"


def test_same_bytes_again_and_same_numbers_with_more_threads(tmp_path: Path) -> None:
    """Rounding may differ with the threads: 1e-3 of a feature (float16), and 1e-4 (0.01 points) of an AUROC."""
    write_sample(tmp_path / "sample/brick", "brick", 0)
    for file in (tmp_path / "sample").rglob("*.png"):
        if "ground_truth" not in file.parts and file.stem[-1] not in "05":
            file.unlink()
    for file in (tmp_path / "sample/brick/ground_truth").rglob("*.png"):
        if file.stem.removesuffix("_mask")[-1] not in "05":
            file.unlink()
    one, again, two = (results(tmp_path / "sample", tmp_path / name, int(name[0])) for name in ("1a", "1b", "2"))
    arrays = ("train.npy", "test.npy", "validation.npy", "masks.npy")
    for name in (*arrays, *(f"{what}.safetensors" for what in ("defects", "f", "bank", "scores"))):
        first, second = (next(folder.rglob(name)).read_bytes() for folder in (one, again))
        assert first == second, name
    metrics = [read_record(next(folder.rglob("record.json"))).metrics for folder in (one, again, two)]
    assert metrics[0] == metrics[1] and metrics[0]["image_auroc"] is not None
    for key in ("image_auroc", "pixel_auroc", "aupro_30", "aupro_05", "pixel_ap"):
        assert metrics[2][key] == pytest.approx(metrics[0][key], abs=1e-4), key
    for name in ("train.npy", "test.npy"):
        first, second = (np.load(next(folder.rglob(name))).astype(np.float32) for folder in (one, two))
        np.testing.assert_allclose(second, first, rtol=2e-3, atol=1e-3)
    first, second = (load_file(next(folder.rglob("f.safetensors")))["3.weight"] for folder in (one, two))
    np.testing.assert_allclose(second, first, rtol=1e-3, atol=1e-5)
