"""Write the screenshots of the documents, docs/images/: `make screenshots`.

The report is that of `make smoke`, which must have run. The evaluation page is made here, on the sample.
"""

import shutil
import subprocess
import sys
import tempfile
from io import BytesIO
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

ROOT = Path(__file__).parent.parent
IMAGES = ROOT / "docs/images"
FIT = ["--fast", "--size", "160", "--aspect", "stretch"]


def evaluation_page(folder: Path) -> Path:
    """The page of `reconpatch evaluate --report` for PatchCore on the sample."""
    brick, model = "demo/brick", "demo/model"
    for words in (
        ["sample", "demo"],
        ["fit", f"{brick}/train/good", "--out", model, *FIT],
        ["evaluate", model, f"{brick}/test", "--masks", f"{brick}/ground_truth", "--report", "page.html"],
    ):
        subprocess.run([sys.executable, "-m", "reconpatch", *words], check=True, cwd=folder)
    return folder / "page.html"


def shoot(page: Page, file: Path, height: int, picture: str) -> None:
    """The top of a page, so many pixels of it. 256 colours are enough, and take a third of the bytes."""
    page.set_viewport_size({"width": 1280, "height": height})
    page.goto(file.as_uri())
    shot = Image.open(BytesIO(page.screenshot(animations="disabled"))).convert("RGB")
    shot.quantize(256, dither=Image.Dither.NONE).save(IMAGES / picture, optimize=True)


def main() -> None:
    IMAGES.mkdir(exist_ok=True)
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        sys.exit("no chromium; on Debian: apt-get install chromium")
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        evaluation = evaluation_page(Path(folder))
        # Without its sandbox, which root may not use; the pages are our own.
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page()
        shoot(page, ROOT / "results/report.html", 1640, "report.png")
        shoot(page, evaluation, 1780, "evaluation.png")
        browser.close()


if __name__ == "__main__":
    main()
