"""Records: one JSON file per run and category that says what was measured and exactly how."""

import ast
import importlib.metadata
import json
import os
import platform
import subprocess
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from reconpatch.errors import ReconpatchError
from reconpatch.files import write_text

SCHEMA = 1
PACKAGES = ("faiss-gpu", "faiss-cpu", "numba", "numpy", "pillow", "scikit-learn", "scipy", "snakemake", "timm", "torch")
PLUMBING = frozenset({"errors", "files", "jobs", "records"})  # cannot change a result
PACKAGE_FOLDER = Path(__file__).parent


class Record(BaseModel):
    """The result of one run on one category. Metrics are in [0, 1]; None is undefined (no masks, no anomalies)."""

    model_config = ConfigDict(extra="forbid")

    schema_version: int = SCHEMA
    dataset: str
    category: str
    run: str
    seed: int
    description: dict[str, Any]  # every parameter the result depends on
    metrics: dict[str, float | None]
    flags: list[str]  # what a reader must know before comparing: untrained weights, synthetic defects
    data: dict[str, Any]  # layout, digest of the manifest, counts
    weights: dict[str, str]  # source and digest of the backbone's weights
    bank: dict[str, Any]  # patches kept and offered
    code: dict[str, Any]  # git commit, whether it was changed, digest of each stage's modules
    environment: dict[str, Any]  # packages, Python, platform, processor, GPU, threads
    stages: dict[str, dict[str, float]]  # wall seconds, CPU seconds and peak MB of each stage


def write_record(path: Path, record: Record) -> None:
    """Write a record, whole or not at all."""
    write_text(path, json.dumps(record.model_dump(), indent=1, allow_nan=False) + "\n")


def read_record(path: Path) -> Record:
    """File -> Record. Raises ReconpatchError naming the file when it is not one."""
    try:
        return Record.model_validate_json(path.read_text())
    except (OSError, ValidationError) as error:
        raise ReconpatchError(f"{path}: not a record ({error})") from None


def _imports(source: str) -> set[str]:
    """Python source -> names of the package's modules it imports, at any depth of nesting."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("reconpatch."):
            names.add(node.module.split(".")[1])
        elif isinstance(node, ast.ImportFrom) and node.module == "reconpatch":
            names |= {alias.name for alias in node.names}
    return names


def _logic(source: str) -> str:
    """Python source -> its syntax tree without docstrings, so that prose and layout do not count as changes."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and ast.get_docstring(node) is not None:
            node.body = node.body[1:]
    return ast.dump(tree)


@cache
def code_digest(script: Path, package: Path = PACKAGE_FOLDER) -> str:
    """Script of a stage -> digest of its logic and of every module it imports, directly or not.

    Snakemake notices only the script's own text; given as a parameter of the rule, this reruns exactly the stages
    that use an edited module.
    """
    found: dict[str, str] = {}
    waiting = [("", script.read_text())]
    while waiting:
        name, source = waiting.pop()
        found[name] = _logic(source)
        for template in sorted(package.glob(f"{name}.*.j2")):
            found[template.name] = template.read_text()
        for module in sorted(_imports(source) - set(found) - PLUMBING):
            file = package / f"{module}.py"
            if file.is_file() and module not in found:
                waiting.append((module, file.read_text()))
    return sha256(json.dumps(found, sort_keys=True).encode()).hexdigest()[:16]


def _git(*arguments: str) -> str | None:
    try:
        answer = subprocess.run(
            ["git", *arguments], cwd=PACKAGE_FOLDER, capture_output=True, text=True, timeout=10, check=True
        )
        return answer.stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


def code_state() -> dict[str, Any]:
    """Git commit of the package and whether files differ from it; None where there is no git."""
    status = _git("status", "--porcelain", "--untracked-files=no")
    return {"commit": _git("rev-parse", "HEAD"), "changed": None if status is None else bool(status)}


def environment(threads: int, device: str) -> dict[str, Any]:
    """Where a stage runs: package versions, Python, platform, processor, GPU, threads."""
    installed = {d.metadata["Name"].lower(): d.version for d in importlib.metadata.distributions()}
    return {
        "packages": {name: installed[name] for name in PACKAGES if name in installed},
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": threads,
        "device": device,
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor()
