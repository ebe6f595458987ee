"""The paper's form of tables, against what the paper's tables look like."""

import numpy as np
import pytest
from cells import NAN, cells_of, make_cell, view_of

from reconpatch.data.catalogue import category_counts
from reconpatch.data.natures import groups_of
from reconpatch.errors import ReconpatchError
from reconpatch.results.comparison import ORACLE, Cell, Gain
from reconpatch.results.paper_view import PaperView, paper_view
from reconpatch.results.tables import MISSING

GOOD, BAD, EVEN = (Gain("patchcore", value, NAN, NAN, p=p) for value, p in ((0.1, 0.01), (-0.1, 0.05), (0.1, 0.051)))


def view_on(made: list[Cell], layout: str = "folder", **settings: object) -> PaperView:
    view = paper_view(made, view_of(**settings), {made[0].dataset: layout}, "Title", ["A note."])
    assert view is not None
    return view


def texts(view: PaperView) -> list[list[str]]:
    return [[view.entry(row, column).text for column in view.columns] for row in view.rows]


def test_table_2_has_a_row_a_method_and_a_column_a_dimension() -> None:
    """Two methods by two dimensions, the paper's numbers below ours; other metrics and methods do not show."""
    value = iter((0.9911, 0.9866, 0.9949, 0.9956))
    made = [
        make_cell(labels={"dim": dim}, method=method, value=next(value), paper=0.99, gains={"gain": gain})
        for method, gain in (("patchcore", EVEN), ("reconpatch", GOOD))
        for dim in ("1/1", "1/2")
    ]
    made += [make_cell(labels={"dim": "1/1"}, method="untrained"), make_cell(labels={"dim": "1/1"}, metric="aupro_30")]
    settings = {"methods": ["patchcore", "reconpatch"], "metrics": ["image_auroc"]}
    view = view_on(made, rows=["method"], columns=["dim"], **settings)
    assert view.header == [[("dim 1/1", 1), ("dim 1/2", 1)]] and view.row_levels == ("method", "")
    assert [row for row, _ in view.sparse_rows] == [
        (method, source) for method in ("PatchCore", "ReConPatch") for source in ("ours", "paper")
    ]
    assert [names[0] for _, names in view.sparse_rows] == ["PatchCore", "", "ReConPatch", ""]
    assert texts(view) == [["99.11", "98.66"], ["99.00", "99.00"], ["99.49", "99.56"], ["99.00", "99.00"]]
    marks = {row[0]: view.entry(row, ("dim 1/1",)).mark for row in view.rows if row[1] == "ours"}
    assert marks == {"PatchCore": "", "ReConPatch": "*"}
    assert "nut" in view.about and "A note." in view.notes


def test_the_paper_stands_beside_ours_where_it_has_numbers() -> None:
    made = [
        make_cell(category=name, method=method, paper=0.5 if method == "patchcore" and name == "nut" else None)
        for name in ("nut", "bolt")
        for method in ("patchcore", "untrained")
    ]
    view = view_on(made, rows=["category"], columns=["method"], paper="beside")
    assert view.columns == [("PatchCore", "ours"), ("PatchCore", "paper"), ("untrained f", "ours")]
    assert view.header[0] == [("PatchCore", 2), ("untrained f", 1)]
    assert texts(view) == [["91.23", "50.00", "91.23"], ["91.23", MISSING, "91.23"]]


def test_the_best_as_printed_is_bold() -> None:
    """Of the methods with the same settings, or of the settings of one method. Ties are all bold, an oracle is not."""
    made = [
        make_cell(method="patchcore", value=0.98765),
        make_cell(method="untrained", value=0.9),
        make_cell(method="reconpatch", value=0.98768),
    ]
    view = view_on(made, rows=["method"], columns=["metric"])
    assert [view.entry(row, view.columns[0]).best for row in view.rows] == [True, False, True]
    values = {"1/1": 0.9, "1/2": 0.91, "1/4": NAN, ORACLE: 0.99}
    view = view_on([make_cell(labels={"epoch": e}, value=v) for e, v in values.items()], rows=["epoch"])
    assert [view.entry(row, view.columns[0]).best for row in view.rows] == [False, True, False, False]
    assert texts(view)[2] == [MISSING]


def test_kinds_of_anomalies_do_not_compete_for_bold() -> None:
    """Logical and structural anomalies and their mean are different questions, also where one method alone is shown."""
    values = {("logical", 1): 0.7, ("logical", 2): 0.8, ("structural", 1): 0.9, ("structural", 2): 0.9}
    made = [make_cell(labels={"kind": kind, "epoch": epoch}, value=v) for (kind, epoch), v in values.items()]
    view = view_on(made, rows=["kind"], columns=["epoch"])
    best = {row[0]: [view.entry(row, column).best for column in view.columns] for row in view.rows}
    assert best == {"logical": [False, True], "structural": [True, True]}
    view = view_on([make_cell(labels={"kind": kind}) for kind in ("logical", "mean")], rows=["kind"])
    assert not any(view.entry(row, column).best for row in view.rows for column in view.columns)


