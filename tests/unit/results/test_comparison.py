from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import numpy as np
import pytest
from drawing import make_record
from hypothesis import given, settings
from hypothesis import strategies as st

from reconpatch.method.bootstrap import image_wins
from reconpatch.method.metrics import METRICS, SavedScores, image_metrics
from reconpatch.results.comparison import Cell, Result, cells, columns, verdict
from reconpatch.results.paper import Paper, PaperNumber

FOLDER = Path(__file__).parents[3] / "configs" / "paper"
OBJECTS = ["bottle", "cable", "capsule", "hazelnut", "metal_nut", "pill", "screw", "toothbrush", "transistor", "zipper"]
TEXTURES = ["carpet", "grid", "leather", "tile", "wood"]
ROTATED = ["hazelnut", "metal_nut", "screw"]
ALIGNED = [c for c in OBJECTS if c not in ROTATED]
LACKS = "the paper's table has no: "
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
    saved = SavedScores(scores, truth, {"image": image_wins(scores, truth)})
    return given_values(image_metrics(scores, truth), saved=saved, **changes)


def given_values(metrics: dict[str, float | None] | None, flags: Sequence[str] = (), **changes: Any) -> Result:
    """A run with these metrics, or without a record."""
    fields = {"labels": {}, "method": "reconpatch", "seed": 0, "dataset": "mvtec_ad", "category": "bottle"}
    fields |= {"run": "r", "departures": (), "link": "runs/r/record.json"} | changes
    record = None if metrics is None else make_record(metrics=metrics, flags=list(flags))
    return Result(record=record, **fields)


def of_categories(names: Sequence[str], value: float = 0.95, **changes: Any) -> list[Result]:
    return [given_values({"image_auroc": value}, category=c, **changes) for c in names]


def printed(*rows: tuple[str, float, str], method: str = "reconpatch") -> Paper:
    """The paper's image AUROCs: category, value in percent, caveat."""
    return Paper([], {(c, method, "image_auroc", ()): PaperNumber(value, caveat) for c, value, caveat in rows})


def cells_of(results, paper=None, layouts=LAYOUTS, count=100, tolerance=0.002) -> list[Cell]:
    return cells(results, paper, layouts, count=count, tolerance=tolerance)


def one(made: list[Cell], labels: dict[str, Any] | None = None, **wanted: Any) -> Cell:
    """The only cell with these fields, of image AUROC and ReConPatch unless said otherwise."""
    wanted = {"metric": "image_auroc", "method": "reconpatch"} | wanted
    (cell,) = (
        c for c in made if all(getattr(c, k) == v for k, v in wanted.items()) and labels in (None, dict(c.labels))
    )
    return cell


def resampled(
    categories: Sequence[Sequence[Sequence[np.ndarray]]], labels: Sequence[np.ndarray], draws: int
) -> np.ndarray:
    """Per category, method and seed the scores -> (draws, categories, methods): the mean, over the seeds drawn, of
    the AUROC of the images drawn. Seeds and images are drawn one by one, the same for all methods, seeds for all
    categories, too. Deviations over seeds are stretched, as S draws of S seeds scatter by (S - 1) / S of the variance.
    """
    rng, values = np.random.default_rng(0), []
    for _ in range(draws):
        per_category = []
        count = len(categories[0][0])
        seeds = rng.integers(0, count, count)
        for methods, truth in zip(categories, labels, strict=True):
            classes = [np.flatnonzero(truth == label) for label in (0, 1)]
            images = np.concatenate([rng.choice(members, len(members)) for members in classes])
            aurocs = [[by_pairs(scores[images], truth[images]) for scores in of_seeds] for of_seeds in methods]
            plain, drawn = [fmean(each) for each in aurocs], [fmean(each[s] for s in seeds) for each in aurocs]
            stretch = np.sqrt(count / (count - 1)) if count > 1 else 1
            per_category.append([p + stretch * (d - p) for p, d in zip(plain, drawn, strict=True)])
        values.append(per_category)
    return np.array(values)


def by_pairs(scores: np.ndarray, labels: np.ndarray) -> float:
    """The AUROC as the share of pairs in order."""
    positive, negative = scores[labels == 1][:, None], scores[labels == 0]
    return float(np.mean((positive > negative) + 0.5 * (positive == negative)))


