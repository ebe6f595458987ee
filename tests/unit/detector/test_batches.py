"""What a photograph scores does not depend on the photographs it is scored with, on any processor.

Libraries of linear algebra choose their instructions by processor. The environment variables make them choose as on
another one; they are read when a process starts.
"""

import os
import subprocess
import sys

import pytest
from running import ROOT

SCRIPT = """
from dataclasses import replace

import numpy as np
from products import fit, product, small_run

photographs = [product(seed, seed == 3, size) for seed, size in enumerate([(52, 40), (40, 64), (33, 33), (80, 24)] * 2)]
good = [product(seed) for seed in range(10, 16)]
for threads in (1, 2):
    for backbone, weights, dim, aspect in [
        ("resnet10t", "random", 16, "pad"), ("tf_efficientnet_lite0", "embedded", 24, "stretch")
    ]:
        run = small_run(
            aspect, backbone=backbone, weights=weights, dim=dim, coreset=0.2, neighbours=3, epochs=1
        )
        detector = fit(good, run=run, aspect=aspect, hold_out=0, threads=threads, batch=4).detector
        expected = list(detector(photographs))
        for batch in (1, 3, 8):
            for one, other in zip(expected, replace(detector, batch=batch)(photographs), strict=True):
                assert one.score == other.score, (threads, backbone, batch, one.number)
                assert np.array_equal(one.map, other.map), (threads, backbone, batch, one.number)
"""


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "OPENBLAS_CORETYPE": "Haswell"},
        {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "AVX2", "OPENBLAS_CORETYPE": "Nehalem"},
    ],
    ids=lambda variables: variables.get("OPENBLAS_CORETYPE", "this processor"),
)
def test_a_score_does_not_depend_on_the_batch(variables) -> None:
    environment = os.environ | variables | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"}
    done = subprocess.run([sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
