"""The script that measures a GPU, where there is none: rehearsed on the CPU, and left out part by part."""

import json
import runpy
import sys
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from process_state import restored
from running import ROOT

# Not the network and extraction, which take a minute on the CPU.
PARTS = [
    "loss",
    "training_equality",
    "scoring_equality",
    "training_speed",
    "coreset_speed",
    "search_speed",
    "whole_path",
]


def measured(out: Path, monkeypatch: pytest.MonkeyPatch, *options: str, fails: bool = False) -> list[dict[str, object]]:
    """Options -> the rows that the script wrote."""
    monkeypatch.setattr(sys, "argv", ["measure.py", str(out), *options])
    with restored(), pytest.raises(SystemExit) if fails else nullcontext():
        runpy.run_path(str(ROOT / "benchmarks/gpu/measure.py"), run_name="__main__")
    rows: list[dict[str, object]] = json.loads((out / "rows.json").read_text())
    return rows


def test_a_rehearsal_computes_and_says_that_it_is_one(tmp_path, monkeypatch) -> None:
    rows = measured(tmp_path, monkeypatch, "--rehearse", "--only", *PARTS)
    assert not [row for row in rows if row["passed"] is False or row["what"] == "left out"]
    errors = {row["what"]: row["value"] for row in rows if row["unit"] == "of float64"}
    assert len(errors) == 4 and all(0 < value < 1e-5 for value in errors.values())
    assert {row["part"] for row in rows} == {part.replace("_", " ") for part in PARTS}
    assert (tmp_path / "GPU.md").read_text().startswith("# REHEARSAL")


def test_without_a_gpu_every_part_is_named_as_left_out(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    rows = measured(tmp_path, monkeypatch, fails=True)
    assert len(rows) == 10 and {row["what"] for row in rows} == {"left out"}
