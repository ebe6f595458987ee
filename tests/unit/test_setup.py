"""The environment's descriptions agree with each other."""

import importlib.util
import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_conda_environment_is_the_lock() -> None:
    spec = importlib.util.spec_from_file_location("conda_environment", ROOT / ".ci/conda_environment.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    lock = (ROOT / "requirements.lock").read_text()
    assert (ROOT / "environment.yml").read_text() == module.environment(lock)
    assert module.environment(lock).count('      - "') == len(re.findall(r"^[A-Za-z0-9].*==", lock, re.MULTILINE))


def test_lock_has_hashes_and_no_address() -> None:
    lock = (ROOT / "requirements.lock").read_text()
    assert "://" not in lock and "index-url" not in lock and "find-links" not in lock
    for block in re.split(r"^(?=[A-Za-z0-9])", lock, flags=re.MULTILINE)[1:]:
        assert "--hash=sha256:" in block, block.splitlines()[0]


def test_lock_holds_every_direct_dependency() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wanted = project["project"]["dependencies"] + project["dependency-groups"]["dev"]
    wanted += [each for extra in project["project"]["optional-dependencies"].values() for each in extra]
    locked = {m.lower() for m in re.findall(r"^([A-Za-z0-9._-]+)==", (ROOT / "requirements.lock").read_text(), re.M)}
    assert {re.match(r"[A-Za-z0-9._-]+", d).group().lower() for d in wanted} <= locked


def test_images_get_all_that_the_package_is_built_from() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]
    needed = {*wheel["packages"], *wheel["force-include"], project["project"]["readme"]}
    needed |= {*project["project"]["license-files"], "pyproject.toml", "requirements.lock", ".ci/install.sh"}
    assert set(re.findall("^!(.*)$", (ROOT / ".dockerignore").read_text(), re.MULTILINE)) == needed
    assert set(re.findall(r"^    (\S+) /checkout/\S*$", (ROOT / "apptainer.def").read_text(), re.MULTILINE)) == needed
