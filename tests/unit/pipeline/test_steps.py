"""The steps on a few small images: what the fixture `real_results` made by them."""

from pathlib import Path

from real_results import real_plan

from reconpatch.records.record import read_record


def test_every_planned_run_and_ensemble_has_a_record(real_results: Path) -> None:
    plan = real_plan(real_results)
    expected = {
        (*target, run) for name in plan.experiments for target in plan.targets[name] for run in plan.members(name)
    }
    records = [read_record(file) for file in (real_results / "results").rglob("record.json")]
    assert {(record.dataset, record.category, record.run) for record in records} == expected
