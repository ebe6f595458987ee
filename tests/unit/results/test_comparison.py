from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import numpy as np
import pandas as pd
import pytest
from drawing import make_record
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from sklearn.metrics import roc_auc_score

from reconpatch.method.bootstrap import image_wins, pixel_wins
from reconpatch.method.metrics import SavedScores
from reconpatch.results.comparison import Result, cells, groups, published, verdict
from reconpatch.results.paper import read_paper

FOLDER = Path(__file__).parents[3] / "configs" / "paper"
OBJECTS = ["bottle", "cable", "capsule", "hazelnut", "metal_nut", "pill", "screw", "toothbrush", "transistor", "zipper"]
TEXTURES = ["carpet", "grid", "leather", "tile", "wood"]
LAYOUTS = {"mvtec_ad": "mvtec_ad"}
COUNT = 4000
auroc = st.integers(0, 10_000).map(lambda n: n / 10_000)


def draw(seed: int, shift: float = 1.0, images: int = 36) -> tuple[np.ndarray, np.ndarray]:
    """Scores with ties of images, a third of them normal, and their labels."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(images) % 3 > 0).astype(np.int64)
    return (rng.normal(0, 1, images) + shift * labels).round(1).astype(np.float32), labels


def scored(scores: np.ndarray, truth: np.ndarray, **changes: Any) -> Result:
    """What a run with these image scores gives."""
    return given_values(
        {"image_auroc": roc_auc_score(truth, scores)},
        saved=SavedScores(scores, truth, {"image": image_wins(scores, truth)}),
        **changes,
    )


def given_values(metrics: dict[str, float | None] | None, flags: Sequence[str] = (), **changes: Any) -> Result:
    """A run with these metrics, or without a record."""
    fields = {"labels": {}, "method": "reconpatch", "seed": 0, "dataset": "mvtec_ad", "category": "bottle"}
    fields |= {"run": "r", "departures": (), "link": "runs/r/record.json"} | changes
    record = None if metrics is None else make_record(metrics=metrics, flags=list(flags))
    return Result(record=record, **fields)


def printed(*rows: tuple[str, str, float, str], metric: str = "image_auroc") -> pd.DataFrame:
    """The paper's numbers: category, method, value in percent, caveat."""
    frame = pd.DataFrame(rows, columns=["category", "method", "value", "caveat"])
    return frame.assign(metric=metric)


def frame_of(results, paper=None, layouts=LAYOUTS, count=100, tolerance=0.002) -> pd.DataFrame:
    return cells(results, paper, layouts, count=count, tolerance=tolerance)


def one(frame: pd.DataFrame, **wanted: Any) -> dict[str, Any]:
    """The only cell with these fields, of image AUROC and ReConPatch unless said otherwise."""
    for key, value in ({"metric": "image_auroc", "method": "reconpatch"} | wanted).items():
        frame = frame[frame[key] == value]
    assert len(frame) == 1
    return frame.iloc[0].to_dict()


def resampled(
    categories: Sequence[Sequence[Sequence[np.ndarray]]], labels: Sequence[np.ndarray], draws: int, seed: int = 0
) -> np.ndarray:
    """Per category, method and seed the scores -> (draws, categories, methods): the mean, over the seeds drawn, of
    the AUROC of the images drawn. Seeds and images are drawn one by one, the same for all methods.
    """
    rng, found = np.random.default_rng(seed), []
    for _ in range(draws):
        per_category = []
        for methods, truth in zip(categories, labels, strict=True):
            classes = [np.flatnonzero(truth == label) for label in (0, 1)]
            images = np.concatenate([rng.choice(members, len(members)) for members in classes])
            seeds = rng.integers(0, len(methods[0]), len(methods[0]))
            per_category.append(
                [fmean(roc_auc_score(truth[images], scores[s][images]) for s in seeds) for scores in methods]
            )
        found.append(per_category)
    return np.array(found)


def assert_ends(got: tuple[float, float], draws: np.ndarray) -> None:
    """Both ends of a 95 % interval, within what 500 draws leave open: an end errs by 0.12 standard deviations."""
    assert got == pytest.approx(tuple(np.quantile(draws, [0.025, 0.975])), abs=0.3 * draws.std())


