import itertools
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import yaml
from drawing import write_image

from reconpatch.backbones import load_backbone
from reconpatch.config import Run, description, read_config, vary
from reconpatch.estimate import BASE_MB, Estimate, estimate, features_bytes, grid
from reconpatch.features import extract
from reconpatch.plan import make_plan

ROOT = Path(__file__).parents[2]
DEFAULT = yaml.safe_load((ROOT / "configs/default.yaml").read_text())
IMAGES = {"nut": (4, 3), "bolt": (7, 2)}  # category -> training, test


def run_of(**changes) -> Run:
    return vary(read_config(DEFAULT).baseline, changes, "test")


def tiny(**changes) -> Run:
    sizes = {"resize": 48, "crop": 32, "level_dim": 16, "feature_dim": 16, "dim": 8}
    return run_of(**({"backbone": "resnet10t", "weights": "random"} | sizes | changes))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"levels": [1, 2]},
        {"levels": [3]},
        {"crop": 33},  # not a whole number of patches
        {"crop": 41, "levels": [2]},
        {"feature_dim": 12},
        {"method": "patchcore"},  # of the width of ReConPatch's features, which it shares
        {"method": "patchcore", "dim": 12},  # 12 is no whole share of 16: pooled to 12 directly
        {"backbone": "tf_efficientnet_lite0", "levels": [1, 3], "crop": 47},
    ],
)
def test_features_are_as_large_as_the_file_that_is_written(changes, tmp_path, rng) -> None:
    run = tiny(**changes)
    paths = [tmp_path / f"{n}.png" for n in range(3)]
    for path in paths:
        write_image(path, rng, (60, 50))
    written = description(run, "features")
    extract(
        paths,
        load_backbone(run.backbone, run.levels, run.weights),
        tmp_path / "f.npy",
        resize=run.resize,
        crop=run.crop,
        interpolation=run.interpolation,
        patch_size=written["patch_size"],
        level_dim=written["level_dim"],
        dim=written["feature_dim"],
        batch=2,
        threads=1,
        augmentations=[None] * 3,
        progress=lambda *_: None,
    )
    features = np.load(tmp_path / "f.npy", mmap_mode="r")
    assert features.shape[1:3] == (grid(run), grid(run))
    assert features_bytes(run, 3) == (tmp_path / "f.npy").stat().st_size - features.offset


@pytest.mark.parametrize(
    ("crop", "levels", "patches"),
    [(224, (2, 3), 28), (320, (2, 3), 40), (480, (2, 3), 60), (224, (1, 2, 3), 56)],
)
def test_grids_of_the_paper(crop, levels, patches) -> None:
    """The numbers of patches that the paper's sizes give: 28 x 28 at 224 px, 56 x 56 with level 1."""
    assert grid(run_of(crop=crop, resize=512, levels=levels)) == patches


@pytest.fixture
def planned(tmp_path, monkeypatch):
    """Contents of an experiment -> the plan of it over two categories of files that hold nothing."""
    monkeypatch.chdir(ROOT)
    for category, (train, test) in IMAGES.items():
        for part, count in (("train/good", train), ("test/good", 1), ("test/cut", test - 1)):
            folder = tmp_path / "data" / category / part
            folder.mkdir(parents=True)
            for n in range(count):
                (folder / f"{n:03}.png").touch()

    def make(**content):
        file = tmp_path / "x.yaml"
        file.write_text(yaml.safe_dump({"title": "x", "datasets": {"mine": "all"}} | content))
        datasets = DEFAULT["datasets"] | {"mine": {"layout": "mvtec_ad", "root": str(tmp_path / "data")}}
        return make_plan(read_config(DEFAULT | {"datasets": datasets, "experiments": {"x": str(file)}}))

    return make


BOTH = {"method": ["patchcore", "reconpatch"]}


@pytest.mark.parametrize(
    ("content", "sets"),
    [
        ({"axes": BOTH}, [(28, 1024)]),
        ({"axes": BOTH | {"dim": [512, 64], "coreset": [0.1, 0.01], "sigma": [1, 2], "seed": [0, 1]}}, [(28, 1024)]),
        ({"axes": BOTH | {"levels": [[2, 3], [1, 2]]}}, [(28, 1024), (56, 1024)]),
        ({"axes": BOTH | {"augment": ["none", "test"]}}, [(28, 1024), (28, 1024)]),
        ({"axes": BOTH | {"augment": ["test"]}}, [(28, 1024), (28, 1024)]),  # training images without
        ({"axes": BOTH | {"augment": ["both"]}}, [(28, 1024)]),
        ({"axes": BOTH | {"augment": ["test", "both"]}}, [(28, 1024), (28, 1024)]),  # both's are test's
        ({"axes": BOTH | {"dim": [384]}}, [(28, 1024), (28, 384)]),  # PatchCore pools to 384 directly
        ({"axes": BOTH | {"backbone": ["a", "b"]}, "set": {"feature_dim": 512}}, [(28, 512), (28, 512)]),
        (
            {
                "axes": BOTH | {"backbone": ["a", "b"]},
                "ensemble": {"over": "backbone", "combine": ["zscore", "minmax"]},
            },
            [(28, 1024), (28, 1024)],
        ),
    ],
)
def test_every_set_of_features_counts_once(content, sets, planned) -> None:
    """`sets`: (grid, width) of the sets of features that lie on the disk, worked out by hand."""
    images = [sum(counts) for counts in IMAGES.values()]
    found = estimate(planned(**content))
    files = [n * side**2 * width * 2 for n, (side, width) in itertools.product(images, sets)]
    assert found.features_gb == pytest.approx(sum(files) / 1e9)
    assert found.largest_gb == pytest.approx(max(files) / 1e9)


def test_the_largest_job_is_named(planned) -> None:
    small, large = {}, {"set": {"crop": 480, "resize": 512, "coreset": 0.25}}
    found = estimate(planned(variants={"a": small, "b": large}))
    assert "mine/" in found.largest_job and "480 px, levels 2+3, dim 512, coreset 0.25" in found.largest_job
    assert found.memory_gb > estimate(planned(variants={"a": small})).memory_gb


@pytest.mark.parametrize("change", [{"coreset": 1.0}, {"dim": 1024}, {"levels": [1, 2]}, {"crop": 256}])
def test_more_of_anything_needs_more_memory(change, planned) -> None:
    base = {"coreset": 0.5, "dim": 512}
    assert estimate(planned(set=base | change)).memory_gb > estimate(planned(set=base)).memory_gb


def test_memory_holds_at_least_what_the_jobs_cannot_do_without(planned) -> None:
    """The bank twice (it and the index), and the maps of the test images with their sorted order."""
    found = estimate(planned(set={"coreset": 1.0, "dim": 1024}))
    bank = max(train for train, _ in IMAGES.values()) * 28**2 * 1024 * 4
    assert found.memory_gb * 1e9 > BASE_MB * 1e6 + 2 * bank
    few, many = (estimate(planned(set={"crop": crop, "resize": 1024})).memory_gb for crop in (224, 1024))
    assert (many - few) * 1e9 > 2 * (1024**2 - 224**2) * 2 * 4  # two images: float32 maps and their sorted copy


def test_the_embedded_sample_and_nothing_at_all(planned) -> None:
    sample = estimate(planned(datasets={"sample": "all"}))
    assert (sample.features_gb, sample.largest_gb) == (0, 0)
    plan = planned(datasets={"btad": "all"})
    assert plan.absent and asdict(estimate(plan)) == asdict(Estimate(0, 0, 0, "none"))
