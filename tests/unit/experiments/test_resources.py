"""What plans need: against files that are written, plans counted by hand, and messages to who has too little memory."""

import itertools
from pathlib import Path

import numpy as np
import pytest
import yaml
from drawing import write_image

from reconpatch.data.images import image_array
from reconpatch.data.layouts import unlabelled_images
from reconpatch.errors import ReconpatchError
from reconpatch.experiments.config import Dataset, read_config
from reconpatch.experiments.costs import Memory, Network, features_bytes
from reconpatch.experiments.networks import Networks
from reconpatch.experiments.plan import Plan, make_plan, stage_name
from reconpatch.experiments.resources import (
    Estimate,
    Job,
    check_fits,
    cluster_mb,
    estimate,
    minutes,
)
from reconpatch.experiments.run import BASELINE, vary
from reconpatch.experiments.stages import BY_RULE, description
from reconpatch.method.backbones import load_backbone
from reconpatch.method.features import write_features

ROOT = Path(__file__).parents[3]
DEFAULT = yaml.safe_load((ROOT / "configs/default.yaml").read_text())
DEFAULT["baseline"] |= {"level_dim": 1024, "feature_dim": 1024, "dim": 512}  # networks named here need not exist
IMAGES = {"nut": (4, 3), "bolt": (7, 2)}  # category -> training, test
BOTH = {"method": ["patchcore", "reconpatch"]}


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"crop": 41, "levels": [2]},  # not a whole number of patches
        {"method": "patchcore", "dim": 12},  # 12 is no whole share of 16: pooled to 12 directly
        {"backbone": "tf_efficientnet_lite0", "levels": [1, 3], "crop": 47},
        {"backbone": "convnext_atto", "levels": [1, 2], "crop": 42},  # which drops the rows that fill no patch
    ],
)
def test_features_are_as_large_as_the_file_that_is_written(changes, tmp_path, rng) -> None:
    small = {"resize": 48, "crop": 32, "level_dim": 16, "feature_dim": 16, "dim": 8}
    run = vary(BASELINE, {"backbone": "resnet10t", "weights": "random"} | small | changes, "test")
    paths = [tmp_path / f"{n}.png" for n in range(3)]
    for path in paths:
        write_image(path, rng, (60, 50))
    written, network = description(run, "features"), Networks()(run.backbone, run.levels, run.crop)
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
    assert features.shape[1] == features.shape[2] == network.grid
    assert features_bytes(run, network, 3) == (tmp_path / "f.npy").stat().st_size - features.offset


