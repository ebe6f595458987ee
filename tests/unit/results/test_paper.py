import csv
from collections import defaultdict
from pathlib import Path
from statistics import fmean

import pytest
import yaml
from cells import view_of
from made_results import draw_maps, draw_types, measured

from reconpatch.data.catalogue import CONTENTS
from reconpatch.errors import ReconpatchError
from reconpatch.method.metrics import METRICS
from reconpatch.results.comparison import cells
from reconpatch.results.paper import Paper, PaperNumber, read_paper
from reconpatch.results.paper_view import paper_view
from reconpatch.results.tables import comparison_table, notes, published_table

FOLDER = Path(__file__).parents[3] / "configs" / "paper"
FIXED = ["category", "method", "metric", "value", "caveat"]
OBJECTS = ["bottle", "cable", "capsule", "hazelnut", "metal_nut", "pill", "screw", "toothbrush", "transistor", "zipper"]
TEXTURES = ["carpet", "grid", "leather", "tile", "wood"]
# Label columns and numbers of each table, counted in the paper: rows times columns without the dashes.


def raw(name: str) -> list[dict[str, str]]:
    """The rows of a table as text, read without the module under test."""
    with (FOLDER / f"{name}.csv").open(newline="") as stream:
        return list(csv.DictReader(stream))


def write(folder: Path, *lines: str) -> Path:
    file = folder / "table.csv"
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return file


def columns(name: str) -> dict[tuple[str, str, str], dict[str, float]]:
    """The columns of a table as printed: (variant, method, metric) -> category -> value."""
    printed: dict[tuple[str, str, str], dict[str, float]] = defaultdict(dict)
    for row in raw(name):
        printed[row.get("variant", ""), row["method"], row["metric"]][row["category"]] = float(row["value"])
    return printed


@pytest.mark.parametrize("name", sorted(file.stem for file in FOLDER.glob("*.csv")))
def test_tables_read_as_they_are_written(name) -> None:
    paper, rows = read_paper(FOLDER / f"{name}.csv"), raw(name)
    assert len(paper.numbers) == len(rows)
    for row in rows:
        known = paper.number(row, row["category"], row["method"], row["metric"])
        assert known == PaperNumber(float(row["value"]), row["caveat"], row.get("source", ""))


def test_means_of_table_5_add_up() -> None:
    checked = 0
    for (_, method, _), printed in columns("table_mvtec").items():
        quoted = method == "patchcore" or method.startswith(("SPADE", "PaDiM", "CFA"))
        for mean, parts in (("object", OBJECTS), ("texture", TEXTURES), ("mean", OBJECTS + TEXTURES)):
            if all(part in printed for part in parts):
                half = 0.05 if quoted and mean == "mean" else 0.005  # of the last digit printed
                assert abs(fmean(printed[part] for part in parts) - printed[mean]) < half + 1e-9, (method, mean)
                checked += 1
    assert checked == 3 * (5 * 2 + 3)


def test_mean_over_exactly_the_categories_asked_for(tmp_path) -> None:
    paper = read_paper(FOLDER / "table_mvtec.csv")
    labels = {"variant": "224 px", "dim": 512}  # a label that the table lacks does not matter
    known = paper.mean(labels, ["bottle", "pill"], "patchcore", "image_auroc")
    assert known == PaperNumber(pytest.approx(98.3), "PatchCore with a 25 % coreset.")  # once, not twice
    for where, categories in ((labels, ["bottle", "brick"]), (labels, []), ({"variant": "320 px"}, ["bottle"])):
        assert paper.mean(where, categories, "reconpatch", "image_auroc") is None
    rows = [
        f"{c},patchcore,image_auroc,{v},{text}" for c, v, text in (("a", 1, "One."), ("b", 2, ""), ("c", 6, "Two."))
    ]
    paper = read_paper(write(tmp_path, ",".join(FIXED), *rows))
    assert paper.mean({}, ["c", "b", "a"], "patchcore", "image_auroc") == PaperNumber(3, "Two. One.")


