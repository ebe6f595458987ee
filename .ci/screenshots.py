"""Write the screenshots of the documents, docs/images/: `make screenshots`.

The report is that of `make smoke`, which must have run. The evaluation page is made here, on the sample.
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

ROOT = Path(__file__).parent.parent
IMAGES = ROOT / "docs/images"
FIT = ["--fast", "--size", "160", "--aspect", "stretch"]


def evaluation_page(folder: Path) -> Path:
    """The page of `reconpatch evaluate --report` for PatchCore on the sample."""
    reconpatch = [sys.executable, "-m", "reconpatch"]
    brick, model, page = folder / "demo/brick", folder / "model", folder / "page.html"
    for words in (
        ["sample", folder / "demo"],
        ["fit", brick / "train/good", "--out", model, *FIT],
        ["evaluate", model, brick / "test", "--masks", brick / "ground_truth", "--report", page],
    ):
        subprocess.run([*reconpatch, *words], check=True, cwd=folder)
    return page


def shoot(page: Page, file: Path, picture: str) -> None:
    """The top of a page, as it opens on a desktop."""
    page.goto(file.as_uri())
    page.screenshot(path=IMAGES / picture, animations="disabled", type="jpeg", quality=85)


def main() -> None:
    IMAGES.mkdir(exist_ok=True)
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        sys.exit("no chromium; on Debian: apt-get install chromium")
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        evaluation = evaluation_page(Path(folder))
        # Without its sandbox, which root may not use; the pages are our own.
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        shoot(page, ROOT / "results/report.html", "report.jpg")
        shoot(page, evaluation, "evaluation.jpg")
        browser.close()


if __name__ == "__main__":
    main()
