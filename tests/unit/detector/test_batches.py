"""What a photograph scores does not depend on the photographs it is scored with, on any processor.

Libraries of linear algebra choose their instructions by processor. The environment variables make them choose as on
another one; they are read when a process starts.
"""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from products import fit, product, small_run
from running import ROOT

from reconpatch.detector.threshold import ROUNDING

OLD = {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41", "OPENBLAS_CORETYPE": "Nehalem"}
RECENT = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "OPENBLAS_CORETYPE": "Haswell"}


def score_in_batches(tolerance: float) -> None:
    """Photographs of four shapes, one anomalous, get the same scores and maps in batches of 1, 3, 4 and 8."""
    network = {"backbone": "tf_efficientnet_lite0", "weights": "embedded", "dim": 24, "coreset": 0.2, "neighbours": 3}
    photographs = [product(n, n == 3, size) for n, size in enumerate([(52, 40), (40, 64), (33, 33), (80, 24)] * 2)]
    good = [product(seed) for seed in range(10, 16)]
    fitted = fit(good, run=small_run("pad", **network, epochs=1), aspect="pad", hold_out=0, threads=2, batch_images=4)
    expected = list(fitted.detector(photographs))
    for batch in (1, 3, 8):
        for one, other in zip(expected, replace(fitted.detector, batch=batch)(photographs), strict=True):
            assert abs(one.score - other.score) <= tolerance * one.score, (batch, one.number)
            assert np.abs(one.map - other.map).max() <= tolerance * one.map.max(), (batch, one.number)


def test_a_score_does_not_depend_on_the_batch() -> None:
    score_in_batches(0.0)


@pytest.mark.parametrize(("variables", "tolerance"), [(RECENT, 0.0), (OLD, ROUNDING / 2)], ids=["AVX2", "SSE 4.1"])
def test_nor_on_other_processors(variables: dict[str, str], tolerance: float) -> None:
    """Not by a bit; on processors without AVX2 by less than half of what thresholds allow for."""
    folders = (ROOT, ROOT / "tests", Path(__file__).parent)
    environment = os.environ | variables | {"PYTHONPATH": os.pathsep.join(map(str, folders))}
    command = [sys.executable, "-c", f"import test_batches; test_batches.score_in_batches({tolerance})"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