def test_labels_must_all_match_and_categories_are_names() -> None:
    ensemble, btad = (read_paper(FOLDER / f"table_{name}.csv") for name in ("ensemble", "btad"))
    wanted = ("mean", "reconpatch", "image_auroc")
    assert ensemble.number({"variant": "320 px", "backbone": "ensemble"}, *wanted) == PaperNumber(99.67, "")
    assert ensemble.number({"variant": "320 px", "backbone": "resnet18"}, *wanted) is None
    assert ensemble.number({"variant": "320 px"}, *wanted) is None
    assert btad.number({}, "02", "patchcore", "image_auroc") is not None
    for category, method in (("2", "patchcore"), ("02", "PNI")):  # no name of a category; a dash in the paper
        assert btad.number({}, category, method, "image_auroc") is None
    assert read_paper(FOLDER / "table_dimension.csv").number({"dim": None}, *wanted) is None


HEADER = "dim," + ",".join(FIXED)
GOOD = "64,mean,patchcore,image_auroc,97.5,"


@pytest.mark.parametrize(
    ("lines", "line", "word"),
    [
        (["dim,category,method,value"], 1, "no column metric, caveat"),
        (["dim," + HEADER, GOOD], 1, "repeat"),
        ([HEADER, GOOD, "32,mean,patchcore,image_auroc,–,"], 3, "–"),
        ([HEADER, "32,mean,patchcore,image_auroc,nan,"], 2, "nan"),
        ([HEADER, "32,mean,patchcore,pixel_auroc,-1,"], 2, "-1"),
        ([HEADER, "32,mean,patchcore,auroc,99,"], 2, "unknown metric 'auroc'"),
        ([HEADER, GOOD, "64.0,mean,patchcore,image_auroc,98,"], 3, "line 2"),
        ([HEADER, GOOD + "a, b"], 2, "7 cells"),
    ],
)
def test_errors_name_file_line_and_fix(tmp_path, lines, line, word) -> None:
    file = write(tmp_path, *lines)
    with pytest.raises(ReconpatchError) as caught:
        read_paper(file)
    assert caught.value.where == f"{file}, line {line}" and word in caught.value.what and caught.value.fix


# --- numbers of others -----------------------------------------------------------------------------------------------

LAYOUTS = {"table_visa": "visa", "table_loco": "mvtec_loco", "table_mpdd": "mpdd", "table_ad2": "mvtec_ad_2"}


@pytest.mark.parametrize("name", LAYOUTS)
def test_numbers_beyond_the_paper_name_categories_and_sources(name) -> None:
    """All were made with other settings, which their caveat says."""
    known = {*CONTENTS[LAYOUTS[name]].categories}
    rows = raw(name)
    assert {row["category"] for row in rows} - {"mean"} == known
    for row in rows:
        assert row["source"].strip() and row["metric"] in METRICS, row
        assert row["caveat"].strip(), row
        assert row["method"] != "untrained"
    assert "" not in read_paper(FOLDER / f"{name}.csv").sources


@pytest.mark.parametrize("name", LAYOUTS)
def test_the_table_shows_the_metrics_of_its_numbers(name) -> None:
    """Else a published number would stand beside nothing."""
    content = yaml.safe_load((FOLDER.parent / f"ablations/{name}.yaml").read_text(encoding="utf-8"))
    shown = content.get("metrics", ["image_auroc", "pixel_auroc", "aupro_30"])
    assert {*shown} & {row["metric"] for row in raw(name)} and [*content["datasets"]] == [LAYOUTS[name]]


def test_the_mean_of_kinds_is_that_of_both() -> None:
    """Of our methods computed from both, of others as they print it, with one decimal."""
    printed: dict[tuple[str, str, str], dict[str, float]] = defaultdict(dict)
    for row in raw("table_loco"):
        printed[row["category"], row["method"], row["metric"]][row["kind"]] = float(row["value"])
    assert len(printed) == 5 * 4 + 2
    for place, kinds in printed.items():
        assert kinds.keys() == {"logical", "structural", "mean"}, place
        half = 0.005 if place[1] in ("patchcore", "reconpatch") else 0.05  # of the last digit printed
        assert abs(fmean([kinds["logical"], kinds["structural"]]) - kinds["mean"]) < half + 1e-9, place


