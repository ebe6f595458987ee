"""What a photograph scores does not depend on the photographs it is scored with, on any processor.

Libraries of linear algebra choose their instructions by processor. The environment variables make them choose as on
another one; they are read when a process starts.
"""

import os
import subprocess
import sys

import pytest
from running import ROOT

from reconpatch.detector.threshold import ROUNDING

SCRIPT = """
import sys
from dataclasses import replace

import numpy as np
from products import fit, product, small_run

tolerance = float(sys.argv[1])
photographs = [product(seed, seed == 3, size) for seed, size in enumerate([(52, 40), (40, 64), (33, 33), (80, 24)] * 2)]
good = [product(seed) for seed in range(10, 16)]
for threads, backbone, weights, dim, aspect in [
    (1, "resnet10t", "random", 16, "pad"), (2, "tf_efficientnet_lite0", "embedded", 24, "stretch")
]:
    run = small_run(aspect, backbone=backbone, weights=weights, dim=dim, coreset=0.2, neighbours=3, epochs=1)
    detector = fit(good, run=run, aspect=aspect, hold_out=0, threads=threads, batch=4).detector
    expected = list(detector(photographs))
    for batch in (1, 3, 8):
        for one, other in zip(expected, replace(detector, batch=batch)(photographs), strict=True):
            assert abs(one.score - other.score) <= tolerance * one.score, (backbone, batch, one.number)
            assert np.abs(one.map - other.map).max() <= tolerance * one.map.max(), (backbone, batch, one.number)
"""
OLD = {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41", "OPENBLAS_CORETYPE": "Nehalem"}
RECENT = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "OPENBLAS_CORETYPE": "Haswell"}


@pytest.mark.parametrize(
    ("variables", "tolerance"), [({}, 0.0), (RECENT, 0.0), (OLD, ROUNDING / 10)], ids=["this", "AVX2", "SSE 4.1"]
)
def test_a_score_does_not_depend_on_the_batch(variables: dict[str, str], tolerance: float) -> None:
    """Not by a bit; on processors without AVX2 by far less than the threshold allows for."""
    environment = os.environ | variables | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"}
    command = [sys.executable, "-c", SCRIPT, str(tolerance)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
