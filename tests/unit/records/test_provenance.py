import hashlib
import importlib.metadata
import shutil
import struct
import sys
from pathlib import Path

import numpy as np
import pytest

from reconpatch.method.memory_bank import MemoryBank, Representation
from reconpatch.records import provenance
from reconpatch.records.provenance import (
    arrays_digest,
    bank_digests,
    code_digest,
    stage_facts,
)

ROOT = Path(__file__).parents[3]
PICTURES = {
    "draw_curve",
    "draw_positions",
    "draw_umap",
    "draw_gallery",
    "draw_histogram",
    "draw_qualitative",
    "draw_sweep",
}
ANEW = {"report", "plan"}  # made by every call of `all`, whatever has changed


def test_numerics_tell_libraries_switches_and_variables(monkeypatch) -> None:
    import torch

    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.setenv("HOME_OF_NOTHING", "3")
    numerics = stage_facts("", 1, "cpu", {})["numerics"]
    assert set(numerics) == {
        *("pools", "environment", "deterministic", "cudnn_deterministic", "cudnn_benchmark", "matmul_precision"),
        *("capability", "torch_threads", "cuda", "cudnn"),
    }
    assert numerics["environment"]["OMP_NUM_THREADS"] == "3" and "HOME_OF_NOTHING" not in numerics["environment"]
    assert any(pool.startswith(("openblas", "mkl", "blis")) for pool in numerics["pools"])
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(not before)
    try:
        assert stage_facts("", 1, "cpu", {})["numerics"]["deterministic"] is not before
    finally:
        torch.use_deterministic_algorithms(before)


def test_another_schema_of_records_asks_for_new_ones_and_for_nothing_else(monkeypatch) -> None:
    scripts = {p.stem: p for p in (ROOT / "workflow/scripts").glob("*.py")}
    before = {name: code_digest.__wrapped__(path) for name, path in scripts.items()}
    monkeypatch.setattr(provenance, "SCHEMA", 10**6)
    changed = {name for name, path in scripts.items() if code_digest.__wrapped__(path) != before[name]}
    assert {"score", "ensemble", "table"} <= changed
    assert not changed & {"features", "training", "bank", "masks", "index"}


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
    monkeypatch.setattr(
        "reconpatch.records.provenance._versions", lambda tops: {t: installed[t] for t in tops if t in installed}
    )
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
    provenance._owners.cache_clear()
    try:
        assert provenance._versions(["made_up", "absent"]) == {"made_up": "made-up 7.1"}
    finally:
        provenance._owners.cache_clear()


@pytest.mark.parametrize(
    ("module", "stages"),
    [
        ("results.tables", {"table"}),
        ("results.paper", {"table"}),
        ("results.comparison", {"table"}),
        ("results.names", PICTURES | {"table"}),
        ("results.figures.common", PICTURES),
        ("results.figures.maps", {"draw_gallery", "draw_histogram", "draw_qualitative"}),
        ("results.figures.sweeps", {"draw_curve", "draw_sweep"}),
        ("results.figures.embedding", {"draw_positions", "draw_umap"}),
        ("method.loss", {"training"}),
        ("method.training", {"training"}),
        # Figures that show images move them as `features` does.
        ("data.augmentation", {"masks", "features", "draw_qualitative", "draw_gallery", "draw_positions"}),
        ("data.index", {"index"}),
        ("data.published", {"index", "score"}),
        ("method.features", {"features"}),
        ("method.patches", {"features"}),
        ("method.coreset", {"bank"}),
        ("method.metrics", {"score", "ensemble", "table", "draw_sweep"}),
        ("method.ensemble", {"ensemble"}),
        *(
            (name, set())
            for name in (
                "experiments.config",
                "experiments.rows",
                "experiments.plan",
                "experiments.checks",
                "experiments.resources",
                "cli.main",
            )
        ),
    ],
)
def test_editing_a_module_reruns_exactly_the_stages_that_use_it(module, stages, tmp_path) -> None:
    scripts = {p.stem: p for p in (ROOT / "workflow/scripts").glob("*.py")}
    package = shutil.copytree(ROOT / "reconpatch", tmp_path / "reconpatch")
    before = {name: code_digest.__wrapped__(path, package) for name, path in scripts.items()}
    with open(package / f"{module.replace('.', '/')}.py", "a") as file:
        file.write("\nEDITED = 1\n")
    after = {name: code_digest.__wrapped__(path, package) for name, path in scripts.items()}
    assert {name for name in scripts if before[name] != after[name]} - ANEW == stages


def test_the_digest_of_arrays_is_of_names_types_shapes_and_values() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((3, 2), np.float32), np.arange(3)
    text = b"a float32 (3, 2)\n" + b"".join(struct.pack("=f", v) for row in a for v in row)
    text += b"b int64 (3,)\n" + b"".join(struct.pack("=q", v) for v in b)
    assert arrays_digest({"b": b, "a": a}) == arrays_digest({"a": a, "b": b}) == hashlib.sha256(text).hexdigest()
    assert arrays_digest({"a": np.asfortranarray(a), "b": b}) == hashlib.sha256(text).hexdigest()
    others = [{"a": a, "b": b + 1}, {"a": a.T, "b": b}, {"a": a, "c": b}, {"a": a, "b": b.astype(np.uint64)}, {"a": a}]
    assert len({arrays_digest(other) for other in [{"a": a, "b": b}, *others]}) == 6


def test_digests_of_a_bank_are_of_the_rows_used_their_order_and_f() -> None:
    rng = np.random.default_rng(0)
    patches, weight, bias = (rng.standard_normal(shape, np.float32) for shape in ((6, 2), (2, 4), 2))
    long = MemoryBank(patches, np.arange(6), Representation(2, weight, bias), 9)
    short = MemoryBank(patches[:4], np.arange(4), Representation(2, weight, bias), 9)
    assert bank_digests(long.first(4)) == bank_digests(short) != bank_digests(long)
    assert bank_digests(short)["f"] == bank_digests(long)["f"] == arrays_digest({"weight": weight, "bias": bias})
    moved = MemoryBank(patches[:4], np.arange(4)[::-1], Representation(2, weight, bias + 1), 9)
    assert all(bank_digests(moved)[name] != digest for name, digest in bank_digests(short).items())
    assert set(bank_digests(MemoryBank(patches, np.arange(6), Representation(2), 9))) == {"bank"}