def test_sources_are_optional_and_stay_with_means(tmp_path) -> None:
    without = read_paper(write(tmp_path, ",".join(FIXED), "a,patchcore,image_auroc,90,"))
    assert without.sources == [""] and without.labels == []
    rows = ["a,patchcore,image_auroc,90,One.,Somebody", "b,patchcore,image_auroc,80,One.,Another"]
    rows += ["c,patchcore,image_auroc,70,,"]
    paper = read_paper(write(tmp_path, ",".join([*FIXED, "source"]), *rows))
    assert paper.labels == [] and paper.sources == ["Somebody", "Another", ""]
    assert paper.number({}, "a", "patchcore", "image_auroc") == PaperNumber(90, "One.", "Somebody")
    assert paper.mean({}, ["a", "b"], "patchcore", "image_auroc") == PaperNumber(85, "One.", "Somebody; Another")


def test_a_number_of_somebody_else_is_shown_with_its_source_and_not_compared() -> None:
    value, source = 97.0, "Somebody, 2024"
    numbers = {("candle", "patchcore", "image_auroc", ()): PaperNumber(value, "Another network.", source)}
    types = draw_types({"": 5, "bent": 5})
    result = measured(draw_maps(types, {"bent": 1.0}, 0), types, dataset="visa", category="candle", method="patchcore")
    made = cells([result], Paper([], numbers), {"visa": "visa"}, count=100, tolerance=1.0)
    (cell,) = (cell for cell in made if cell.paper is not None)
    assert (cell.verdict, cell.source) == ("not comparable", source)
    assert {*cell.reasons} == {"Another network.", f"published by {source}, not by the paper"}
    said = notes([result], made, count=100, tolerance=0.002)
    assert any(source in note and "not the paper's" in note for note in said)
    assert any("Another network" in note and "PatchCore" in note for note in said)
    assert not any(note.startswith("Verdict: ") for note in said)
    (row,) = comparison_table(made, "Title", said, "published").rows
    assert row["image AUROC, published"] == "97.00" and not any("verdict" in column for column in row)
    settings = view_of(rows=["category"], columns=["metric", "method"], paper="beside", sources=["ours", "published"])
    view = paper_view(made, settings, {"visa": "visa"}, "Title", [])
    assert view is not None and any(source in note for note in view.notes)
    assert not any("Hyun" in note for note in view.notes)
    assert view.entry(("candle",), ("image AUROC", "PatchCore", "published")).text == "97.00"
    others = {cell.metric: cell.reasons for cell in made if cell.paper is None}
    assert others["pixel_auroc"] == ["the published numbers have no: pixel AUROC"]


def test_methods_of_others_are_a_table_with_all_their_metrics(tmp_path) -> None:
    rows = ["64,logical,metal_nut,SPADE,image_auroc,90,,Somebody", "64,logical,metal_nut,SPADE,spro_05,40.5,,Somebody"]
    rows += ["64,logical,metal_nut,PNI,spro_05,50,,", "128,mean,mean,SPADE,image_auroc,91.234,,Somebody"]
    rows += ["64,mean,mean,patchcore,image_auroc,99,,"]
    paper = read_paper(write(tmp_path, ",".join(["dim", "kind", *FIXED, "source"]), *rows))
    table = published_table(paper, "Title")
    assert table is not None and table.rows == [
        {"category": "metal nut", "dim": "64", "kind": "logical", "SPADE": "90.00, 40.50", "PNI": "–, 50.00"},
        {"category": "mean", "dim": "128", "kind": "mean", "SPADE": "91.23, –", "PNI": "–, –"},
    ]
    (note,) = table.notes
    assert note == "Image AUROC, sPRO (5 %) of other methods, as published: Somebody; the paper."
    alone = read_paper(write(tmp_path, ",".join(FIXED), "mean,patchcore,image_auroc,99,"))
    assert published_table(alone, "Title") is None