def assert_ends(got: tuple[float, float], draws: np.ndarray, within: float = 0.3) -> None:
    """Both ends of a 95 % interval, within what 500 draws leave open: an end errs by 0.12 standard deviations, by more
    where a few different draws of seeds decide it.
    """
    assert got == pytest.approx(tuple(np.quantile(draws, [0.025, 0.975])), abs=within * draws.std())


@settings(deadline=None, max_examples=15)
@given(st.lists(auroc, min_size=1, max_size=5))
def test_value_is_the_mean_over_seeds_and_sd_their_standard_deviation(values) -> None:
    results = [given_values({"image_auroc": v}, seed=n, run=f"r{n}", link=f"l{n}") for n, v in enumerate(values)]
    cell, numbers = one(cells_of(results)), range(len(values))
    assert cell.value == pytest.approx(fmean(values))
    assert cell.sd == pytest.approx(stdev(values) if len(values) > 1 else np.nan, abs=1e-12, nan_ok=True)
    assert cell.seeds == list(numbers) and cell.links == [f"l{n}" for n in numbers] and np.isnan(cell.low)
    (row, *_) = columns([cell])
    assert row["runs"] == " ".join(f"r{n}" for n in numbers) and "gain" not in row


@settings(deadline=None, max_examples=15)
@given(st.sets(st.sampled_from(OBJECTS + TEXTURES), min_size=1), st.data())
def test_means_over_categories(chosen, data) -> None:
    values = {c: data.draw(auroc) for c in OBJECTS + TEXTURES if c in chosen}
    made = cells_of([given_values({"image_auroc": v}, category=c) for c, v in values.items()])
    expected = {c: [c] for c in values}
    for name, members in (("object", OBJECTS), ("aligned", ALIGNED), ("rotated", ROTATED), ("texture", TEXTURES)):
        inside = [c for c in values if c in members]
        if len(inside) > 1 and len(inside) < len(values):  # a mean of one, or of all, would say nothing new
            expected[name] = inside
    expected |= {"mean": list(values)} if len(values) > 1 else {}
    shown = {c.category: c for c in made if c.metric == "image_auroc"}
    assert list(shown) == list(expected)
    for group, members in expected.items():
        assert shown[group].value == pytest.approx(fmean(values[c] for c in members))
        assert shown[group].categories == len(members) and bool(shown[group].links) == (len(members) == 1)


def test_intervals_against_images_and_seeds_drawn_one_by_one() -> None:
    """Two categories, three seeds of very different quality: seeds matter as much as images."""
    truths, results = [], []
    scores: list[list[list[np.ndarray]]] = []
    for n, category in enumerate(("bottle", "cable")):
        base, labels = draw(n)
        truths.append(labels)
        scores.append([[np.float32(base + shift * labels) for shift in (-0.5, 0.3, 1.5)]])
        results += [scored(s, labels, category=category, seed=i, run=f"r{i}") for i, s in enumerate(scores[-1][0])]
    made = cells_of(results, count=COUNT)
    per_category = resampled(scores, truths, 500)[:, :, 0]
    for category, draws in zip(("bottle", "cable", "mean"), (*per_category.T, per_category.mean(1)), strict=True):
        cell = one(made, category=category)
        assert_ends((cell.low, cell.high), draws, 0.5)
        assert cell.low < cell.value < cell.high


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


def test_same_scores_gain_exactly_nothing() -> None:
    made = cells_of(compared(0, 3)[0], count=200)
    for category in ("bottle", "carpet", "mean"):
        cell = one(made, category=category)
        gain = cell.gains["gain"]
        assert (gain.value, gain.low, gain.high, gain.p) == (0, 0, 0, 1) and cell.low < cell.high


def test_gain_is_paired() -> None:
    results, scores, truths = compared(0.4, seeds=2)
    made = cells_of(results, count=COUNT)
    gains = -np.diff(resampled(scores, truths, 500))[:, :, 0]
    for category, draws in (("carpet", gains[:, 1]), ("mean", gains.mean(1))):
        ours, theirs = one(made, category=category), one(made, category=category, method="patchcore")
        gain = ours.gains["gain"]
        assert gain.value == pytest.approx(ours.value - theirs.value) and not theirs.gains
        assert gain.high - gain.low < min(ours.high - ours.low, theirs.high - theirs.low)
        assert_ends((gain.low, gain.high), draws)
        share = 2 * min(np.mean(draws <= 0), np.mean(draws >= 0))
        assert gain.p == pytest.approx(share, abs=4 * np.sqrt(share / len(draws)) + 0.01)


