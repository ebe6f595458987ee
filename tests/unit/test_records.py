import importlib.metadata
import json
import shutil
import sys
from pathlib import Path

import pytest
from drawing import make_record

from reconpatch import records
from reconpatch.errors import ReconpatchError
from reconpatch.files import replacing, write_text
from reconpatch.records import Record, code_digest, combined_record, read_record, stage_facts, write_record

ROOT = Path(__file__).parents[2]
PICTURES = {"curve", "draw_positions", "draw_umap", "gallery", "histogram", "qualitative", "sweep"}
ANEW = {"report", "plan"}  # made by every call of `all`, whatever has changed


def test_round_trip(tmp_path) -> None:
    record = make_record()
    write_record(tmp_path / "a/record.json", record)
    assert read_record(tmp_path / "a/record.json") == record
    content = json.loads((tmp_path / "a/record.json").read_text())
    stage = content["stages"]["score"]
    assert stage["packages"]["numpy"] and stage["processor"] and stage["device"] == "cpu" and stage["wall_s"] == 1
    assert content["metrics"]["aupro_30"] is None


def member(n: int, **changes) -> Record:
    """Record of a member of an ensemble, filled as the stages fill it."""
    shared = {"method": "reconpatch", "dim": 384, "levels": [2, 3]}
    fields = {
        "run": f"r{n}",
        "description": shared | {"backbone": f"net{n}", "weights": "file" if n else "pretrained"},
        "weights": {"source": f"file w{n}", "sha256": str(n) * 64},
        "bank": {"patches": 10 + n, "of": 100 * (n + 1), "grid": [28, 28]},
        "flags": [f"flag {n}", "shared flag"],
        "data": {"layout": "mvtec_ad", "manifest": "m", "train": 4},
    }
    return make_record(**(fields | changes))


def test_the_record_of_an_ensemble_holds_its_members(tmp_path) -> None:
    members = [member(0), member(1), member(2)]
    record = combined_record("e-1", "zscore", members, {"image_auroc": 0.75}, {"wall_s": 2.0})
    write_record(tmp_path / "r.json", record)
    record = read_record(tmp_path / "r.json")
    assert (record.dataset, record.category, record.run, record.seed) == ("mine", "nut", "e-1", 0)
    assert record.metrics == {"image_auroc": 0.75}  # its own, no mean of the members'
    assert record.description == {
        **{"method": "reconpatch", "dim": 384, "levels": [2, 3], "backbone": "net0 + net1 + net2"},
        **{"combine": "zscore", "members": [m.description | {"run": m.run} for m in members]},
    }
    assert record.flags == ["flag 0", "flag 1", "flag 2", "shared flag"]
    assert record.data == members[0].data
    assert record.weights == {
        "source": "file w0 + file w1 + file w2",
        "sha256": " + ".join(str(n) * 64 for n in range(3)),
    }
    assert (record.bank["patches"], record.bank["of"]) == (10 + 11 + 12, 100 + 200 + 300)
    assert record.stages["ensemble"] == {"wall_s": 2.0}
    assert set(record.stages) == {"ensemble", "0 score", "1 score", "2 score"}
    assert record.stages["1 score"] == members[1].stages["score"]


def test_what_the_members_share_is_said_once() -> None:
    twice = [member(0), member(1, description=member(0).description, weights=member(0).weights)]
    record = combined_record("e", "minmax", twice, {}, {})
    assert record.description["weights"] == "pretrained"
    assert record.weights["source"] == "file w0"
    only_one = member(1, description=member(1).description | {"epoch": 40})
    assert "epoch" not in combined_record("e", "minmax", [only_one, member(0)], {}, {}).description
    assert "epoch" not in combined_record("e", "minmax", [member(0), only_one], {}, {}).description


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
    installed = {"numpy": "numpy 99", "scipy": "scipy 1"}
    monkeypatch.setattr("reconpatch.records._versions", lambda tops: {t: installed[t] for t in tops if t in installed})
    after = code_digest.__wrapped__(package / "script.py", package)
    assert before != after
    installed["scipy"] = "scipy 2"
    assert code_digest.__wrapped__(package / "script.py", package) == after


def test_packages_and_versions_are_those_the_standard_library_finds() -> None:
    import numpy
    import yaml  # whose distribution has another name

    loaded = {name.split(".")[0] for name in sys.modules}
    installed = importlib.metadata.packages_distributions()
    names = {installed[top][0] for top in loaded & set(installed)} - {"snakemake", "reconpatch"}
    packages = stage_facts("", 1, "cpu", {})["packages"]
    assert packages == {name: importlib.metadata.version(name) for name in names}
    assert packages["numpy"] == numpy.__version__ and packages["PyYAML"] == yaml.__version__


def test_a_package_with_metadata_of_the_old_kind_has_a_version_too(tmp_path, monkeypatch) -> None:
    folder = tmp_path / "made_up.egg-info"
    folder.mkdir()
    (folder / "PKG-INFO").write_text("Metadata-Version: 1.0\nName: made-up\nVersion: 7.1\n")
    (folder / "top_level.txt").write_text("made_up\n")
    monkeypatch.syspath_prepend(tmp_path)
    records._owners.cache_clear()
    try:
        assert records._versions(["made_up", "absent"]) == {"made_up": "made-up 7.1"}
    finally:
        records._owners.cache_clear()


@pytest.mark.parametrize(
    ("module", "stages"),
    [
        ("tables", {"table", "sweep"}),
        ("paper", {"table", "sweep"}),
        ("comparison", {"table", "sweep"}),
        ("names", PICTURES | {"table"}),
        ("figures", PICTURES),
        ("plots", {"curve", "draw_positions", "sweep"}),
        ("series", {"curve", "draw_positions", "sweep", "table"}),
        ("captions", PICTURES),
        ("recon", {"training"}),
        ("training", {"training"}),
        # Figures that show images move them as `features` does.
        ("augmentation", {"masks", "features", "qualitative", "gallery", "draw_positions"}),
        ("indexing", {"index"}),
        ("remarks", {"index", "score"}),
        ("features", {"features"}),
        ("patches", {"features"}),
        ("coreset", {"bank"}),
        ("bank", {"bank"}),
        ("metrics", {"score", "ensemble"}),
        ("maps", {"score", "ensemble", "qualitative", "gallery"}),
        ("examples", {"qualitative", "gallery"}),
        ("ensemble", {"ensemble"}),
        *((name, set()) for name in ("config", "experiments", "plan", "checks", "estimate", "cli")),
    ],
)
def test_editing_a_module_reruns_exactly_the_stages_that_use_it(module, stages, tmp_path) -> None:
    scripts = {p.stem: p for p in (ROOT / "workflow/scripts").glob("*.py")}
    package = shutil.copytree(ROOT / "reconpatch", tmp_path / "reconpatch")
    before = {name: code_digest.__wrapped__(path, package) for name, path in scripts.items()}
    with open(package / f"{module}.py", "a") as file:
        file.write("\nEDITED = 1\n")
    after = {name: code_digest.__wrapped__(path, package) for name, path in scripts.items()}
    assert {name for name in scripts if before[name] != after[name]} - ANEW == stages
