from pathlib import Path

import pytest
import yaml
from running import ROOT

from reconpatch.cli.replication import check
from reconpatch.experiments.config import read_config
from reconpatch.experiments.networks import Networks
from reconpatch.experiments.plan import Plan, TableCell
from reconpatch.experiments.run import Run

DEFAULT = yaml.safe_load((ROOT / "configs/default.yaml").read_text())


@pytest.mark.parametrize(("resizes", "times"), [((80,), 0), ((48, 100), 2.5)])
def test_check_remarks_on_images_far_smaller_than_what_a_run_sees(resizes, times, mvtec: Path, capsys) -> None:
    """Those of `nut` have 48x40 px."""
    plan = Plan(read_config(DEFAULT | {"datasets": {"mvtec_ad": {"root": str(mvtec), "layout": "mvtec_ad"}}}))
    plan.targets["a"], plan.cells["a"] = [("mvtec_ad", "nut")], []
    for resize in resizes:
        run = Run(backbone="resnet18", resize=resize, crop=48)
        plan.runs[f"{resize}"] = run
        plan.cells["a"].append(TableCell({}, run.method, run.seed, f"{resize}", ()))
    assert check(plan, Networks()) == []
    printed = capsys.readouterr().out
    words = f"remark: images that are enlarged more than 2 times for the network, up to {times} times"
    assert "nut: 4 training" in printed and (words in printed) == ("enlarged" in printed) == bool(times)
