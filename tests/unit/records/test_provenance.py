import hashlib
import struct
from pathlib import Path

import numpy as np
import pytest
from drawing import USAGE

from reconpatch.method.memory_bank import MemoryBank, Representation
from reconpatch.records import provenance
from reconpatch.records.provenance import arrays_digest, bank_digests, code_digest, stage_facts

ROOT = Path(__file__).parents[3]
SCRIPTS = {path.stem: path for path in (ROOT / "workflow/scripts").glob("*.py")}


@pytest.fixture(autouse=True)
def uncached() -> None:
    """Digests of edited files are made anew."""
    code_digest.cache_clear()


def test_numerics_tell_libraries_switches_and_variables(monkeypatch) -> None:
    import torch

    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.setenv("HOME_OF_NOTHING", "3")
    numerics = stage_facts("", 1, "cpu", USAGE).numerics
    assert numerics.environment["OMP_NUM_THREADS"] == "3" and "HOME_OF_NOTHING" not in numerics.environment
    assert any(pool.startswith(("openblas", "mkl", "blis")) for pool in numerics.pools)
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(not before)
    try:
        assert stage_facts("", 1, "cpu", USAGE).numerics.torch["deterministic"] is not before
    finally:
        torch.use_deterministic_algorithms(before)


def test_another_schema_asks_for_new_results_of_the_stages_that_write_or_read_records(monkeypatch) -> None:
    before = {name: code_digest(path) for name, path in SCRIPTS.items()}
    monkeypatch.setattr(provenance, "SCHEMA", 10**6)
    code_digest.cache_clear()
    changed = {name for name, path in SCRIPTS.items() if code_digest(path) != before[name]}
    assert {"features", "training", "bank", "score", "ensemble", "table"} <= changed
    assert not changed & {"masks", "index", "sample", "training_scores"}


@pytest.mark.parametrize(
    ("file", "old", "new", "changes"),
    [
        ("room/far.py", "return 1", "return 2", True),
        ("near.py", "return g()", "return g() + 0", True),
        ("script.py", "f()\n", "f(); f()\n", True),
        ("room/far.py", "Say one.", "Say it.", False),
        ("room/far.py", "return 1", "return 1  # one", False),
        ("other.py", "1", "2", False),
    ],
)
def test_code_digest_sees_logic_of_used_modules_only(file, old, new, changes, tmp_path) -> None:
    files = {
        "script.py": '"""Doc."""\nfrom reconpatch.near import f\n\nf()\n',
        "near.py": "def f():\n    from reconpatch.room import far\n    return far.g()\n",
        "room/far.py": 'def g():\n    """Say one."""\n    return 1\n',
        "other.py": "x = 1\n",
    }
    (tmp_path / "room").mkdir()
    for name, text in files.items():
        (tmp_path / name).write_text(text.replace("far.g()", "g()"))
    before = code_digest(tmp_path / "script.py", tmp_path)
    (tmp_path / file).write_text((tmp_path / file).read_text().replace(old, new))
    code_digest.cache_clear()
    assert (code_digest(tmp_path / "script.py", tmp_path) != before) == changes


def test_an_upgraded_package_changes_the_stages_that_import_it(tmp_path, monkeypatch) -> None:
    (tmp_path / "script.py").write_text("import numpy.linalg\n")
    installed = {"numpy": "98", "scipy": "1"}
    monkeypatch.setattr(provenance, "_versions", lambda names: {n: installed[n] for n in names if n in installed})
    digests = []
    for upgrade in ({}, {"scipy": "2"}, {"numpy": "99"}):
        installed |= upgrade
        code_digest.cache_clear()
        digests.append(code_digest(tmp_path / "script.py", tmp_path))
    assert digests[0] == digests[1] != digests[2]


def test_the_digest_of_arrays_is_of_names_types_shapes_and_values() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((3, 2), np.float32), np.arange(3)
    text = b"a float32 (3, 2)\n" + b"".join(struct.pack("=f", v) for row in a for v in row)
    text += b"b int64 (3,)\n" + b"".join(struct.pack("=q", v) for v in b)
    assert arrays_digest({"b": b, "a": np.asfortranarray(a)}) == hashlib.sha256(text).hexdigest()
    others = [{"a": a, "b": b + 1}, {"a": a.T, "b": b}, {"a": a, "c": b}, {"a": a, "b": b.astype(np.uint64)}, {"a": a}]
    assert len({arrays_digest(other) for other in [{"a": a, "b": b}, *others]}) == 6


def test_digests_of_a_bank_are_of_the_rows_used_their_order_and_f() -> None:
    rng = np.random.default_rng(0)
    patches, weight, bias = (rng.standard_normal(shape, np.float32) for shape in ((6, 2), (2, 4), 2))
    long = MemoryBank(patches, np.arange(6), Representation(2, weight, bias), 9)
    short = MemoryBank(patches[:4], np.arange(4), Representation(2, weight, bias), 9)
    assert bank_digests(long.first(4)) == bank_digests(short) != bank_digests(long)
    moved = MemoryBank(patches[:4], np.arange(4)[::-1], Representation(2, weight, bias + 1), 9)
    assert all(bank_digests(moved)[name] != digest for name, digest in bank_digests(short).items())
    assert set(bank_digests(MemoryBank(patches, np.arange(6), Representation(2), 9))) == {"bank"}