def test_marks_need_significance() -> None:
    made = [make_cell(category=str(n), gains={"gain": gain}) for n, gain in enumerate((GOOD, BAD, EVEN))]
    view = view_on(made, rows=["category"], columns=["method"])
    assert [view.entry(row, view.columns[0]).mark for row in view.rows] == ["*", "†", ""]


def test_categories_stand_above_the_mean_of_their_group(rng) -> None:
    """As in the paper's Table 5: objects, their mean, textures, their mean, the mean of all."""
    mvtec, groups = list(category_counts("mvtec_ad")), groups_of("mvtec_ad")
    places = [(name, 1) for name in rng.permutation(mvtec)] + [(name, len(of)) for name, of in groups.items()]
    made = [make_cell(dataset="mvtec_ad", category=str(c), categories=n) for c, n in [*places, ("mean", 15)]]
    view = view_on(made, "mvtec_ad", rows=["category"], columns=["method"])
    names = [row[0].replace(" ", "_") for row in view.rows]
    assert set(names[:10]) == groups["object"] and set(names[11:16]) == groups["texture"]
    means = ["mean_of_10_objects", "mean_of_5_textures", "mean_of_15_categories"]
    assert [names[10], *names[16:]] == means
    assert {view.rows.index(row) for row in view.ruled} == {10, 11, 16}
    alone = view_on(made, "mvtec_ad", rows=["category"], columns=["method"], categories="means")
    assert [row[0].replace(" ", "_") for row in alone.rows] == means
    overall = view_on(made, "mvtec_ad", rows=["method"], columns=["metric"])
    assert len(overall.rows) == 1 and "mean of 15 categories" in overall.about


def test_what_a_view_forgets_makes_rows() -> None:
    """No number hides another: an axis that was added later, or a second data set."""
    made = [
        make_cell(labels={"dim": dim, "sigma": sigma}, dataset=dataset)
        for dataset, dim, sigma in (("mine", 1, 1), ("mine", 1, 2), ("other", 1, 1), ("other", 1, 2))
    ]
    view = paper_view(made, view_of(rows=["dim"]), {"mine": "folder", "other": "folder"}, "Title", [])
    assert view is not None and view.row_levels == ("data set", "dim", "sigma") and len(view.rows) == 4


@pytest.mark.parametrize(
    "name, shape", [("table_coreset", (2, 3)), ("table_dimension", (2, 5)), ("table_btad", (4, 6))]
)
def test_shapes_of_the_papers_tables(name, shape, rng, configs) -> None:
    """Table 1 is 2 x 3, Table 2 is 2 x 5; Table 7 has three products and their mean; each number with the paper's."""
    made, settings = cells_of(configs / f"ablations/{name}.yaml", rng)
    view = paper_view(made, settings, {made[0].dataset: made[0].dataset}, "Title", [])
    assert view is not None
    by_paper = 2 if settings["paper"] == "below" else 1
    assert (len(view.rows), len(view.columns)) == (shape[0] * by_paper, shape[1] * (3 - by_paper))
    shown = np.array(texts(view))
    assert (shown != "").all() and (shown != MISSING).all()


def test_two_numbers_at_one_place_are_refused() -> None:
    """Else one would hide the other."""
    made = [make_cell(category=name) for name in ("metal_nut", "metal nut")]
    with pytest.raises(ReconpatchError, match="two numbers at row metal nut"):
        view_on(made, rows=["category"], columns=["method"])


def test_rows_of_one_data_set_stay_together() -> None:
    """Though both have means of as many categories."""
    places = [("b1", 1), ("b2", 1), ("mean", 2)]
    made = [make_cell(dataset=d, category=f"{d}{c}" if n == 1 else c, categories=n) for d in "AB" for c, n in places]
    view = paper_view(made, view_of(rows=["category"]), {"A": "folder", "B": "folder"}, "Title", [])
    assert view is not None and [row[0] for row in view.rows] == ["A"] * 3 + ["B"] * 3
    assert [row[1].startswith("mean") for row in view.rows] == [False, False, True] * 2


def test_notes_say_what_marks_and_dashes_mean() -> None:
    corrected = Gain("patchcore", 0.1, NAN, NAN, p=0.001, holm=0.01)
    view = view_on([make_cell(gains={"gain": corrected})], rows=["category"], columns=["method"])
    (mark,) = (line for line in view.notes if line.startswith("*"))
    assert "Holm" in mark and "other seeds are not covered" in mark and not any("Bold" in line for line in view.notes)
    made = [make_cell(category="nut", paper=0.5), make_cell(category="bolt")]
    view = view_on(made, rows=["category"], columns=["method"], paper="beside")
    (dash,) = (line for line in view.notes if line.startswith(MISSING))
    assert "paper" in dash and "ours" not in dash


def test_the_two_sources_are_called_as_the_view_says() -> None:
    """In the paper of somebody else "ours" is another's."""
    made = [make_cell(category="nut", paper=0.5, value=NAN), make_cell(category="bolt", paper=0.7)]
    view = view_on(made, rows=["category"], columns=["method"], sources=["replication", "published"])
    assert [row[-1] for row in view.rows] == ["replication", "published"] * 2
    said = [view.about, *view.notes]
    assert not any(word in text.split() for text in said for word in ("ours", "paper", "paper:"))
    assert any("replication" in text and "published" in text for text in view.notes)
