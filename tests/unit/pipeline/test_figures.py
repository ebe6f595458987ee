"""The steps that draw figures, on the results of the fixture `real_results`."""

from contextlib import chdir
from pathlib import Path

import pytest
from PIL import Image
from real_results import file_of, of_stage, real_plan

from reconpatch.errors import ReconpatchError
from reconpatch.experiments.run import of_training
from reconpatch.pipeline.figures.curve import CurveFiles, draw_curve
from reconpatch.pipeline.figures.examples import GalleryFiles, QualitativeFiles, draw_gallery, draw_qualitative
from reconpatch.pipeline.figures.histogram import HistogramFiles, draw_histogram
from reconpatch.pipeline.figures.positions import PositionFiles, draw_positions, on_grid
from reconpatch.pipeline.figures.sweep import SweepFiles, draw_sweep
from reconpatch.pipeline.figures.umap import UmapFiles, draw_umap

NUT = {"dataset": "mine", "category": "nut"}
MANIFEST, IMAGES = file_of("index", "manifest", **NUT), Path("data/nut")


@pytest.fixture
def drawn(real_results, tmp_path):
    """The plan and the names of the runs that `tiny` draws; inside, the folder of results is the current one."""
    plan = real_plan(real_results)
    with chdir(real_results):
        yield plan, plan.drawn("tiny", "qualitative"), tmp_path / "figure"


def of_runs(file: str, names: list[str], category: str = "nut") -> list[Path]:
    return [file_of("score", file, dataset="mine", category=category, run=name) for name in names]


def looks_drawn(figure: Path) -> bool:
    if figure.suffix == ".svg":
        return figure.read_text().count("<path") > 10
    with Image.open(figure) as image:
        return len(image.convert("RGB").getcolors(10**6) or [0] * 101) > 100


def test_figures_of_scores(drawn) -> None:
    _, names, figure = drawn
    runs, scores = of_runs("record", names), of_runs("scores", names)
    assert len(names) == 2
    draw_histogram(HistogramFiles(MANIFEST, runs, scores, figure.with_suffix(".svg")))
    assert looks_drawn(figure.with_suffix(".svg"))
    draw_qualitative(QualitativeFiles(MANIFEST, IMAGES, runs, scores, figure.with_suffix(".png")))
    assert looks_drawn(figure.with_suffix(".png"))


def test_a_gallery_shows_every_category(drawn) -> None:
    _, names, figure = drawn
    figure, categories = figure.with_suffix(".png"), ("bolt", "nut")
    files = GalleryFiles(
        [of_runs("record", names[:1], category)[0] for category in categories],
        [of_runs("scores", names[:1], category)[0] for category in categories],
        [file_of("index", "manifest", dataset="mine", category=category) for category in categories],
        [Path("data") / category for category in categories],
        figure,
    )
    draw_gallery(files)
    assert looks_drawn(figure)


def test_a_sweep_is_drawn_of_the_tables_cells(drawn) -> None:
    plan, _, figure = drawn
    runs = of_runs("record", plan.members("tiny"))
    figure = figure.with_suffix(".svg")
    draw_sweep(SweepFiles(Path("results/tables/tiny.csv"), runs, figure), ["coreset"])
    assert looks_drawn(figure)


@pytest.mark.filterwarnings("ignore::ImportWarning", "ignore::UserWarning:umap.*")
def test_layouts_of_patches_and_of_positions(drawn) -> None:
    plan, names, figure = drawn
    runs = [plan.runs[name] for name in names]
    records, banks = of_runs("record", names), [of_stage(run, NUT, "bank", "bank") for run in runs]
    files = {kind: [of_stage(run, NUT, *kind.split()) for run in runs] for kind in ("features test", "masks masks")}
    figure = figure.with_suffix(".svg")
    draw_umap(UmapFiles(MANIFEST, records, files["features test"], files["masks masks"], banks, figure))
    assert looks_drawn(figure)
    figure.unlink()
    train = [of_stage(of_training(run), NUT, "features", "train") for run in runs]
    draw_positions(PositionFiles(MANIFEST, IMAGES, records, train, banks, figure))
    assert looks_drawn(figure)


def test_a_curve_is_of_one_training(drawn) -> None:
    plan, names, figure = drawn
    figure = figure.with_suffix(".svg")
    training = [of_stage(plan.runs[name], NUT, "training", "facts") for name in plan.members("tiny")]
    ours = [name for name in names if plan.runs[name].method == "reconpatch"]
    mine = [of_stage(plan.runs[name], NUT, "training", "facts") for name in ours]
    draw_curve(CurveFiles(of_runs("record", names), mine, figure))
    assert looks_drawn(figure)
    several = [name for name in plan.members("tiny") if plan.runs[name].method == "reconpatch"]
    training = [of_stage(plan.runs[name], NUT, "training", "facts") for name in several]
    with pytest.raises(ReconpatchError, match="one training") as caught:
        draw_curve(CurveFiles(of_runs("record", several), training, figure))
    assert caught.value.where == "figures: curve" and caught.value.fix


def test_positions_of_the_figure_lie_on_every_grid() -> None:
    for side in range(1, 300):
        positions = on_grid(side, side)
        assert all(0 <= x < side and 0 <= y < side for x, y in positions)
        assert len(set(positions)) == len(positions) or side <= 10  # on coarse grids two coincide
