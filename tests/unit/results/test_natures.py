"""Gains by the nature of categories, over several data sets, against means worked out one by one."""

from collections.abc import Sequence
from statistics import fmean

import numpy as np
import pandas as pd
import pytest
from cells import view_of
from made_results import draw_maps, draw_types, holm_by_hand, measured, the
from scipy.stats import rankdata

from reconpatch.method.bootstrap import auroc, image_wins, mean_over_seeds, resamples, seed_resamples
from reconpatch.method.metrics import SavedScores
from reconpatch.results.comparison import CONTRAST, Cell, Result, cells, columns
from reconpatch.results.figures.effects import gains_of
from reconpatch.results.figures.ranks import rank_panels
from reconpatch.results.figures.sweeps import series_of
from reconpatch.results.kinds import by_kind
from reconpatch.results.names import ALL, METHODS, category_name
from reconpatch.results.overview import comparisons
from reconpatch.results.paper_view import paper_view
from reconpatch.results.summary import contrast_table, summaries, summary_columns, summary_table
from reconpatch.results.tables import comparison_table, notes
from reconpatch.rng import named_rng

LAYOUTS = {name: name for name in ("mvtec_ad", "visa", "mvtec_loco")}
PLACES = [("mvtec_ad", "bottle"), ("mvtec_ad", "hazelnut"), ("mvtec_ad", "screw"), ("mvtec_ad", "carpet")]
PLACES += [("visa", "candle"), ("mvtec_loco", "juice_bottle"), ("mvtec_loco", "pushpins")]
BOTTLE, HAZELNUT, SCREW, CARPET, CANDLE, JUICE, PINS = PLACES
# By hand: (data set, category) and kind of what each group averages, in the order of the table.
GROUPS: dict[str, list[tuple[tuple[str, str], str]]] = {
    "aligned": [(BOTTLE, ""), (JUICE, "structural")],
    "rotated": [(HAZELNUT, ""), (SCREW, "")],
    "texture": [(CARPET, "")],
    "several": [(CANDLE, ""), (PINS, "structural")],
    "logical": [(JUICE, "logical"), (PINS, "logical")],
}
EVERY = [(place, "mean" if place in (JUICE, PINS) else "") for place in PLACES]
NAMES = ["aligned objects (2)", "rotated objects (2)", "textures (1)", "several objects (2)"]
NAMES += ["logical anomalies (2)", "all (7)"]
COUNT = 400
GAINS = {BOTTLE: 2.0, HAZELNUT: -1.5, SCREW: -0.3, CARPET: 0.6, CANDLE: 0.2, JUICE: 1.5, PINS: -0.2}


def results(methods: Sequence[str] = ("patchcore", "reconpatch"), places=PLACES, seeds: int = 1) -> list[Result]:
    """Runs on every place; ReConPatch scores defects higher by GAINS."""
    made = []
    for n, (dataset, category) in enumerate(places):
        types = draw_types({"": 10, "logical_anomalies": 9, "structural_anomalies": 8}, n)
        for method in methods:
            more = GAINS[dataset, category] if method == "reconpatch" else 0.0
            shifts = {"logical_anomalies": 1.2 + more, "structural_anomalies": 1.5 + more / 2}
            for seed in range(seeds):
                arrays = draw_maps(types, shifts, 100 * n + seed + 10 * [*METHODS].index(method))
                fields = {"dataset": dataset, "category": category, "method": method, "seed": seed}
                made.append(measured(arrays, types, **fields))
    return made


def cells_of(made: Sequence[Result], by_nature: bool = True, count: int = COUNT) -> list[Cell]:
    layouts = {each.dataset: LAYOUTS[each.dataset] for each in made}
    found = by_kind(made, layouts)
    metrics = ["image_auroc"]
    return cells(found, None, layouts, count=count, tolerance=0.002, metrics=metrics, by_nature=by_nature)


@pytest.fixture(scope="module")
def made() -> list[Cell]:
    return cells_of(results())


def single(made: Sequence[Cell], member: tuple[tuple[str, str], str], method: str = "reconpatch") -> Cell:
    (dataset, category), kind = member
    labels = {"kind": kind} if kind else {}
    return the(made, labels, dataset=dataset, category=category, method=method)