def test_the_gain_is_what_the_map_costs_and_what_training_brings() -> None:
    """Both parts are paired: each against its own pairs of draws, and together they are the whole."""
    results = compared(0.4, seeds=2)[0]
    shift, control = np.random.default_rng(1), []
    for result in results:
        if result.method == "patchcore":
            values = (result.saved.image + shift.normal(0, 0.3, len(result.saved.image))).astype(np.float32)
            changes = {
                "category": result.category,
                "seed": result.seed,
                "run": f"u{result.seed}",
                "method": "untrained",
            }
            control.append(scored(values, result.saved.labels, **changes))
    made = cells_of([*results, *control], count=COUNT)
    alone = cells_of(results, count=COUNT)
    for category in ("bottle", "carpet", "mean"):
        ours, drawn = one(made, category=category), one(made, category=category, method="untrained")
        theirs = one(made, category=category, method="patchcore")
        gain, training, cost = ours.gains["gain"], ours.gains["training"], drawn.gains["gain"]
        assert cost.value == pytest.approx(drawn.value - theirs.value) and drawn.gains.keys() == {"gain"}
        assert training.value == pytest.approx(ours.value - drawn.value) == pytest.approx(gain.value - cost.value)
        assert training.low < training.value < training.high and training.over == "untrained"
        assert gain.low == one(alone, category=category).gains["gain"].low and not theirs.gains
    ends = ("", "_low", "_high", "_p", "_holm")
    assert {f"{name}{end}" for name in ("gain", "training") for end in ends} <= columns(made)[0].keys()
    assert "training" not in columns(alone)[0] and "gain" in columns(alone)[0]


def test_a_new_metric_has_columns_intervals_and_gains(monkeypatch) -> None:
    """Of one where lower is better, a positive gain is an improvement, too."""
    error = replace(METRICS["image_ap"], function=lambda r: 1 - METRICS["image_ap"].function(r), higher_is_better=False)
    results = [scored(*draw(1, shift), method=m, run=m) for m, shift in (("patchcore", 0.5), ("reconpatch", 2.0))]
    for name, metric in (("image_ap", METRICS["image_ap"]), ("image_error", error)):
        monkeypatch.setitem(METRICS, name, replace(metric, name=name, in_tables=True, interval="scores"))
    for result in results:
        assert result.record is not None
        result.record.metrics["image_error"] = 1 - result.record.metrics["image_ap"]
    made = cells_of(results, layouts={"mvtec_ad": "folder"}, count=200)
    precision, wrong = one(made, metric="image_ap"), one(made, metric="image_error")
    gain, same = wrong.gains["gain"], precision.gains["gain"]
    assert wrong.value == pytest.approx(1 - precision.value) and gain.value == pytest.approx(same.value)
    assert wrong.low < wrong.value < wrong.high and (gain.low, gain.p) == pytest.approx((same.low, same.p))
    assert gain.value > 0


@given(st.integers(5000, 9500), st.integers(1, 200), st.integers(-300, 300))
def test_verdict_at_inside_and_outside_the_tolerance(value, tolerance, difference) -> None:
    """In hundredths of a percent, where the comparison is one of integers."""
    word = verdict((value + difference) / 10_000, value / 10_000, tolerance / 10_000, [])
    assert word == ("agrees" if abs(difference) <= tolerance else "above" if difference > 0 else "below")


@pytest.mark.parametrize(
    "reason", ["epochs = 3 (paper 120)", "untrained (random) weights", "From another | model; so."]
)
def test_whatever_forbids_a_comparison_is_the_reason(reason) -> None:
    """A departure, a flag and a caveat of the paper, on a number that would agree, and on the mean that holds it."""
    flag, departure = reason.startswith("untrained"), reason.startswith("epochs")
    results = [
        given_values({"image_auroc": 0.99}, [reason] if flag else (), departures=(reason,) if departure else ()),
        given_values({"image_auroc": 0.99}, category="cable"),
    ]
    made = cells_of(results, printed(("bottle", 99.0, "" if flag or departure else reason), ("cable", 99.0, "")))
    for category in ("bottle", "mean"):
        cell = one(made, category=category)
        assert (cell.verdict, cell.reasons) == ("not comparable", [reason]) and cell.difference == pytest.approx(0)
    assert one(made, category="cable").verdict == "agrees"


