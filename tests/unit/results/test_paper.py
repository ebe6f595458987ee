import csv
from collections import defaultdict
from pathlib import Path
from statistics import fmean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconpatch.errors import ReconpatchError
from reconpatch.results.paper import paper_mean, paper_value, read_paper

FOLDER = Path(__file__).parents[3] / "configs" / "paper"
FIXED = ["category", "method", "metric", "value", "caveat"]
OBJECTS = ["bottle", "cable", "capsule", "hazelnut", "metal_nut", "pill", "screw", "toothbrush", "transistor", "zipper"]
TEXTURES = ["carpet", "grid", "leather", "tile", "wood"]
# Label columns and numbers of each table, counted in the paper: rows times columns without the dashes.
TABLES = {
    "table_augmentation": (["variant"], 3 * 3 * 2),
    "table_btad": ([], 4 * (2 * 11 - 1)),  # PNI without image AUROC
    "table_coreset": (["coreset"], 3 * 2),
    "table_dimension": (["dim"], 5 * 2),
    "table_ensemble": (["variant", "backbone"], 4 * 2),
    "table_hierarchy": (["variant"], 3 * 2),
    "table_official": ([], (15 + 1) * 2),
    # Five columns are complete; SPADE, PaDiM and CFA have one metric per category and both as a mean.
    "table_mvtec": (["variant"], 18 * 5 * 2 + 3 * (18 + 1)),
}
WITHOUT_SETTING = "Quoted by the paper without its setting."


def raw(name: str) -> list[dict[str, str]]:
    """The rows of a table as text, read without the module under test."""
    with (FOLDER / f"{name}.csv").open(newline="") as stream:
        return list(csv.DictReader(stream))


def columns(name: str) -> dict[tuple[str, str, str], dict[str, float]]:
    """The columns of a table as printed: (variant, method, metric) -> category -> value."""
    found: dict[tuple[str, str, str], dict[str, float]] = defaultdict(dict)
    for row in raw(name):
        found[row.get("variant", ""), row["method"], row["metric"]][row["category"]] = float(row["value"])
    return found


def number(name: str, labels: dict[str, object], category: str, method: str, metric: str) -> float:
    found = paper_value(read_paper(FOLDER / f"{name}.csv"), labels, category, method, metric)
    assert found is not None
    return found[0]


def write(folder: Path, *lines: str) -> Path:
    file = folder / "table.csv"
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return file


def test_every_table_is_there_and_no_other() -> None:
    assert {file.stem for file in FOLDER.glob("*.csv")} == set(TABLES)


@pytest.mark.parametrize("name", TABLES)
def test_tables_read_as_they_are_written(name) -> None:
    labels, count = TABLES[name]
    frame = read_paper(FOLDER / f"{name}.csv")
    assert list(frame.columns) == [*labels, *FIXED]
    assert len(frame) == count
    rows = raw(name)
    assert [{**row, "value": float(row["value"])} for row in rows] == frame.to_dict("records")
    for row in rows:
        found = paper_value(frame, row, row["category"], row["method"], row["metric"])
        assert found == (float(row["value"]), row["caveat"])


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


def test_means_of_table_7_add_up() -> None:
    for column, printed in columns("table_btad").items():
        assert abs(fmean(printed[p] for p in ("01", "02", "03")) - printed["mean"]) < 0.05 + 1e-9, column


def test_official_results_are_of_every_category_and_their_means_add_up() -> None:
    printed = columns("table_official")
    assert set(printed) == {("", "patchcore", metric) for metric in ("image_auroc", "pixel_auroc")}
    for column, values in printed.items():
        assert sorted(values) == sorted([*OBJECTS, *TEXTURES, "mean"])
        assert abs(fmean(values[c] for c in OBJECTS + TEXTURES) - values["mean"]) < 0.005 + 1e-9, column
    assert not [row for row in raw("table_official") if row["caveat"]]


def test_means_of_table_4_add_up_in_two_ways() -> None:
    for (variant, method, _), printed in columns("table_augmentation").items():
        weighted = (10 * printed["object"] + 5 * printed["texture"]) / 15
        unweighted = (printed["object"] + printed["texture"]) / 2
        with_augmentation = variant != "none"  # the paper changes the kind of mean
        assert abs((unweighted if with_augmentation else weighted) - printed["mean"]) < 0.005 + 1e-9, (variant, method)
        assert abs((weighted if with_augmentation else unweighted) - printed["mean"]) > 0.01, (variant, method)


def test_difference_that_the_paper_prints_wrongly() -> None:
    printed = columns("table_augmentation")
    none, test = (printed[variant, "patchcore", "image_auroc"]["object"] for variant in ("none", "test"))
    assert none - test == pytest.approx(4.31)
    caveats = {row["variant"]: row["caveat"] for row in raw("table_augmentation") if "9.94" in row["caveat"]}
    assert set(caveats) == {"test", "train and test"} and all("4.31" in caveat for caveat in caveats.values())


