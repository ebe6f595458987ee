import itertools
import os
import shutil
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import yaml
from drawing import write_image
from PIL import Image

from reconpatch.data.images import image_array
from reconpatch.data.sample import write_sample
from reconpatch.experiments.config import read_config
from reconpatch.experiments.estimate import (
    MEGAPIXEL,
    THREADS,
    Estimate,
    Job,
    estimate,
    features_bytes,
    grid,
    image_counts,
    image_pixels,
    of_run,
)
from reconpatch.experiments.needs import IMPORTS, Network
from reconpatch.experiments.plan import Plan, make_plan, stage_name
from reconpatch.experiments.run import Run, description, vary
from reconpatch.method.backbones import check_levels, load_backbone
from reconpatch.method.features import write_features

ROOT = Path(__file__).parents[3]
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
    written, stride = description(run, "features"), check_levels(run.backbone, run.levels)
    write_features(
        paths,
        lambda path: image_array(path, run.resize, run.crop, run.interpolation),
        load_backbone(run.backbone, run.levels, run.weights),
        tmp_path / "f.npy",
        patch_size=written["patch_size"],
        level_dim=written["level_dim"],
        dim=written["feature_dim"],
        batch=2,
        threads=1,
    )
    features = np.load(tmp_path / "f.npy", mmap_mode="r")
    side = grid(run.crop, stride)
    assert features.shape[1:3] == (side, side)
    assert features_bytes(run, stride, 3) == (tmp_path / "f.npy").stat().st_size - features.offset


@pytest.mark.parametrize(
    ("crop", "levels", "patches"),
    [(224, (2, 3), 28), (320, (2, 3), 40), (480, (2, 3), 60), (224, (1, 2, 3), 56)],
)
def test_grids_of_the_paper(crop, levels, patches) -> None:
    """The numbers of patches that the paper's sizes give: 28 x 28 at 224 px, 56 x 56 with level 1."""
    assert grid(crop, check_levels("wide_resnet50_2", levels)) == patches


def predicted(plan: Plan) -> Estimate:
    """The estimate of a plan of networks whose level i has a stride of 2^(i+1), as those of the paper."""
    return estimate(plan, {key: Network(2 ** (run.levels[0] + 1), 10**7) for key, run in plan.runs.items()})


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
    found = predicted(planned(**content))
    files = [n * side**2 * width * 2 for n, (side, width) in itertools.product(images, sets)]
    assert found.features_gb == pytest.approx(sum(files) / 1e9)
    assert found.largest_gb == pytest.approx(max(files) / 1e9)


def largest(found: Estimate, rule: str) -> float:
    return max(need.mb for job, need in found.jobs.items() if job.rule == rule)


def test_jobs_are_those_of_the_plan(planned) -> None:
    """Two methods at two ratios on two categories: what is shared is one job."""
    plan = planned(axes=BOTH | {"coreset": [0.1, 0.01]})
    found = {rule: count for rule, count, *_ in predicted(plan).by_rule()}
    assert found == {
        "make_table": 1,
        "index_category": 2,
        "read_masks": 2,
        "extract_features": 2,
        "train_representation": 2,
        "select_coreset": 4,
        "score_run": 8,
    }
    for key, run in plan.runs.items():
        for category in IMAGES:
            assert Job("score_run", "mine", category, key) in predicted(plan).jobs
            assert Job("select_coreset", "mine", category, stage_name(run, "bank")) in predicted(plan).jobs


def test_jobs_of_an_ensemble(planned) -> None:
    """Only the z-score looks at the training images; the members' runs are ordinary runs."""
    axes = {"method": ["patchcore"], "backbone": ["a", "b", "c"]}
    for combine, scored in ((["minmax"], None), (["zscore"], 6), (["zscore", "minmax"], 6)):
        plan = planned(axes=axes, ensemble={"over": "backbone", "combine": combine})
        found = {rule: count for rule, count, *_ in predicted(plan).by_rule()}
        assert (found["combine_ensemble"], found.get("score_training")) == (2 * len(combine), scored)


def test_the_largest_job_is_named(planned) -> None:
    small, large = {}, {"set": {"crop": 480, "resize": 512, "coreset": 0.25}}
    plan = planned(variants={"a": small, "b": large})
    rule, count, job, need = next(row for row in predicted(plan).by_rule() if row[0] == "score_run")
    assert (job.dataset, job.category, count) == ("mine", "nut", 4)  # nut has more test images
    assert plan.runs[job.name].crop == 480
    assert need.mb == largest(predicted(plan), rule) > largest(predicted(planned(variants={"a": small})), rule)


@pytest.mark.parametrize("change", [{"coreset": 1.0}, {"dim": 1024}, {"levels": [1, 2]}, {"crop": 256}])
def test_more_of_anything_needs_more_memory(change, planned) -> None:
    base = {"coreset": 0.5, "dim": 512}
    more, less = predicted(planned(set=base | change)), predicted(planned(set=base))
    assert largest(more, "score_run") > largest(less, "score_run")


def test_memory_holds_at_least_what_the_jobs_cannot_do_without(planned) -> None:
    """The bank twice (it and the index), and the maps of the test images with their sorted copy."""
    found = predicted(planned(set={"coreset": 1.0, "dim": 1024}))
    bank = max(train for train, _ in IMAGES.values()) * 28**2 * 1024 * 4 / 1e6
    assert largest(found, "score_run") > IMPORTS["score_run"] + 2 * bank

    def scored(crop: int) -> float:
        return of_run(run_of(crop=crop, resize=1024), Network(8, 10**7), (1, 500), 0.01, 8)["score_run"].held

    sizes = {crop: scored(crop) for crop in (512, 1024)}
    assert sizes[1024] - sizes[512] > 500 * (1024**2 - 512**2) * 2 * 4 / 1e6


