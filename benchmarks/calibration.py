"""How often the 95 % interval of a threshold holds if every image is left out once: python benchmarks/calibration.py

Synthetic images, each draw with new ones, as in tests/unit/detector/test_calibration.py, with more draws and cases. One
line per case: the rate that is stated, the mean of the true ones, and the shares of draws whose true rate lies below,
above and within the interval.
"""

import sys
from pathlib import Path

import numpy as np

TESTS = Path(__file__).parents[1] / "tests"
sys.path[:0] = [str(TESTS), str(TESTS / "unit/detector")]

from test_calibration import rates  # noqa: E402

CASES = [(12, 5, 0), (20, 5, 0), (20, 10, 0), (48, 5, 0), (48, 10, 0), (24, 5, 12), (48, 5, 12)]
DRAWS = 400


def main() -> None:
    """Print a line per case of (images, folds, groups)."""
    for images, folds, groups in CASES:
        for coreset in (0.1, 1.0):
            found = rates(images, folds, DRAWS, groups, coreset)
            true = np.array([rate for _, rate in found])
            below = np.mean([rate < each.low for each, rate in found])
            above = np.mean([rate > each.high for each, rate in found])
            print(
                f"{images} images, {folds} folds, {groups or 'no'} groups, coreset {coreset:g}: stated "
                f"{found[0][0].expected:.3f}, true {true.mean():.3f}; below {below:.3f}, above {above:.3f}, "
                f"within {1 - below - above:.3f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