@settings(deadline=None, max_examples=25)
@given(st.lists(auroc, min_size=2, max_size=5))
def test_value_is_the_mean_over_seeds_and_sd_their_standard_deviation(values) -> None:
    results = [given_values({"image_auroc": v}, seed=n, run=f"r{n}", link=f"l{n}") for n, v in enumerate(values)]
    cell = one(frame_of(results))
    assert cell["value"] == pytest.approx(fmean(values)) and cell["sd"] == pytest.approx(stdev(values), abs=1e-12)
    assert (cell["seeds"], cell["runs"], cell["links"]) == tuple(
        " ".join(f"{prefix}{n}" for n in range(len(values))) for prefix in ("", "r", "l")
    )
    assert np.isnan(cell["low"])  # no scores, no interval


def test_one_seed_has_no_standard_deviation() -> None:
    assert np.isnan(one(frame_of([given_values({"image_auroc": 0.9})]))["sd"])


@settings(deadline=None, max_examples=25)
@given(st.sets(st.sampled_from(OBJECTS + TEXTURES), min_size=1), st.data())
def test_means_over_categories(chosen, data) -> None:
    values = {c: data.draw(auroc) for c in OBJECTS + TEXTURES if c in chosen}
    frame = frame_of([given_values({"image_auroc": v}, category=c) for c, v in values.items()])
    shown = frame[frame["metric"] == "image_auroc"].set_index("category")
    expected = {c: [c] for c in values}
    for name, members in (("object", OBJECTS), ("texture", TEXTURES)):
        inside = [c for c in values if c in members]
        if len(inside) > 1 and len(inside) < len(values):  # a mean of one, or of all, would say nothing new
            expected[name] = inside
    expected |= {"mean": list(values)} if len(values) > 1 else {}
    assert list(shown.index) == list(expected)
    for group, members in expected.items():
        assert shown["value"][group] == pytest.approx(fmean(values[c] for c in members))
        assert shown["categories"][group] == len(members)
        assert bool(shown["links"][group]) == (len(members) == 1)


def test_only_mvtec_ad_has_objects_and_textures() -> None:
    assert groups("folder", ["bottle", "cable", "carpet", "grid"]) == {"mean": ["bottle", "cable", "carpet", "grid"]}
    assert groups("btad", ["01", "02", "03"]) == {"mean": ["01", "02", "03"]}
    assert groups("btad", ["01"]) == {}


def test_intervals_against_images_and_seeds_drawn_one_by_one() -> None:
    """Two categories, three seeds of very different quality: seeds matter as much as images."""
    truths, results = [], []
    scores: list[list[list[np.ndarray]]] = []
    for n, category in enumerate(("bottle", "cable")):
        base, labels = draw(n)
        truths.append(labels)
        scores.append([[np.float32(base + shift * labels) for shift in (-0.5, 0.3, 1.5)]])
        results += [scored(s, labels, category=category, seed=i, run=f"r{i}") for i, s in enumerate(scores[-1][0])]
    frame = frame_of(results, count=COUNT)
    per_category = resampled(scores, truths, 500)[:, :, 0]
    for category, draws in zip(("bottle", "cable", "mean"), (*per_category.T, per_category.mean(1)), strict=True):
        cell = one(frame, category=category)
        assert_ends((cell["low"], cell["high"]), draws)
        assert cell["low"] < cell["value"] < cell["high"]


def test_one_seed_leaves_images_alone_to_be_drawn() -> None:
    scores, labels = draw(3)
    cell = one(frame_of([scored(scores, labels)], count=COUNT))
    assert_ends((cell["low"], cell["high"]), resampled([[[scores]]], [labels], 500).ravel())


def test_pixel_interval_draws_images_not_pixels() -> None:
    rng = np.random.default_rng(0)
    masks = np.zeros((18, 12, 12), bool)
    for mask in masks[::2]:
        y, x = rng.integers(0, 8, 2)
        mask[y : y + 4, x : x + 4] = True
    maps = ndimage.gaussian_filter(rng.standard_normal(masks.shape), (0, 2, 2)) + 0.2 * masks
    maps = (maps + rng.normal(0, 0.15, (len(maps), 1, 1))).astype(np.float32)
    labels = masks.any((1, 2)).astype(np.int64)
    value = roc_auc_score(masks.ravel(), maps.ravel())
    saved = SavedScores(maps.max((1, 2)), labels, {"pixel": pixel_wins(maps, masks)})
    frame = frame_of([given_values({"pixel_auroc": value}, saved=saved)], count=COUNT)
    cell, draws = one(frame, metric="pixel_auroc"), []
    for _ in range(500):
        drawn = np.concatenate([rng.choice(np.flatnonzero(labels == label), 9) for label in (0, 1)])
        draws.append(roc_auc_score(masks[drawn].ravel(), maps[drawn].ravel()))
    assert cell["value"] == value
    assert_ends((cell["low"], cell["high"]), np.array(draws))


