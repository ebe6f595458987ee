"""Kinds of anomalies that are measured apart, against numbers worked out from the scores of their images."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import fmean

import numpy as np
import pandas as pd
import pytest
from cells import view_of
from made_results import LOCO_TYPES, by_pairs, draw_maps, draw_types, holm_by_hand, measured, the
from scipy.stats import rankdata

from reconpatch.method.bootstrap import auroc, of_images, pixel_wins, resamples
from reconpatch.method.metrics import METRICS
from reconpatch.results.comparison import Cell, Gain, Result, cells, columns, entry
from reconpatch.results.figures.effects import effects_of, gains_of
from reconpatch.results.figures.ranks import rank_panels
from reconpatch.results.figures.sweeps import series_of
from reconpatch.results.kinds import by_kind
from reconpatch.results.overview import comparisons
from reconpatch.results.paper import Paper, PaperNumber
from reconpatch.results.paper_view import paper_view
from reconpatch.results.summary import summaries, summary_columns, summary_table
from reconpatch.results.tables import comparison_table, notes
from reconpatch.rng import named_rng

LAYOUTS = {"mvtec_loco": "mvtec_loco"}
CATEGORIES = ("juice_bottle", "pushpins", "screw_bag")
COUNTS = {"": 8, "logical_anomalies": 6, "structural_anomalies": 5}
KINDS = ("logical", "structural", "mean")
COUNT = 300
SHIFTS = {  # how much higher the methods score defects: the kinds gain in opposite directions
    "patchcore": {"logical_anomalies": 0.4, "structural_anomalies": 1.6},
    "reconpatch": {"logical_anomalies": 1.8, "structural_anomalies": 0.9},
    "untrained": {"logical_anomalies": 0.2, "structural_anomalies": 0.3},
}
METHODS = ("patchcore", "reconpatch")


def drawn(category: str, method: str, seed: int = 0) -> tuple[list[str], tuple[np.ndarray, ...]]:
    """Types of the images of a category, and what a method's run scores there."""
    types = draw_types(COUNTS, CATEGORIES.index(category))
    return types, draw_maps(types, SHIFTS[method], 100 * CATEGORIES.index(category) + 10 * len(method) + seed)


def results(
    categories: Sequence[str] = CATEGORIES, methods: Sequence[str] = METHODS, seeds: int = 1, **more: object
) -> list[Result]:
    made = []
    for category in categories:
        for method in methods:
            for seed in range(seeds):
                types, arrays = drawn(category, method, seed)
                fields = {"dataset": "mvtec_loco", "category": category, "method": method, "seed": seed}
                made.append(measured(arrays, types, **(fields | more)))
    return made


def cells_of(made: Sequence[Result], paper: Paper | None = None, **settings: object) -> list[Cell]:
    layouts = {each.dataset: each.dataset for each in made}
    return cells(by_kind(made, layouts), paper, layouts, count=COUNT, tolerance=0.002, **settings)  # type: ignore[arg-type]


def of_kind(types: Sequence[str], kind: str) -> np.ndarray:
    """Which images a kind is measured on."""
    return np.array([each in ("", LOCO_TYPES[kind]) for each in types])


@pytest.mark.parametrize("method", METHODS)
def test_the_auroc_of_a_kind_is_that_of_its_images_and_all_normal_ones(method) -> None:
    """And no two kinds share their numbers, though they share their run."""
    made = cells_of(results())
    for category in CATEGORIES:
        types, (image, labels, maps, masks) = drawn(category, method)
        found = {}
        for kind in ("logical", "structural"):
            chosen = of_kind(types, kind)
            assert chosen.sum() == COUNTS[""] + COUNTS[LOCO_TYPES[kind]]
            for metric, expected in (
                ("image_auroc", by_pairs(image[chosen], labels[chosen] == 1)),
                ("pixel_auroc", by_pairs(maps[chosen].ravel(), masks[chosen].ravel())),
            ):
                cell = the(made, {"kind": kind}, category=category, method=method, metric=metric)
                found[kind, metric] = cell
                assert cell.value == pytest.approx(expected, abs=1e-6) and cell.low <= cell.value <= cell.high
        for metric in ("image_auroc", "pixel_auroc"):
            logical, structural = found["logical", metric], found["structural", metric]
            mean = the(made, {"kind": "mean"}, category=category, method=method, metric=metric)
            assert logical.value != structural.value and (logical.low, logical.high) != (
                structural.low,
                structural.high,
            )
            assert logical.runs == structural.runs == mean.runs and mean.links == logical.links
            assert mean.value == pytest.approx((logical.value + structural.value) / 2)
            assert mean.categories == 1


