"""What an edited module makes stale: exactly the stages that use it."""

import shutil
from modulefinder import ModuleFinder
from pathlib import Path

import pytest
from running import ROOT, snakemake, tiny

from reconpatch.records.provenance import PLUMBING, code_digest, code_parts

SCRIPTS = sorted((ROOT / "workflow/scripts").glob("*.py"))


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the package, to be edited. `reconpatch` itself imports nothing: what it offers for use from Python is
    imported when it is asked for, and no script asks.
    """
    root = tmp_path_factory.mktemp("package") / "reconpatch"
    shutil.copytree(ROOT / "reconpatch", root)  # with the compiled loops
    (root / "__init__.py").write_text("")
    return root


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_a_stage_depends_on_the_modules_it_imports_and_no_others(script: Path, package: Path) -> None:
    """The imports that the digests follow are those that the standard library finds in byte code."""
    assert "from reconpatch import" not in script.read_text()
    files = {file.relative_to(package).as_posix() for file in package.rglob("*.py")}
    modules = {name.removesuffix(".py").replace("/", ".") for name in files if not name.endswith("__init__.py")}
    modules -= {"__main__"}  # which the finder calls the script
    finder = ModuleFinder([str(package.parent)], excludes=["snakemake", *(f"reconpatch.{m}" for m in PLUMBING)])
    finder.run_script(str(script))
    imported = {name.removeprefix("reconpatch.") for name in finder.modules}
    found, _ = code_parts(script.read_text(), files, lambda name: (package / name).read_text())
    assert found.keys() & modules == imported & modules


# Module or template: the scripts whose digests change with it.
EDITS = {
    "data/index.py": {"index"},
    "method/fused_inference.py": {"features", "submission", "weights"},
    "method/loss.py": {"training"},
    "method/fused_loss.py": {"training"},
    "pipeline/score.py": {"score", "submission"},
    # The report reads thumbnails with the module that also draws them, in the colours of maps.
    "results/figures/maps.py": {
        "draw_gallery",
        "draw_histogram",
        "draw_qualitative",
        "draw_roc",
        "report",
        "thumbnails",
    },
    "results/report.html.j2": {"report"},
}


@pytest.mark.parametrize("name", EDITS)
def test_edits_change_the_digests_of_the_scripts_that_use_the_module(name: str, package: Path) -> None:
    def digests() -> dict[str, str]:
        code_digest.cache_clear()
        return {script.stem: code_digest(script, package) for script in SCRIPTS}

    before, text = digests(), (package / name).read_text()
    (package / name).write_text(f"{text}\nEDITED = True\n")
    after = digests()
    (package / name).write_text(text)
    assert {script for script in before if before[script] != after[script]} == EDITS[name]


def test_edits_rerun_the_stage_and_what_follows_from_it(checkout: Path, mvtec: Path, package: Path) -> None:
    arguments = tiny(checkout, "mvtec_ad", mvtec, {"method": ["reconpatch"]}, figures={"histogram": {}})
    variables = {"PYTHONPATH": str(package.parent)}
    snakemake(checkout, "--cores", "2", *arguments, "tiny", **variables)
    scores = {"score_run", "make_table", "draw_histogram"}
    for name, expected in {
        "method/fused_inference.py": {"extract_features", "train_representation", "select_coreset", *scores},
        "pipeline/score.py": scores,
        "results/report.html.j2": set(),
    }.items():
        file = package / name
        text = file.read_text()
        file.write_text(f"{text}\nEDITED = True\n")
        printed = snakemake(checkout, "-n", *arguments, "tiny", **variables)
        file.write_text(text)
        rules = {line.split()[1].rstrip(":") for line in printed.splitlines() if line.startswith("rule ")}
        assert rules - {"tiny"} == expected, name
    assert "Nothing to be done" in printed
