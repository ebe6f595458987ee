"""The steps that draw figures. tests/workflow/test_workflow.py draws one of every kind."""

import base64
import json
from contextlib import chdir
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from real_results import file_of, make_results, of_stage, real_plan

from reconpatch.data.manifest import frame_shape, manifest_json, read_manifest
from reconpatch.errors import ReconpatchError
from reconpatch.pipeline.figures.examples import GalleryFiles, QualitativeFiles, draw_gallery, draw_qualitative
from reconpatch.pipeline.figures.positions import on_grid
from reconpatch.pipeline.thumbnails import ThumbnailFiles, make_thumbnails
from reconpatch.records.verify import verify

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
    items = [replace(item, masks=()) for item in read_manifest(MANIFEST)[0]]
    unmasked = figure.with_name("manifest.json")
    unmasked.write_text(manifest_json(items))
    files = GalleryFiles(
        of_runs("record", names[:1]), of_runs("scores", names[:1]), [unmasked], [Path("data/nut")], figure
    )
    with pytest.raises(ReconpatchError, match="nut has no masks"):
        draw_gallery(files, [])


KEPT = {
    "kept": {
        "axes": {"method": ["patchcore", "reconpatch"], "aspect": ["keep"]},
        "figures": {kind: {} for kind in ("qualitative", "gallery")},
    }
}


def test_images_keep_their_shape_from_the_files_to_the_figures(tmp_path) -> None:
    """Of 96x40 px, 64x32 are seen: features, masks, maps, what is verified, figures and thumbnails have this shape."""
    make_results(tmp_path, KEPT, (96, 40))
    plan = real_plan(tmp_path, KEPT)
    names = plan.drawn("kept", "qualitative")
    run = plan.runs[names[0]]
    with chdir(tmp_path):
        assert np.load(of_stage(run, NUT, "features", "test")).shape[1:3] == (4, 8)
        masks = np.load(of_stage(run, NUT, "masks", "masks"))
        assert masks.shape == (6, 32, 64) and masks.any((1, 2)).sum() == 3
        assert not any(verdict.is_problem for verdict in verify(Path("results")))
        records, scores = of_runs("record", names), of_runs("scores", names)
        draw_qualitative(QualitativeFiles(MANIFEST, [Path("data/nut")], records, scores, Path("qualitative.png")), [])
        draw_gallery(GalleryFiles(records[:1], scores[:1], [MANIFEST], [Path("data/nut")], Path("gallery.png")), [])
        assert all(Path(f"{figure}.png").stat().st_size for figure in ("qualitative", "gallery"))
        make_thumbnails(ThumbnailFiles(MANIFEST, Path("data/nut"), records, scores, Path("t.json")), "all", [])
        made = json.loads(Path("t.json").read_text())
        picture = Image.open(BytesIO(base64.b64decode(made["images"][0]["picture"].partition(",")[2])))
        assert made["panel"] == [64, 128] and picture.size == (3 * 128 + 2 * 3, 64)


def test_images_of_several_shapes_cannot_keep_them(tmp_path) -> None:
    make_results(tmp_path, {"kept": {"axes": {"method": ["patchcore"]}}}, (96, 40))
    with chdir(tmp_path):
        items = read_manifest(MANIFEST)[0]
        assert frame_shape(items, {"crop": 32, "aspect": "keep"}) == (32, 64)
        other = [*items[:-1], replace(items[-1], width=40, height=96)]
        assert frame_shape(other, {"crop": 32, "aspect": "pad"}) == (32, 32)
        with pytest.raises(ReconpatchError, match=r"40 x 96.*set aspect to stretch, pad or crop"):
            frame_shape(other, {"crop": 32, "aspect": "keep"})


def test_positions_of_the_figure_lie_on_every_grid() -> None:
    for side in range(1, 300):
        positions = on_grid(side, side)
        assert all(0 <= x < side and 0 <= y < side for x, y in positions)
        assert len(set(positions)) == len(positions) or side <= 10  # on coarse grids two coincide
