"""Nothing can run code from data.

The linter refuses pickle, eval, exec, shells and unsafe YAML (pyproject.toml). These tests check what it does not know.
"""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_arrays_and_weights_are_read_without_pickle() -> None:
    for file in [*(ROOT / "reconpatch").rglob("*.py"), *(ROOT / "workflow").rglob("*.py")]:
        text = file.read_text()
        assert not re.search(r"allow_pickle\s*=\s*(?!False)|weights_only\s*=\s*(?!True)|torch\.hub\.load\(", text), file


def test_rules_run_scripts_and_no_shell_commands() -> None:
    for file in [ROOT / "Snakefile", ROOT / "workflow/Snakefile", *(ROOT / "workflow").rglob("*.smk")]:
        assert not re.search(r"^\s*shell\s*:|\bshell\(", file.read_text(), re.MULTILINE), file
