"""The command init: a folder from which the installed package makes every table, without a clone."""

import argparse
import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path

from reconpatch.cli.photographs import check_free
from reconpatch.errors import ReconpatchError, choose
from reconpatch.experiments.config import DEFAULT, load_config, read_yaml
from reconpatch.experiments.place import SUITE
from reconpatch.files import replacing

SNAKEFILE = """\
# A study with reconpatch: its workflow is used as a module, config.yaml changes its settings.
from reconpatch.experiments.place import SUITE


configfile: "config.yaml"


module reconpatch:
    snakefile:
        str(SUITE / "workflow/Snakefile")
    config:
        config


use rule * from reconpatch
"""
HEAD = """\
# What differs from the default configuration. docs/configuration.md has every key.
"""
OVERRIDES = """\
# Changes of single experiments, for example fewer seeds or other values of an axis:
# overrides:
#   table_coreset: {set: {epochs: 60}, axes: {seed: [0, 1, 2]}}
"""


def init(given: argparse.Namespace) -> None:
    """`reconpatch init`: write a study."""
    check_free(given.folder, "give another folder, or remove it")
    roots = dict(given.data)
    known = load_config([]).datasets
    if strange := sorted(roots.keys() - known.keys()):
        raise ReconpatchError("no such data set", where=f"--data {strange[0]}", fix=choose(strange[0], known))
    with replacing(given.folder) as folder:
        folder.mkdir()
        (folder / "Snakefile").write_text(SNAKEFILE)
        (folder / "config.yaml").write_text(f"{HEAD}{datasets_text(roots)}{OVERRIDES}")
        shutil.copytree(SUITE / "profiles", folder / "profiles")
    print(f"{given.folder}: config.yaml says where data are; profiles are for this machine, SLURM and Kubernetes")
    print(f"  cd {given.folder}")
    print("  reconpatch plan --configfile config.yaml    # what would run, with its disk, memory and time")
    print("  snakemake --cores 2 smoke                   # all of it on the embedded sample")
    print("  snakemake --cores 8 table_coreset           # one table")


def overlays_of(given: argparse.Namespace) -> list[Path]:
    """Arguments -> the files that change the default configuration, as Snakemake reads them here.

    In a study the file that its Snakefile names comes first.
    """
    file = Path("Snakefile")
    text = file.read_text("utf-8", errors="replace") if file.is_file() else ""
    named = re.search(r'^configfile:\s*"([^"]+)"', text, re.MULTILINE) if "module reconpatch:" in text else None
    return [Path(named[1]), *given.configfile] if named else given.configfile


def datasets_text(roots: Mapping[str, Path]) -> str:
    """Data set -> its folder, of those that are known -> the section `datasets`, with the others as comments."""
    lines = ["datasets:"] if roots else ["datasets: {}"]  # Snakemake refuses a file without a key
    for name, dataset in read_yaml(SUITE / DEFAULT)["datasets"].items():
        if name in roots:
            lines.append(f"  {name}: {{root: {json.dumps(str(roots[name].absolute()))}}}")
        elif dataset["root"] is None:
            lines.append(f"#   {name}: {{root: /path/of/{name}}}")
    return "\n".join(lines) + "\n"
