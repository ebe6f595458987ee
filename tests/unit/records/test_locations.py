from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from results_folder import run_of

from reconpatch.experiments.plan import stage_name
from reconpatch.experiments.run import description, of_training
from reconpatch.records.locations import is_place, stage_names

CHANGES = {
    "method": ["patchcore", "reconpatch"],
    "augment": ["none", "test", "both"],
    "weights": ["pretrained", "random", "file"],
    "seed": [0, 3],
    "neighbours": [1, 3],
    "reweight": ["image", "map"],
    "epochs": [2, 5],
    "epoch": [None, 1, 2],
    "dim": [8, 12],
    "feature_dim": [16, 20],
    "levels": [[1], [2, 3]],
    "coreset": [0.1, 0.25],
    "mask_rule": ["any", "official"],
    "backbone": ["resnet18", "convnext_tiny.fb_in22k"],
}


@given(st.fixed_dictionaries({key: st.sampled_from(values) for key, values in CHANGES.items()}))
def test_names_are_those_the_plan_gives(changes) -> None:
    """From what a record holds, which lacks what the run does not depend on."""
    run = run_of(**changes)
    expected = {stage: stage_name(run, stage) for stage in ("features", "masks")}
    training = of_training(run)
    expected["bank"] = stage_name(training, "bank")
    if run.method == "reconpatch":
        expected["training"] = stage_name(training, "training")
    if run.augment == "test":
        expected["training features"] = stage_name(training, "features")
    assert stage_names(description(run, "score")) == expected


def test_names_cannot_lead_out_of_the_results() -> None:
    hostile = description(run_of(), "score") | {"backbone": "../../x", "crop": "/etc", "dim": "..\\x", "method": "a/.."}
    for name in stage_names(hostile).values():
        assert "/" not in name and "\\" not in name and Path("a", name).parent == Path("a")


def test_a_setting_that_lacks_is_named() -> None:
    with pytest.raises(KeyError, match="mask_rule"):
        stage_names({k: v for k, v in description(run_of(), "score").items() if k != "mask_rule"})


@pytest.mark.parametrize(
    ("path", "is_one"),
    [
        ("/r/runs/mine/nut/base-1/record.json", True),
        ("/r/ensembles/mine/nut/e-1/record.json", True),
        ("/r/tables/mine/nut/base-1/record.json", False),
        ("/r/runs/mine/nut/base-1/other.json", False),
        ("/r/runs/mine/nut/record.json", False),
        ("record.json", False),
    ],
)
def test_records_lie_in_one_kind_of_place(path, is_one) -> None:
    assert is_place(Path(path)) is is_one
