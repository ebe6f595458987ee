"""Reading tables of scores: those of `predict`, of older versions, and wrong ones."""

import csv
from pathlib import Path

import numpy as np
import pytest
from products import product

from reconpatch.data.images import view
from reconpatch.data.remarks import ImageFacts
from reconpatch.detector.detector import Detection
from reconpatch.detector.photographs import Photograph
from reconpatch.detector.predict import PredictOptions, predict
from reconpatch.detector.scores_table import read_scores
from reconpatch.errors import ReconpatchError


class Fake:
    """Scores photographs 0, 1, ... with 0, 1/3, 2/3, ..."""

    batch, modes = 2, ("RGB",)

    def __call__(self, photographs, leave_out):
        seen, facts = view(52, 40, size=32, resize=36), ImageFacts("", "", "", 52, 40)
        for n in range(len(photographs)):
            yield Detection(n, n / 3, np.zeros((32, 32), np.float32), seen, facts)


@pytest.mark.parametrize("threshold", [1 / 3, None])
def test_what_predict_writes_is_read(threshold, tmp_path) -> None:
    """Names with commas and line breaks, verdicts, the threshold and the model."""
    names = ["a,b.png", 'c"\nd.png', "sub/e.png", "é.png"]
    for n, name in enumerate(names):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        product(n).save(tmp_path / name)
    photographs = [Photograph(name, tmp_path / name) for name in names]
    options = PredictOptions(threshold, None, 0.0, overlays=False, model="0123456789abcdef" * 4)
    predict(Fake(), photographs, tmp_path / "found", options, lambda *_: None)
    table = read_scores(tmp_path / "found/scores.csv")
    assert (table.threshold, table.model) == (threshold, "0123456789abcdef")
    scores = table.of(names[::-1], None)
    assert scores.values == pytest.approx([1, 2 / 3, 1 / 3, 0], rel=1e-5)
    if threshold is None:
        assert scores.alarms is None and table.of(names, (0.5, "mine")).alarms.tolist() == [False, False, True, True]
    else:
        assert scores.alarms.tolist() == [True, True, False, False] and scores.threshold == threshold


def test_a_table_of_an_older_version_keeps_its_verdicts(tmp_path) -> None:
    """It has no threshold: its scores alone do not say where that was."""
    (tmp_path / "s.csv").write_text("image,score,anomalous,peak_x\na.png,2,1,3\nb.png,2,0,4\n")
    table = read_scores(tmp_path / "s.csv")
    scores = table.of(["a.png", "b.png"], None)
    assert (table.threshold, table.model, scores.alarms.tolist()) == (None, "", [True, False])
    assert scores.threshold is None and "anomalous of s.csv" in scores.source


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("image,label\na.png,good\n", "no columns image and score"),
        ("image,score\n", "holds no scores"),
        ("image,score\na.png,1\nb.png,x\n", "line 3: score is x"),
        ("image,score\na.png,nan\n", "line 2: score is nan"),
        ("image,score\na.png,\n", "line 2: no score"),
        ("image,score\na.png,1\na.png,2\n", "line 3: a.png has two lines"),
        ("image,score,anomalous\na.png,1,2\n", "line 2: anomalous is 2"),
        ("image,score,anomalous\na.png,1,1\nb.png,1,\n", "empty for b.png"),
        ("image,score,threshold\na.png,1,2\nb.png,1,3\n", "column threshold holds 2 values"),
        ("image,score,model\na.png,1,a\nb.png,1,b\n", "column model holds 2 values"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(text, message, tmp_path) -> None:
    (tmp_path / "s.csv").write_text(text)
    with pytest.raises(ReconpatchError, match=r"s\.csv.*" + message):
        read_scores(tmp_path / "s.csv")


def test_images_without_scores_are_counted(tmp_path) -> None:
    (tmp_path / "s.csv").write_text("image,score\na.png,1\n")
    with pytest.raises(ReconpatchError, match=r"no line for 2 of 3 images, first b\.png"):
        read_scores(tmp_path / "s.csv").of(["a.png", "b.png", "c.png"], None)
    with pytest.raises(ReconpatchError, match="cannot be read"):
        read_scores(Path(tmp_path / "absent.csv"))


def test_columns_keep_their_order_for_those_who_read_them_by_number(tmp_path) -> None:
    product(0).save(tmp_path / "a.png")
    predict(
        Fake(),
        [Photograph("a.png", tmp_path / "a.png")],
        tmp_path / "f",
        PredictOptions(1, None, 0, False),
        lambda *_: None,
    )
    with open(tmp_path / "f/scores.csv", newline="") as stream:
        header = next(csv.reader(stream))
    assert header[:8] == ["image", "score", "anomalous", "peak_x", "peak_y", "width", "height", "seen"]
