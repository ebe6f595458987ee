"""The report, and what it shows of results of which some are missing."""

import csv
import json
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
from safetensors.numpy import load_file

from reconpatch.data.manifest import read_manifest
from reconpatch.experiments.outputs import compared_runs, result_folder, thumbnails_of
from reconpatch.experiments.plan import Plan
from reconpatch.pipeline.thumbnails import ThumbnailFiles, make_thumbnails
from reconpatch.records.provenance import CodeState, stage_codes
from reconpatch.records.record import read_record
from reconpatch.results.report import is_current, render, report_what_is_there
from reconpatch.results.thumbnails import read_thumbnails
from reconpatch.version import VERSION

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
    (tmp_path / "tables").mkdir()
    settings = {"measure": "cost", "targets": [["mine", "<nut>"]], "cells": []}
    (tmp_path / "tables/table x.json").write_text(json.dumps(settings))
    (tmp_path / "tables/table x_summary.csv").write_text("dataset\n")
    left_out = {"<b>no data</b>": ["table_btad", "figure_umap"]}
    page = render(tmp_path, [section], [], left_out, CodeState("abc", True), ["exp: runs/<i>"])
    assert not [tag for tag in ("<script>alert", "<b>", "<nut>", "<i>") if tag in page]
    assert page.count("&lt;b&gt;no data&lt;/b&gt;") == 1 and "exp: runs/&lt;i&gt;" in page  # each reason once
    assert "99.56" in page and "abc" in page and "table_btad, figure_umap" in page
    assert all(address.startswith("data:") for address in re.findall(r'src="([^"]+)"', page))
    assert not re.findall(r'(?:href|src)="(?:https?:)?//', page)
    installed = render(tmp_path, [section], [], left_out, CodeState(None, None))
    assert "abc" in page and f"version {VERSION}, not from a clone" in installed and "not from a clone" not in page


def test_thumbnails_of_other_scores_are_not_shown_after_a_failure(planned) -> None:
    plan, folder = planned
    (file,) = [file for file in thumbnails_of(plan, plan.experiments) if "/nut/" in file]
    pair = compared_runs(plan, Path(file).stem, ("mine", "nut"))
    files = ThumbnailFiles(
        folder / "index/mine/nut.json",
        Path("data/nut"),
        [record_of(plan, run) for run in pair],
        [record_of(plan, run).with_name("scores.safetensors") for run in pair],
        Path(file),
    )
    make_thumbnails(files, "all", [])
    report_what_is_there(plan, folder, CODES)
    assert Path("results/report.html").read_text().count("data:image/webp") == 6  # the test images of the category
    content = json.loads(Path(file).read_text())
    content["digests"][-1] = "of other scores"
    Path(file).write_text(json.dumps(content))
    report_what_is_there(plan, folder, CODES)
    assert "data:image/webp" not in Path("results/report.html").read_text()


def test_thumbnails_show_every_image_once_with_both_methods_scores(planned) -> None:
    plan, folder = planned
    (file,) = [file for file in thumbnails_of(plan, ["tiny"]) if "/bolt/" in file]
    pair = compared_runs(plan, Path(file).stem, ("mine", "bolt"))
    assert [plan.runs[run].method for run in pair] == ["patchcore", "reconpatch"]
    records = [Path("results") / result_folder(plan, run, "mine", "bolt") / "record.json" for run in pair]
    saved = [each.with_name("scores.safetensors") for each in records]
    make_thumbnails(
        ThumbnailFiles(folder / "index/mine/bolt.json", Path("data/bolt"), records, saved, Path(file)), "all", []
    )
    shown = read_thumbnails(Path(file))
    tests = [item for item in read_manifest(folder / "index/mine/bolt.json")[0] if item.split == "test"]
    assert sorted(item.path for item in shown.images) == sorted(item.path for item in tests)
    for n, scores in enumerate(saved):
        expected = dict(zip([item.path for item in tests], load_file(scores)["image"].tolist(), strict=True))
        assert {item.path: item.scores[n] for item in shown.images} == expected
        f1 = json.loads(records[n].read_text())["metrics"]["image_f1"]
        found = sum(item.anomalous for item in shown.images if item.alarms[n])
        errors = sum(item.anomalous != item.alarms[n] for item in shown.images)
        assert 2 * found / (2 * found + errors) == pytest.approx(f1)


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