def test_a_larger_bank_in_the_file_counts(planned) -> None:
    """A run of 1 % reads the whole file of 50 % that another one wants."""
    alone, beside = planned(axes={"coreset": [0.01]}), planned(axes={"coreset": [0.01, 0.5]})
    key = next(iter(alone.runs))
    job = Job("score_run", "mine", "bolt", key)
    rows = 0.49 * IMAGES["bolt"][0] * 28**2
    assert predicted(beside).jobs[job].held - predicted(alone).jobs[job].held == pytest.approx(
        2 * rows * 512 * 4 / 1e6, 0.05
    )


def test_a_job_outside_the_plan_gets_the_most_of_its_rule(planned) -> None:
    found = predicted(planned(variants={"a": {}, "b": {"set": {"crop": 480, "resize": 512}}}))
    assert found.mb(Job("select_coreset", "mine", "other", "x")) == largest(found, "select_coreset")


def test_the_embedded_sample_is_counted_before_it_is_drawn(planned, tmp_path) -> None:
    plan = planned(datasets={"sample": "all"})
    write_sample(tmp_path / "sample", "brick", 0)
    drawn = [len(list((tmp_path / "sample" / part).rglob("*.png"))) for part in ("train", "test")]
    assert list(image_counts(plan, "sample", "brick")) == drawn
    assert predicted(plan).features_gb == pytest.approx(3 * sum(drawn) * 28**2 * 1024 * 2 / 1e9)


def test_nothing_at_hand(planned) -> None:
    plan = planned(datasets={"btad": "all"})
    assert plan.absent and predicted(plan) == Estimate(0, 0, {})


def test_jobs_that_decode_need_more_for_larger_images(planned, tmp_path) -> None:
    """Sizes are read from one training image of each category; here one is of 24 megapixels."""
    plan = planned()
    small = predicted(plan)
    for name in ("train/good/000.png", "test/good/000.png"):
        Image.new("1", (6000, 4000)).save(tmp_path / "data/nut" / name)
    large, (key,) = predicted(plan), plan.runs
    stages = {"index_category": "", "extract_features": "features", "read_masks": "masks"}
    bytes_a_pixel = {}
    for rule, stage in stages.items():
        name = stage and stage_name(plan.runs[key], stage)
        bolt, nut = (Job(rule, "mine", category, name) for category in ("bolt", "nut"))
        assert large.jobs[bolt] == small.jobs[bolt]
        bytes_a_pixel[rule] = (large.jobs[nut].held - small.jobs[nut].held) / 23
    copies = {"index_category": 2 * 9, "extract_features": 2 * 9, "read_masks": 4}
    assert bytes_a_pixel == pytest.approx(copies)


def test_images_whose_size_cannot_be_told_count_as_a_megapixel(planned, tmp_path) -> None:
    """The index says what is wrong with them; a pipe is not opened."""
    plan, file = planned(), tmp_path / "data/nut/train/good/000.png"
    whole = BytesIO()
    Image.new("1", (9000, 8000)).save(whole, "png")
    for content in (b"", b"GIF89a", whole.getvalue()[:20]):
        file.write_bytes(content)
        assert image_pixels(plan, "mine", "nut") == MEGAPIXEL
    file.write_bytes(whole.getvalue()[:100])  # the header is there
    assert image_pixels(plan, "mine", "nut") == 72 * 10**6
    file.unlink()
    os.mkfifo(file)
    assert image_pixels(plan, "mine", "nut") == MEGAPIXEL
    shutil.rmtree(tmp_path / "data/nut/train")
    assert image_pixels(plan, "mine", "nut") == MEGAPIXEL


def test_a_job_of_a_rule_without_any_in_the_plan() -> None:
    assert Estimate(0, 0, {}).mb(Job("index_category", "mine", "nut")) > 0
    assert Estimate(0, 0, {}).seconds(Job("index_category", "mine", "nut")) > 0


def test_every_job_has_a_time(planned) -> None:
    """Of an ensemble, too; seconds of a job are those of its rule's threads, a job outside the plan gets the most."""
    combined = {"over": "backbone", "combine": ["zscore", "minmax"]}
    found = predicted(planned(axes=BOTH | {"backbone": ["a", "b"]}, ensemble=combined))
    assert found.times.keys() == found.jobs.keys()
    for job, time in found.times.items():
        threads = THREADS if job.rule in ("index_category", "extract_features") else 1
        assert found.seconds(job) == time.start + time.work / threads
    for rule, (total, job) in found.longest().items():
        times = {j: t for j, t in found.times.items() if j.rule == rule}
        assert total == pytest.approx(sum(t.start + t.work for t in times.values()))
        assert found.seconds(job) == max(map(found.seconds, times)) == found.seconds(Job(rule, "mine", "other", "x"))


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"coreset": 0.9}, "select_coreset"),
        ({"coreset": 0.9}, "score_run"),
        ({"neighbours": 3}, "score_run"),
        ({"epochs": 121}, "train_representation"),
        ({"dim": 1024}, "train_representation"),
        ({"crop": 256}, "extract_features"),
        ({"crop": 256}, "read_masks"),
        ({"levels": [1, 2]}, "extract_features"),
    ],
)
def test_more_of_anything_takes_longer(change, rule, planned) -> None:
    base = {"coreset": 0.5, "dim": 512}
    more, less = predicted(planned(set=base | change)), predicted(planned(set=base))
    assert more.longest()[rule][0] > less.longest()[rule][0]