@pytest.mark.parametrize("method", ["patchcore", "reconpatch"])
def test_groups_are_means_of_their_categories(made, method) -> None:
    """Every category has one nature, but that its logical anomalies are apart; in the mean of all it counts once."""
    groups = [cell for cell in made if cell.dataset == ALL and cell.method == method]
    assert [cell.category for cell in groups] == [*GROUPS, "mean"]
    for cell, members in zip(groups, [*GROUPS.values(), EVERY], strict=True):
        each = [single(made, member, method) for member in members]
        assert cell.value == pytest.approx(fmean(c.value for c in each)) and cell.categories == len(members)
        assert cell.labels == {} and cell.low <= cell.value <= cell.high
        assert cell.links == (each[0].links if len(each) == 1 else [])
        if method == "reconpatch":
            gain = fmean(c.gains["gain"].value for c in each)
            assert cell.gains["gain"].value == pytest.approx(gain)
            assert cell.gains["gain"].low < gain < cell.gains["gain"].high
    grouped = [member for members in GROUPS.values() for member in members]
    assert len(grouped) == len({*grouped}) == len(PLACES) + 2


def test_a_group_of_one_is_its_category(made) -> None:
    group, carpet = the(made, dataset=ALL, category="texture"), the(made, dataset="mvtec_ad", category="carpet")
    assert (group.value, group.low, group.high, group.sd) == pytest.approx(
        (carpet.value, carpet.low, carpet.high, carpet.sd), nan_ok=True
    )
    assert group.gains["gain"].p == carpet.gains["gain"].p and group.runs == carpet.runs


def test_holm_is_over_the_groups_and_not_for_the_mean(made) -> None:
    gains = [the(made, dataset=ALL, category=name).gains["gain"] for name in GROUPS]
    assert [gain.holm for gain in gains] == pytest.approx(holm_by_hand([gain.p for gain in gains]))
    assert any(gain.holm > gain.p for gain in gains)
    mean = the(made, dataset=ALL, category="mean").gains["gain"]
    assert np.isnan(mean.holm) and mean.shown_p == mean.p
    of_mvtec = [the(made, dataset="mvtec_ad", category=name).gains["gain"] for _, name in PLACES[:4]]
    assert [gain.holm for gain in of_mvtec] == pytest.approx(holm_by_hand([gain.p for gain in of_mvtec]))


def test_wins_ties_and_losses_of_a_group(made) -> None:
    """By the p corrected within each data set, and of the mean of all by that of the mean of kinds."""
    rows = {row.category: row for row in summaries(made) if row.dataset == ALL}
    assert [*rows] == [*GROUPS, "mean"]
    for name, members in {**GROUPS, "mean": EVERY}.items():
        gains = [single(made, member).gains["gain"] for member in members]
        clear = [gain.value for gain in gains if gain.holm <= 0.05]
        counts = (sum(v > 0 for v in clear), len(gains) - len(clear), sum(v < 0 for v in clear))
        row = rows[name]
        assert (row.wins, row.ties, row.losses) == counts and row.categories == len(members)
    assert rows["aligned"].wins > 0 and rows["rotated"].losses > 0 and rows["rotated"].ties > 0
    table = summary_table([*rows.values()], "Title", count=COUNT)
    assert table is not None and [row["group"] for row in table.rows] == NAMES
    assert any("each data set" in note for note in table.notes)
    filled, header = summary_columns([*rows.values()], ["kind"])
    assert [(row["dataset"], row["category"], row["categories"]) for row in filled][-1] == (ALL, "mean", 7)
    assert header[:4] == ["dataset", "category", "categories", "kind"]


def test_how_much_more_aligned_objects_gain(made) -> None:
    """A difference of two gains, of ReConPatch alone and of no group with itself, corrected over the other groups."""
    gain = {name: the(made, dataset=ALL, category=name).gains["gain"] for name in GROUPS}
    contrasts = {
        cell.category: cell.gains[CONTRAST] for cell in made if CONTRAST in cell.gains and cell.method == "reconpatch"
    }
    assert [*contrasts] == [name for name in GROUPS if name != "aligned"]
    assert not any(CONTRAST in cell.gains for cell in made if cell.dataset != ALL or cell.method == "patchcore")
    for name, contrast in contrasts.items():
        assert contrast.value == pytest.approx(gain["aligned"].value - gain[name].value)
        apart = (gain[end].high - gain[end].low for end in ("aligned", name))  # of independent images
        assert contrast.high - contrast.low == pytest.approx(np.hypot(*apart), rel=0.25)
    assert [each.holm for each in contrasts.values()] == pytest.approx(holm_by_hand([c.p for c in contrasts.values()]))
    assert contrasts["rotated"].low > 0  # drawn so: GAINS
    table = contrast_table(made, "Title")
    assert table is not None and [row["group"] for row in table.rows] == NAMES[1:-1]
    assert contrast_table([cell for cell in made if cell.dataset != ALL], "Title") is None
    assert not any(CONTRAST in str(row.gain.over) for row in summaries(made))


def test_without_aligned_objects_there_is_no_contrast() -> None:
    assert not any(CONTRAST in cell.gains for cell in cells_of(results(places=PLACES[1:4]), count=100))


