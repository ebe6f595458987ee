import csv
from collections import defaultdict
from pathlib import Path
from statistics import fmean

import pytest

from reconpatch.errors import ReconpatchError
from reconpatch.results.paper import PaperNumber, read_paper

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
