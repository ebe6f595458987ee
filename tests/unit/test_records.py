import json
import shutil
from pathlib import Path

import pytest
from drawing import make_record

from reconpatch.errors import ReconpatchError
from reconpatch.files import replacing, write_text
from reconpatch.jobs import job
from reconpatch.records import code_digest, read_record, write_record

ROOT = Path(__file__).parents[2]


def test_round_trip(tmp_path) -> None:
    record = make_record()
    write_record(tmp_path / "a/record.json", record)
    assert read_record(tmp_path / "a/record.json") == record
    content = json.loads((tmp_path / "a/record.json").read_text())
    stage = content["stages"]["score"]
    assert stage["packages"]["numpy"] and stage["processor"] and stage["device"] == "cpu" and stage["wall_s"] == 1
    assert content["metrics"]["aupro_30"] is None


def test_another_file_is_no_record(tmp_path) -> None:
    for content in ("{}", "not json", json.dumps(make_record().model_dump() | {"surplus": 1})):
        (tmp_path / "r.json").write_text(content)
        with pytest.raises(ReconpatchError, match=r"r\.json: not a record"):
            read_record(tmp_path / "r.json")


def test_not_a_number_cannot_be_written(tmp_path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_record(tmp_path / "r.json", make_record(metrics={"image_auroc": float("nan")}))
    assert list(tmp_path.iterdir()) == []


def test_failed_write_leaves_the_old_file_and_no_other(tmp_path) -> None:
    target = tmp_path / "x.json"
    write_text(target, "old")
    with pytest.raises(RuntimeError), replacing(target) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert target.read_text() == "old" and list(tmp_path.iterdir()) == [target]


@pytest.fixture
def package(tmp_path):
    """A script that uses `near`, which uses `far`; `other` is not used."""
    files = {
        "script.py": '"""Doc."""\nfrom reconpatch.near import f\n\nf()\n',
        "near.py": "def f():\n    from reconpatch.far import g\n    return g()\n",
        "far.py": 'def g():\n    """Say one."""\n    return 1\n',
        "other.py": "x = 1\n",
        "jobs.py": "y = 1\n",
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    return tmp_path


@pytest.mark.parametrize(
    ("file", "old", "new", "changes"),
    [
        ("far.py", "return 1", "return 2", True),
        ("near.py", "return g()", "return g() + 0", True),
        ("script.py", "f()\n", "f(); f()\n", True),
        ("far.py", "Say one.", "Say it.", False),
        ("far.py", "return 1", "return 1  # one", False),
        ("other.py", "1", "2", False),
        ("jobs.py", "1", "2", False),
    ],
)
def test_code_digest_sees_logic_of_used_modules_only(file, old, new, changes, package) -> None:
    before = code_digest.__wrapped__(package / "script.py", package)
    (package / file).write_text((package / file).read_text().replace(old, new))
    assert (code_digest.__wrapped__(package / "script.py", package) != before) == changes


def test_an_upgraded_package_changes_the_stages_that_import_it(package, monkeypatch) -> None:
    (package / "far.py").write_text("import numpy\n\ndef g():\n    return 1\n")
    before = code_digest.__wrapped__(package / "script.py", package)
    monkeypatch.setattr("reconpatch.records._versions", lambda: {"numpy": "numpy 99", "scipy": "scipy 1"})
    after = code_digest.__wrapped__(package / "script.py", package)
    assert before != after
    monkeypatch.setattr("reconpatch.records._versions", lambda: {"numpy": "numpy 99", "scipy": "scipy 2"})
    assert code_digest.__wrapped__(package / "script.py", package) == after


@pytest.mark.parametrize(
    ("module", "stages"),
    [
        ("tables", {"table", "histogram", "qualitative", "draw_umap"}),
        ("figures", {"histogram", "qualitative", "draw_umap"}),
        ("recon", {"training"}),
        ("patches", {"features"}),
        ("coreset", {"bank"}),
        ("metrics", {"score"}),
        ("config", set()),
        ("plan", set()),
    ],
)
def test_editing_a_module_reruns_exactly_the_stages_that_use_it(module, stages, tmp_path) -> None:
    scripts = {p.stem: p for p in (ROOT / "workflow/scripts").glob("*.py")}
    package = shutil.copytree(ROOT / "reconpatch", tmp_path / "reconpatch")
    before = {name: code_digest.__wrapped__(path, package) for name, path in scripts.items()}
    with open(package / f"{module}.py", "a") as file:
        file.write("\nEDITED = 1\n")
    after = {name: code_digest.__wrapped__(path, package) for name, path in scripts.items()}
    assert {name for name in scripts if before[name] != after[name]} == stages


def test_job_shows_the_users_error_without_traceback(tmp_path) -> None:
    log = tmp_path / "logs/x.log"
    with pytest.raises(SystemExit) as caught, job(str(log), "x"):
        raise ReconpatchError("coreset: 2 is too much")
    assert caught.value.code == 1
    assert "error: coreset: 2 is too much" in log.read_text() and "Traceback" not in log.read_text()


def test_job_logs_progress_and_use(tmp_path) -> None:
    log = tmp_path / "x.log"
    with job(str(log), "x") as running:
        running.progress("images", 5, 10)
        usage = running.usage()
    assert "images 5/10" in log.read_text() and "left" in log.read_text()
    assert usage["peak_mb"] > 10 and usage["wall_s"] >= 0