@pytest.mark.parametrize(("count", "told"), [(158, True), (159, False)])
def test_draws_that_are_too_few_are_told_by_the_largest_data_set(made, count, told) -> None:
    """Of 4 categories: 2 / 160 x 4 is just 5 %. That there are 7 of all data sets does not matter."""
    table = summary_table(summaries(made), "Title", count=count)
    assert table is not None and any("too few" in note for note in table.notes) == told


def test_ranks_of_groups_are_over_their_categories() -> None:
    every = cells_of(results(("patchcore", "untrained", "reconpatch")), count=100)
    pair = ("reconpatch", "patchcore")
    shown = [row for row in summaries(every) if row.dataset == ALL and (row.method, row.gain.over) == pair]
    rows = {row.category: row for row in shown if row.ranks}
    assert [*rows] == ["mean"]  # the other groups have fewer than three categories
    grid = np.array([[single(every, m, o).value for o in ("patchcore", "untrained", "reconpatch")] for m in EVERY])
    ranks = rankdata(-grid, axis=1).mean(0)
    assert len({*ranks}) == 3
    assert rows["mean"].ranks == pytest.approx((ranks[2], ranks[0]))


def test_names_of_groups() -> None:
    assert [category_name(c, n, ALL) for c, n in (("rotated", 2), ("mean", 7))] == ["rotated objects (2)", "all (7)"]
    assert category_name("rotated", 2, "mvtec_ad") == "mean of 2 rotated objects"
    assert category_name("several", 1, "mine") == "several"  # a category of this name


def test_without_natures_there_are_no_such_rows(made) -> None:
    without = cells_of(results(), by_nature=False)
    assert not any(cell.dataset == ALL for cell in without)
    assert columns(without) == columns([cell for cell in made if cell.dataset != ALL])
    told, untold = (notes(results(), each, count=COUNT, tolerance=0.002) for each in (made, without))
    assert any("Groups by nature" in note for note in told) and not any("by nature" in note for note in untold)


def test_categories_without_a_nature_count_among_all_alone() -> None:
    """Somebody's own, that no publication has."""
    types = draw_types({"": 6, "bent": 6})
    own = [
        measured(draw_maps(types, {"bent": 1.0}, len(method)), types, dataset="mine", category="nut", method=method)
        for method in ("patchcore", "reconpatch")
    ]
    every = [*own, *results(places=PLACES[:1])]
    layouts = {"mine": "folder", "mvtec_ad": "mvtec_ad"}
    made = cells(every, None, layouts, count=100, tolerance=0.002, metrics=["image_auroc"], by_nature=True)
    shown = {cell.category: cell.categories for cell in made if cell.dataset == ALL}
    assert shown == {"aligned": 1, "mean": 2}


def test_a_missing_run_leaves_its_group_and_the_mean_without_a_number() -> None:
    every = [measured_without(r) if (r.category, r.method) == ("screw", "reconpatch") else r for r in results()]
    made = cells_of(every, count=100)
    shown = {cell.category: cell.value for cell in made if cell.dataset == ALL and cell.method == "reconpatch"}
    assert [name for name, value in shown.items() if np.isnan(value)] == ["rotated", "mean"]


def measured_without(result: Result) -> Result:
    fields = ("labels", "method", "seed", "dataset", "category", "run", "departures")
    return Result(**{name: getattr(result, name) for name in fields})


# --- seeds -----------------------------------------------------------------------------------------------------------


def seeded(scores: Sequence[np.ndarray], labels: np.ndarray, dataset: str, category: str) -> list[Result]:
    """Image scores of every seed -> the runs of a category."""
    made = []
    for seed, image in enumerate(scores):
        masks = np.broadcast_to((labels == 1)[:, None, None], (len(labels), 2, 2)).copy()
        maps = np.broadcast_to(image[:, None, None], masks.shape).astype(np.float32).copy()
        types = ["bent" if label else "" for label in labels]
        result = measured((image.astype(np.float32), labels, maps, masks), types, seed=seed)
        assert isinstance(result.saved, SavedScores)
        fields = {name: getattr(result, name) for name in ("labels", "method", "seed", "run", "departures", "record")}
        made.append(Result(**fields, saved=result.saved, dataset=dataset, category=category))
    return made


def test_seeds_are_drawn_once_for_all_data_sets() -> None:
    """AUROCs of 1, 1/2 and 0, whatever images are drawn: seeds alone scatter, and the same way everywhere. Draws of
    their own for each data set would make the interval of the mean narrower.
    """
    labels = np.array([0, 0, 0, 1, 1, 1])
    scores = [labels * 1.0, labels * 0.0, labels * -1.0]
    made = cells_of([*seeded(scores, labels, "mvtec_ad", "bottle"), *seeded(scores, labels, "visa", "cashew")])
    of_all, bottle = the(made, dataset=ALL, category="mean"), the(made, category="bottle")
    assert bottle.high - bottle.low > 0.5
    assert (of_all.low, of_all.high) == pytest.approx((bottle.low, bottle.high))
    rotated = seeded(scores[::-1], labels, "visa", "cashew")  # now they cancel, seed by seed
    made = cells_of([*seeded(scores, labels, "mvtec_ad", "bottle"), *rotated])
    of_all = the(made, dataset=ALL, category="mean")
    assert (of_all.value, of_all.low, of_all.high) == pytest.approx((0.5, 0.5, 0.5))


