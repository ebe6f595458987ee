"""What an edited module makes stale: exactly the stages that use it."""

import shutil
from modulefinder import ModuleFinder
from pathlib import Path

import pytest
from running import ROOT, snakemake, tiny

from reconpatch.records.provenance import PLUMBING, code_digest

SCRIPTS = sorted((ROOT / "workflow/scripts").glob("*.py"))
PACKAGE = ROOT / "reconpatch"
MODULES = {
    ".".join(file.relative_to(PACKAGE).with_suffix("").parts)
    for file in PACKAGE.rglob("*.py")
    if file.name != "__init__.py"
}


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A copy of the package, to be edited."""
    return shutil.copytree(ROOT / "reconpatch", tmp_path / "package/reconpatch", ignore=lambda *_: ["__pycache__"])


def used(script: Path, package: Path) -> set[str]:
    """Modules of the package that a script imports, at any depth, as the standard library finds them in byte code.

    Those that cannot change a result are left out, with what they alone import; and so is what `reconpatch` itself
    offers for use from Python, which it imports when it is asked for, and no script does.
    """
    assert "from reconpatch import ReConPatch" not in script.read_text()
    (package / "__init__.py").write_text("")
    finder = ModuleFinder(
        path=[str(package.parent)], excludes=["snakemake", *(f"reconpatch.{name}" for name in PLUMBING)]
    )
    finder.run_script(str(script))
    return {name.removeprefix("reconpatch.") for name in finder.modules if name.startswith("reconpatch.")} & MODULES


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_a_stage_depends_on_the_modules_it_imports_and_no_others(script: Path, package: Path) -> None:
    before = code_digest(script, package)
    changed = set()
    for name in MODULES:
        file = package / f"{name.replace('.', '/')}.py"
        text = file.read_text()
        file.write_text(f"{text}\nEDITED = True\n")
        code_digest.cache_clear()
        changed |= {name} if code_digest(script, package) != before else set()
        file.write_text(text)
    assert changed == used(script, package)


def test_an_edited_template_counts_as_a_module(package: Path) -> None:
    script = ROOT / "workflow/scripts/report.py"
    before = code_digest(script, package)
    template = package / "results/report.html.j2"
    template.write_text(template.read_text() + "edited")
    code_digest.cache_clear()
    assert code_digest(script, package) != before


STAGES = ("index_category", "read_masks", "extract_features", "train_representation", "select_coreset", "score_run")
OUTPUTS = ("make_table", "draw_histogram", "draw_umap")
EDITS = {
    "data/index": STAGES + OUTPUTS,
    "method/fused_inference": ("extract_features", "train_representation", "select_coreset", "score_run", *OUTPUTS),
    "method/loss": ("train_representation", "select_coreset", "score_run", *OUTPUTS),
    "method/coreset": ("select_coreset", "score_run", *OUTPUTS),
    "method/metrics": ("score_run", *OUTPUTS),
    "results/make_table": ("make_table",),
    "results/figures/maps": ("draw_histogram", "draw_umap"),
    "results/report": (),
    "results/report.html": (),
}


def test_edits_rerun_the_stages_that_use_the_module_and_what_follows_from_them(
    checkout: Path, mvtec: Path, package: Path
) -> None:
    figures: dict[str, dict] = {"histogram": {}, "umap": {}}
    arguments = [*tiny(checkout, "mvtec_ad", mvtec, {"method": ["reconpatch"]}, figures=figures), "tiny"]
    variables = {"PYTHONPATH": str(package.parent)}
    snakemake(checkout, "--cores", "2", *arguments, **variables)
    for module, expected in EDITS.items():
        file = package / (f"{module}.py" if "." not in module else f"{module}.j2")
        text = file.read_text()
        file.write_text(f"{text}\nEDITED = True\n")
        printed = snakemake(checkout, "-n", *arguments, **variables)
        file.write_text(text)
        known = (*STAGES, *OUTPUTS)
        assert {rule for rule in known if f"\nrule {rule}:" in printed} == set(expected), module
    assert "Nothing to be done" in snakemake(checkout, "-n", *arguments, **variables)