def compared(noise: float, seeds: int = 1) -> tuple[list[Result], list[Any], list[np.ndarray]]:
    """Results of both methods on two categories, equal but for noise; their scores and labels."""
    results, scores, truths = [], [], []
    rng = np.random.default_rng(7)
    for n, category in enumerate(("bottle", "carpet")):
        base, labels = draw(n + 10)
        truths.append(labels)
        theirs = [np.float32(base + rng.normal(0, 0.3, len(base))) for _ in range(seeds)]
        ours = [np.float32(s + noise * rng.standard_normal(len(s)) + noise * labels) for s in theirs]
        scores.append([ours, theirs])
        for method, given_scores in (("reconpatch", ours), ("patchcore", theirs)):
            fields = {"method": method, "category": category}
            results += [scored(s, labels, seed=i, run=f"{method}{i}", **fields) for i, s in enumerate(given_scores)]
    return results, scores, truths


@pytest.mark.parametrize("seeds", [1, 3])
def test_same_scores_gain_exactly_nothing(seeds) -> None:
    frame = frame_of(compared(0, seeds)[0], count=200)
    for category in ("bottle", "carpet", "mean"):
        cell = one(frame, category=category)
        assert (cell["gain"], cell["gain_low"], cell["gain_high"]) == (0, 0, 0)
        assert cell["low"] < cell["high"]


def test_gain_is_paired() -> None:
    results, scores, truths = compared(0.4, seeds=2)
    frame = frame_of(results, count=COUNT)
    gains = -np.diff(resampled(scores, truths, 500))[:, :, 0]
    for category, draws in (("carpet", gains[:, 1]), ("mean", gains.mean(1))):
        ours, theirs = one(frame, category=category), one(frame, category=category, method="patchcore")
        assert ours["gain"] == pytest.approx(ours["value"] - theirs["value"])
        width = ours["gain_high"] - ours["gain_low"]
        assert width < min(ours["high"] - ours["low"], theirs["high"] - theirs["low"])
        assert_ends((ours["gain_low"], ours["gain_high"]), draws)
        assert np.isnan(theirs["gain"])


def test_gain_is_over_patchcore_at_the_same_place_and_data_set() -> None:
    results, values = [], {}
    for n, (dataset, dim, method) in enumerate(
        (d, dim, m) for d in ("mvtec_ad", "own") for dim in (64, 512) for m in ("patchcore", "reconpatch")
    ):
        values[dataset, dim, method] = 0.5 + 0.01 * n**1.5
        fields = {"dataset": dataset, "labels": {"dim": dim}, "method": method, "run": f"{method}{dim}"}
        results.append(given_values({"image_auroc": values[dataset, dim, method]}, **fields))
    frame = frame_of(results, layouts=LAYOUTS | {"own": "folder"})
    for dataset in ("mvtec_ad", "own"):
        for dim in (64, 512):
            expected = values[dataset, dim, "reconpatch"] - values[dataset, dim, "patchcore"]
            assert one(frame, dataset=dataset, dim=dim)["gain"] == pytest.approx(expected)


def test_no_patchcore_no_gain() -> None:
    frame = frame_of([r for r in compared(0.4)[0] if r.method == "reconpatch"])
    assert "gain" not in frame or frame["gain"].isna().all()


def test_a_cell_does_not_depend_on_what_else_is_in_the_table() -> None:
    results = compared(0.4)[0]
    every = frame_of(results)
    alone = frame_of([r for r in reversed(results) if r.category == "carpet"])
    for method in ("patchcore", "reconpatch"):
        a, b = (one(f, category="carpet", method=method) for f in (every, alone))
        for key in ("value", "low", "high", "gain", "gain_low", "gain_high"):
            assert a[key] == pytest.approx(b[key], nan_ok=True, abs=1e-12)


