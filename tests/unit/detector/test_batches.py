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
import sys
from dataclasses import replace

import numpy as np
from products import SETTINGS, SIZE, product, write_products

from reconpatch.detector.fit import fit_detector
from reconpatch.detector.settings import product_run

photographs = [product(seed, seed == 3, size) for seed, size in enumerate([(52, 40), (40, 64), (33, 33), (80, 24)] * 2)]
for backbone, weights, dim, aspect in [
    ("resnet10t", "random", 16, "pad"), ("tf_efficientnet_lite0", "embedded", 24, "stretch")
]:
    settings = SETTINGS | {"backbone": backbone, "weights": weights, "dim": dim, "coreset": 0.2, "neighbours": 3}
    run = product_run(SIZE, None, aspect, None, settings | {"epochs": 1}, "test")
    good = [product(seed) for seed in range(10, 16)]
    threads = int(sys.argv[1])
    detector = fit_detector(good, run, aspect=aspect, hold_out=0, device="cpu", threads=threads, batch=4).detector
    expected = list(detector(photographs))
    for batch in (1, 3, 8):
        for one, other in zip(expected, replace(detector, batch=batch)(photographs), strict=True):
            assert one.score == other.score, (backbone, batch, one.number)
            assert np.array_equal(one.map, other.map), (backbone, batch, one.number)
"""


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "OPENBLAS_CORETYPE": "Haswell"},
        {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41", "OPENBLAS_CORETYPE": "Nehalem"},
    ],
    ids=lambda variables: variables.get("OPENBLAS_CORETYPE", "this processor"),
)
def test_a_score_does_not_depend_on_the_batch(variables, threads) -> None:
    environment = os.environ | variables | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(threads)], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
