import inspect
import os
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from reconpatch.detector.estimator import ReConPatch
from reconpatch.detector.settings import (
    FEWEST_ROWS,
    PRESETS,
    SAME_NAME,
    FitOptions,
    Machine,
    check_no_options,
    checked,
    detector_run,
    enough_rows,
    with_preset,
)
from reconpatch.errors import ReconpatchError
from reconpatch.experiments.run import BASELINE, Run
from reconpatch.runtime import threads_here


def test_the_estimators_defaults_are_the_papers() -> None:
    default = {name: p.default for name, p in inspect.signature(ReConPatch).parameters.items()}
    options = checked(FitOptions, {key: default[key] for key in FitOptions.model_fields})
    assert detector_run({key: default[key] for key in SAME_NAME}, options) == BASELINE
    assert options == FitOptions() and options.threads == threads_here()


def test_options_become_parameters() -> None:
    assert detector_run({}, FitOptions(size=320)).resize == 366  # 256 to 224
    assert detector_run({}, FitOptions(size=320, resize=330)).resize == 330
    assert detector_run({}, FitOptions(size=320, aspect="pad")).resize == 320
    run = detector_run({}, FitOptions(size=64, aspect="stretch", weight_file=Path("file.pth"), settings={"sigma": 2}))
    assert run == Run(aspect="stretch", resize=64, crop=64, weights="file", sigma=2.0)


def test_options_are_typed_as_the_configuration_is() -> None:
    """Numbers of NumPy, and numbers as text, are numbers; None is the default where the default is None."""
    given = {"threads": np.int64(3), "batch_images": "8", "hold_out": np.float32(0.5), "size": 64.0, "resize": None}
    given |= {"weight_file": "w.pth", "false_alarm_rate": Fraction(1, 4), "settings": {}, "device": np.str_("cpu")}
    options = checked(FitOptions, given)
    assert options.model_dump(exclude={"progress"}) == {
        **{"device": "cpu", "threads": 3, "batch_images": 8, "size": 64, "resize": None, "aspect": "auto"},
        **{"weight_file": Path("w.pth"), "settings": {}, "hold_out": 0.5, "false_alarm_rate": 0.25},
        **{"folds": None, "group": None, "coreset": None},
    }
    assert checked(Machine, {"threads": None}).threads == threads_here()
    assert checked(FitOptions, {"progress": None}).progress("step", 1, 2) is None


