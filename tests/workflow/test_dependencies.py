"""The schedule's jobs and their order are those of Snakemake."""

import re
import shutil
from pathlib import Path

from running import PARTS, ROOT, snakemake

from reconpatch.experiments.checks import check_backbones
from reconpatch.experiments.plan import load_plan
from reconpatch.experiments.resources import Job, estimate


def test_dependencies_are_those_of_a_dry_run(tmp_path, monkeypatch) -> None:
    """Who reads whose files, as Snakemake lists inputs and outputs of every job of the smoke run."""
    for part in PARTS:
        (shutil.copytree if (ROOT / part).is_dir() else shutil.copy)(ROOT / part, tmp_path / part)
    monkeypatch.chdir(tmp_path)
    plan = load_plan([], ["smoke"])
    networks = check_backbones(plan, Path("none"), Path("workflow/backbones.json"))
    found = {job: need.after for job, need in estimate(plan, networks).jobs.items()}

    made, read = {}, {}
    for block in re.split(r"\n(?=(?:local)?rule )", snakemake(tmp_path, "-n", "--cores", "1", "smoke"))[1:]:
        rule = re.findall(r"rule (\w+):", block)[0]
        lines = dict(re.findall(r"^    (input|output): (.*)$", block, re.M))
        outputs = lines.get("output", "").split(", ")
        job = _job(rule, outputs[0].split("/"))
        read[job] = lines.get("input", "").split(", ")
        made |= dict.fromkeys(outputs, job)
    order = {job: {made[file] for file in files if file in made} & found.keys() for job, files in read.items()}
    assert found == {job: order[job] for job in found}


def _job(rule: str, path: list[str]) -> Job:
    """The job of a rule that makes a file below results/."""
    if rule == "index_category":
        return Job(rule, path[2], path[3].removesuffix(".json"))
    if rule == "make_table":
        return Job(rule, name=Path(path[2]).stem)
    if rule == "draw_qualitative":
        return Job(rule, path[3], path[4], path[2])
    if rule in ("extract_features", "read_masks", "train_representation", "select_coreset", "score_run"):
        return Job(rule, path[2], path[3], path[4])
    return Job(rule)