def test_draws_of_a_kind_are_those_of_the_counts_of_its_images() -> None:
    """Counted anew on the images of the kind; so few pixels are counted exactly. Their mean averages draw by draw."""
    (result,) = results(("pushpins",), ("patchcore",))
    types, (_, labels, maps, masks) = drawn("pushpins", "patchcore")
    made, draws, weights = cells_of([result]), {}, {}
    for part in by_kind([result], LAYOUTS):
        kind = part.labels["kind"]
        chosen = of_kind(types, kind)
        weights[kind] = resamples(labels[chosen], COUNT, named_rng(0, "bootstrap/mvtec_loco/pushpins/images"))
        draws[kind] = auroc(pixel_wins(maps[chosen], masks[chosen]), weights[kind])
        got = entry([part], METRICS["pixel_auroc"], COUNT).draws
        np.testing.assert_allclose(got, draws[kind], atol=1e-6)
        assert part.saved is not None and result.saved is not None
        for name, of_images_of_kind in (("image", part.saved.wins["image"]), ("pixel", part.saved.wins["pixel"])):
            expected = of_images(result.saved.wins[name], chosen)  # type: ignore[index]
            np.testing.assert_array_equal(of_images_of_kind.pairs, expected.pairs)
        cell = the(made, {"kind": kind}, method="patchcore", metric="pixel_auroc")
        assert (cell.low, cell.high) == pytest.approx(tuple(np.quantile(draws[kind], [0.025, 0.975])), abs=1e-6)
    assert not np.allclose(draws["logical"], draws["structural"])
    normal = [weights[kind][:, labels[of_kind(types, kind)] == 0] for kind in draws]
    np.testing.assert_array_equal(*normal)  # both kinds see the same normal images in every draw
    mean = the(made, {"kind": "mean"}, method="patchcore", metric="pixel_auroc")
    ends = np.quantile((draws["logical"] + draws["structural"]) / 2, [0.025, 0.975])
    assert (mean.low, mean.high) == pytest.approx(tuple(ends), abs=1e-6)


def test_means_over_categories_are_of_each_kind_and_of_the_means_of_kinds() -> None:
    made = cells_of(results(seeds=2))
    for kind in KINDS:
        each = [the(made, {"kind": kind}, category=c) for c in CATEGORIES]
        mean, several = (the(made, {"kind": kind}, category=name) for name in ("mean", "several"))
        assert mean.value == pytest.approx(fmean(cell.value for cell in each)) and mean.categories == 3
        assert several.value == pytest.approx(fmean(cell.value for cell in each[1:])) and several.categories == 2
        gains = [cell.gains["gain"].value for cell in each]
        assert mean.gains["gain"].value == pytest.approx(fmean(gains)) and mean.seeds == [0, 1]
    signs = [np.sign(the(made, {"kind": kind}, category="mean").gains["gain"].value) for kind in KINDS[:2]]
    assert signs == [1, -1]


def test_kinds_follow_each_other_in_rows_and_csv_and_view() -> None:
    made = cells_of(results(("pushpins", "juice_bottle")))
    frame = pd.DataFrame(columns(made))
    assert [*frame["kind"]] == [c.labels["kind"] for c in made] and set(frame["kind"]) == set(KINDS)
    settings = view_of(rows=["category", "kind"], columns=["metric", "method"], metrics=["image_auroc"])
    view = paper_view(made, settings, LAYOUTS, "Title", [])
    assert view is not None and view.row_levels == ("category", "kind")
    names = ("pushpins", "juice bottle", "mean of 2 categories")
    assert view.rows == [(name, kind) for name in names for kind in KINDS]
    cell = the(made, {"kind": "structural"}, category="juice_bottle", method="patchcore")
    assert view.entry(("juice bottle", "structural"), view.columns[0]).text == f"{100 * cell.value:.2f}"
    table = comparison_table(made, "Title", [])
    assert [row["kind"] for row in table.rows if row["category"] == "pushpins" and row["method"] == "PatchCore"] == [
        *KINDS
    ]
    assert any(note.startswith("Kind: ") for note in notes([], made, count=COUNT, tolerance=0.002))


def test_a_view_of_some_kinds() -> None:
    made = cells_of(results())
    settings = view_of(rows=["category"], columns=["method"], metrics=["image_auroc"], where={"kind": ["logical"]})
    view = paper_view(made, settings, LAYOUTS, "Title", [])
    assert view is not None and view.row_levels == ("category",) and len(view.rows) == 4
    cell = the(made, {"kind": "logical"}, category="screw_bag")
    assert view.entry(("screw bag",), ("ReConPatch",)).text == f"{100 * cell.value:.2f}"