@given(st.integers(5000, 9500), st.integers(1, 200), st.integers(-300, 300))
def test_verdict_at_inside_and_outside_the_tolerance(value, tolerance, difference) -> None:
    """In hundredths of a percent, where the comparison is one of integers."""
    said = verdict((value + difference) / 10_000, value / 10_000, tolerance / 10_000, [])
    assert said == ("agrees" if abs(difference) <= tolerance else "above" if difference > 0 else "below")


@pytest.mark.parametrize(
    ("value", "said"),
    [(0.993, "agrees"), (0.99301, "above"), (0.99299, "agrees"), (0.989, "agrees"), (0.98899, "below")],
)
def test_verdict_of_a_cell(value, said) -> None:
    cell = one(frame_of([given_values({"image_auroc": value})], printed(("bottle", "reconpatch", 99.1, ""))))
    assert (cell["verdict"], cell["reasons"]) == (said, "")
    assert cell["paper"] == pytest.approx(0.991) and cell["difference"] == pytest.approx(value - 0.991)


@pytest.mark.parametrize("reason", ["epochs = 3 (paper 120)", "untrained (random) weights", "From another model; so."])
def test_whatever_forbids_a_comparison_is_the_reason(reason) -> None:
    """A departure, a flag and a caveat of the paper, on a number that would agree, and on the mean that holds it."""
    flag, departure = reason.startswith("untrained"), reason.startswith("epochs")
    results = [
        given_values({"image_auroc": 0.99}, [reason] if flag else (), departures=(reason,) if departure else ()),
        given_values({"image_auroc": 0.99}, category="cable"),
    ]
    caveat = "" if flag or departure else reason
    frame = frame_of(results, printed(("bottle", "reconpatch", 99.0, caveat), ("cable", "reconpatch", 99.0, "")))
    for category in ("bottle", "mean"):
        cell = one(frame, category=category)
        assert (cell["verdict"], cell["reasons"]) == ("not comparable", reason)
        assert cell["difference"] == pytest.approx(0)
    assert one(frame, category="cable")["verdict"] == "agrees"


def test_a_remark_on_the_data_forbids_no_comparison_and_stands_beside_the_number() -> None:
    remark = "data: images of mode 1 (black and white): 3"
    cell = one(frame_of([given_values({"image_auroc": 0.99}, [remark])], printed(("bottle", "reconpatch", 99.0, ""))))
    assert (cell["verdict"], cell["reasons"], cell["flags"]) == ("agrees", "", remark)


def test_all_reasons_are_given_each_once() -> None:
    result = given_values({"image_auroc": 0.9}, ["flag", "flag"], departures=("a = 1", "b = 2"))
    cell = one(frame_of([result], printed(("bottle", "reconpatch", 99.0, "caveat"))))
    assert cell["reasons"] == "a = 1 | b = 2 | flag | caveat"


def of_categories(names: Sequence[str], value: float = 0.95, **changes: Any) -> list[Result]:
    return [given_values({"image_auroc": value}, category=c, **changes) for c in names]


@pytest.mark.parametrize(
    ("names", "group", "of"),
    [(["bottle", "cable"], "mean", 15), (["bottle", "cable", "carpet"], "object", 10), (OBJECTS[:9], "mean", 15)],
)
def test_fewer_categories_are_not_compared_with_the_papers_mean(names, group, of) -> None:
    paper = printed((group, "reconpatch", 95.0, "And more."))
    cell = one(frame_of(of_categories(names), paper), category=group)
    shown = min(len(names), 2) if group == "object" else len(names)
    assert cell["verdict"] == "not comparable" and cell["paper"] == pytest.approx(0.95)
    assert cell["reasons"] == f"{shown} of the paper's {of} categories. And more."


def test_fewer_categories_are_compared_with_the_papers_same() -> None:
    paper = printed(
        ("bottle", "reconpatch", 94.0, ""), ("cable", "reconpatch", 97.0, ""), ("mean", "reconpatch", 50.0, "")
    )
    cell = one(frame_of(of_categories(["bottle", "cable"], 0.955), paper), category="mean")
    assert (cell["verdict"], cell["reasons"]) == ("agrees", "") and cell["paper"] == pytest.approx(0.955)