@pytest.mark.parametrize(("wanted", "threads"), [("3", 3), (" 5,2", 5)])
def test_the_environment_says_how_many_threads_where_the_user_does_not(wanted, threads, monkeypatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", wanted)
    assert Machine().threads == checked(Machine, {"threads": None}).threads == threads
    assert checked(Machine, {"threads": 7}).threads == 7


@pytest.mark.parametrize("wanted", [None, "", "0", "-1", "all", "2.5"])
def test_what_is_no_number_of_threads_in_the_environment_is_left_aside(wanted, monkeypatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if wanted is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", wanted)
    assert Machine().threads == len(os.sched_getaffinity(0))


def test_a_size_that_the_network_does_not_take_is_called_as_the_user_calls_it() -> None:
    options = FitOptions(size=256)
    with pytest.raises(ReconpatchError, match=r"takes no images of 256 px; set size \(--size\) to .*224") as error:
        detector_run({"backbone": "vit_tiny_patch16_224"}, options)
    assert "crop" not in str(error.value)


WRONG = {
    "device": ["gpu", None, 0],
    "threads": [0, -1, 2.5, "auto", True, [2]],
    "batch_images": [0, None, "many", 1.5, False],
    "size": [0, None, "large", (64, 64), True, 10**6],
    "resize": [0, -1, "small", 100],  # the last is below the size
    "aspect": ["square", None, 1],
    "weight_file": [5, True, ["a.pth"]],
    "settings": [["sigma=1"], "sigma=1", 5],
    "hold_out": [1, 1.0, -0.1, "a fifth", float("nan"), True],
    "folds": [1, 0, 2.5, "many", True],
    "group": [3, True],
    "coreset": [0, 1.1, "few"],
    "false_alarm_rate": [0, 1, 2, None, "five", float("nan"), True],
    "progress": [True, 0, "bar"],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in WRONG.items() for value in values])
def test_what_is_no_value_of_an_option_is_refused_by_name(name, value) -> None:
    with pytest.raises(ReconpatchError, match=f"options: .*{name}"):
        checked(FitOptions, {name: value})


@pytest.mark.parametrize("aspect", ["stretch", "pad", "keep"])
def test_a_resize_that_nothing_would_use_is_refused(aspect) -> None:
    with pytest.raises(ReconpatchError, match=f"resize is for a crop, and aspect is {aspect}"):
        checked(FitOptions, {"resize": 300, "aspect": aspect})


def test_all_wrong_options_are_named_at_once() -> None:
    with pytest.raises(ReconpatchError) as error:
        checked(FitOptions, {name: values[0] for name, values in WRONG.items()})
    assert len(str(error.value).splitlines()) == len(WRONG)


@pytest.mark.parametrize(("key", "option"), [("crop", "size"), ("resize", "resize"), ("epochs", "epochs")])
def test_parameters_that_have_an_option_are_refused(key, option) -> None:
    with pytest.raises(ReconpatchError, match=key) as error:
        check_no_options({"sigma": 1, key: 8})
    assert f"{option}=" in error.value.fix and f"--{option}" in error.value.fix


def run_of(options: dict[str, object]) -> Run:
    """The run that ReConPatch makes of options."""
    model = ReConPatch(**options)
    chosen = checked(FitOptions, {name: getattr(model, name) for name in FitOptions.model_fields})
    return detector_run({name: getattr(model, name) for name in SAME_NAME}, chosen)


def test_presets_are_options_and_what_is_given_wins() -> None:
    assert run_of(with_preset("paper", {})) == BASELINE
    assert ReConPatch.preset("paper").hold_out == 0.2 and ReConPatch.preset("paper").coreset == BASELINE.coreset
    assert with_preset("paper", {"folds": 3, "aspect": "pad"}).items() >= {"folds": 3, "aspect": "pad"}.items()
    assert "hold_out" not in with_preset("paper", {"folds": 3})
    fast = run_of(with_preset("fast", {"size": 160}))
    assert (fast.method, fast.weights, fast.crop) == ("patchcore", "embedded", 160)
    other = run_of(with_preset("fast", {"backbone": "resnet18.tv_in1k"}))  # which has no embedded weights
    assert (other.method, other.backbone, other.weights) == ("patchcore", "resnet18.tv_in1k", "pretrained")
    assert all(name in inspect.signature(ReConPatch).parameters for preset in PRESETS.values() for name in preset)
    with pytest.raises(ReconpatchError, match="slow is none of fast, paper"):
        with_preset("slow", {})


@pytest.mark.parametrize("patches", [1, 100, FEWEST_ROWS, FEWEST_ROWS + 1, 19200, 10**5, 10**6])
def test_a_bank_of_few_photographs_is_large_enough(patches) -> None:
    rows = int(patches * enough_rows(BASELINE, patches).coreset)
    assert rows >= min(patches, FEWEST_ROWS)
    assert rows <= max(patches // 100, min(patches, FEWEST_ROWS + patches // 10**4))
    if patches // 100 >= FEWEST_ROWS:
        assert enough_rows(BASELINE, patches) == BASELINE


def test_patchcore_keeps_all_values_unless_it_is_told_otherwise() -> None:
    """The patch features of this network have 80 values."""
    network = {"backbone": "tf_efficientnet_lite0", "weights": "embedded"}
    assert detector_run(network | {"method": "patchcore"}, FitOptions()).dim == 80
    assert detector_run(network | {"method": "patchcore", "dim": None}, FitOptions()).dim == 80
    assert detector_run(network | {"method": "patchcore", "dim": "1/4"}, FitOptions()).dim == 20
    assert detector_run(network | {"dim": None}, FitOptions()).dim == 40
