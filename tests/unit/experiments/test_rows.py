"""Expansion of experiments, and the shipped files against the paper's numbers."""

import csv
import itertools
import math
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from reconpatch.errors import ReconpatchError
from reconpatch.experiments.config import Config, Experiment, Override, read_config
from reconpatch.experiments.outputs import table_settings
from reconpatch.experiments.plan import Plan, make_plan
from reconpatch.experiments.rows import expand, overridden, same, table_metrics

ROOT = Path(__file__).parents[3]
DEFAULT = yaml.safe_load((ROOT / "configs/default.yaml").read_text())
# Typed from the paper's Tables 5 and 7, apart from the package's own lists.
OBJECTS = ["bottle", "cable", "capsule", "hazelnut", "metal_nut", "pill", "screw", "toothbrush", "transistor", "zipper"]
TEXTURES = ["carpet", "grid", "leather", "tile", "wood"]
PRODUCTS = ["01", "02", "03"]
# Typed from the publications of further data sets.
CANDLES = ["candle", "capsules", "cashew", "chewinggum", "fryum", "macaroni1", "macaroni2"]
CANDLES += ["pcb1", "pcb2", "pcb3", "pcb4", "pipe_fryum"]
BOXES = ["breakfast_box", "juice_bottle", "pushpins", "screw_bag", "splicing_connectors"]
METALS = ["bracket_black", "bracket_brown", "bracket_white", "connector", "metal_plate", "tubes"]
CANS = ["can", "fabric", "fruit_jelly", "rice", "sheet_metal", "vial", "wallplugs", "walnuts"]
DATASETS = {"mvtec_ad": OBJECTS + TEXTURES, "btad": PRODUCTS, "visa": CANDLES, "mvtec_loco": BOXES, "mpdd": METALS}
DATASETS |= {"mvtec_ad_2": CANS}
GROUPS = {"object": OBJECTS, "texture": TEXTURES, "mean": [name for names in DATASETS.values() for name in names]}
KINDS = ["logical", "structural", "mean"]  # of anomalies of mvtec_loco
NOT_LABELS = ("category", "method", "metric", "value", "caveat", "source")
WIDE50, WIDE101 = "wide_resnet50_2.tv_in1k", "wide_resnet101_2.tv_in1k"


@pytest.fixture(autouse=True)
def here(monkeypatch) -> None:
    """The paper's settings lie relative to the root of the repository."""
    monkeypatch.chdir(ROOT)


@pytest.fixture(scope="module")
def shipped(tmp_path_factory) -> Plan:
    """The shipped configuration with every category of the data sets there, as folders that hold nothing."""
    root = tmp_path_factory.mktemp("data")
    datasets = dict(DEFAULT["datasets"])
    for dataset, names in DATASETS.items():
        for name in names:
            (root / dataset / name / ("Data" if dataset == "visa" else "train")).mkdir(parents=True)
        datasets[dataset] = datasets[dataset] | {"root": str(root / dataset)}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        return make_plan(read_config(DEFAULT | {"datasets": datasets}))


def agree(text: str, label: object) -> bool:
    """A cell of a published table and a label, compared as numbers where both are."""
    try:
        return math.isclose(float(text), float(str(label)))
    except ValueError:
        return text == str(label)


@pytest.mark.parametrize("file", sorted((ROOT / "configs/paper").glob("*.csv")), ids=lambda f: f.stem)
def test_every_published_number_has_a_cell_in_our_table(file, shipped) -> None:
    """A variant spelt otherwise in the two files would leave the paper's number without ours, silently."""
    with file.open(newline="") as stream:
        rows = [row for row in csv.DictReader(stream) if row["method"] in ("patchcore", "reconpatch")]
    assert rows
    categories = {category for _, category in shipped.targets[file.stem]}
    for row in rows:
        labels = {k: v for k, v in row.items() if k not in NOT_LABELS}
        if file.stem == "table_loco":  # no run has a kind: every run is measured on all of them
            assert labels.pop("kind") in KINDS
        cells = [
            cell
            for cell in shipped.cells[file.stem]
            if cell.method == row["method"]
            and all(k in cell.labels and agree(v, cell.labels[k]) for k, v in labels.items())
        ]
        assert cells, row
        assert categories & {row["category"], *GROUPS.get(row["category"], [])}, row


