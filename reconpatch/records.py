"""Records: one JSON file per run and category that says what was measured and exactly how."""

import ast
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from reconpatch.errors import ReconpatchError
from reconpatch.files import write_text

SCHEMA = 1
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
    stages: dict[str, dict[str, Any]]  # of every stage: `stage_facts`, written by the stage itself when it ran


def write_record(path: Path, record: Record) -> None:
    """Write a record, whole or not at all."""
    write_text(path, json.dumps(record.model_dump(), indent=1, allow_nan=False) + "\n")


def read_record(path: Path) -> Record:
    """File -> Record. Raises ReconpatchError naming the file when it is not one."""
    try:
        return Record.model_validate_json(path.read_text())
    except (OSError, ValidationError) as error:
        raise ReconpatchError(f"{path}: not a record ({error})") from None


def combined_record(
    name: str, how: str, members: Sequence[Record], metrics: Mapping[str, float | None], own: dict[str, Any]
) -> Record:
    """Records of an ensemble's members, on one category -> the record of the ensemble, their descriptions in it."""
    first, names = members[0], [str(member.description["backbone"]) for member in members]
    same = {k: v for k, v in first.description.items() if all(m.description.get(k) == v for m in members)}
    return Record(
        dataset=first.dataset,
        category=first.category,
        run=name,
        seed=first.seed,
        description=same
        | {"backbone": " + ".join(names), "combine": how, "members": [m.description | {"run": m.run} for m in members]},
        metrics=dict(metrics),
        flags=sorted({flag for member in members for flag in member.flags}),
        data=first.data,
        weights={
            "source": " + ".join(sorted({m.weights["source"] for m in members})),
            "sha256": " + ".join(m.weights["sha256"] for m in members),
        },
        bank={"patches": sum(m.bank["patches"] for m in members), "of": sum(m.bank["of"] for m in members)},
        stages={"ensemble": own} | {f"{n} {stage}": f for n, m in enumerate(members) for stage, f in m.stages.items()},
    )


@cache
def _owners() -> dict[str, importlib.metadata.Distribution]:
    """Top-level package -> the distribution that brings it, for everything installed but the engine and this package.

    As `importlib.metadata.packages_distributions`, but without an object for every installed file: every job asks.
    """
    owners: dict[str, importlib.metadata.Distribution] = {}
    for distribution in importlib.metadata.distributions():
        tops = (distribution.read_text("top_level.txt") or "").split()
        if not tops:
            files = (line.split(",", 1)[0] for line in (distribution.read_text("RECORD") or "").splitlines())
            tops = [file.split("/", 1)[0].removesuffix(".py") for file in files if file.endswith(".py")]
        for top in tops:
            owners.setdefault(top, distribution)
    return {top: owner for top, owner in owners.items() if top not in ("snakemake", "reconpatch")}


def _versions(tops: Iterable[str]) -> dict[str, str]:
    """Top-level packages -> the distribution that brings each, and its version; what none brings is left out.

    The two come from the head of its metadata: its `version` would parse the whole, with the package's README.
    """
    found = {}
    for top in tops:
        if top in _owners():
            owner = _owners()[top]
            head = (owner.read_text("METADATA") or owner.read_text("PKG-INFO") or "").split("\n\n", 1)[0]
            fields = dict(line.split(": ", 1) for line in head.splitlines() if line.startswith(("Name: ", "Version: ")))
            if len(fields) == 2:
                found[top] = f"{fields['Name']} {fields['Version']}"
    return found


@cache
def _read(source: str) -> tuple[str, set[str], set[str]]:
    """Python source -> (digest of its syntax tree without docstrings, so that prose and layout do not count as changes;
    modules of this package and other top-level packages that it imports, at any depth of nesting).
    """
    tree = ast.parse(source)
    ours, others = set(), set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            others |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            top, *rest = node.module.split(".")
            if top == "reconpatch":
                ours |= {rest[0]} if rest else {alias.name for alias in node.names}
            else:
                others.add(top)
        elif isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and ast.get_docstring(node) is not None:
            node.body = node.body[1:]
    return sha256(ast.dump(tree).encode()).hexdigest(), ours, others


@cache
def code_digest(script: Path, package: Path = PACKAGE_FOLDER) -> str:
    """Script of a stage -> digest of its logic, of every module it imports, directly or not, and of the versions of
    the packages these import.

    Snakemake notices only the script's own text; given as a parameter of the rule, this reruns exactly the stages
    that use an edited module or an upgraded package.
    """
    found: dict[str, str] = {}
    packages: set[str] = set()
    waiting = [("", script.read_text())]
    while waiting:
        name, source = waiting.pop()
        found[name], ours, others = _read(source)
        for template in sorted(package.glob(f"{name}.*.j2")):
            found[template.name] = template.read_text()
        packages |= others
        for module in sorted(ours - set(found) - PLUMBING):
            file = package / f"{module}.py"
            if file.is_file():
                waiting.append((module, file.read_text()))
    versions = sorted(_versions(packages).values())
    return sha256(json.dumps([found, versions], sort_keys=True).encode()).hexdigest()[:16]


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


def stage_facts(code: str, threads: int, device: str, usage: dict[str, float]) -> dict[str, Any]:
    """What a stage says of itself when it ran: code and commit, packages loaded, machine, device, time and memory.

    `peak_mb` counts pages of memory-mapped features, which the system may drop at any time.
    """
    loaded = set(_versions({name.split(".")[0] for name in sys.modules}).values())
    return {
        "code": code,
        **code_state(),
        "packages": dict(sorted(entry.rsplit(" ", 1) for entry in loaded)),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": threads,
        "device": device,
        **usage,
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor()
