"""The notebooks of the documents, executed as a reader does it: in an empty folder, with the installed package.

What they print must be what is committed. Fractions and percentages may differ a little: another processor rounds
differently, and then the coreset can pick other patches. Pictures are not compared. `make notebooks` writes what is to
be committed.
"""

import json
import re
import runpy
from pathlib import Path

import pytest
from running import ROOT

NOTEBOOKS = sorted((ROOT / "docs/notebooks").glob("*.ipynb"))
LARGEST = 500_000  # bytes
NUMBER = re.compile(r"(?<![\w.=+/-])([-+]?\d+(?:\.\d+)?%?)(?![\w=/])")  # no part of a word, a share or a name
CLOSE = 0.03  # share of the largest fraction in the same output by which fractions may differ
POINTS = 5  # by which percentages may differ: one image of 20


def read(file: Path) -> dict:
    return json.loads(file.read_text(encoding="utf-8"))


def printed(notebook: dict) -> list[str]:
    """A notebook -> what each code cell printed and showed as text, with single spaces."""
    found = []
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            outputs = [each.get("text") or each.get("data", {}).get("text/plain", "") for each in cell["outputs"]]
            found.append(" ".join("\n".join("".join(each) for each in outputs).split()))
    return found


def differences(committed: str, ours: str) -> list[str]:
    """Two outputs of a cell -> how they differ beyond rounding and what follows from it."""
    texts = [NUMBER.split(text)[::2] for text in (committed, ours)]
    if texts[0] != texts[1]:
        return [f"{committed!r} became {ours!r}"]
    pairs = list(zip(NUMBER.findall(committed), NUMBER.findall(ours), strict=True))
    largest = max((abs(float(old)) for old, _ in pairs if "." in old and "%" not in old), default=0)
    found = []
    for old, new in pairs:
        apart = abs(float(old.rstrip("%")) - float(new.rstrip("%")))
        allowed = POINTS if "%" in old else CLOSE * largest if "." in old else 0
        if apart > allowed or ("%" in old, "." in old) != ("%" in new, "." in new):
            found.append(f"{old} became {new}")
    return found


@pytest.mark.parametrize(
    ("ours", "wrong"),
    [
        ("threshold 6.54 of 48 images, 95% above, in dim=20-4681dc8d 1/4", 0),
        ("threshold 6.44 of 49 images, 90% above, in dim=20-4681dc8d 1/4", 1),
        ("threshold 6.74 of 48 images, 80% above, in dim=20-4681dc8d 1/4", 2),
        ("threshold 6.44 of 48 images, 90% above, in dim=21-4681dc8d 1/4", 1),
        ("threshold 6.44 of 48 images, 90% above, in dim=20-4681dc8d 1/8", 1),
        ("threshold 6 of 48 images, 90% above, in dim=20-4681dc8d 1/4", 1),
    ],
)
def test_differences_are_found(ours: str, wrong: int) -> None:
    assert len(differences("threshold 6.44 of 48 images, 90% above, in dim=20-4681dc8d 1/4", ours)) == wrong


@pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda file: file.stem)
def test_a_committed_notebook_was_executed_and_says_nothing_of_its_machine(file: Path) -> None:
    notebook, text = read(file), file.read_text(encoding="utf-8")
    assert file.stat().st_size < LARGEST
    assert notebook["metadata"]["kernelspec"]["name"] == "python3"
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    assert not [cell["metadata"] for cell in notebook["cells"] if cell["metadata"]]
    outputs = [output for cell in code for output in cell["outputs"]]
    assert not [output for output in outputs if output["output_type"] == "error" or output.get("name") == "stderr"]
    without_pictures = re.sub(r'"image/png": "[^"]*"', "", text)
    assert not re.findall(r"/(?:home|root|tmp|work|usr)/|site-packages", without_pictures)
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", without_pictures):
        assert target.startswith("http") or (file.parent / target).exists(), target


@pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda file: file.stem)
def test_a_notebook_prints_what_is_committed(file: Path, tmp_path: Path) -> None:
    execute = runpy.run_path(str(ROOT / ".ci/notebooks.py"))["executed"]
    folder = tmp_path / "a reader's folder"
    folder.mkdir()
    notebook = execute(file, folder)
    for number, (committed, ours) in enumerate(zip(printed(read(file)), printed(notebook), strict=True), 1):
        assert not differences(committed, ours), f"{file.name}, code cell {number}"