@pytest.mark.parametrize(
    "name",
    [
        *("table_mvtec", "table_coreset", "table_dimension", "table_hierarchy", "table_ensemble", "table_btad"),
        *("table_augmentation", "figure_umap", "figure_histogram", "figure_qualitative", "figure_curve"),
    ],
)
def test_the_papers_tables_are_run_as_the_paper_states(name, shipped) -> None:
    """The paper names no epoch: rows of an earlier one, beside those of the last, are our own."""
    earlier = {"1/3"}
    assert {
        d for cell in shipped.cells[name] if cell.labels.get("epoch") not in earlier for d in cell.departures
    } == set()
    for cell in shipped.cells[name]:
        if cell.labels.get("epoch") in earlier and cell.method == "reconpatch":
            assert cell.departures == ("epoch = 40 (not stated, assumed the last)",)


@pytest.mark.parametrize(
    ("name", "labels", "settings"),
    [
        ("table_mvtec", {"variant": "224 px"}, {"backbone": WIDE50, "resize": 256, "crop": 224, "levels": (2, 3)}),
        ("table_mvtec", {"variant": "480 px"}, {"backbone": WIDE101, "resize": 512, "crop": 480, "coreset": 0.01}),
        ("table_coreset", {"coreset": 0.25}, {"dim": 1024, "crop": 224, "backbone": WIDE50}),
        (
            "table_dimension",
            {"dim": "1/16"},
            {"dim": 64, "coreset": 0.01, "crop": 224, "levels": (2, 3), "patch_size": 3},
        ),
        ("table_hierarchy", {"variant": "s = 5, levels 2+3"}, {"patch_size": 5, "levels": (2, 3), "dim": 512}),
        ("table_augmentation", {"variant": "train and test"}, {"augment": "both"}),
        ("table_ensemble", {"variant": "320 px"}, {"crop": 320, "dim": 384, "epochs": 60, "learning_rate": 1e-6}),
        ("table_btad", {}, {"backbone": WIDE101, "resize": 512, "crop": 480}),
        ("figure_umap", {"epoch": 58}, {"epoch": 58, "epochs": 120, "crop": 224}),
    ],
)
def test_settings_that_the_paper_prints(name, labels, settings, shipped) -> None:
    """Against values typed from the paper: the departures above only compare with what our own files call the paper."""
    cells = [p for p in shipped.cells[name] if p.run in shipped.runs and p.labels.items() >= labels.items()]
    runs = [shipped.runs[p.run] for p in cells if p.method == "reconpatch"]
    assert runs
    for run in runs:
        assert {key: getattr(run, key) for key in settings} == settings


# Expansion, on experiments made here.


def config(**changes) -> Config:
    return read_config(DEFAULT | changes)


def expanded(content: dict, override: dict | None = None, name: str = "x", **changes):
    """Rows of an experiment under the default configuration with changes, and why others fell out."""
    override = override or {}
    experiment = overridden(
        Experiment.model_validate({"title": "x", "datasets": {}} | content), Override.model_validate(override)
    )
    return expand(name, experiment, config(overrides={name: override}, **changes), lambda *_: (512, 1024))


def rows_of(content: dict, override: dict | None = None, **changes):
    """Rows of an experiment of which none falls out."""
    rows, out = expanded(content, override, **changes)
    assert out == []
    return rows


def test_variants_are_slowest_then_axes_then_seeds() -> None:
    content = {
        "variants": {"b": {"set": {"blur": 2}}, "a": {}},
        "axes": {"dim": [64, 32], "method": ["patchcore", "reconpatch"]},
    }
    rows = rows_of(content, seeds=[1, 0])
    got = [(r.labels["variant"], r.labels["dim"], r.run.method, r.run.seed) for r in rows]
    assert got == list(itertools.product("ba", [64, 32], ["patchcore", "reconpatch"], [1, 0]))
    assert [r.run.blur for r in rows] == [2.0] * 8 + [4.0] * 8
    assert all(set(r.labels) == {"variant", "dim"} for r in rows)  # method and seed have every row


