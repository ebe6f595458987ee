"""Where results come from: digests of code and files, and what a stage says of itself, its machine and packages."""

import ast
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Collection, Iterable, Mapping
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from reconpatch.errors import ReconpatchError
from reconpatch.records.record import SCHEMA, Numerics, StageFacts
from reconpatch.version import VERSION

if TYPE_CHECKING:
    from reconpatch.method.memory_bank import MemoryBank

# Modules that cannot change a result.
PLUMBING = frozenset(
    {"errors", "files", "pipeline.from_snakemake", "pipeline.job", "records.provenance", "records.record", "runtime"}
)
TEMPLATES = (".j2", ".mplstyle")  # files beside a module, named after it, that its logic uses
PACKAGE_FOLDER = Path(__file__).parents[1]
# Environment variables that change which instructions or how many threads compute the numbers.
VARIABLES = (
    *("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "OPENBLAS_CORETYPE", "MKL_CBWR"),
    *("CUBLAS_WORKSPACE_CONFIG", "NVIDIA_TF32_OVERRIDE", "ATEN_CPU_CAPABILITY", "CUDA_VISIBLE_DEVICES"),
    *("NUMBA_NUM_THREADS", "NUMBA_CPU_NAME", "PYTHONHASHSEED"),
)


def arrays_digest(arrays: Mapping[str, Any]) -> str:
    """name to numpy array -> SHA-256 over names, types, shapes and bytes, in sorted order."""
    digest = sha256()
    for name in sorted(arrays):
        digest.update(f"{name} {arrays[name].dtype} {tuple(arrays[name].shape)}\n".encode())
        digest.update(arrays[name].tobytes())
    return digest.hexdigest()


def bank_digests(bank: "MemoryBank") -> dict[str, str]:
    """Memory bank, as large as a run uses it -> digests of its rows with their order, "bank", and of f if it has one.

    The file holds as many rows as the largest ratio of the plan wants, that of f all checkpoints: their digests would
    change with what else is planned.
    """
    f = {"weight": bank.representation.weight, "bias": bank.representation.bias}
    digests = {"bank": arrays_digest({"memory_bank": bank.patches, "order": bank.order})}
    return digests | ({"f": arrays_digest(f)} if f["weight"] is not None else {})


@cache
def _distributions() -> dict[str, importlib.metadata.Distribution]:
    """Top-level package -> the installed distribution that brings it.

    `importlib.metadata.packages_distributions` gives the same in 12 times the time: it makes an object for every
    installed file, and every job asks.
    """
    found: dict[str, importlib.metadata.Distribution] = {}
    for distribution in importlib.metadata.distributions():
        packages = (distribution.read_text("top_level.txt") or "").split()
        if not packages:
            files = [line.split(",", 1)[0] for line in (distribution.read_text("RECORD") or "").splitlines()]
            packages = [file.split("/", 1)[0].removesuffix(".py") for file in files if file.endswith(".py")]
        for package in packages:
            found.setdefault(package, distribution)
    return found


def _versions(packages: Iterable[str]) -> dict[str, str]:
    """Top-level packages -> name and version of the distributions that bring them, but the engine and this package.

    They are read from the head of the metadata: `Distribution.version` parses the whole, with the package's README.
    """
    versions = {}
    for package in {*packages} & _distributions().keys() - {"snakemake", "reconpatch"}:
        distribution = _distributions()[package]
        metadata = distribution.read_text("METADATA") or distribution.read_text("PKG-INFO") or ""
        head = metadata.split("\n\n", 1)[0].splitlines()
        fields = dict(line.split(": ", 1) for line in head if line.startswith(("Name: ", "Version: ")))
        if len(fields) == 2:
            versions[fields["Name"]] = fields["Version"]
    return versions


class _Source(NamedTuple):
    """What one Python file contributes to the digest of a stage."""

    digest: str  # of its syntax tree without docstrings: prose and layout do not count as changes
    modules: set[str]  # of this package, "method.loss", that it imports at any depth of nesting
    packages: set[str]  # other top-level packages that it imports


@cache
def _parse(source: str) -> _Source:
    tree = ast.parse(source)
    modules: set[str] = set()
    packages: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            # A name may be a module of the package it comes from: `code_parts` takes those that are there.
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        else:
            names = []
            if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and ast.get_docstring(node) is not None:
                node.body = node.body[1:]
        for top, _, rest in (name.partition(".") for name in names):
            (modules if top == "reconpatch" else packages).add(rest if top == "reconpatch" else top)
    return _Source(sha256(ast.dump(tree).encode()).hexdigest(), modules, packages)


def code_parts(script: str, files: Collection[str], read: Callable[[str], str]) -> tuple[dict[str, str], set[str]]:
    """(source of a stage's script, names of the package's files, how to read one) -> (parts, other packages imported).

    The parts are the modules that the script imports, directly or not, each with the digest of its logic, the script
    itself as "", and their templates with their text.
    """
    parts: dict[str, str] = {}
    packages: set[str] = set()
    waiting = [("", script)]
    while waiting:
        name, text = waiting.pop()
        source = _parse(text)
        parts[name] = source.digest
        packages |= source.packages
        path = name.replace(".", "/")
        for template in sorted(file for file in files if file.startswith(f"{path}.") and file.endswith(TEMPLATES)):
            parts[template] = read(template)
        if source.modules & {"records.record", "records.provenance"}:
            parts["schema of records"] = str(SCHEMA)  # the only part of the plumbing whose change asks for a new run
        for module in sorted(source.modules - parts.keys() - PLUMBING):
            file = f"{module.replace('.', '/')}.py"
            if file in files:
                waiting.append((module, read(file)))
    return parts, packages


@cache
def code_digest(script: Path, package: Path = PACKAGE_FOLDER) -> str:
    """Script of a stage -> digest of its logic, of every module it imports, directly or not, and of the versions of
    the packages these import.

    Snakemake notices only the script's own text. Given as a parameter of the rule, the digest reruns exactly the
    stages that use an edited module or an upgraded package.
    """
    files = {file.relative_to(package).as_posix() for file in package.rglob("*") if file.suffix in (".py", *TEMPLATES)}
    parts, packages = code_parts(script.read_text(), files, lambda name: (package / name).read_text())
    versions = sorted(f"{name} {version}" for name, version in _versions(packages).items())
    return sha256(json.dumps([parts, versions], sort_keys=True).encode()).hexdigest()[:16]


def stage_codes(scripts: Path) -> dict[str, str]:
    """Folder of the workflow's scripts -> digest of the present code of every stage that a record tells of.

    Raises ReconpatchError when a script is not there.
    """
    from reconpatch.experiments.stages import STAGES  # jobs, which import this module, do not need it

    files = {name: scripts / f"{name}.py" for name, stage in STAGES.items() if stage.recorded}
    for file in files.values():
        if not file.is_file():
            raise ReconpatchError("no such file", where=file, fix="call this from the root of the repository")
    return {name: code_digest(file) for name, file in files.items()}


def git(*arguments: str, where: Path = PACKAGE_FOLDER) -> bytes | None:
    """What git prints, in a folder; None where there is no git, it fails, or takes ten seconds."""
    try:
        return subprocess.run(["git", *arguments], cwd=where, capture_output=True, timeout=10, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return None


class CodeState(NamedTuple):
    """Git commit of the package and whether files differ from it; None where there is no git."""

    commit: str | None
    changed: bool | None


def code_state() -> CodeState:
    """The state of the package's repository now. An installed package may lie in a clone of something else."""
    if git("rev-parse", "--show-prefix") != b"reconpatch/\n":
        return CodeState(None, None)
    status, commit = git("status", "--porcelain", "--untracked-files=no"), git("rev-parse", "HEAD")
    return CodeState(
        commit=None if commit is None else commit.decode().strip(),
        changed=None if status is None else bool(status.strip()),
    )


def stage_facts(
    code: str,
    threads: int,
    device: str,
    usage: Mapping[str, float],
    *,
    folder: str = "",
    batch_images: int | None = None,
    s_per_image: Mapping[str, float] | None = None,
) -> StageFacts:
    """What a stage says of itself when it ran: code, packages loaded, machine, device, time and memory.

    `usage` has seconds and MB: "wall_s", "cpu_s", "peak_mb" and, for a job, "start_s". `folder` is the name of the
    folder of the stage's files.
    """
    loaded = {name.partition(".")[0] for name in sys.modules}
    commit, changed = code_state()
    return StageFacts(
        folder=folder,
        code=code,
        commit=commit,
        changed=changed,
        packages=dict(sorted({**_versions(loaded), "reconpatch": VERSION}.items())),
        python=platform.python_version(),
        platform=platform.platform(),
        processor=processor(),
        cores=os.cpu_count(),
        threads=threads,
        device=device,
        driver=_driver() if device.startswith("cuda") else None,
        batch_images=batch_images,
        numerics=_numerics(),
        wall_s=usage["wall_s"],
        start_s=usage.get("start_s", 0),
        cpu_s=usage["cpu_s"],
        peak_mb=usage["peak_mb"],
        s_per_image=dict(s_per_image or {}),
    )


def _numerics() -> Numerics:
    """Libraries of linear algebra with the kind of processor they chose, PyTorch's switches, environment variables."""
    from threadpoolctl import threadpool_info

    keys = ("internal_api", "version", "architecture", "num_threads")
    pools = {" ".join(str(pool[k]) for k in keys if pool.get(k) is not None) for pool in threadpool_info()}
    switches: dict[str, bool | int | str | None] = {}
    if torch := sys.modules.get("torch"):
        backends = torch.backends
        switches = {
            "deterministic": torch.are_deterministic_algorithms_enabled(),
            "cudnn_deterministic": backends.cudnn.deterministic,
            "cudnn_benchmark": backends.cudnn.benchmark,
            "matmul_precision": torch.get_float32_matmul_precision(),
            "capability": backends.cpu.get_cpu_capability(),
            "torch_threads": torch.get_num_threads(),
            "cuda": torch.version.cuda,
            "cudnn": backends.cudnn.version(),
        }
    environment = {name: os.environ[name] for name in VARIABLES if name in os.environ}
    return Numerics(pools=sorted(pools), torch=switches, environment=environment)


def _driver() -> str | None:
    """The NVIDIA driver, as it names itself."""
    try:
        return Path("/proc/driver/nvidia/version").read_text().splitlines()[0]
    except (OSError, IndexError):
        return None


def processor() -> str:
    """The processor, as it names itself."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor()
