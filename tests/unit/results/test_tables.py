from dataclasses import replace
from typing import Any

import pytest
from cells import NAN, make_cell
from drawing import make_record

from reconpatch.results.comparison import Cell, Gain, Result, of_others
from reconpatch.results.paper import Paper, PaperNumber
from reconpatch.results.tables import (
    MISSING,
    Table,
    comparison_table,
    cost_table,
    notes,
    published_table,
    without_constants,
)


def table_of(*made: Cell) -> Table:
    return comparison_table(made, "Title", ["A note."])


def test_paper_verdict_and_gain_have_columns_where_there_are_any() -> None:
    fields = {"paper": 0.914, "difference": -0.00166, "verdict": "agrees"}
    gain = Gain("patchcore", -0.0042, -0.0151, 0.0049, p=0.1, holm=0.3, paper=0.012, verdict="smaller")
    table = table_of(
        make_cell(**fields, gains={"gain": gain}),
        make_cell(metric="aupro_30", low=NAN, gains={"gain": Gain("patchcore", 0.5, NAN, NAN, NAN)}),
        make_cell(category="bolt", method="patchcore"),
    )
    first, second = table.rows
    assert first == {
        **{"category": "nut", "method": "ReConPatch", "image AUROC": "91.23 [85.0, 96.1]"},
        **{"image AUROC, paper": "91.40", "image AUROC, verdict": "agrees (-0.17)"},
        "image AUROC, gain over PatchCore": "-0.42 [-1.5, +0.5], corrected p 0.300",
        "image AUROC, paper's gain over PatchCore": "+1.20",
        "image AUROC, verdict on the gain over PatchCore": "smaller",
        "AUPRO (30 %)": "91.23",
    }
    assert second["method"] == "PatchCore" and second["image AUROC, gain over PatchCore"] == ""
    assert (second["image AUROC, paper"], second["image AUROC, verdict"]) == (MISSING, MISSING)
    assert (table_of(make_cell()).columns) == ["category", "method", "image AUROC"]


def test_patchcore_rows_are_not_repeated() -> None:
    """Sigma is none of PatchCore's, so its run is the same everywhere; each data set and category has its own row."""
    made = []
    for dataset, category in (("mine", "nut"), ("mine", "bolt"), ("other", "nut")):
        for sigma in (0.5, 1.0, 2.0):
            target = {"dataset": dataset, "category": category, "labels": {"sigma": sigma}}
            made += [make_cell(**target, method="patchcore", runs=["p"]), make_cell(**target, runs=[f"r{sigma}"])]
    shown = [(row["method"], row["sigma"]) for row in table_of(*made).rows]
    assert shown == [("PatchCore", "0.5"), *(("ReConPatch", s) for s in ("0.5", "1.0", "2.0"))] * 3
    differ = [make_cell(labels={"dim": dim}, method="patchcore", runs=[f"p{dim}"]) for dim in (64, 512)]
    assert [row["dim"] for row in table_of(*differ).rows] == ["64", "512"]


def test_notes_name_who_published_a_number_once() -> None:
    """A caveat stands below the table; that a number is not the paper's is said where its source is."""
    gain = Gain("patchcore", 0.1, 0.05, 0.15, p=0.01, paper=0.1, verdict="not comparable")
    reasons = ["Another network.", of_others("Somebody, 2024")]
    others = make_cell(paper=0.9, verdict="not comparable", source="Somebody, 2024", reasons=reasons)
    said = notes([], [replace(others, gains={"gain": gain})], count=10, tolerance=0.002)
    assert "Not comparable, ReConPatch: Another network." in said
    named = [line for line in said if "Somebody" in line]
    assert named == ["Published numbers, not the paper's and so not compared with ours: Somebody, 2024."]
    assert not [line for line in said if "Verdict" in line]
    papers = make_cell(paper=0.9, verdict="agrees", gains={"gain": replace(gain, verdict="larger")})
    assert len([line for line in notes([], [papers], count=10, tolerance=0.002) if "Verdict" in line]) == 2