def test_who_wins() -> None:
    """File, variant, overlay, overlay's variant, axis and stand-in, each over the ones before it."""
    layers = {"resize": 300, "dim": 1, "blur": 1, "sigma": 1, "level_dim": 1, "margin": 1}
    values = dict.fromkeys(("file", "variant", "overlay", "overlay's variant"), 0) | {
        "file": layers,
        "variant": {k: 2 for k in layers if k not in ("resize", "dim")},
        "overlay": {k: 3 for k in layers if k in ("sigma", "level_dim", "margin")},
        "overlay's variant": {"level_dim": 4, "margin": 4},
    }
    rows = rows_of(
        {
            "set": values["file"] | {"backbone": "a", "feature_dim": 1},
            "variants": {"v": {"set": values["variant"]}, "w": {}},
            "axes": {"coreset": [0.5]},
        },
        {"set": values["overlay"], "variants": {"v": values["overlay's variant"]}, "axes": {"coreset": [0.25]}},
        stand_ins={"a": {"backbone": "b", "margin": 5}},
    )
    v, w = (r.run for r in rows)
    assert (v.resize, v.dim, v.blur, v.sigma, v.level_dim, v.margin) == (300, 1, 2, 3, 4, 5)
    assert (w.resize, w.dim, w.blur, w.sigma, w.level_dim, w.margin) == (300, 1, 1, 3, 3, 5)
    assert {v.coreset, w.coreset} == {0.25} and {v.backbone, w.backbone} == {"b"}


def departures(content: dict, override: dict | None = None, **changes) -> list[tuple[str, ...]]:
    return [r.departures for r in rows_of(content, override, **changes)]


@pytest.mark.parametrize(
    ("content", "override", "changes", "expected"),
    [
        ({}, {}, {}, ()),
        ({"set": {"dim": 64}}, {}, {}, ("dim = 64 (paper 512)",)),
        ({"axes": {"dim": [64]}}, {}, {}, ()),  # a cell of its own is labelled, not a departure
        ({}, {"axes": {"dim": ["64"]}}, {}, ()),  # text, as from the command line
        ({"variants": {"v": {"set": {"levels": [1, 2]}, "paper": {"levels": [1, 2]}}}}, {}, {}, ()),
        ({"paper": {"dim": 1}, "variants": {"v": {"paper": {"dim": 512}}}}, {}, {}, ()),
        ({}, {"set": {"epochs": 3}}, {}, ("epochs = 3 (paper 120)",)),
        ({"set": {"sigma": 3}}, {}, {}, ("sigma = 3.0 (not stated, assumed 1.0)",)),
        ({"set": {"sigma": 3}, "paper": {"sigma": 2}}, {}, {}, ("sigma = 3.0 (paper 2)",)),  # stated for this table
        ({"set": {"method": "patchcore"}}, {"set": {"epochs": 3, "sigma": 2}}, {}, ()),  # it trains nothing
        ({"set": {"reweight": "image"}}, {}, {}, ()),  # of one neighbour there is nothing to weight
        ({"set": {"weights": "file"}}, {}, {}, ()),  # the paper's weights, from the user's disk
        ({"set": {"weights": "embedded"}}, {}, {}, ("weights = embedded (paper pretrained)",)),
        ({}, {}, {"stand_ins": {WIDE50: {"backbone": "r"}}}, (f"backbone = r (paper {WIDE50})",)),
        ({"set": {"method": "patchcore", "dim": 384}, "paper": {"dim": 384}}, {}, {}, ()),  # pooled to 384 at once
    ],
)
def test_departures_are_what_differs_from_the_paper(content, override, changes, expected) -> None:
    assert departures(content, override, **changes) == [expected]