def test_a_number_that_others_published_is_never_compared() -> None:
    """Not even one that would agree and has no caveat; nor is a gain over it, nor one of some of its categories."""
    numbers = {
        (category, method, "image_auroc", ()): PaperNumber(99.0, "", source)
        for category, method, source in (
            ("bottle", "reconpatch", "Somebody, 2024"),
            ("cable", "reconpatch", ""),
            ("cable", "patchcore", "Somebody, 2024"),
            ("mean", "patchcore", "Somebody, 2024"),
        )
    }
    results = [
        scored(*draw(1), method=method, category=category, run=method)
        for method in ("patchcore", "reconpatch")
        for category in ("bottle", "cable", "carpet")
    ]
    made = cells_of(results, Paper([], numbers), tolerance=1)
    reason = "published by Somebody, 2024, not by the paper"
    others, paper = one(made, category="bottle"), one(made, category="cable")
    assert (others.verdict, others.reasons, others.source) == ("not comparable", [reason], "Somebody, 2024")
    assert (paper.verdict, paper.reasons, paper.source) == ("agrees", [], "")
    assert paper.gains["gain"].paper == 0 and paper.gains["gain"].verdict == "not comparable"
    mean = one(made, category="mean", method="patchcore")
    assert mean.reasons == ["3 of the published 15 categories.", reason] and mean.source == "Somebody, 2024"
    sources = [row["source"] for row in columns([others, paper, mean, one(made, category="carpet")])]
    assert sources == ["Somebody, 2024", "paper", "Somebody, 2024", ""]


@pytest.mark.parametrize(
    ("names", "group", "rows", "paper", "reasons"),
    [
        # Some of the categories: the mean over the same, where the paper gives them, else no comparison.
        (["bottle", "cable"], "mean", {"bottle": 94, "cable": 97, "mean": 50}, 95.5, []),
        (["bottle", "cable"], "mean", {"mean": 95}, 95, ["2 of the paper's 15 categories. Of it."]),
        (["bottle", "cable", "carpet"], "object", {"object": 95}, 95, ["2 of the paper's 10 categories. Of it."]),
        # All of them: the mean as printed.
        (OBJECTS + TEXTURES, "mean", {**dict.fromkeys(OBJECTS + TEXTURES, 80), "mean": 95.1}, 95.1, ["Of it."]),
        ([*OBJECTS, "carpet"], "object", {**dict.fromkeys(OBJECTS, 80), "object": 95.1}, 95.1, ["Of it."]),
        (OBJECTS, "mean", {**dict.fromkeys(OBJECTS, 80), "object": 95.1, "mean": 50}, 95.1, ["Of it."]),
        (TEXTURES[::-1], "mean", {**dict.fromkeys(TEXTURES, 80), "mean": 50}, 80, []),  # nor is it the mean of all
        (OBJECTS, "aligned", {**dict.fromkeys(ALIGNED, 80), **dict.fromkeys(ROTATED, 70), "mean": 50}, 80, []),
        (OBJECTS, "rotated", {**dict.fromkeys(ROTATED[1:], 70), "mean": 50}, None, [LACKS + "mean of rotated objects"]),
        # Categories of one's own among them.
        ([*OBJECTS, *TEXTURES, "nut", "bolt"], "mean", {"mean": 95}, 95, ["the paper does not have bolt, nut"]),
        (["bottle", "nut"], "mean", {"bottle": 95, "mean": 95}, 95, ["the paper does not have nut"]),
        (["bottle", "nut"], "nut", {"bottle": 95, "mean": 95}, None, [LACKS + "nut"]),
        # A single category of a table that has means alone.
        (["bottle"], "bottle", {"mean": 95}, None, [LACKS + "single categories"]),
    ],
)
def test_means_are_compared_with_the_papers_mean_of_the_same(names, group, rows, paper, reasons) -> None:
    means = ("mean", "object", "texture")
    numbers = printed(*((c, value, "Of it." if c in means else "") for c, value in rows.items()))
    cell = one(cells_of(of_categories(names), numbers), category=group)
    assert cell.paper == (None if paper is None else pytest.approx(paper / 100)) and cell.reasons == reasons