def test_both_readings_of_the_augmentation_hold_the_same_numbers_and_say_so() -> None:
    test, both = (
        [row | {"variant": ""} for row in raw("table_augmentation") if row["variant"] == variant]
        for variant in ("test", "train and test")
    )
    assert test == both and all("does not say which images" in row["caveat"] for row in test)


@pytest.mark.parametrize("metric", ["image_auroc", "pixel_auroc"])
def test_one_model_stands_in_tables_1_and_3(metric) -> None:
    # Table 1 at 1 % has 1024 dimensions, Table 3 has 512: one image AUROC differs, one pixel AUROC is the same.
    coreset = number("table_coreset", {"coreset": 0.01}, "mean", "reconpatch", metric)
    hierarchy = number("table_hierarchy", {"variant": "s = 3, levels 2+3"}, "mean", "reconpatch", metric)
    dims = {dim: number("table_dimension", {"dim": dim}, "mean", "reconpatch", "image_auroc") for dim in (1024, 512)}
    if metric == "image_auroc":
        assert coreset == dims[1024] != dims[512] == hierarchy
    else:
        assert coreset == hierarchy


def test_table_5_mixes_two_models() -> None:
    printed = columns("table_mvtec")
    hierarchy = columns("table_hierarchy")
    image, pixel = (printed["224 px", "reconpatch", metric]["mean"] for metric in ("image_auroc", "pixel_auroc"))
    assert image == hierarchy["s = 3, levels 2+3", "reconpatch", "image_auroc"]["mean"]
    assert pixel == hierarchy["s = 5, levels 1+2+3", "reconpatch", "pixel_auroc"]["mean"]
    assert pixel != hierarchy["s = 3, levels 2+3", "reconpatch", "pixel_auroc"]["mean"]


def test_table_4_without_augmentation_and_table_2_repeat_table_5() -> None:
    for method in ("patchcore", "reconpatch"):
        printed = columns("table_mvtec")["224 px", method, "image_auroc"]
        for category, value in columns("table_augmentation")["none", method, "image_auroc"].items():
            assert printed[category] == value
    mean = columns("table_mvtec")["224 px", "patchcore", "image_auroc"]["mean"]
    assert number("table_dimension", {"dim": 1024}, "mean", "patchcore", "image_auroc") == mean


def test_caveats_of_table_5_stand_where_they_belong() -> None:
    for row in raw("table_mvtec"):
        ours = (row["variant"], row["method"], row["metric"]) == ("224 px", "reconpatch", "pixel_auroc")
        assert ("permuted" in row["caveat"]) == (ours and row["category"] != "mean")
        assert ("levels 1+2+3" in row["caveat"]) == ours
        assert ("25 % coreset" in row["caveat"]) == (row["method"] == "patchcore")


def test_values_as_the_readme_of_pni_and_the_abstract_give_them() -> None:
    printed = columns("table_ensemble")
    pni = "PNI with refinement, ensemble, 480 px"
    assert printed["480 px", "reconpatch", "image_auroc"] == {"mean": 99.72}  # the abstract's headline
    assert [printed["480 px", pni, metric]["mean"] for metric in ("image_auroc", "pixel_auroc")] == [99.63, 99.06]
    assert number("table_btad", {}, "mean", "reconpatch", "image_auroc") == 95.8  # the abstract's, too


def test_ensembles_of_table_6_are_combined_as_their_authors_do() -> None:
    """The official PatchCore ensemble scales by the test images' extremes, ReConPatch's by z-scores, our first way."""
    found = {(row["method"], row["backbone"]) for row in raw("table_ensemble") if row["variant"] == "320 px"}
    assert found == {("patchcore", "ensemble, minmax"), ("reconpatch", "ensemble")}
    labels = {"variant": "320 px", "backbone": "ensemble, minmax"}
    assert number("table_ensemble", labels, "mean", "patchcore", "image_auroc") == 99.6
    assert number("table_ensemble", labels, "mean", "patchcore", "pixel_auroc") == 98.2


def test_mean_over_exactly_the_categories_asked_for() -> None:
    frame = read_paper(FOLDER / "table_mvtec.csv")
    labels = {"variant": "224 px", "dim": 512}  # a label that the table lacks does not matter
    assert paper_mean(frame, labels, ["bottle", "pill"], "reconpatch", "image_auroc") == (pytest.approx(98.745), "")
    value, caveat = paper_mean(frame, labels, ["bottle", "pill"], "patchcore", "image_auroc") or (0, "")
    assert value == pytest.approx(98.3) and caveat == "PatchCore with a 25 % coreset."  # once, not twice
    assert paper_mean(frame, labels, ["bottle", "brick"], "reconpatch", "image_auroc") is None
    assert paper_mean(frame, labels, [], "reconpatch", "image_auroc") is None
    assert paper_mean(frame, {"variant": "320 px"}, ["bottle"], "reconpatch", "image_auroc") is None


