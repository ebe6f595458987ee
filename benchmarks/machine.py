"""What the numbers were measured on, and with which versions."""

import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

ANOMALIB = 'from importlib.metadata import version; print(f\'{version("anomalib")} with torch {version("torch")}\')'


def field(file: str, name: str) -> str:
    """File of "name : value" lines -> the first value of that name."""
    for line in Path(file).read_text().splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return "unknown"


def output(*command: str) -> str:
    """Command -> what it printed, "unknown" if it failed."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else "unknown"


def describe(threads: int, anomalib: Path | None, patchcore: Path | None) -> str:
    """Threads given to every process, the peers -> a Markdown list."""
    memory = int(field("/proc/meminfo", "MemTotal").split()[0]) / 2**20
    own = ("torch", "faiss-cpu", "faiss-gpu", "numba", "numpy", "scipy", "scikit-learn", "timm", "torchvision")
    found = []
    for name in own:
        try:
            found.append(f"{name} {version(name)}")
        except ModuleNotFoundError:
            continue
    theirs = "not installed" if anomalib is None else output(str(anomalib), "-c", ANOMALIB)
    peer = "not installed"
    if patchcore is not None:
        release = patchcore / "patchcore/VERSION"
        commit = output("git", "-C", str(patchcore), "rev-parse", "--short", "HEAD")
        peer = f"{release.read_text().strip() if release.exists() else 'unknown'} at {commit}, with our packages"
    load = ", ".join(f"{x:.1f}" for x in os.getloadavg())
    lines = (
        f"Date: {datetime.now(UTC):%Y-%m-%d}",
        f"Processor: {field('/proc/cpuinfo', 'model name')}, {os.cpu_count()} cores, {memory:.0f} GiB",
        f"Threads: {threads} in every process; load before: {load} (1, 5, 15 minutes)",
        f"Python {platform.python_version()}, {', '.join(found)}",
        f"anomalib: {theirs}",
        f"patchcore-inspection: {peer}",
    )
    return "\n".join(f"- {line}" for line in lines)
