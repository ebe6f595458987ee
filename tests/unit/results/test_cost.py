import math
from collections.abc import Sequence
from typing import Any

import pytest
from drawing import make_record
from reconpatch.results.cost import cost_table

from reconpatch.records.record import Record
from reconpatch.results.comparison import Result
from reconpatch.results.tables import MISSING

SECONDS = {"features": 10.04, "training": 100.0, "bank": 5.25, "score": 2.5}
PEAKS = {"features": 900.0, "training": 1500.4, "bank": 700.0, "score": 1200.0}


def facts(stage: str, **changes: Any) -> dict[str, Any]:
    fields = {"wall_s": SECONDS[stage], "peak_mb": PEAKS[stage], "threads": 4, "device": "cpu", "cores": 8}
    fields |= {"processor": "a processor"}
    fields |= {"features": {"s_per_image": {"train": 9.0, "test": 0.3}}, "score": {"s_per_image": {"test": 0.1}}}.get(
        stage, {}
    )
    return fields | changes


def run(
    method: str = "reconpatch", stages: dict[str, Any] | None = None, members: Sequence[Record] = (), **changes: Any
) -> Result:
    names = [s for s in SECONDS if method == "reconpatch" or s != "training"]
    record = make_record(
        description={"backbone": "net", "dim": 512, "method": method},
        bank={"patches": 4000, "of": 100_000},
        stages=stages or {name: facts(name) for name in names},
        members=members,
    )
    fields = {"labels": {"dim": 512}, "method": method, "seed": 0, "dataset": "mine", "category": "metal_nut"}
    fields |= {"run": "r", "departures": (), "record": record, "link": "runs/r/record.json"}
    return Result(**(fields | changes))


def test_a_row_by_hand() -> None:
    (row,) = cost_table([run()], "Cost", []).rows
    assert row == {
        **{"category": "metal nut", "dim": "512", "method": "ReConPatch", "seed": "0", "backbone": "net"},
        **{"features, s": "10.0", "training, s": "100.0", "coreset, s": "5.2", "scores, s": "2.5", "all, s": "117.8"},
        "largest process, MB": "1500",
        "bank, patches": "4000 of 100000",
        "bank, MB": "8.2",  # 4000 rows of 512 float32: 8,192,000 bytes
        "images per second": "2.5",  # 0.3 s for the features of a test image and 0.1 s for its scores
        "on": "cpu, 4 threads",
    }


def test_patchcore_trains_nothing() -> None:
    (row,) = cost_table([run("patchcore")], "Cost", []).rows
    assert row["training, s"] == MISSING
    assert float(row["all, s"]) == pytest.approx(10.04 + 5.25 + 2.5, abs=0.05)
    assert row["largest process, MB"] == "1200"


def test_a_missing_run_is_a_dash() -> None:
    table = cost_table([run(), run(record=None, link="")], "Cost", [])
    assert dict(table.rows[1]) == {
        **{"category": "metal nut", "dim": "512", "method": "ReConPatch", "seed": "0", "backbone": MISSING}
    }
    assert list(table.links) == [{"all, s": ["runs/r/record.json"]}, {}]


def test_an_ensemble_has_no_cost_of_its_own() -> None:
    """Its members are runs of the table; their stages in its record are not counted again."""
    member = run().record
    ensemble = run(stages={"ensemble": {"wall_s": 1.0}}, members=[member, member])
    first, second = cost_table([run(), ensemble], "Cost", []).rows
    assert set(first) - set(second) == {c for c in first if "," in c} | {"images per second", "on"}
    assert second["backbone"] == "net"


def test_every_machine_is_named_once() -> None:
    other = run(stages={name: facts(name, processor="another", cores=2) for name in SECONDS})
    table = cost_table([run(), run("patchcore"), other], "Cost", ["As it is."])
    assert list(table.notes) == ["As it is.", "Machine: a processor, 8 cores.", "Machine: another, 2 cores."]
    assert table.title == "Cost" and len(table.rows) == 3


def test_images_per_second_counts_test_images() -> None:
    stages = {name: facts(name) for name in SECONDS}
    stages["features"] |= {"s_per_image": {"train": 1.0, "test": 0.07}}
    (row,) = cost_table([run(stages=stages)], "Cost", []).rows
    assert math.isclose(float(row["images per second"]), 1 / 0.17, abs_tol=0.05)