def test_other_data_sets_are_left_as_they_are() -> None:
    types = draw_types({"": 5, "logical_anomalies": 3, "bent": 4})
    other = measured(draw_maps(types, {"bent": 1.0}, 3), types, dataset="mvtec_ad", category="screw")
    assert by_kind([other], {"mvtec_ad": "mvtec_ad"}) == [other]
    alone = cells_of([other])
    assert all(cell.labels == {} for cell in alone) and "kind" not in columns(alone)[0]
    beside = cells_of([other, *results(("pushpins",))])
    same = [cell for cell in beside if cell.dataset == "mvtec_ad"]
    assert columns(same) == columns(alone)
    rows = comparison_table(beside, "Title", []).rows
    assert {row["kind"] for row in rows if row["dataset"] == "mvtec_ad"} == {"–"}


def test_missing_runs_and_missing_kinds() -> None:
    """A run that is not there has no kind; a category without images of one kind has the other."""
    every = results(("pushpins", "screw_bag"))
    lost = [
        replace(r, record=None, saved=None, defects=()) if (r.category, r.method) == ("pushpins", "reconpatch") else r
        for r in every
    ]
    made = cells_of(lost)
    for kind in KINDS:
        for category in ("pushpins", "mean"):
            cell = the(made, {"kind": kind}, category=category)
            assert np.isnan([cell.value, cell.low, cell.gains["gain"].value]).all()
            assert np.isfinite(the(made, {"kind": kind}, category=category, method="patchcore").value)
        assert np.isfinite(the(made, {"kind": kind}, category="screw_bag").value)
    types = draw_types({"": 5, "structural_anomalies": 4})
    arrays = draw_maps(types, SHIFTS["patchcore"], 1)
    one = measured(arrays, types, dataset="mvtec_loco", category="pushpins", method="patchcore")
    values = {c.labels["kind"]: c for c in cells_of([one]) if c.metric == "image_auroc"}
    assert values["structural"].value == pytest.approx(by_pairs(arrays[0], arrays[1] == 1))
    assert np.isnan([values["logical"].value, values["mean"].value, values["logical"].low]).all()


def test_holm_is_over_the_categories_of_a_kind() -> None:
    made = cells_of(results())
    for kind in KINDS:
        gains = [the(made, {"kind": kind}, category=c).gains["gain"] for c in CATEGORIES]
        assert [gain.holm for gain in gains] == pytest.approx(holm_by_hand([gain.p for gain in gains]))
        for mean in ("mean", "several"):
            assert np.isnan(the(made, {"kind": kind}, category=mean).gains["gain"].holm)
    logical = [the(made, {"kind": "logical"}, category=c).gains["gain"] for c in CATEGORIES]
    assert any(gain.holm > gain.p for gain in logical)


def varied() -> list[Cell]:
    """Two coresets, of which the first is the reference."""
    parts = [results(labels={"coreset": ratio}, run=f"r{ratio}", methods=["patchcore"]) for ratio in (0.5, 0.1)]
    moved = []
    for n, result in enumerate(parts[1]):
        types, (_, labels, maps, masks) = drawn(result.category, "patchcore")
        shifted = maps + (np.random.default_rng(n).normal(0.2, 0.5, maps.shape) * masks).round(1).astype(np.float32)
        fields = {name: getattr(result, name) for name in ("dataset", "category", "method", "labels", "run")}
        moved.append(measured((shifted.max((1, 2)), labels, shifted, masks), types, **fields))
    return cells_of([*parts[0], *moved], reference={"coreset": 0.5})


def test_effects_are_corrected_for_the_rows_of_their_kind() -> None:
    """One row beside the reference: its p stands as it is, whatever other kinds there are."""
    made = [cell for cell in varied() if "effect" in cell.gains and not np.isnan(cell.gains["effect"].p)]
    assert {cell.labels["kind"] for cell in made} == set(KINDS)
    assert all(cell.gains["effect"].holm == cell.gains["effect"].p for cell in made)


# --- summaries, figures and the report -------------------------------------------------------------------------------


