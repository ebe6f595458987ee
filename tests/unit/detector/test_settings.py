import inspect

import pytest

from reconpatch.detector.estimator import ReConPatch
from reconpatch.detector.settings import SAME_NAME, check_no_options, detector_run
from reconpatch.errors import ReconpatchError
from reconpatch.experiments.run import BASELINE, Run


def test_the_estimators_defaults_are_the_papers() -> None:
    default = {name: p.default for name, p in inspect.signature(ReConPatch).parameters.items()}
    options = {key: default[key] for key in ("size", "resize", "aspect")}
    assert detector_run({key: default[key] for key in SAME_NAME}, **options) == BASELINE


def test_options_become_parameters() -> None:
    assert detector_run({}, size=320).resize == 366  # 256 to 224
    assert detector_run({}, size=320, resize=330).resize == 330
    assert detector_run({}, size=320, resize=999, aspect="pad").resize == 320
    run = detector_run({"sigma": 2}, size=64, aspect="stretch", weight_file="file.pth")
    assert run == Run(resize=64, crop=64, weights="file", sigma=2.0)


@pytest.mark.parametrize(("key", "option"), [("crop", "size"), ("resize", "resize"), ("epochs", "epochs")])
def test_parameters_that_have_an_option_are_refused(key, option) -> None:
    with pytest.raises(ReconpatchError, match=key) as error:
        check_no_options({"sigma": 1, key: 8})
    assert f"{option}=" in error.value.fix and f"--{option}" in error.value.fix
