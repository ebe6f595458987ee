"""Fitted detectors, test photographs and the command line, which the tests of this folder share."""

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from products import blind, good, model, padded, saved, write_products  # noqa: F401

from reconpatch.cli.main import main


@pytest.fixture(scope="session")
def look(tmp_path_factory) -> Path:
    """test/good and test/scratch, with masks/ beside test."""
    folder = tmp_path_factory.mktemp("commands")
    write_products(folder / "test/good", 4, start=100)
    write_products(folder / "test/scratch", 3, start=200, defect=True)
    (folder / "masks/scratch").mkdir(parents=True)
    mask = np.zeros((40, 52), np.uint8)
    mask[20:28, 26:34] = 255
    for n in range(200, 203):
        Image.fromarray(mask).save(folder / f"masks/scratch/{n}_mask.png")
    return folder / "test"


@pytest.fixture
def call(monkeypatch, capsys) -> Callable[..., tuple[int, str, str]]:
    """The command line with these arguments -> exit status, what stdout and stderr hold."""

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["reconpatch", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            main()
        status, printed = end.value.code, capsys.readouterr()
        if isinstance(status, str):  # as the interpreter does
            assert status.startswith("error: ") and "Traceback" not in status and printed.out == ""
            return 1, printed.out, status
        return int(status or 0), printed.out, printed.err

    return run
