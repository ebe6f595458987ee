"""The steps that draw figures. tests/workflow/test_workflow.py draws one of every kind."""

from contextlib import chdir
from dataclasses import replace
from pathlib import Path

import pytest
from real_results import file_of, real_plan

from reconpatch.data.manifest import manifest_json, read_manifest
from reconpatch.errors import ReconpatchError
from reconpatch.pipeline.figures.examples import GalleryFiles, draw_gallery
from reconpatch.pipeline.figures.positions import on_grid

NUT = {"dataset": "mine", "category": "nut"}
MANIFEST = file_of("index", "manifest", **NUT)


@pytest.fixture
def drawn(real_results, tmp_path):
    """The plan and the names of the runs that `tiny` draws; inside, the folder of results is the current one."""
    plan = real_plan(real_results)
    with chdir(real_results):
        yield plan, plan.drawn("tiny", "qualitative"), tmp_path / "figure"


def of_runs(file: str, names: list[str]) -> list[Path]:
    return [file_of("score", file, run=name, **NUT) for name in names]


def test_a_gallery_needs_masks(drawn) -> None:
    _, names, figure = drawn
    items = [replace(item, mask=None) for item in read_manifest(MANIFEST)[0]]
    unmasked = figure.with_name("manifest.json")
    unmasked.write_text(manifest_json(items))
    files = GalleryFiles(
        of_runs("record", names[:1]), of_runs("scores", names[:1]), [unmasked], [Path("data/nut")], figure
    )
    with pytest.raises(ReconpatchError, match="nut has no masks"):
        draw_gallery(files, [])


def test_positions_of_the_figure_lie_on_every_grid() -> None:
    for side in range(1, 300):
        positions = on_grid(side, side)
        assert all(0 <= x < side and 0 <= y < side for x, y in positions)
        assert len(set(positions)) == len(positions) or side <= 10  # on coarse grids two coincide
