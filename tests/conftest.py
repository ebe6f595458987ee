"""Data sets drawn for tests, in every layout."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from drawing import write_image, write_mask
from filelock import FileLock
from hypothesis import settings
from running import PARTS, ROOT

# Files whose tests stay in one process where there are several: what they share is costly.
TOGETHER = ("test_memory_predicted.py", "test_own_photographs.py", "test_site.py")

settings.register_profile("no timing", deadline=None)  # machines that tests share with other work are slow at times
settings.load_profile("no timing")


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture
def configs() -> Path:
    """The folder of the configuration."""
    return ROOT / "configs"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of the workflow, without results, that uses the installed package."""
    target = tmp_path / "checkout with a space"
    target.mkdir()
    for part in PARTS:
        copy = shutil.copytree if (ROOT / part).is_dir() else shutil.copy
        copy(ROOT / part, target / part)
    return target


@pytest.fixture
def mvtec(tmp_path: Path, rng: np.random.Generator) -> Path:
    """Root with the category `nut`: 4 training, 2 good, 3 scratched and 2 bent images."""
    folder = tmp_path / "mvtec" / "nut"
    for i in range(4):
        write_image(folder / f"train/good/{i:03}.png", rng)
    for i in range(2):
        write_image(folder / f"test/good/{i:03}.png", rng)
    for defect, count in (("scratch", 3), ("bent", 2)):
        for i in range(count):
            write_image(folder / f"test/{defect}/{i:03}.png", rng)
            write_mask(folder / f"ground_truth/{defect}/{i:03}_mask.png")
    return tmp_path / "mvtec"


@pytest.fixture
def btad(tmp_path: Path, rng: np.random.Generator) -> Path:
    """Root with products 01 (png, square) and 03 (bmp, not square); stems repeat between ok and ko."""
    for product, suffix, size in (("01", ".png", (40, 40)), ("03", ".bmp", (64, 48))):
        folder = tmp_path / "btad" / product
        for split, count in (("train/ok", 4), ("test/ok", 3), ("test/ko", 3)):
            for i in range(count):
                write_image(folder / f"{split}/{i:04}{suffix}", rng, size)
        for i in range(3):
            write_mask(folder / f"ground_truth/ko/{i:04}{suffix}", size)
    return tmp_path / "btad"


@pytest.fixture
def own(tmp_path: Path, rng: np.random.Generator) -> Path:
    """A plain folder of someone's own images, mixed formats, no masks."""
    folder = tmp_path / "own"
    for i, suffix in enumerate((".png", ".jpg", ".bmp", ".tif", ".webp")):
        write_image(folder / f"train/{i}{suffix}", rng)
        write_image(folder / f"test/good/{i}{suffix}", rng)
        write_image(folder / f"test/broken/{i}{suffix}", rng)
    return folder


@pytest.fixture(scope="session")
def real() -> Path:
    """Folder of real photographs and weights; tests that use it say so when it is not there."""
    folder = os.environ.get("RECONPATCH_DATA")
    if not folder:
        pytest.skip("RECONPATCH_DATA is not set: no real photographs and weights here")
    return Path(folder)


@pytest.fixture
def damage() -> Callable[[Path], None]:
    """Cut an image file in half."""

    def cut(path: Path) -> None:
        content = path.read_bytes()
        path.write_bytes(content[: len(content) // 2])

    return cut


@pytest.fixture(scope="session")
def real_results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that tests/real_results.py describes, made once for all processes of a test run. Read it only; take
    `real_results_copy` to change it.
    """
    from real_results import make_results

    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    folder = shared / "real results"
    with FileLock(shared / "real results.lock"):
        if not (folder / "results/tables").is_dir():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            make_results(folder)
    return folder


@pytest.fixture
def real_checkout(real_results: Path, checkout: Path) -> Path:
    """A copy of the workflow with the results of `real_results`, to change. Snakemake knows nothing of how they were
    made: `--rerun-triggers mtime` has it take them for its own.
    """
    shutil.rmtree(checkout / "configs")
    return shutil.copytree(real_results, checkout, dirs_exist_ok=True)


@pytest.fixture
def real_results_copy(real_results: Path, tmp_path: Path) -> Path:
    """A copy of `real_results` to change."""
    return shutil.copytree(real_results, tmp_path / "real results")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Deals tests to the processes one by one, but for the files of TOGETHER. (`xdist_group` would say this where it
    belongs, but has no effect with pytest 9.2.)
    """
    from xdist.scheduler import LoadScopeScheduling

    class OneByOne(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.split("::", 1)[0]
            return file if Path(file).name in TOGETHER else nodeid

    return OneByOne(config, log)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What tests say of themselves, whichever process ran them."""
    for report in terminalreporter.getreports("passed"):
        for name, said in report.user_properties:
            terminalreporter.write_line(f"{name}: {said}")


def pytest_sessionfinish(session: pytest.Session) -> None:
    """With the real data at hand nothing has a reason to be skipped: what is, counts as a failure."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if os.environ.get("RECONPATCH_DATA") and reporter is not None and reporter.stats.get("skipped"):
        reporter.write_line("tests were skipped though RECONPATCH_DATA is set", red=True)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