@pytest.mark.parametrize(
    ("names", "group"),
    [(OBJECTS + TEXTURES, "mean"), ([*OBJECTS, "carpet"], "object"), (["pill", *TEXTURES], "texture")],
)
def test_all_categories_are_compared_with_the_mean_as_printed(names, group) -> None:
    rows = [(c, "reconpatch", 80.0, "") for c in names]
    cell = one(frame_of(of_categories(names), printed(*rows, (group, "reconpatch", 95.1, ""))), category=group)
    assert (cell["verdict"], cell["reasons"]) == ("agrees", "") and cell["paper"] == pytest.approx(0.951)


@pytest.mark.parametrize(("names", "group"), [(OBJECTS, "object"), (TEXTURES[::-1], "texture")])
def test_all_objects_or_textures_alone_are_compared_with_the_papers_mean_of_them(names, group) -> None:
    rows = [(c, "reconpatch", 80.0, "") for c in names]
    paper = printed(*rows, (group, "reconpatch", 95.1, "Of it."), ("mean", "reconpatch", 50.0, ""))
    cell = one(frame_of(of_categories(names), paper), category="mean")
    assert cell["paper"] == pytest.approx(0.951) and cell["reasons"] == "Of it."
    wanting = printed(*rows, ("mean", "reconpatch", 50.0, ""))  # nor is it compared with the mean of all
    assert one(frame_of(of_categories(names), wanting), category="mean")["verdict"] == ""


@pytest.mark.parametrize(
    ("names", "group", "strange"),
    [
        ([*OBJECTS, *TEXTURES, "nut", "bolt"], "mean", "bolt, nut"),
        ([*OBJECTS, *TEXTURES, "nut"], "object", "nut"),
        (["bottle", "nut"], "mean", "nut"),
    ],
)
def test_categories_the_paper_does_not_have_are_the_reason(names, group, strange) -> None:
    rows = [(c, "reconpatch", 95.0, "") for c in (*OBJECTS, *TEXTURES, group)]
    frame = frame_of(of_categories(names), printed(*rows))
    cell = one(frame, category=group)
    assert (cell["verdict"], cell["reasons"]) == ("not comparable", f"the paper does not have {strange}")
    assert cell["paper"] == pytest.approx(0.95)
    assert one(frame, category="nut")["verdict"] == "" and one(frame, category="bottle")["verdict"] == "agrees"


@pytest.mark.parametrize("layout", ["folder", "sample"])
def test_data_of_ones_own_have_nothing_to_do_with_the_papers(layout) -> None:
    paper = printed(*((c, "reconpatch", 95.0, "") for c in (*OBJECTS, *TEXTURES, "object", "texture", "mean")))
    frame = frame_of(of_categories(OBJECTS + TEXTURES), paper, layouts={"mvtec_ad": layout})
    assert frame["paper"].isna().all() and set(frame["verdict"]) == {""} and set(frame["reasons"]) == {""}
    assert published(paper, {}, "bottle", ["bottle"], layout, ("reconpatch", "image_auroc")) is None
    found = published(paper, {}, "bottle", ["bottle"], "mvtec_ad", ("reconpatch", "image_auroc"))
    assert found == (pytest.approx(0.95), "")


def test_btad_is_compared_with_the_mean_of_its_three_products() -> None:
    rows = (("01", 90.0), ("02", 80.0), ("03", 91.0), ("mean", 87.1))  # a mean that tells itself from ours
    paper = printed(*((c, "reconpatch", value, "") for c, value in rows))
    for names, expected, reasons in ((["01", "02", "03"], 0.871, ""), (["01", "03"], 0.905, "")):
        results = [given_values({"image_auroc": 0.9}, category=c, dataset="btad") for c in names]
        cell = one(frame_of(results, paper, layouts={"btad": "btad"}), category="mean")
        assert (cell["paper"], cell["reasons"]) == (pytest.approx(expected), reasons)