def predicted(plan: Plan) -> Estimate:
    """The estimate of a plan of networks whose level i has a stride of 2^(i+1), as those of the paper."""
    sides = {key: -(-run.crop // 2 ** (run.levels[0] + 1)) for key, run in plan.runs.items()}
    return estimate(plan, {key: Network(side, 10**7, (512, 1024)) for key, side in sides.items()})


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


@pytest.mark.parametrize(
    ("content", "sets"),
    [
        ({"axes": BOTH | {"dim": [512, 64], "coreset": [0.1, 0.01], "sigma": [1, 2], "seed": [0, 1]}}, [(28, 1024)]),
        ({"axes": BOTH | {"levels": [[2, 3], [1, 2]]}}, [(28, 1024), (56, 1024)]),
        ({"axes": BOTH | {"augment": ["test"]}}, [(28, 1024), (28, 1024)]),  # training images without
        ({"axes": BOTH | {"augment": ["test", "both"]}}, [(28, 1024), (28, 1024)]),  # both's are test's
        ({"axes": BOTH | {"dim": [384]}}, [(28, 1024), (28, 384)]),  # PatchCore pools to 384 directly
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


def test_jobs_are_those_of_the_plan(planned) -> None:
    """Two methods at two ratios on two categories: what is shared is one job."""
    plan = planned(axes=BOTH | {"coreset": [0.1, 0.01]})
    found = predicted(plan)
    assert {rule: count for rule, (count, _) in found.largest().items()} == {
        "make_table": 1,
        "index_category": 2,
        "read_masks": 2,
        "extract_features": 2,
        "train_representation": 2,
        "select_coreset": 4,
        "score_run": 8,
    }
    for (key, run), category in itertools.product(plan.runs.items(), IMAGES):
        score = found.jobs[Job("score_run", "mine", category, key)]
        assert Job("select_coreset", "mine", category, stage_name(run, "bank")) in score.after
    assert len(found.jobs[Job("make_table", name="x")].after) == 8


def test_submissions_are_counted_apart(planned, tmp_path) -> None:
    """They run only if they are asked for: a plan takes no longer for them, but a job of theirs knows its needs."""
    root = tmp_path / "ad2"
    for light, folder in (("regular", "test_private"), ("mixed", "test_private_mixed")):
        for n in range(5):
            write_image(root / f"can/{folder}/{n:03}_{light}.png", np.random.default_rng(n), (60, 30))
    for folder in ("train/good", "validation/good", "test_public/good", "test_public/bad"):
        write_image(root / f"can/{folder}/000.png", np.random.default_rng(0), (60, 30))
    content = {"datasets": {"mvtec_ad_2": "all"}, "axes": BOTH, "set": {"aspect": "stretch"}}
    plan = planned(**content)
    assert plan.absent and predicted(plan).asked == {}
    datasets = {name: data.model_dump() for name, data in plan.config.datasets.items()}
    datasets["mvtec_ad_2"]["root"] = str(root)
    plan = make_plan(plan.config.model_copy(update={"datasets": {k: Dataset(**v) for k, v in datasets.items()}}))
    found = predicted(plan)
    jobs = [Job("write_submission", "mvtec_ad_2", "can", key) for key in plan.runs]
    assert [*found.asked] == jobs and len(jobs) == 2 and not {*jobs} & found.jobs.keys()
    assert "write_submission" not in found.largest() and "write_submission" not in found.longest()
    for job in jobs:
        assert found.mb(job) == found.asked[job].memory.mb > found.mb(Job("index_category", "mvtec_ad_2", "can"))
        assert found.seconds(job) > 4.5
    unlabelled = unlabelled_images("mvtec_ad_2", root / "can")
    assert len(unlabelled) == 10
    for file in unlabelled[:8]:
        file.unlink()
    fewer = predicted(plan)
    assert all(fewer.asked[job].time.work < found.asked[job].time.work for job in jobs)
    for file in unlabelled[8:]:
        file.unlink()
    assert predicted(plan).asked == {} and predicted(plan).jobs.keys() == found.jobs.keys()


def test_nothing_at_hand(planned) -> None:
    plan = planned(datasets={"btad": "all"})
    found = predicted(plan)
    assert plan.absent and found == Estimate() and found.features_gb == found.least_wall(2) == 0
    for rule in ("index_category", "report"):
        assert found.mb(Job(rule)) > 0 and found.seconds(Job(rule)) > 0


def test_a_plan_takes_its_longest_chain_or_its_work_on_all_cores(planned) -> None:
    found = predicted(planned(axes=BOTH, figures={"qualitative": {}, "gallery": {}}))
    path = [max(found.jobs, key=found.remaining.__getitem__)]
    while readers := [job for job, need in found.jobs.items() if path[-1] in need.after]:
        path.append(max(readers, key=found.remaining.__getitem__))
    rules = ["index_category", "extract_features", "train_representation", "select_coreset", "score_run"]
    assert [job.rule for job in path[:5]] == rules
    chain = sum(need.time.wall(BY_RULE[job.rule].threads) for job, need in found.jobs.items() if job in path)
    work = sum(need.time.start + need.time.work for need in found.jobs.values())
    assert found.least_wall(10**6) == found.chain == pytest.approx(chain)
    assert found.least_wall(1) == pytest.approx(work) and work > chain


def test_priorities_put_the_longest_chain_first_and_extraction_last(planned) -> None:
    """Nut has fewer training images than bolt. What the plan does not know comes before extraction, too."""
    found = predicted(planned(axes=BOTH | {"epochs": [10]}))
    by_rule: dict[str, list[Job]] = {}
    for job in sorted(found.jobs, key=found.priority, reverse=True):
        by_rule.setdefault(job.rule, []).append(job)
    rules = [*by_rule]
    assert rules[0] == "index_category" and rules[-1] == "extract_features"
    assert rules.index("train_representation") < rules.index("select_coreset") < rules.index("score_run")
    for rule in ("train_representation", "extract_features"):
        first, second = by_rule[rule]
        assert (first.category, second.category) == ("bolt", "nut") and found.priority(first) > found.priority(second)
    waiting = found.priority(by_rule["extract_features"][0])
    for job in (Job("draw_umap", "mine", "nut", "x"), Job("train_representation", "mine", "new", "dim=8")):
        assert job not in found.jobs and waiting < found.priority(job)


def test_two_threads_where_cores_wait_for_the_longest_chain(planned) -> None:
    """On one core there is but one; on two the trainings of both categories need all; then comes the chain."""
    found = predicted(planned(axes=BOTH | {"seed": [0, 1, 2, 3]}))
    extraction, training = BY_RULE["extract_features"], BY_RULE["train_representation"]
    assert [found.threads(extraction, cores) for cores in (1, 2, 100)] == [1, 1, 2]
    assert [found.threads(training, cores) for cores in (1, 2, 100)] == [1, 1, 1]
    assert found.chain < found.least_wall(2) and found.chain == found.least_wall(100)
    assert [Estimate().threads(extraction, cores) for cores in (1, 2)] == [1, 2]


JOBS = {
    Job("extract_features", "mine", "nut", "net-1"): Memory(3000),
    Job("train_representation", "mine", "nut", "dim=8-2"): Memory(900, 4000),
    Job("make_table", name="x"): Memory(100),
}


def test_what_does_not_fit_is_named_with_what_to_do() -> None:
    """Of the training only its own memory counts: the system takes back what is mapped."""
    check_fits(JOBS, 3000)
    check_fits({}, 1)
    with pytest.raises(ReconpatchError, match=r"about 3\.0 GB") as error:
        check_fits(JOBS, 2999)
    assert error.value.where == "extract_features of mine/nut/net-1"
    assert "batch_images" in error.value.fix and "memory_gb=N" in error.value.fix
    with pytest.raises(ReconpatchError, match="make_table of x"):
        check_fits({Job("make_table", name="x"): Memory(100)}, 10)


def test_a_cluster_is_asked_for_more_each_time() -> None:
    first, second = (cluster_mb(1000, attempt=n) for n in (1, 2))
    assert first > 1000 and second == 1.5 * first
    assert [minutes(seconds) for seconds in (0, 150, 151, 3600)] == [10, 10, 11, 240]