def test_a_missing_run_is_no_number_and_neither_is_a_mean_over_it() -> None:
    results, _, _ = compared(0.4, seeds=2)
    (lost,) = (r for r in results if (r.method, r.category, r.seed) == ("reconpatch", "carpet", 1))
    results = [replace(r, record=None, saved=None, departures=("x = 1",)) if r is lost else r for r in results]
    made = cells_of(results, printed(*((c, 90.0, "") for c in ("bottle", "carpet", "mean"))))
    for category in ("carpet", "mean"):
        cell = one(made, category=category)
        gain = cell.gains["gain"]
        numbers = (cell.value, cell.low, cell.high, cell.difference, gain.value, gain.low, gain.high, gain.p, gain.holm)
        assert np.isnan(np.array(numbers, float)).all() and cell.verdict == "not run"
    assert len(one(made, category="carpet").links) == 1  # of the seed that is there
    for cell in (one(made, category="bottle"), one(made, category="mean", method="patchcore")):
        assert np.isfinite([cell.value, cell.low]).all()


def test_holm_is_over_the_categories_of_a_place_metric_and_gain() -> None:
    """Against Holm's procedure step by step; means are not corrected and do not count."""
    results = []
    for n, (category, shift) in enumerate(zip(("bottle", "cable", "carpet"), (-0.2, 0.1, 0.3), strict=True)):
        base, labels = draw(n + 20, 0.5)
        for dim, more in ((64, 0.0), (512, 0.2)):
            place = {"labels": {"dim": dim}, "category": category}
            theirs = base + np.random.default_rng(n).normal(0, 0.3, len(base))
            results.append(scored(np.float32(theirs), labels, method="patchcore", run=f"p{dim}", **place))
            results.append(scored(np.float32(base + (shift + more) * labels), labels, run=f"r{dim}", **place))
    made = cells_of(results, count=1000)
    for dim in (64, 512):
        gains = [one(made, {"dim": dim}, category=c).gains["gain"] for c in ("bottle", "cable", "carpet")]
        ordered, least = sorted(gains, key=lambda gain: gain.p), 0.0
        for n, gain in enumerate(ordered):
            least = max(least, min(1.0, (len(ordered) - n) * gain.p))
            assert gain.holm == pytest.approx(least)
        assert len({gain.p for gain in gains}) > 1
        mean = one(made, {"dim": dim}, category="mean").gains["gain"]
        assert np.isnan(mean.holm) and mean.shown_p == mean.p


@pytest.mark.parametrize(
    ("ours", "theirs", "caveat", "word"),
    [
        (99.0, 98.0, "", "larger"),
        (99.0, 99.5, "", "larger"),
        (99.0, 10.0, "", "smaller"),
        (99.0, None, "", "agrees with the paper's gain"),
        (99.0, 98.0, "Of another network.", "not comparable"),
    ],
)
def test_verdict_on_the_gain(ours, theirs, caveat, word) -> None:
    """PatchCore's number puts the paper's gain at, above or below ours; its caveat forbids the comparison of gains."""
    results = [scored(*draw(1, shift), method=m, run=m) for m, shift in (("patchcore", 0.3), ("reconpatch", 1.5))]
    alone = one(cells_of(results, count=300))
    gain = alone.gains["gain"]
    assert gain.paper is None and gain.verdict == "" and "paper_gain" not in columns([alone])[0] and gain.low > 0.02
    theirs = ours - 100 * gain.value if theirs is None else theirs
    numbers = {
        **printed(("bottle", ours, "")).numbers,
        **printed(("bottle", theirs, caveat), method="patchcore").numbers,
    }
    cell = one(cells_of(results, Paper([], numbers), count=300))
    gain = cell.gains["gain"]
    assert gain.verdict == word and gain.paper == pytest.approx((ours - theirs) / 100) and cell.reasons == []
    (row,) = columns([cell])
    assert (row["paper_gain"], row["gain_verdict"]) == (gain.paper, word)


def test_a_departure_of_either_method_forbids_the_comparison_of_gains() -> None:
    rows = {**printed(("bottle", 99.0, "")).numbers, **printed(("bottle", 98.0, ""), method="patchcore").numbers}
    for departs in ("patchcore", "reconpatch"):
        results = [
            scored(*draw(1), method=m, run=m, departures=("x = 1",) if m == departs else ())
            for m in ("patchcore", "reconpatch")
        ]
        assert one(cells_of(results, Paper([], rows))).gains["gain"].verdict == "not comparable"
    lost = [replace(r, record=None, saved=None) if r.method == "reconpatch" else r for r in results]
    assert one(cells_of(lost, Paper([], rows))).gains["gain"].verdict == "not run"
