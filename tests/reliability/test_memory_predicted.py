"""Predicted memory against that of real processes: each stage's script runs alone on made-up inputs."""

import json
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
from running import ROOT, snakemake

FACTOR = 1.5
SMALL = "backbone=resnet18 resize=64 crop=64 level_dim=256 feature_dim=256 dim=64 train=8 test=6 epochs=1 batch=256"
LARGE = "backbone=resnet18 resize=224 crop=224 train=24 test=24 epochs=1"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Folder of what the jobs read; features of one size serve several."""
    return tmp_path_factory.mktemp("made")


@pytest.mark.parametrize(
    ("stage", "sizes"),
    [
        ("index", "side=2000 train=2 test=2 threads=2"),
        ("masks", "side=2000 train=2 test=2"),
        ("features", "side=2000 threads=2 backbone=tf_efficientnet_lite0 resize=320 crop=320 train=4 test=4"),
        ("features", "backbone=tf_efficientnet_lite0 resize=320 crop=320 train=4 test=4 batch_images=4"),
        ("training", SMALL),
        ("training", f"{LARGE} train=8 batch=4096"),
        ("bank", SMALL),
        ("bank", f"{LARGE} method=patchcore coreset=0.25"),
        ("score", SMALL),
        ("score", f"{LARGE} resize=480 crop=480 train=8 test=12 neighbours=3 kept=0.2"),
    ],
)
def test_predicted_and_measured_differ_by_less_than_a_half(stage, sizes, made) -> None:
    predicted, measured = needed(stage, sizes, made)
    assert 1 / FACTOR < predicted / measured < FACTOR, (predicted, measured)


@pytest.mark.parametrize(
    ("stage", "sizes"),
    [
        # Layers of 4096 x 4096 and 4096 x 1024; a bank of all 18,816 patches; maps and sorted pixels of 150 images.
        ("training", f"{SMALL} level_dim=2048 feature_dim=4096 dim=4096 projection_dim=1024"),
        ("bank", f"{LARGE} level_dim=256 feature_dim=64 dim=2048 coreset=1.0 coreset_dim=8"),
        ("score", f"{LARGE} resize=480 crop=480 levels=[3] level_dim=64 feature_dim=64 dim=64 train=8 test=150"),
    ],
)
def test_what_arrays_add_to_imports_is_predicted(stage, sizes, made) -> None:
    """The difference to a small job, which has compiled what it compiles: a term left out would show."""
    base, large = needed(stage, SMALL, made), needed(stage, sizes, made)
    predicted, measured = (large[i] - base[i] for i in (0, 1))
    assert measured > 300 and 0.85 < predicted / measured < 1.35, (base, large)


@cache
def needed(stage: str, sizes: str, made: Path) -> tuple[float, float]:
    """A stage's memory in MB, predicted and measured."""
    merged = dict(pair.split("=") for pair in sizes.split())  # the last of a key counts
    command = [sys.executable, ROOT / "benchmarks/needs.py", stage, made, *(f"{k}={v}" for k, v in merged.items())]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    return found["predicted_mb"], found["measured_mb"]


def test_a_job_that_cannot_fit_is_refused_before_any_work(checkout: Path) -> None:
    """A dry run shows the plan all the same. The index alone fits; --resources counts where both are given."""
    few = ("--config", "memory_gb=0.5", "--")
    printed = snakemake(checkout, "--cores", "2", *few, "smoke", ok=False)
    assert "extract_features of sample/brick/" in printed and "there are 0.5 GB" in printed, printed
    assert not (checkout / "results").exists() and not (checkout / "logs").exists()
    snakemake(checkout, "-n", *few, "smoke")
    target = "results/index/sample/brick.json"
    printed = snakemake(checkout, "--cores", "2", "--resources", "mem_mb=70", *few, target)
    assert 'Resource("mem_mb", 70)' in printed, printed