def test_different_caveats_of_a_mean_are_joined(tmp_path) -> None:
    rows = [
        f"{c},patchcore,image_auroc,{v},{text}" for c, v, text in (("a", 1, "One."), ("b", 2, ""), ("c", 6, "Two."))
    ]
    frame = read_paper(write(tmp_path, ",".join(FIXED), *rows))
    assert paper_mean(frame, {}, ["c", "b", "a"], "patchcore", "image_auroc") == (3, "Two. One.")


def test_labels_must_all_match_and_categories_are_names() -> None:
    ensemble = read_paper(FOLDER / "table_ensemble.csv")
    wanted = ("mean", "reconpatch", "image_auroc")
    assert paper_value(ensemble, {"variant": "320 px", "backbone": "ensemble"}, *wanted) == (99.67, "")
    assert paper_value(ensemble, {"variant": "320 px", "backbone": "resnet18"}, *wanted) is None
    assert paper_value(ensemble, {"variant": "320 px"}, *wanted) is None
    btad = read_paper(FOLDER / "table_btad.csv")
    assert paper_value(btad, {}, "02", "patchcore", "image_auroc") == (81.6, WITHOUT_SETTING)
    assert paper_value(btad, {}, "2", "patchcore", "image_auroc") is None
    assert paper_value(btad, {}, "02", "PNI", "image_auroc") is None  # a dash in the paper
    assert paper_value(btad, {}, "02", "patchcore", "aupro_30") is None
    assert paper_value(read_paper(FOLDER / "table_dimension.csv"), {"dim": None}, *wanted) is None


@pytest.mark.parametrize("label", [0.1, "0.1", "0.10", "1e-1", ".1"])
def test_number_labels_match_however_they_are_written(label) -> None:
    assert number("table_coreset", {"coreset": label}, "mean", "reconpatch", "image_auroc") == 99.27


@given(st.floats(0, 1), st.floats(0, 1))
def test_numbers_match_only_themselves(tmp_path_factory, one, other) -> None:
    file = write(tmp_path_factory.mktemp("paper"), "share," + ",".join(FIXED), f"{one!r},a,patchcore,image_auroc,50,")
    found = paper_value(read_paper(file), {"share": other}, "a", "patchcore", "image_auroc")
    assert (found is not None) == (one == other)
    assert paper_value(read_paper(file), {"share": one}, "a", "patchcore", "image_auroc") == (50, "")


HEADER = "dim," + ",".join(FIXED)
GOOD = "64,mean,patchcore,image_auroc,97.5,"


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["dim,category,method,value"], "line 1: no column metric, caveat; add"),
        ([], "line 1: no column category"),
        (["dim," + HEADER, GOOD], "line 1: the columns dim, dim, .* repeat a name"),
        ([HEADER, GOOD, "32,mean,patchcore,image_auroc,–,"], "line 3: value '–' is not a number; leave the row out"),
        ([HEADER, "32,mean,patchcore,image_auroc,nan,"], "line 2: value 'nan' is not a number"),
        ([HEADER, "32,mean,patchcore,image_auroc,100.1,"], "line 2: value 100.1 of image_auroc must be .* percent"),
        ([HEADER, "32,mean,patchcore,pixel_auroc,-1,"], "line 2: value -1 of pixel_auroc must be"),
        ([HEADER, "32,mean,patchcore,separation,4,"], "line 2: unknown metric 'separation'; choose from image_auroc"),
        ([HEADER, "32,mean,patchcore,auroc,99,"], "line 2: unknown metric 'auroc'; choose from image_auroc, pixel"),
        ([HEADER, GOOD, "64.0,mean,patchcore,image_auroc,98,"], "line 3: the number of line 2 again .*; remove one"),
        ([HEADER, GOOD + "a, b"], "line 2: 7 cells for 6 columns; quote text with commas"),
        ([HEADER, "64,mean,patchcore,image_auroc,97.5"], "line 2: 5 cells for 6 columns"),
    ],
)
def test_errors_name_file_line_and_fix(tmp_path, lines, message) -> None:
    file = write(tmp_path, *lines)
    with pytest.raises(ReconpatchError, match=message) as caught:
        read_paper(file)
    assert str(caught.value).startswith(str(file))


def test_files_that_are_no_text(tmp_path) -> None:
    with pytest.raises(ReconpatchError, match=r"absent\.csv: cannot be read"):
        read_paper(tmp_path / "absent.csv")
    (tmp_path / "latin.csv").write_bytes("caveat é".encode("latin-1"))
    with pytest.raises(ReconpatchError, match=r"latin\.csv: cannot be read as CSV in UTF-8"):
        read_paper(tmp_path / "latin.csv")
