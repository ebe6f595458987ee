"""The package and the workflow's scripts never call what can run code from data. Their syntax is read, not their text:
aliases and strings do not deceive it.
"""

import ast
import io
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = sorted(
    [*(ROOT / "reconpatch").rglob("*.py"), *(ROOT / "workflow").rglob("*.py"), *(ROOT / ".ci").glob("*.py")]
)
RULES = sorted([ROOT / "Snakefile", ROOT / "workflow/Snakefile", *(ROOT / "workflow").rglob("*.smk")])
MODULES = {
    "pickle",
    "cPickle",
    "_pickle",
    "dill",
    "cloudpickle",
    "joblib",
    "marshal",
    "shelve",
    "jsonpickle",
    "pty",
}
BUILTINS = {"eval", "exec", "compile", "__import__", "breakpoint"}
CALLS = {
    "os.system",
    "os.popen",
    "subprocess.getoutput",
    "subprocess.getstatusoutput",
    "builtins.eval",
    "builtins.exec",
}
CALLS |= {"torch.hub.load", "torch.jit.load", "torch.package.PackageImporter", "pandas.read_pickle", "runpy.run_path"}
CALLS |= {
    "yaml.load",
    "yaml.load_all",
    "yaml.full_load",
    "yaml.unsafe_load",
    "yaml.unsafe_load_all",
    "yaml.full_load_all",
}
CALLS |= {"yaml.Loader", "yaml.FullLoader", "yaml.UnsafeLoader", "yaml.CLoader", "code.interact", "numpy.fromregex"}
NUMPY = {"numpy.load", "numpy.lib.format.open_memmap", "numpy.lib.format.read_array"}
STARTS = {f"subprocess.{name}" for name in ("run", "Popen", "call", "check_call", "check_output")}


def names_of(tree: ast.AST) -> dict[str, str]:
    """What every imported name stands for."""
    found = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                top = alias.name.split(".")[0]
                found[alias.asname or top] = alias.name if alias.asname else top
        elif isinstance(node, ast.ImportFrom):
            found |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    return found


def dotted(node: ast.AST, names: dict[str, str]) -> str:
    """`np.lib.load` -> numpy.lib.load; empty for what is no dotted name."""
    if isinstance(node, ast.Name):
        return names.get(node.id, node.id)
    if isinstance(node, ast.Attribute) and (before := dotted(node.value, names)):
        return f"{before}.{node.attr}"
    return ""


def constant(call: ast.Call, key: str) -> object:
    """The value a call gives for a keyword, if it is written out."""
    return next((k.value.value for k in call.keywords if k.arg == key and isinstance(k.value, ast.Constant)), None)


def dangers(source: str) -> Iterator[str]:
    tree = ast.parse(source)
    names = names_of(tree)
    for node in ast.walk(tree):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            modules = [node.module or ""] if isinstance(node, ast.ImportFrom) else [a.name for a in node.names]
            yield from (f"imports {m}" for m in modules if m.split(".")[0] in MODULES)
        if isinstance(node, (ast.Name, ast.Attribute)):  # used at all, be it under another name or handed on
            name = dotted(node, names)
            if name in BUILTINS | CALLS:
                yield f"uses {name}"
        if not isinstance(node, ast.Call):
            continue
        name = dotted(node.func, names)
        if name.endswith("torch.load") and constant(node, "weights_only") is not True:
            yield "torch.load without weights_only=True"
        if name in NUMPY and (constant(node, "allow_pickle") or any(k.arg is None for k in node.keywords)):
            yield f"{name} with allow_pickle, or keywords that are not written out"
        if name in NUMPY and any(
            k.arg == "allow_pickle" and not isinstance(k.value, ast.Constant) for k in node.keywords
        ):
            yield f"{name} with an allow_pickle that is not written out"
        if any(k.arg == "shell" for k in node.keywords):
            yield "shell="
        if name in STARTS and not (node.args and isinstance(node.args[0], ast.List)):
            yield f"{name} of something other than a list"


@pytest.mark.parametrize("file", SOURCES, ids=lambda f: str(f.relative_to(ROOT)))
def test_nothing_can_run_code_from_data(file: Path) -> None:
    assert list(dangers(file.read_text())) == []


@pytest.mark.parametrize(
    "source",
    [
        *("import pickle", "from pickle import loads", "import numpy, _pickle as p", "import joblib"),
        *("eval('1')", "f = exec", "map(eval, x)", "__import__('os')", "from builtins import eval as e; e('1')"),
        *("import torch\ntorch.load(f)", "import torch as t\nt.load(f, weights_only=False)"),
        *("from torch import load\nload(f, weights_only=w)", "import torch\ntorch.jit.load(f)"),
        *("import numpy as np\nnp.load(f, allow_pickle=True)", "import numpy\nnumpy.load(f, **options)"),
        *("import numpy as np\nnp.load(f, allow_pickle=flag)", "import pandas as pd\npd.read_pickle(f)"),
        *("import yaml\nyaml.load(f, Loader=yaml.Loader)", "from yaml import unsafe_load\nunsafe_load(f)"),
        *("import subprocess\nsubprocess.run('ls')", "import subprocess as s\ns.Popen(['ls'], shell=True)"),
        *("import os\nos.system('ls')", "from subprocess import run\nrun(f'ls {x}')", "run(a, shell=False)"),
    ],
)
def test_what_is_dangerous_is_found(source: str) -> None:
    assert list(dangers(source))


def test_what_is_safe_is_not() -> None:
    safe = "import yaml, torch, numpy as np, subprocess\nyaml.safe_load(f); torch.load(f, weights_only=True)\n"
    safe += "np.load(f, mmap_mode='r'); np.load(f, allow_pickle=False); subprocess.run(['git', *a], check=True)\n"
    assert list(dangers(safe + "net.eval(); re.compile('a'); 'eval(1)'  # exec")) == []
    assert len(SOURCES) > 60 and len(RULES) >= 5


@pytest.mark.parametrize("file", RULES, ids=lambda f: str(f.relative_to(ROOT)))
def test_rules_hold_no_shell_command(file: Path) -> None:
    """Snakemake's own language: read as tokens. Everything is done by scripts."""
    tokens = list(tokenize.generate_tokens(io.StringIO(file.read_text()).readline))
    assert {t.string for t in tokens if t.type == tokenize.NAME}.isdisjoint(
        {"shell", "eval", "exec", "pickle", "system"}
    )