def test_a_summary_of_each_kind() -> None:
    """Of the mean of kinds a category counts once, by the mean of its kinds."""
    made = cells_of(results(methods=("patchcore", "untrained", "reconpatch")), metrics=["image_auroc"])
    rows = [row for row in summaries(made) if (row.method, row.gain.over) == ("reconpatch", "patchcore")]
    assert [row.labels["kind"] for row in rows] == [*KINDS]
    for row in rows:
        each = [the(made, dict(row.labels), category=c) for c in CATEGORIES]
        clear = [cell.gains["gain"].value for cell in each if cell.gains["gain"].holm <= 0.05]
        assert (row.wins, row.losses) == (sum(v > 0 for v in clear), sum(v < 0 for v in clear))
        assert row.wins + row.ties + row.losses == row.categories == 3
        values = {m: [the(made, dict(row.labels), category=c, method=m).value for c in CATEGORIES] for m in SHIFTS}
        ranks = rankdata([[-v for v in values[method]] for method in SHIFTS], axis=0).mean(1)
        assert row.ranks == pytest.approx((ranks[1], ranks[0]))  # in the order of SHIFTS
    assert any(row.wins for row in rows) and any(row.ties for row in rows)
    filled, header = summary_columns(rows, ["kind"])
    assert header[:6] == ["dataset", "category", "categories", "kind", "method", "over"]
    assert [line["kind"] for line in filled] == [*KINDS] and all([*line] == header for line in filled)
    table = summary_table(rows, "Title", count=COUNT)
    assert table is not None and [row["kind"] for row in table.rows] == [*KINDS]
    assert not any("too few" in note for note in table.notes)


def frame_of(made: Sequence[Cell]) -> pd.DataFrame:
    return pd.DataFrame(columns(made))


def test_figures_show_kinds_apart_or_their_mean() -> None:
    methods = ("patchcore", "untrained", "reconpatch")
    made = cells_of(results(methods=methods), metrics=["image_auroc"])
    runs = {f"{method}-0" for method in methods}
    panels, rows, means = gains_of(frame_of(made), [], runs)
    names = [f"{name}, {kind}" for name in ("juice bottle", "pushpins", "screw bag") for kind in KINDS[:2]]
    assert set(rows[: len(names)]) == set(names)
    dots = {(dot.row, dot.series): dot.value for dot in panels["image_auroc"]}
    cell = the(made, {"kind": "logical"}, category="pushpins")
    assert dots["pushpins, logical", "ReConPatch"] == pytest.approx(100 * cell.gains["gain"].value)
    assert [*rows[len(names) :]] == [f"mean of 3 categories, {kind}" for kind in KINDS] and means == 3
    ranked = rank_panels(frame_of(made), [])
    assert [*ranked] == [f"kind {kind}, image AUROC" for kind in KINDS]
    assert ranked["kind logical, image AUROC"]["ReConPatch"]["pushpins"] == cell.value
    swept = varied()
    series, x, what = series_of(frame_of(swept), ["coreset"])
    mean = the(swept, {"coreset": 0.1, "kind": "mean"}, category="mean", method="patchcore")
    assert x == ["0.5", "0.1"] and what == "mean of 3 categories" and len(series["image_auroc"]) == 1
    assert series["image_auroc"][0].values[1] == pytest.approx(100 * mean.value)
    effects, _ = effects_of(frame_of(swept), ["coreset"])
    (dot,) = effects["image_auroc"]
    assert dot.value == pytest.approx(100 * mean.gains["effect"].value)


def test_the_report_speaks_of_the_mean_of_kinds() -> None:
    """The number of categories ahead, the gain and the wins are all of the same thing."""
    made = cells_of(results())
    text = frame_of(made).astype(object).where(frame_of(made).notna(), "").astype(str).to_dict("records")
    summary = pd.DataFrame(summary_columns(summaries(made), ["kind"])[0]).astype(str).to_dict("records")
    settings: Mapping = {"cells": [{"labels": {}}], "targets": []}
    (found,) = comparisons(text, summary, settings)  # type: ignore[arg-type]
    mean = the(made, {"kind": "mean"}, category="mean").gains["gain"]
    assert found.categories == 3 and found.gain == pytest.approx(100 * mean.value)
    single = [the(made, {"kind": "mean"}, category=c).gains["gain"] for c in CATEGORIES]
    assert found.ahead == sum(gain.value > 0 for gain in single)
    assert found.wins == sum(gain.value > 0 and gain.holm <= 0.05 for gain in single)


# --- published numbers -----------------------------------------------------------------------------------------------


def test_published_numbers_are_those_of_the_kind() -> None:
    """A number of another kind is none of this one's."""
    numbers = {
        ("pushpins", "reconpatch", "image_auroc", (kind,)): PaperNumber(value, "Another network.", "Somebody")
        for kind, value in (("logical", 60.0), ("mean", 70.0))
    }
    made = cells_of(results(("pushpins",)), Paper(["kind"], numbers), metrics=["image_auroc"])
    shown = {cell.labels["kind"]: cell for cell in made if cell.method == "reconpatch"}
    assert [shown[kind].paper for kind in KINDS] == [pytest.approx(0.6), None, pytest.approx(0.7)]
    assert shown["mean"].verdict == "not comparable" and shown["mean"].source == "Somebody"
    assert shown["structural"].reasons == ["the published numbers have no: kind structural"]
    assert isinstance(shown["logical"].gains["gain"], Gain)