def test_table_5_against_itself() -> None:
    """The paper's own numbers agree with the paper wherever it has no caveat."""
    paper = read_paper(FOLDER / "table_mvtec.csv")
    given_rows = paper[(paper["variant"] == "224 px") & (paper["method"] == "reconpatch")]
    values = {(r.category, r.metric): (r.value / 100, r.caveat) for r in given_rows.itertuples()}
    results = [
        given_values(
            {m: values[c, m][0] for m in ("image_auroc", "pixel_auroc")}, category=c, labels={"variant": "224 px"}
        )
        for c in OBJECTS + TEXTURES
    ]
    frame = frame_of(results, paper, tolerance=0.0006)
    checked = 0
    for (category, metric), (value, caveat) in values.items():
        cell = one(frame, category=category, metric=metric)
        assert cell["value"] == pytest.approx(value, abs=0.0006) and cell["paper"] == value
        assert (cell["verdict"], cell["reasons"]) == (("not comparable", caveat) if caveat else ("agrees", ""))
        checked += 1
    assert checked == 18 * 2
    assert (frame[frame["metric"] == "aupro_30"]["verdict"] == "").all()  # the paper has none


def test_other_methods_and_places_of_the_paper_are_not_ours() -> None:
    paper = printed(("bottle", "patchcore", 90.0, ""), ("bottle", "reconpatch", 99.0, "")).assign(dim=["64", "512"])
    frame = frame_of([given_values({"image_auroc": 0.9}, labels={"dim": dim}) for dim in (64, 512)], paper)
    assert np.isnan(one(frame, dim=64)["paper"]) and one(frame, dim=64)["verdict"] == ""
    assert one(frame, dim=512)["paper"] == pytest.approx(0.99)


def test_a_missing_run_is_no_number_and_neither_is_a_mean_over_it() -> None:
    results, _, _ = compared(0.4, seeds=2)
    lost = [r for r in results if (r.method, r.category, r.seed) == ("reconpatch", "carpet", 1)]
    assert len(lost) == 1
    fields = {"method": "reconpatch", "category": "carpet", "seed": 1, "departures": ("x = 1",), "link": ""}
    results = [given_values(None, **fields) if r is lost[0] else r for r in results]
    paper = printed(*((c, "reconpatch", 90.0, "") for c in ("bottle", "carpet", "mean")))
    frame = frame_of(results, paper)
    for category in ("carpet", "mean"):
        cell = one(frame, category=category)
        for key in ("value", "low", "high", "difference", "gain", "gain_low", "gain_high"):
            assert np.isnan(cell[key]), key
        assert cell["verdict"] == "not run"
    assert len(one(frame, category="carpet")["links"].split()) == 1  # of the seed that is there
    for cell in (one(frame, category="bottle"), one(frame, category="mean", method="patchcore")):
        assert np.isfinite([cell["value"], cell["low"]]).all()


def test_undefined_metrics_do_not_spoil_others() -> None:
    """One category without masks has no pixel AUROC, nor has the mean; image AUROC stays."""
    results = [
        given_values({"image_auroc": 0.9, "pixel_auroc": p}, category=c) for c, p in (("nut", None), ("bolt", 0.8))
    ]
    frame = frame_of(results, layouts={"mvtec_ad": "folder"})
    pixel = frame[frame["metric"] == "pixel_auroc"].set_index("category")["value"]
    assert np.isnan(pixel["nut"]) and pixel["bolt"] == 0.8 and np.isnan(pixel["mean"])
    assert one(frame, category="mean")["value"] == pytest.approx(0.9)


@settings(deadline=None, max_examples=20)
@given(st.lists(st.sampled_from([0.5, 1.0, 2.0]), min_size=1, max_size=3, unique=True))
def test_places_that_share_a_run_share_its_numbers(sigmas) -> None:
    results = []
    for n, sigma in enumerate(sigmas):
        for method, run, seed in (("patchcore", "same", 0), ("reconpatch", f"r{sigma}", n + 1)):
            results.append(scored(*draw(seed), labels={"sigma": sigma}, method=method, run=run))
    frame = frame_of(results)
    first = one(frame, sigma=sigmas[0], method="patchcore")
    for n, sigma in enumerate(sigmas):
        cell = one(frame, sigma=sigma, method="patchcore")
        assert {k: cell[k] for k in ("value", "low", "high")} == {k: first[k] for k in ("value", "low", "high")}
        scores, labels = draw(n + 1)
        assert one(frame, sigma=sigma)["value"] == pytest.approx(roc_auc_score(labels, scores))
