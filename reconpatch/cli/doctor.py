"""The command doctor: what is installed and found here, for questions and reports of bugs.

Nothing is downloaded or written, and nothing found stops the command: what is missing or fails is what it is to say.
"""

import argparse
import json
import os
import platform
import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from reconpatch.cli.checked import devices_used
from reconpatch.cli.replication import RESULTS
from reconpatch.cli.study import overlays_of
from reconpatch.data.catalogue import category_counts
from reconpatch.data.layouts import categories
from reconpatch.errors import ReconpatchError
from reconpatch.experiments.config import Config, expand_path, load_config
from reconpatch.records.provenance import code_state, processor
from reconpatch.runtime import machine_mb, threads_here
from reconpatch.version import VERSION


def doctor(given: argparse.Namespace) -> None:
    """`reconpatch doctor`: print what is here, a line each."""
    found = {"reconpatch": this_version(), "python": platform.python_version(), "system": platform.platform()}
    found |= {"processor": f"{processor()}, {threads_here()} threads", "memory": f"{machine_mb() / 1000:.1f} GB"}
    found |= {"packages": packages(), "computes": computes()}
    found |= {"disk of results": disk(RESULTS), "disk of TMPDIR": disk(Path(tempfile.gettempdir()))}
    found |= dict(data_sets(overlays_of(given)))
    if given.json:
        print(json.dumps(found, indent=1))
    else:
        print("\n".join(f"{name}: {what}" for name, what in found.items()))


def this_version() -> str:
    """Version of this package, and its commit where it runs from a clone."""
    state = code_state()
    if state.commit is None:
        return f"{VERSION}, not from a clone"
    return f"{VERSION}, commit {state.commit[:12]}" + (" with changes" if state.changed else "")


def packages() -> str:
    """Versions of the packages that this one requires, extras included, without those that are not installed."""
    names = sorted({re.split(r"[^\w.-]", each)[0] for each in requires("reconpatch") or ()}, key=str.lower)
    return ", ".join(f"{name} {found}" for name in names if (found := _version(name)))


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def computes() -> str:
    """What computes here."""
    try:
        return devices_used("auto")
    except Exception as error:  # whatever libraries of GPUs raise
        return f"{type(error).__name__}: {error}"


def disk(folder: Path) -> str:
    """Folder, which need not be there yet -> how much is free."""
    there = folder.absolute()
    while not there.exists():
        there = there.parent
    free = f"{shutil.disk_usage(there).free / 1e9:.1f} GB free"
    return free if os.access(there, os.W_OK) else f"{free}, not writable"


def data_sets(overlays: Sequence[Path]) -> Iterator[tuple[str, str]]:
    """Files that change the default configuration -> each data set, and what of it is at hand."""
    try:
        config = load_config(overlays)
    except ModuleNotFoundError:
        yield "tables", "their packages are not installed; pip install 'reconpatch[workflow]'"
        return
    except ReconpatchError as error:
        yield "configuration", str(error)
        return
    for name in config.datasets:
        yield f"data set {name}", at_hand(config, name)


def at_hand(config: Config, name: str) -> str:
    """Configuration, name of a data set -> what of it is at hand."""
    dataset = config.datasets[name]
    if dataset.root is None:
        return f"not at hand: datasets.{name}.root is not given"
    if dataset.layout == "sample":
        return "drawn by the workflow"
    try:
        found = categories(dataset.layout, expand_path(str(dataset.root), f"datasets.{name}.root"))
    except (ReconpatchError, OSError) as error:
        return str(error)
    known = category_counts(dataset.layout)
    return f"{len(found)} categories" + (f" of the {len(known)} that are published" if known.keys() & found else "")