def test_epochs_that_are_not_reached_or_not_kept_fall_out_with_a_reason() -> None:
    """For both methods: a cell without ReConPatch compares nothing."""
    both = {"method": ["patchcore", "reconpatch"]}
    rows, out = expanded({"axes": {"epoch": [3, 5, 40, 121, None]} | both})
    assert [(r.run.epoch, r.run.method) for r in rows] == list(itertools.product([5, 40, None], both["method"]))
    kept = DEFAULT["checkpoints"]
    assert out == [f"epochs 3, 121 are beyond the last or not among checkpoints {kept}"]
    rows, out = expanded({"axes": {"epochs": [4, 60], "epoch": [1, 40]}})  # each training by its own length
    assert [(r.run.epochs, r.run.epoch) for r in rows] == [(4, 1), (60, 1), (60, 40)]
    assert out == [f"epochs 40 are beyond the last or not among checkpoints {kept}"]
    assert expanded({"set": {"epoch": 40}}, {"set": {"epochs": 4}}) == ([], out)
    kept_short = DEFAULT["baseline"] | {"epochs": 4}
    assert expanded({"axes": {"epoch": [40]}}, baseline=kept_short) == ([], out)


@given(st.floats(allow_nan=False, allow_infinity=False), st.floats(allow_nan=False, allow_infinity=False))
def test_numbers_are_the_same_however_they_are_written(one, other) -> None:
    assert same(one, repr(one)) and same(f"{one:.17e}", one)
    assert same(one, repr(other)) == (one == other)


def test_two_backbones_with_one_stand_in_are_two_equal_rows() -> None:
    content = {"axes": {"backbone": [WIDE50, WIDE101]}}
    assert len(rows_of(content)) == 2
    with pytest.raises(ReconpatchError, match=r"experiment x: two rows are .*same stand-in"):
        rows_of(content, stand_ins={WIDE50: {"backbone": WIDE101}})


# Metrics, natures and kinds.


def told(content: dict, **changes) -> ReconpatchError:
    with pytest.raises(ReconpatchError) as caught:
        expanded(content, **changes)
    return caught.value


@pytest.mark.parametrize("view", [{}, {"view": {"metrics": ["image_auroc"]}}])
def test_an_unknown_metric_is_refused_with_the_nearest_named(view) -> None:
    """With a view, too, which names metrics of its own."""
    error = told({"metrics": ["image_auroc", "aupro_5"]} | view)
    assert error.where == "experiment x" and "'aupro_5'" in error.what and "aupro_05" in error.fix


def test_metrics_of_a_table() -> None:
    def of(**content) -> list[str]:
        return table_metrics(Experiment.model_validate({"title": "x", "datasets": {}} | content))

    assert of() == ["image_auroc", "pixel_auroc", "aupro_30"]
    assert of(metrics=["spro_05", "image_auroc"]) == ["spro_05", "image_auroc"]
    for wrong in ([], ["image_auroc", "image_auroc"]):
        with pytest.raises(ValidationError, match="metrics"):
            of(metrics=wrong)
    assert "spro_05" in told({"view": {"metrics": ["spro_05"]}}).what  # not in this table
    rows_of({"metrics": ["spro_05"], "view": {"metrics": ["spro_05"]}})


def test_natures_are_shown_where_they_are_computed() -> None:
    error = told({"view": {"categories": "natures"}})
    assert error.where == "experiment x: view" and "by_nature: true" in error.fix
    assert len(rows_of({"by_nature": True, "view": {"categories": "natures"}})) == 1


def test_kinds_are_parts_of_a_view_where_the_data_set_has_them() -> None:
    shown = {"view": {"rows": ["category", "kind"], "where": {"kind": ["logical", "mean"]}}}
    assert len(rows_of({"datasets": {"mvtec_loco": "all"}} | shown)) == 1
    assert "kind" in told({"datasets": {"visa": "all"}} | shown).what
    wrong = {"datasets": {"mvtec_loco": "all"}, "view": {"where": {"kind": ["logic"]}}}
    assert "logic" in told(wrong).what


def test_the_kinds_of_a_view_reach_the_table(shipped) -> None:
    """They are labels of no run, so that nothing is looked up for them."""
    name = "table_loco"
    experiment = shipped.experiments[name]
    view = experiment.view.model_copy(update={"rows": ["category"], "where": {"kind": ["structural"]}})
    changed = experiment.model_copy(update={"view": view})
    plan = replace(shipped, experiments={**shipped.experiments, name: changed})
    assert table_settings(plan, name)["view"]["where"] == {"kind": ["structural"]}
    assert table_settings(plan, name)["metrics"] == ["image_auroc", "spro_05"]
    assert table_settings(plan, "table_nature")["by_nature"] and not table_settings(plan, name)["by_nature"]
