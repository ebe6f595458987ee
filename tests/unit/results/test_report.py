"""The report, and what it shows of results of which some are missing."""

import csv
import re
import shutil
from collections.abc import Iterator
from contextlib import chdir
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from real_results import real_plan
from running import ROOT

from reconpatch.experiments.outputs import result_folder
from reconpatch.experiments.plan import Plan
from reconpatch.records.provenance import stage_codes
from reconpatch.records.record import read_record
from reconpatch.results.report import is_current, render, report_what_is_there

CODES = stage_codes(ROOT / "workflow/scripts")


@pytest.fixture
def planned(real_results_copy: Path) -> Iterator[tuple[Plan, Path]]:
    """The plan of real results and their folder; inside, the workflow's folder is the current one."""
    with chdir(real_results_copy):
        yield real_plan(real_results_copy), Path("results")


def record_of(plan: Plan, run: str) -> Path:
    return Path("results") / result_folder(plan, run, "mine", "nut") / "record.json"


def values_of(name: str) -> dict[tuple[str, str], str]:
    """(category, run) -> image AUROC as the table's file gives it."""
    with open(f"results/tables/{name}.csv", newline="", encoding="utf-8") as stream:
        rows = [row for row in csv.DictReader(stream) if row["metric"] == "image_auroc"]
    return {(row["category"], run): row["value"] for row in rows for run in row["runs"].split()}


def test_page_is_self_contained_and_escaped(tmp_path) -> None:
    folder = tmp_path / "figures/exp/mine/<nut>"
    folder.mkdir(parents=True)
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(folder / "qualitative.png")
    (tmp_path / "t.html").write_text("<table><tr><td>99.56</td></tr></table>")
    section = {"name": "table x", "title": "<script>alert(1)</script>", "table": "t.html"}
    section |= {"figures": ["figures/exp/mine/<nut>/qualitative.png"]}
    left_out = {"<b>no data</b>": ["table_btad", "figure_umap"]}
    page = render(tmp_path, [section], left_out, {"commit": "abc", "changed": True}, ["exp: runs/<i>"])
    assert not [tag for tag in ("<script>", "<b>", "<nut>", "<i>") if tag in page]
    assert page.count("&lt;b&gt;no data&lt;/b&gt;") == 1 and "exp: runs/&lt;i&gt;" in page  # each reason once
    assert "99.56" in page and "abc" in page and "table_btad, figure_umap" in page
    assert all(address.startswith("data:") for address in re.findall(r'src="([^"]+)"', page))
    assert not re.findall(r'(?:href|src)="(?:https?:)?//', page)


def test_a_record_is_current_until_its_code_or_its_data_change(planned) -> None:
    plan, folder = planned
    ensembles = [name for name in plan.members("combined") if name in plan.ensembles]
    for file in (record_of(plan, plan.members("tiny")[-1]), record_of(plan, ensembles[0])):
        used = {stage for _, stage, _ in read_record(file).all_stages()}
        assert is_current(file, folder, CODES) and len(used) > 3
        for stage in CODES:
            assert is_current(file, folder, CODES | {stage: "other"}) == (stage not in used), stage
    manifest = folder / "index/mine/nut.json"
    kept = manifest.read_text()
    shutil.copy(folder / "index/mine/bolt.json", manifest)
    assert not is_current(file, folder, CODES)
    manifest.write_text(kept)
    file.write_text('{"schema_version": 1}')  # of an earlier version, to be made anew
    assert not is_current(file, folder, CODES)
    file.unlink()
    assert not is_current(file, folder, CODES)


def test_a_whole_table_is_left_alone_and_one_without_its_last_records_is_not(planned) -> None:
    plan, folder = planned
    table, record = Path("results/tables/augmented.html"), record_of(plan, plan.members("tiny")[0])
    table.write_text("<table><tr><td>as the workflow made it</td></tr></table>")
    content = record.read_text()
    record.unlink()
    for _ in range(2):
        lost = report_what_is_there(plan, folder, CODES)
        assert f"tiny: {record.parent.relative_to(folder)}" in lost and table.stat().st_mtime
        assert "as the workflow made it" in Path("results/report.html").read_text()
    # The last record comes, but its table's job does not run: the table of the failure before must not stay.
    assert not values_of("tiny")["nut", plan.members("tiny")[0]]
    record.write_text(content)
    assert report_what_is_there(plan, folder, CODES) == []
    assert all(values_of("tiny").values())
    assert "issing" not in Path("results/report.html").read_text(encoding="utf-8")