def test_draws_of_all_data_sets_one_by_one() -> None:
    """Images by the name of their category, seeds by one name."""
    rng, parts, expected = np.random.default_rng(3), [], []
    for dataset, category in (BOTTLE, CANDLE):
        labels = rng.permutation(np.arange(12) % 2)
        scores = [np.float32(rng.normal(0, 1, 12) + seed * labels) for seed in range(3)]
        parts += seeded(scores, labels, dataset, category)
        images = resamples(labels, COUNT, named_rng(0, f"bootstrap/{dataset}/{category}/images"))
        seeds = seed_resamples(3, COUNT, named_rng(0, "bootstrap/seeds"))
        expected.append(mean_over_seeds([auroc(image_wins(s, labels), images) for s in scores], seeds))
    cell = the(cells_of(parts), dataset=ALL, category="mean")
    assert (cell.low, cell.high) == pytest.approx(tuple(np.quantile(np.mean(expected, 0), [0.025, 0.975])))


# --- view, figures, report -------------------------------------------------------------------------------------------


def test_the_view_of_natures_shows_them_alone(made) -> None:
    settings = view_of(rows=["category"], columns=["method"], categories="natures")
    view = paper_view(made, settings, LAYOUTS, "Title", [])
    assert view is not None and [row[0] for row in view.rows] == NAMES and view.row_levels == ("category",)
    cell = the(made, dataset=ALL, category="rotated")
    assert view.entry(("rotated objects (2)",), ("ReConPatch",)).text == f"{100 * cell.value:.2f}"
    assert view.ruled == frozenset({("all (7)",)})  # a group of one is a group as any other
    assert any("number of groups" in note for note in view.notes if note.startswith(("*", "†")))
    other = paper_view(made, settings | {"categories": "all"}, LAYOUTS, "Title", [])
    assert other is not None and not {row[-1] for row in other.rows} & {*NAMES}
    whole = paper_view(made, settings | {"rows": ["method"], "columns": ["metric"]}, LAYOUTS, "Title", [])
    assert whole is not None and len(whole.rows) == 2 and "all (7)" in whole.about
    rows = [row for row in comparison_table(made, "Title", []).rows if row["dataset"] == ALL]
    assert [row["category"] for row in rows if row["method"] == "ReConPatch"] == NAMES


def frame_of(made: Sequence[Cell]) -> pd.DataFrame:
    return pd.DataFrame(columns(made))


def test_the_figure_of_gains_ends_with_the_natures(made) -> None:
    """They stand for the means of single data sets."""
    panels, rows, means = gains_of(frame_of(made), [], {"patchcore-0", "reconpatch-0"})
    assert rows[-means:] == NAMES and means == len(NAMES)
    assert not any("mean of" in row for row in rows)
    kinds = [f"mvtec_loco: {c}, {k}" for c in ("juice bottle", "pushpins") for k in ("logical", "structural")]
    single_rows = {f"{d}: {c}" for d, c in PLACES if d != "mvtec_loco"} | {*kinds}
    assert {*rows[:-means]} == single_rows
    dots = {dot.row: dot for dot in panels["image_auroc"]}
    cell = the(made, dataset=ALL, category="several").gains["gain"]
    dot = dots["several objects (2)"]
    assert (dot.value, dot.low, dot.high) == pytest.approx((100 * cell.value, 100 * cell.low, 100 * cell.high))


def test_other_figures_and_the_report_take_groups_for_no_categories(made) -> None:
    for title, values in rank_panels(frame_of(made), []).items():
        assert ALL not in title and not {*values.index} & {*GROUPS}
    _, _, what = series_of(frame_of(made), ["method"])
    assert what == "mean of 7 categories"
    text = frame_of(made).astype(object).where(frame_of(made).notna(), "").astype(str).to_dict("records")
    summary = pd.DataFrame(summary_columns(summaries(made), ["kind"])[0]).astype(str).to_dict("records")
    found = list(comparisons(text, summary, {"cells": [{"labels": {}}], "targets": []}))  # type: ignore[arg-type]
    assert [(each.dataset, each.categories) for each in found] == [("mvtec_ad", 4), ("visa", 1), ("mvtec_loco", 2)]
