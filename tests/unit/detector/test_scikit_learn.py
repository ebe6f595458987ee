"""scikit-learn's own checks of an estimator, on rows of numbers that are drawn as images."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from products import SETTINGS, SIZE
from sklearn.utils import Tags
from sklearn.utils.estimator_checks import parametrize_with_checks
from sklearn.utils.validation import validate_data

from reconpatch.detector.estimator import ReConPatch


def drawn(rows: NDArray[np.float64]) -> list[NDArray[np.uint8]]:
    """(N, F) -> N images (SIZE, SIZE, 3): vertical stripes, one for a value."""
    column = np.arange(SIZE) * rows.shape[1] // SIZE
    values = 127.5 + 127.5 * np.sin(rows[:, column])
    return list(np.broadcast_to(values[:, None, :, None], (len(rows), SIZE, SIZE, 3)).astype(np.uint8))


class OfRows(ReConPatch):
    """A detector whose images are drawn from the rows of a table."""

    def __init__(self, coreset: float = 0.02, hold_out: float = 0.2, seed: int = 0) -> None:
        small: dict[str, Any] = {"backbone": "resnet10t", "weights": "random", "size": SIZE, "aspect": "stretch"}
        small |= {"settings": SETTINGS, "dim": 16, "device": "cpu", "threads": 1, "batch_images": 64}
        super().__init__("patchcore", **small, coreset=coreset, hold_out=hold_out, seed=seed)

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array, tags.input_tags.one_d_array, tags.input_tags.string = True, False, False
        tags.no_validation = False
        return tags

    def fit(self, X: Any, y: object = None) -> "OfRows":  # noqa: N803
        super().fit(drawn(validate_data(self, X, dtype=np.float64, ensure_min_samples=2)))
        return self

    def anomaly_scores(self, X: Any) -> NDArray[np.float64]:  # noqa: N803
        self._fitted_detector()
        return super().anomaly_scores(drawn(validate_data(self, X, dtype=np.float64, reset=False)))


@pytest.mark.filterwarnings("ignore::reconpatch.errors.Remark")  # stripes of nearly one colour
@parametrize_with_checks([OfRows()])  # none of them is expected to fail
def test_checks_of_scikit_learn(estimator, check, monkeypatch) -> None:
    monkeypatch.setenv("SCIPY_ARRAY_API", "1")  # without it, scikit-learn skips its check of array API dispatch
    check(estimator)
