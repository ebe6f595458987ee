import inspect
import json

import pytest
import yaml
from running import ROOT

from reconpatch.detector.estimator import ReConPatch
from reconpatch.detector.settings import product_run
from reconpatch.errors import ReconpatchError
from reconpatch.experiments import baseline as module
from reconpatch.experiments.baseline import baseline
from reconpatch.experiments.config import read_yaml
from reconpatch.experiments.run import Run


def test_is_the_baseline_of_the_tables() -> None:
    """`reconpatch schemas` has been run since configs/default.yaml changed: the very bytes it would write."""
    want = read_yaml(ROOT / "configs/default.yaml")["baseline"]
    assert baseline() == want == yaml.safe_load((ROOT / "configs/default.yaml").read_text())["baseline"]
    assert module.FILE.read_text() == json.dumps(want, indent=1) + "\n"
    assert Run.model_validate(want).model_dump(mode="json") == Run.model_validate(baseline()).model_dump(mode="json")


def test_the_estimators_defaults_are_the_baseline() -> None:
    given = {name: p.default for name, p in inspect.signature(ReConPatch).parameters.items()}
    want = baseline()
    assert given["size"] == want["crop"]
    shared = given.keys() & want.keys()
    assert shared >= {"method", "backbone", "weights", "dim", "coreset", "epochs", "seed"}
    assert {k: given[k] for k in shared - {"resize"}} == {k: want[k] for k in shared - {"resize"}}
    run = product_run(
        given["size"], given["resize"], given["aspect"], None, {k: given[k] for k in shared - {"resize"}}, "x"
    )
    assert run == Run.model_validate(want)


def test_what_a_run_becomes() -> None:
    assert product_run(320, None, "crop", None, {}, "x").resize == 366
    assert product_run(320, 330, "crop", None, {}, "x").resize == 330
    assert product_run(320, 999, "pad", None, {}, "x").resize == 320
    assert product_run(64, None, "stretch", "file.pth", {"sigma": 2}, "x").model_dump() == baseline() | {
        "resize": 64,
        "crop": 64,
        "weights": "file",
        "sigma": 2.0,
        "levels": (2, 3),
    }


@pytest.mark.parametrize(
    ("size", "resize", "changes", "said"),
    [
        (0, None, {}, "settings.*crop"),
        (64, 32, {}, "settings.*crop 64 is larger than resize 32"),
        (64, None, {"sigmma": 1}, "settings.*sigmma"),
        (64, None, {"sigma": -1}, "settings.*sigma"),
        (64, None, {"dim": "many"}, "settings.*dim"),
        (64, None, {"crop": 32}, "settings: crop: give size"),
        (64, None, {"resize": 80}, "settings: resize: give size"),
        (64, None, {"epoch": 500}, "settings.*epoch 500 comes after"),
    ],
)
def test_settings_that_cannot_be_are_named(size, resize, changes, said) -> None:
    with pytest.raises(ReconpatchError, match=said):
        product_run(size, resize, "crop", None, changes, "settings")