def test_caveats_on_other_methods_stand_below_their_table() -> None:
    """Of each method, and of which metrics where it is not said of all."""
    numbers = {
        (category, method, metric, ()): PaperNumber(90.0, caveat, "Somebody")
        for category in ("nut", "bolt")
        for method, metric, caveat in (
            ("PatchCore, theirs", "image_auroc", "At 256 px."),
            ("PatchCore, theirs", "aupro_30", "At 256 px; limit not stated."),
            ("SPADE", "image_auroc", "One seed."),
            ("PaDiM", "image_auroc", ""),
            ("reconpatch", "image_auroc", "A row of ours."),
        )
    }
    table = published_table(Paper([], numbers), "Title")
    assert table is not None and list(table.notes) == [
        "Image AUROC, AUPRO (30 %) of other methods, as published: Somebody.",
        "PatchCore, theirs, image AUROC: At 256 px.",
        "PatchCore, theirs, AUPRO (30 %): At 256 px; limit not stated.",
        "SPADE: One seed.",
    ]


# --- costs -----------------------------------------------------------------------------------------------------------

SECONDS = {"features": 10.04, "training": 100.0, "bank": 5.25, "score": 2.5}
PEAKS = {"features": 900.0, "training": 1500.4, "bank": 700.0, "score": 1200.0}
PER_IMAGE = {"features": {"train": 9.0, "test": 0.3}, "score": {"test": 0.1}}


def costly(method: str = "reconpatch", processor: str = "a processor", **changes: Any) -> Result:
    stages = {
        name: {"wall_s": SECONDS[name], "peak_mb": PEAKS[name], "threads": 4, "processor": processor, "cores": 8}
        | {"s_per_image": PER_IMAGE.get(name, {})}
        for name in SECONDS
        if method == "reconpatch" or name != "training"
    }
    record = make_record(
        description={"backbone": "net", "dim": 512, "method": method},
        bank={"patches": 4000, "of": 100_000},
        stages=stages,
        members=changes.pop("members", ()),
    )
    fields = {"labels": {"dim": 512}, "method": method, "seed": 0, "dataset": "mine", "category": "metal_nut"}
    fields |= {"run": "r", "departures": (), "record": record, "link": "runs/r/record.json"}
    return Result(**(fields | changes))


def test_columns_that_say_one_thing_become_a_note() -> None:
    table = Table("Title", [{"a": "1", "b": "x", "c": ""}, {"a": "2", "b": "x"}], ["A note."])
    assert without_constants(table).rows == [{"a": "1"}, {"a": "2"}]
    assert without_constants(table).notes[:1] == ["A note."] and "b x" in without_constants(table).notes[1]


def test_costs_by_hand() -> None:
    missing = costly(record=None, link="")
    ensemble = costly(members=[costly().record])  # its members have rows of their own
    table = cost_table([costly(), costly("patchcore"), missing, ensemble], "Cost", [])
    first, second, third, fourth = table.rows
    assert first == {
        **{"category": "metal nut", "dim": "512", "method": "ReConPatch", "seed": "0", "backbone": "net"},
        **{"features, s": "10.0", "training, s": "100.0", "coreset, s": "5.2", "scores, s": "2.5", "all, s": "117.8"},
        "largest process, MB": "1500",
        "bank, patches": "4000 of 100000",
        "bank, MB": "8.2",  # 4000 rows of 512 float32: 8,192,000 bytes
        "images per second": "2.5",  # 0.3 s for the features of a test image and 0.1 s for its scores
        "on": "cpu, 4 threads",
    }
    assert second["training, s"] == MISSING and float(second["all, s"]) == pytest.approx(17.79, abs=0.05)
    assert second["largest process, MB"] == "1200"
    assert third["backbone"] == MISSING and fourth["backbone"] == "net" and len(third) == len(fourth) == 5
    assert table.links[0] == {"all, s": ["runs/r/record.json"]} and table.links[2] == {}
