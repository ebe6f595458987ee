"""Photographs of one's own, as a user takes them through the installed command."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from reconpatch import ReConPatch
from reconpatch.data.sample import write_sample

COMMAND = str(Path(sys.executable).with_name("reconpatch"))
SMALL = ["--backbone", "tf_efficientnet_lite0", "--weights", "embedded", "--size", "96", "--dim", "64", "--epochs", "3"]
SMALL += ["--coreset", "0.1", "--false-alarms", "0.1", "--set", "level_dim=128", "--set", "feature_dim=128"]


def reconpatch(where: Path, *arguments: str, status: int = 0) -> tuple[str, str]:
    """Run the command, as from a folder of photographs and not of this repository -> stdout, stderr."""
    done = subprocess.run([COMMAND, *arguments], cwd=where, text=True, capture_output=True)
    assert done.returncode == status, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout, done.stderr


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """The embedded sample's bricks, 48 good ones to fit on, and a model of them."""
    folder = tmp_path_factory.mktemp("own photographs")
    write_sample(folder / "brick", "brick", 0)
    out, _ = reconpatch(folder, "fit", "brick/train/good", "--out", "model", *SMALL)
    assert out.startswith("saved in model\n") and "48 fitted, each left out once in 5 folds, 48 different" in out
    return folder


def test_defects_are_found(place) -> None:
    """With real weights the drawn defects stand out, as images and where they are."""
    out, _ = reconpatch(place, "evaluate", "model", "brick/test", "--masks", "brick/ground_truth", "--json")
    told = json.loads(out)
    assert told["normal"] == 20 and told["anomalous"] == told["masks"] == 30
    assert told["metrics"]["image_auroc"] > 0.7 and told["metrics"]["pixel_auroc"] > 0.7
    assert set(told["threshold"]["found_by_kind"]) == {"blur", "cut_paste", "missing", "scratch", "stain"}
    at = told["threshold"]
    assert at["found"]["of"] == 30 and at["found"]["above"] >= 24 and at["false_alarms"]["of"] == 20


def test_command_and_class_say_the_same(place) -> None:
    out, err = reconpatch(place, "predict", "model", "brick/test/stain", "--out", "found", "--masks")
    assert out.startswith("6 images, ") and err.startswith("scoring: 6 in ") and len(err.splitlines()) == 1
    with open(place / "found/scores.csv", newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    model = ReConPatch.load(place / "model")
    folder = place / "brick/test/stain"
    np.testing.assert_allclose([float(row["score"]) for row in rows], model.anomaly_scores(folder), rtol=1e-4)
    assert [-1 if row["anomalous"] == "1" else 1 for row in rows] == model.predict(folder).tolist()
    for row in rows:
        with Image.open(place / "found/masks" / f"{row['image']}.png") as mask:
            assert mask.size == (int(row["width"]), int(row["height"])) == (160, 160)
            if np.asarray(mask).any():  # then the peak is on the defect
                around = np.asarray(mask)[int(row["peak_y"]) - 2 :, int(row["peak_x"]) - 2 :][:5, :5]
                assert around.any()


def test_nothing_is_written_twice(place) -> None:
    before = (place / "model/model.json").read_bytes()
    for arguments in (["fit", "brick/train/good", "--out", "model"], ["predict", "model", "brick", "--out", "new"]):
        out, err = reconpatch(place, *arguments, status=1)
        assert out == "" and err.startswith("error: ") and len(err.splitlines()) == 1
    assert (place / "model/model.json").read_bytes() == before and not (place / "new").exists()


def test_wrong_usage_is_2(place) -> None:
    out, err = reconpatch(place, "predict", "model", status=2)
    assert out == "" and err.startswith("usage: reconpatch predict")
