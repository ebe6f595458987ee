import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from reconpatch.errors import ReconpatchError
from reconpatch.method.bootstrap import auroc, from_tensors
from reconpatch.method.evaluation import evaluate


def test_metrics_and_counts_are_of_the_same_scores(rng) -> None:
    labels = np.array([0, 1, 0, 1, 1])
    masks = np.zeros((5, 8, 8), bool)
    masks[labels == 1, 2:5, 3:6] = True
    maps = (rng.standard_normal(masks.shape) + masks).astype(np.float32)
    image = (rng.standard_normal(5) + labels).astype(np.float32)
    metrics, tensors = evaluate(image, labels, maps, masks)
    expected = {"image": roc_auc_score(labels, image), "pixel": roc_auc_score(masks.ravel(), maps.ravel())}
    for kind, value in expected.items():
        assert metrics[f"{kind}_auroc"] == pytest.approx(value, abs=1e-9)
        assert auroc(from_tensors(tensors, kind), np.ones((1, 5)))[0] == pytest.approx(value, abs=1e-6)
    assert set(tensors) == {f"{k}_{p}" for k in expected for p in ("pairs", "positives", "negatives")}


def test_shapes_that_differ_are_refused() -> None:
    with pytest.raises(ReconpatchError, match="differ in shape"):
        evaluate(np.zeros(2, np.float32), np.array([0, 1]), np.zeros((2, 4, 4), np.float32), np.zeros((2, 5, 4), bool))
