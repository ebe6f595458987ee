"""Which images stand for the others in a figure: by a rule, so that it shows neither the best nor the worst."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Scores = NDArray[np.float32]


def typical_examples(scores: Scores, defects: Sequence[str], most: int = 7) -> list[int]:
    """((N,) image scores, N defect types) -> indices of up to `most` images: of each type the one of median score.

    A rule rather than a choice, so that a figure shows neither the best nor the worst. Defects come before "good".
    """
    kinds = sorted(set(defects), key=lambda d: (d == "good", d))[:most]
    by_kind = [[i for i, d in enumerate(defects) if d == kind] for kind in kinds]
    return [middle(scores, group) for group in by_kind]


def middle(scores: Scores, group: Sequence[int]) -> int:
    """((N,) scores, indices of some of them) -> the index of the median score, the upper one of two."""
    return sorted(group, key=lambda i: scores[i])[len(group) // 2]
