"""A study that `reconpatch init` wrote, without a clone around it. `make wheel` runs one from a wheel."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from products import write_products
from running import snakemake, tiny

from reconpatch.experiments.config import load_config
from reconpatch.experiments.plan import load_plan

COMMAND = [sys.executable, "-m", "reconpatch"]


@pytest.fixture
def data(tmp_path) -> Path:
    """A category in MVTec AD's layout."""
    for part, defect in (("train/good", False), ("test/good", False), ("test/bent", True)):
        write_products(tmp_path / "data/bottle" / part, 2, defect=defect)
    return tmp_path / "data"


def init(where: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    """`reconpatch init study`, called in a folder."""
    return subprocess.run([*COMMAND, "init", "study", *map(str, arguments)], cwd=where, text=True, capture_output=True)


def test_a_study_plans_what_the_clone_does(tmp_path, data, monkeypatch) -> None:
    done = init(tmp_path, "--data", f"mvtec_ad={data}")
    assert done.returncode == 0, done.stderr
    study = tmp_path / "study"
    assert {each.name for each in study.iterdir()} == {"Snakefile", "config.yaml", "profiles"}
    config = yaml.safe_load((study / "config.yaml").read_text())
    assert config == {"datasets": {"mvtec_ad": {"root": str(data)}}}
    here = load_plan([study / "config.yaml"])
    monkeypatch.chdir(study)
    there = load_plan([Path("config.yaml")])
    assert there.runs.keys() == here.runs.keys() and there.targets == here.targets
    said = snakemake(study, "--dry-run", "smoke")
    counts = dict(re.findall(r"^(\w+) +(\d+)$", said, re.MULTILINE))
    assert counts["score_run"] == str(len(here.members("smoke"))) and counts["report_smoke"] == "1"
    assert "Left out" not in snakemake(study, "--dry-run", "table_dimension")


def test_commands_read_in_a_study_what_snakemake_reads(tmp_path, data) -> None:
    init(tmp_path, "--data", f"mvtec_ad={data}")
    study = tmp_path / "study"

    def said(*arguments: str) -> str:
        return subprocess.run([*COMMAND, *arguments], cwd=study, text=True, capture_output=True, check=True).stdout

    assert "runs on each of mvtec_ad/bottle" in said("plan", "table_coreset")
    assert "data set mvtec_ad: 1 categories" in said("doctor")
    (study / "more.yaml").write_text("datasets: {mvtec_ad: {root: null}}")  # a file that is given wins
    assert "runs on each" not in said("plan", "table_coreset", "--configfile", "more.yaml")


def test_a_file_of_the_study_wins_over_the_suites(tmp_path, monkeypatch) -> None:
    (tmp_path / "configs").mkdir()
    monkeypatch.chdir(tmp_path)
    suites = load_config([])
    assert set(suites.experiments) >= {"table_mvtec", "smoke"}
    (tmp_path / "configs/smoke.yaml").write_text("title: My own\ndatasets: {sample: all}\n")
    assert load_plan([], ["smoke"]).experiments["smoke"].title == "My own"


def test_what_cannot_be_a_study_is_refused(tmp_path) -> None:
    wrong = init(tmp_path, "--data", "mvtec=/data")
    assert wrong.returncode == 1 and "did you mean mvtec_ad" in wrong.stderr
    assert "is not NAME=FOLDER" in init(tmp_path, "--data", "mvtec_ad").stderr
    assert not list(tmp_path.iterdir())
    (tmp_path / "study").mkdir()
    assert "study: exists already" in init(tmp_path).stderr


def test_a_study_without_data_has_the_sample(tmp_path) -> None:
    init(tmp_path)
    assert "report_smoke" in snakemake(tmp_path / "study", "--dry-run", "smoke")


def test_a_study_says_before_and_after_its_jobs_what_the_clone_does(tmp_path, mvtec) -> None:
    """Snakemake leaves out the handlers of a module. With --jobs, each job is a process, which is still here."""
    init(tmp_path)
    study = tmp_path / "study"
    axes = {"backbone": ["resnet10t"], "weights": ["file"], "method": ["patchcore"]}
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(b"no weights")
    config = {"weight_files": {"resnet10t": str(broken)}}
    large = snakemake(
        study, "--cores", "2", *tiny(study, "mvtec_ad", mvtec, axes, config | {"memory_gb": 0.05}), ok=False
    )
    assert "memory_gb" in large and not (study / "results/index").exists()
    arguments = tiny(study, "mvtec_ad", mvtec, axes, config)
    failed = snakemake(study, "--cores", "2", *arguments, "tiny", ok=False)
    assert "results/report.html shows what is there. Missing:" in failed and "\n    tiny: all 1\n" in failed
    assert "Planned results are missing" in (study / "results/report.html").read_text()
    done = snakemake(
        study, "--cores", "2", "--jobs", "2", "--forcerun", "index_category", *arguments, "results/index/mine/nut.json"
    )
    assert "Tables: results/tables/" in done


def test_snakedeploy_starts_from_the_configuration_of_init(tmp_path) -> None:
    init(tmp_path)
    ours = Path(__file__).parents[2] / "config/config.yaml"
    assert ours.read_text() == (tmp_path / "study/config.yaml").read_text()


def test_a_workflow_fetched_from_a_repository_plans(tmp_path, checkout) -> None:
    """As snakedeploy writes it; git is told that the repository's address is a folder."""
    repository = checkout.rename(tmp_path / "example")
    for command in ("init", "add .", "-c user.name=A -c user.email=a@b.c commit -m all", "tag v1"):
        subprocess.run(["git", *command.split()], cwd=repository, check=True, capture_output=True)
    init(tmp_path)
    snakefile = tmp_path / "study/Snakefile"
    fetched = 'github("example/example", path="workflow/Snakefile", tag="v1")'
    snakefile.write_text(snakefile.read_text().replace('str(SUITE / "workflow/Snakefile")', fetched))
    assert fetched in snakefile.read_text()
    address = {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": f"url.{tmp_path}/.insteadOf"}
    address |= {"GIT_CONFIG_VALUE_0": "https://github.com/example/", "XDG_CACHE_HOME": str(tmp_path / "cache")}
    assert "report_smoke" in snakemake(tmp_path / "study", "--dry-run", "smoke", **address)


def test_the_doctor_names_versions_and_what_is_at_hand(tmp_path, data) -> None:
    overlay = tmp_path / "data.yaml"
    overlay.write_text(f"datasets: {{mvtec_ad: {{root: {data}}}}}")
    done = subprocess.run(
        [*COMMAND, "doctor", "--configfile", str(overlay)], cwd=tmp_path, text=True, capture_output=True, check=True
    )
    lines = dict(line.split(": ", 1) for line in done.stdout.splitlines())
    assert lines["data set mvtec_ad"] == "1 categories of the 15 that are published"
    assert lines["data set btad"].startswith("not at hand") and "torch " in lines["packages"]
    assert lines["python"] == ".".join(map(str, sys.version_info[:3])) and "GB free" in lines["disk of results"]
    overlay.write_text("datasets: [")
    broken = subprocess.run(
        [*COMMAND, "doctor", "--configfile", str(overlay)], text=True, capture_output=True, check=True
    )
    assert "configuration: " in broken.stdout and "not valid YAML" in broken.stdout


def test_one_version_everywhere(tmp_path) -> None:
    said = subprocess.run([*COMMAND, "--version"], cwd=tmp_path, text=True, capture_output=True, check=True).stdout
    root = Path(__file__).parents[2]
    citation = yaml.safe_load((root / "CITATION.cff").read_text())
    assert said == f"reconpatch {citation['version']}\n"
