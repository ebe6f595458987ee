"""Expansion of experiments, and the shipped files against the paper's numbers."""

import csv
import itertools
import math
from dataclasses import asdict
from pathlib import Path

import pandas as pd
import pytest
import yaml
from drawing import make_record
from hypothesis import given
from hypothesis import strategies as st

from reconpatch.errors import ReconpatchError
from reconpatch.experiments.config import Config, Experiment, Override, read_config
from reconpatch.experiments.plan import Plan, load_plan, make_plan
from reconpatch.experiments.rows import expand, overridden, same
from reconpatch.results.comparison import BETWEEN, Result, cells
from reconpatch.results.paper import read_paper

ROOT = Path(__file__).parents[3]
DEFAULT = yaml.safe_load((ROOT / "configs/default.yaml").read_text())
# Typed from the paper's Tables 5 and 7, apart from the package's own lists.
OBJECTS = ["bottle", "cable", "capsule", "hazelnut", "metal_nut", "pill", "screw", "toothbrush", "transistor", "zipper"]
TEXTURES = ["carpet", "grid", "leather", "tile", "wood"]
PRODUCTS = ["01", "02", "03"]
GROUPS = {"object": OBJECTS, "texture": TEXTURES, "mean": [*OBJECTS, *TEXTURES, *PRODUCTS]}
WIDE50, WIDE101 = "wide_resnet50_2.tv_in1k", "wide_resnet101_2.tv_in1k"


@pytest.fixture(autouse=True)
def here(monkeypatch) -> None:
    """The paper's settings lie relative to the root of the repository."""
    monkeypatch.chdir(ROOT)


@pytest.fixture(scope="module")
def shipped(tmp_path_factory) -> Plan:
    """The shipped configuration with every category of both data sets there, as folders that hold nothing."""
    root = tmp_path_factory.mktemp("data")
    datasets = dict(DEFAULT["datasets"])
    for dataset, names in (("mvtec_ad", OBJECTS + TEXTURES), ("btad", PRODUCTS)):
        for name in names:
            (root / dataset / name / "train").mkdir(parents=True)
        datasets[dataset] = datasets[dataset] | {"root": str(root / dataset)}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        return make_plan(read_config(DEFAULT | {"datasets": datasets}))


def content_of(name: str) -> dict:
    return yaml.safe_load((ROOT / DEFAULT["experiments"][name]).read_text())


def agree(text: str, label: object) -> bool:
    """A cell of a published table and a label, compared as numbers where both are."""
    try:
        return math.isclose(float(text), float(str(label)))
    except ValueError:
        return text == str(label)


def test_every_file_is_an_experiment_and_all_of_it_is_planned(shipped) -> None:
    files = {str(f.relative_to(ROOT)) for f in (ROOT / "configs/ablations").glob("*.yaml")} | {"configs/smoke.yaml"}
    assert files == set(DEFAULT["experiments"].values())
    assert all(Path(file).stem == name for name, file in DEFAULT["experiments"].items())
    assert shipped.absent == {}
    assert all(shipped.at_hand(name) for name in DEFAULT["experiments"])
    for name in DEFAULT["experiments"]:
        wanted = {d: GROUPS["mean"] if c == "all" else c for d, c in content_of(name)["datasets"].items()}
        here = {"mvtec_ad": OBJECTS + TEXTURES, "btad": PRODUCTS, "sample": ["brick"]}
        pairs = [(d, c) for d, chosen in wanted.items() for c in here[d] if c in chosen]
        assert sorted(shipped.targets[name]) == sorted(pairs) and pairs


@pytest.mark.parametrize("name", DEFAULT["experiments"])
def test_places_are_every_combination_of_variants_axes_and_seeds(name, shipped) -> None:
    content, places = content_of(name), shipped.cells[name]
    axes = {"seed": [0]} | content.get("axes", {})
    count = math.prod(map(len, axes.values())) * len(content.get("variants", [None]))
    if ensemble := content.get("ensemble"):
        count += count // len(axes[ensemble["over"]]) * len(ensemble["combine"])
    assert len(places) == count
    for key, values in ({"variant": content.get("variants", {})} | axes).items():
        found = {p.seed if key == "seed" else p.method if key == "method" else p.labels.get(key) for p in places}
        assert all(any(agree(str(v), f) for f in found) for v in values), key
    for place in places:
        if place.run in shipped.runs:
            run = shipped.runs[place.run]
            # PatchCore's runs at every epoch are one, so its run need not have the epoch of the place.
            keys = {k for k in axes if k in place.labels and (k != "epoch" or run.method == "reconpatch")}
            has = run.model_dump() | {"epoch": run.epoch or run.epochs}
            assert all(agree(str(has[k]), place.labels[k]) for k in keys)
            assert (run.method, run.seed) == (place.method, place.seed)


@pytest.mark.parametrize("file", sorted((ROOT / "configs/paper").glob("*.csv")), ids=lambda f: f.stem)
def test_every_published_number_has_a_place_in_our_table(file, shipped) -> None:
    """A variant spelt otherwise in the two files would leave the paper's number without ours, silently."""
    with file.open(newline="") as stream:
        rows = [row for row in csv.DictReader(stream) if row["method"] in ("patchcore", "reconpatch")]
    assert rows
    categories = {category for _, category in shipped.targets[file.stem]}
    for row in rows:
        labels = {k: v for k, v in row.items() if k not in ("category", "method", "metric", "value", "caveat")}
        met = [
            place
            for place in shipped.cells[file.stem]
            if place.method == row["method"]
            and all(k in place.labels and agree(v, place.labels[k]) for k, v in labels.items())
        ]
        assert met, row
        assert categories & {row["category"], *GROUPS.get(row["category"], [])}, row


@pytest.mark.parametrize(
    "name",
    [
        *("table_mvtec", "table_coreset", "table_dimension", "table_hierarchy", "table_ensemble", "table_btad"),
        *("table_augmentation", "figure_umap", "figure_histogram", "figure_qualitative", "figure_curve"),
    ],
)
def test_the_papers_tables_are_run_as_the_paper_states(name, shipped) -> None:
    assert {d for place in shipped.cells[name] for d in place.departures} == set()


@pytest.mark.parametrize(
    ("name", "labels", "settings"),
    [
        ("table_mvtec", {"variant": "224 px"}, {"backbone": WIDE50, "resize": 256, "crop": 224, "levels": (2, 3)}),
        ("table_mvtec", {"variant": "224 px"}, {"patch_size": 3, "dim": 512, "coreset": 0.01, "epochs": 120}),
        ("table_mvtec", {"variant": "480 px"}, {"backbone": WIDE101, "resize": 512, "crop": 480, "coreset": 0.01}),
        ("table_coreset", {"coreset": 0.25}, {"dim": 1024, "crop": 224, "backbone": WIDE50}),
        ("table_dimension", {"dim": 64}, {"coreset": 0.01, "crop": 224, "levels": (2, 3), "patch_size": 3}),
        ("table_hierarchy", {"variant": "s = 5, levels 2+3"}, {"patch_size": 5, "levels": (2, 3), "dim": 512}),
        ("table_hierarchy", {"variant": "s = 3, levels 1+2+3"}, {"patch_size": 3, "levels": (1, 2, 3), "dim": 512}),
        ("table_hierarchy", {"variant": "s = 5, levels 1+2+3"}, {"patch_size": 5, "levels": (1, 2, 3), "dim": 512}),
        ("table_augmentation", {"variant": "none"}, {"augment": "none"}),
        ("table_augmentation", {"variant": "test"}, {"augment": "test"}),
        ("table_augmentation", {"variant": "train and test"}, {"augment": "both"}),
        ("table_ensemble", {"variant": "320 px"}, {"crop": 320, "dim": 384, "epochs": 60, "learning_rate": 1e-6}),
        ("table_ensemble", {"variant": "480 px"}, {"crop": 480, "dim": 384, "coreset": 0.01, "patch_size": 3}),
        ("table_btad", {}, {"backbone": WIDE101, "resize": 512, "crop": 480}),
        ("figure_umap", {"epoch": 58}, {"epoch": 58, "epochs": 120, "crop": 224}),
    ],
)
def test_settings_that_the_paper_prints(name, labels, settings, shipped) -> None:
    """Against values typed from the paper: the departures above only compare with what our own files call the paper."""
    places = [p for p in shipped.cells[name] if p.run in shipped.runs and p.labels.items() >= labels.items()]
    runs = [shipped.runs[p.run] for p in places if p.method == "reconpatch"]
    assert runs
    for run in runs:
        assert {key: getattr(run, key) for key in settings} == settings


def test_each_figure_draws_the_runs_its_file_chooses(shipped) -> None:
    seen = 0
    for name in DEFAULT["experiments"]:
        content = content_of(name)
        for kind, chosen in content.get("figures", {}).items():
            wanted = [
                p.run
                for p in shipped.cells[name]
                if p.seed == 0 and all(agree(str(v), p.labels[k]) for k, v in chosen.items())
            ]
            assert wanted and shipped.drawn(name, kind) == list(dict.fromkeys(wanted)), (name, kind)
            seen += 1
    assert seen >= 10


def test_the_overlay_of_small_networks_says_what_stands_in(tmp_path, monkeypatch) -> None:
    for name in ("bottle", "pill"):
        (tmp_path / "mvtec_ad" / name / "train").mkdir(parents=True)
    overlay = yaml.safe_load((ROOT / "configs/real_small.yaml").read_text())
    for file in overlay["weight_files"].values():
        path = tmp_path / file.removeprefix("$RECONPATCH_DATA/")
        path.parent.mkdir(exist_ok=True)
        path.touch()
    monkeypatch.setenv("RECONPATCH_DATA", str(tmp_path))
    plan = load_plan([ROOT / "configs/real_small.yaml"])
    chosen = {n: content_of(n)["datasets"] | overlay["overrides"].get(n, {}).get("datasets", {}) for n in plan.cells}
    partial = {name for name, wanted in chosen.items() if wanted.get("mvtec_ad") == "all"}
    assert set(plan.absent) == {"table_btad", "figure_qualitative", *partial} and partial
    rest = ", ".join(c for c in OBJECTS + TEXTURES if c not in ("bottle", "pill"))
    assert {plan.absent[name] for name in partial} == {f"mvtec_ad lacks {rest}"}  # a copy of two categories
    assert plan.absent["figure_qualitative"].startswith("mvtec_ad lacks cable, transistor, tile")
    for name, override in overlay["overrides"].items():
        if "datasets" in override:  # the overlay's own choice of categories
            assert plan.targets[name] == [("mvtec_ad", c) for c in override["datasets"]["mvtec_ad"]]
    assert {run.backbone for run in plan.runs.values()}.isdisjoint(overlay["stand_ins"])
    for name, places in plan.cells.items():
        for place in places:
            assert any(d.startswith("backbone = ") for d in place.departures), (name, place.labels)
    variants = overlay["overrides"]["table_mvtec"]["variants"]
    for place in plan.cells["table_mvtec"]:
        run = plan.runs[place.run]
        if run.method == "reconpatch":
            assert run.epochs == variants[place.labels["variant"]]["epochs"]


# Expansion, on experiments made here.


def config(**changes) -> Config:
    return read_config(DEFAULT | changes)


def expanded(content: dict, override: dict | None = None, name: str = "x", **changes):
    """Rows of an experiment under the default configuration with changes, and why others fell out."""
    override = override or {}
    experiment = overridden(
        Experiment.model_validate({"title": "x", "datasets": {}} | content), Override.model_validate(override)
    )
    return expand(name, experiment, config(overrides={name: override}, **changes))


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


def test_a_seed_axis_of_its_own_wins_over_the_seeds() -> None:
    assert [r.run.seed for r in rows_of({"axes": {"seed": [7, 3]}}, seeds=[0, 1, 2])] == [7, 3]
    assert rows_of({})[0].labels == {}  # no variants and no axes: the baseline alone


def test_labels_are_what_a_table_prints() -> None:
    rows = rows_of({"axes": {"levels": [[2, 3], ["1", "2"]], "coreset": ["0.1", 1]}})
    assert [r.labels for r in rows] == [
        {"levels": levels, "coreset": coreset} for levels in ("2+3", "1+2") for coreset in (0.1, 1.0)
    ]


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


def test_overlays_replace_categories_axes_and_figures_and_leave_the_rest() -> None:
    before = Experiment.model_validate(
        {
            **{"title": "x", "datasets": {"a": "all"}, "axes": {"dim": [1, 2], "coreset": [0.1]}},
            **{"figures": {"umap": {"dim": 1}}, "set": {"blur": 1}, "caption": "c"},
        }
    )
    assert overridden(before, Override()) == before
    after = overridden(before, Override(axes={"dim": [4], "sigma": [1]}, datasets={"b": ["n"]}, figures={}))
    assert after.axes == {"dim": [4], "coreset": [0.1], "sigma": [1]}
    assert (after.datasets, after.figures) == ({"b": ["n"]}, {})
    assert (after.title, after.set, after.caption) == ("x", {"blur": 1}, "c")


def departures(content: dict, override: dict | None = None, **changes) -> list[tuple[str, ...]]:
    return [r.departures for r in rows_of(content, override, **changes)]


@pytest.mark.parametrize(
    ("content", "override", "changes", "expected"),
    [
        ({}, {}, {}, ()),
        ({"set": {"dim": 64}}, {}, {}, ("dim = 64 (paper 512)",)),
        ({"axes": {"dim": [64]}}, {}, {}, ()),  # a place of its own is labelled, not a departure
        ({}, {"axes": {"dim": ["64"]}}, {}, ()),  # text, as from the command line
        ({"set": {"dim": 64}, "paper": {"dim": 64}}, {}, {}, ()),
        ({"set": {"learning_rate": 1e-6}, "paper": {"learning_rate": "1e-6"}}, {}, {}, ()),
        ({"paper": {"dim": 64}}, {}, {}, ("dim = 512 (paper 64)",)),
        ({"variants": {"v": {"set": {"levels": [1, 2]}}}}, {}, {}, ("levels = 1+2 (paper 2+3)",)),
        ({"variants": {"v": {"set": {"levels": [1, 2]}, "paper": {"levels": [1, 2]}}}}, {}, {}, ()),
        ({"paper": {"dim": 1}, "variants": {"v": {"paper": {"dim": 512}}}}, {}, {}, ()),
        ({}, {"set": {"epochs": 3}}, {}, ("epochs = 3 (paper 120)",)),
        ({}, {"set": {"epoch": 58}}, {}, ("epoch = 58 (not stated, assumed None)",)),
        ({"set": {"sigma": 3}}, {}, {}, ("sigma = 3.0 (not stated, assumed 1.0)",)),
        ({"set": {"sigma": 3}, "paper": {"sigma": 2}}, {}, {}, ("sigma = 3.0 (paper 2)",)),  # stated for this table
        ({"set": {"sigma": 3}, "variants": {"v": {"paper": {"sigma": 2}}}}, {}, {}, ("sigma = 3.0 (paper 2)",)),
        (
            {"set": {"crop": 320, "resize": 366}, "paper": {"crop": 320}},
            {},
            {},
            ("resize = 366 (not stated, assumed 256)",),
        ),
        ({"set": {"method": "patchcore"}}, {"set": {"epochs": 3, "sigma": 2}}, {}, ()),  # it trains nothing
        ({"set": {"reweight": "image"}}, {}, {}, ()),  # of one neighbour there is nothing to weight
        ({"set": {"reweight": "image"}, "paper": {"neighbours": 9}, "axes": {"neighbours": [9]}}, {}, {}, None),
        ({"set": {"weights": "file"}}, {}, {}, ()),  # the paper's weights, from the user's disk
        ({"set": {"weights": "random"}}, {}, {}, ("weights = random (paper pretrained)",)),
        ({"set": {"weights": "embedded"}}, {}, {}, ("weights = embedded (paper pretrained)",)),
        ({}, {}, {"stand_ins": {WIDE50: {"backbone": "r"}}}, (f"backbone = r (paper {WIDE50})",)),
        ({}, {}, {"stand_ins": {WIDE50: {"weights": "file"}}}, ()),
        ({"axes": {"backbone": ["a"]}}, {}, {"stand_ins": {"a": {"backbone": "r"}}}, ("backbone = r (paper a)",)),
        ({"set": {"method": "patchcore", "dim": 384}, "paper": {"dim": 384}}, {}, {}, ()),  # pooled to 384 at once
    ],
)
def test_departures_are_what_differs_from_the_paper(content, override, changes, expected) -> None:
    expected = ("reweight = image (paper map)",) if expected is None else expected
    assert departures(content, override, **changes) == [expected]


@pytest.mark.parametrize(
    ("content", "override", "message"),
    [
        ({"axes": {"ratio": [1]}}, {}, "experiment x: 'ratio' is no parameter of a run; did you mean"),
        ({"set": {"ratio": 1}}, {}, "'ratio' is no parameter"),
        ({"variants": {"v": {"set": {"ratio": 1}}}}, {}, "'ratio' is no parameter"),
        ({"paper": {"dims": 1}}, {}, "'dims' is no parameter"),
        ({"variants": {"v": {"paper": {"dims": 1}}}}, {}, "'dims' is no parameter"),
        ({}, {"set": {"ratio": 1}}, "'ratio' is no parameter"),
        ({"variants": {"v": {}}}, {"variants": {"v": {"ratio": 1}}}, "'ratio' is no parameter"),
        ({"variants": {"v": {}}}, {"variants": {"u": {"dim": 1}}}, "experiment x: no variant 'u'; there are v"),
        ({}, {"variants": {"u": {}}}, "no variant 'u'; there are none"),
        ({"set": {"dim": 8}, "axes": {"dim": [8]}}, {}, "'dim' is both set and an axis"),
        ({"axes": {"dim": [8]}}, {"set": {"dim": 8}}, "'dim' is both set and an axis"),
        ({"variants": {"v": {"set": {"dim": 8}}}, "axes": {"dim": [8]}}, {}, "'dim' is both set and an axis"),
        ({"axes": {"dim": [8]}, "variants": {"v": {}}}, {"variants": {"v": {"dim": 1}}}, "'dim' is both set and"),
        ({"set": {"seed": 3}}, {}, "'seed' is both set and an axis"),
        ({"axes": {"dim": [0]}}, {}, "experiment x: dim = 0: .*greater than or equal to 1"),
        ({"axes": {"dim": []}}, {}, r"experiment x: axes: dim = \[\]: give at least one value"),
        (
            {"axes": {"dim": [8]}, "figures": {"umap": {"dmi": 8}}},
            {},
            "figures: umap: 'dmi' is no axis; .*variant, dim",
        ),
        ({"axes": {"dim": [8]}, "figures": {"umap": {"dim": 9}}}, {}, r"umap: dim = 9 is not among \[8\]"),
        ({"variants": {"v": {}}, "figures": {"gallery": {"variant": "u"}}}, {}, r"variant = 'u' is not among \['v'\]"),
        ({"axes": {"dim": [8]}}, {"figures": {"sweep": {"dim": 9}}}, r"sweep: dim = 9 is not among \[8\]"),
        ({"ensemble": {"over": "dim", "combine": ["zscore"]}}, {}, "ensemble: over = 'dim' is no axis with at least"),
        ({"ensemble": {"over": "dim", "combine": ["zscore"]}, "axes": {"dim": [8]}}, {}, "no axis with at least two"),
        *(
            (
                {"axes": {k: [1, 2]}, "ensemble": {"over": k, "combine": ["zscore"]}},
                {},
                f"{k}'.* of one method and seed",
            )
            for k in ("method", "seed")
        ),
        ({"axes": {"epoch": [0]}}, {}, "experiment x: epoch = 0"),
        ({"axes": {"epoch": ["last"]}}, {}, "experiment x: epoch = 'last'"),
        ({"axes": {"epoch": [1]}}, {"set": {"epochs": "few"}}, "experiment x: epochs = 'few'"),
    ],
)
def test_mistakes_name_the_experiment_and_the_key(content, override, message) -> None:
    with pytest.raises(ReconpatchError, match=message):
        rows_of(content, override)


def test_mistakes_in_a_stand_in_name_it() -> None:
    with pytest.raises(ReconpatchError, match=f"stand_ins.{WIDE50}: unknown key 'bakcbone'"):
        rows_of({}, stand_ins={WIDE50: {"bakcbone": "r"}})


def test_epochs_that_are_kept() -> None:
    assert [r.run.epoch for r in rows_of({"axes": {"epoch": [40, "120", None]}})] == [40, 120, None]
    assert rows_of({"axes": {"epoch": [3]}}, checkpoints=[3])[0].run.epoch == 3
    assert rows_of({"axes": {"epoch": [7]}}, {"set": {"epochs": 7}})[0].run.epoch == 7  # the last, needs no checkpoint
    ended = DEFAULT["baseline"] | {"epoch": 58}
    assert rows_of({"axes": {"epoch": [None]}}, {"set": {"epochs": 3}}, baseline=ended)[0].run.epoch is None


def test_epochs_that_are_not_reached_or_not_kept_fall_out_with_a_reason() -> None:
    """For both methods: a place without ReConPatch compares nothing."""
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


AXES = {"epochs": [60, 120], "coreset": [0.1, "1e-2"]}


def test_axes_that_the_papers_table_does_not_have_are_departures(shipped) -> None:
    """Swept over table 5, whose columns are variant and category: its numbers are of 120 epochs and 1 %."""
    datasets = {name: {"layout": d.layout, "root": d.root} for name, d in shipped.config.datasets.items()}
    plan = make_plan(read_config(DEFAULT | {"datasets": datasets, "overrides": {"table_mvtec": {"axes": AXES}}}))
    places = plan.cells["table_mvtec"]
    assert len(places) == 2 * 2 * 2 * 2
    paper = read_paper(ROOT / "configs/paper/table_mvtec.csv")
    results = [
        Result(dataset="mvtec_ad", category="bottle", record=make_record(metrics={"image_auroc": 0.9}), **asdict(place))
        for place in places
    ]
    frame = cells(results, paper, {"mvtec_ad": "mvtec_ad"}, count=100, tolerance=0.002)
    for place in places:
        assumed = place.labels["variant"] == "480 px"  # where the paper states the network alone
        whose = "not stated, assumed" if assumed else "paper"
        expected = {f"coreset = 0.1 ({whose} 0.01)"} if place.labels["coreset"] == 0.1 else set()
        trained = place.method == "reconpatch" and place.labels["epochs"] == 60
        expected |= {f"epochs = 60 ({whose} 120)"} if trained else set()
        assert set(place.departures) == expected
        (cell,) = frame[
            (frame["metric"] == "image_auroc")
            & (frame["method"] == place.method)
            & (frame[list(place.labels)] == pd.Series(place.labels)).all(axis=1)
        ].to_dict("records")
        if place.method == "reconpatch":  # PatchCore's numbers have a caveat anyway
            assert cell["verdict"] == ("not comparable" if expected else "below")
            assert set(cell["reasons"].split(BETWEEN)) - {""} == expected


@pytest.mark.parametrize(
    ("name", "axes", "expected"),
    [
        ("table_dimension", {"dim": [32]}, set()),  # a column of the paper's table
        ("table_dimension", {"k": [3]}, {"k = 3 (paper 5)"}),
        ("table_coreset", {"coreset": [0.5]}, set()),
        ("table_btad", {"dim": [64]}, {"dim = 64 (not stated, assumed 512)"}),
        ("figure_curve", {"dim": [64]}, set()),  # beyond the paper: it publishes no numbers, all axes are places
        ("table_official", {"sigma": [3]}, set()),  # PatchCore alone, which has no sigma
    ],
)
def test_a_column_of_the_papers_table_is_a_place_other_axes_are_settings(name, axes, expected) -> None:
    experiment = overridden(Experiment.model_validate(content_of(name)), Override(axes=axes))
    rows, out = expand(name, experiment, config())
    assert out == [] and {d for row in rows for d in row.departures} == expected


@given(st.floats(allow_nan=False, allow_infinity=False), st.floats(allow_nan=False, allow_infinity=False))
def test_numbers_are_the_same_however_they_are_written(one, other) -> None:
    assert same(one, repr(one)) and same(f"{one:.17e}", one)
    assert same(one, repr(other)) == (one == other)


@pytest.mark.parametrize(
    ("one", "other", "agrees"),
    [
        *[((2, 3), [2, 3], True), (["2", "3"], "2+3", True), ([2, 3], [3, 2], False), ([2], [2, 3], False)],
        *[(None, None, True), (None, 0, False), (True, True, True), (True, False, False), ("a", "A", False)],
        *[(1, 1.0, True), ("map", "map", True), ("map", "image", False)],
    ],
)
def test_other_values_are_the_same_as_text(one, other, agrees) -> None:
    assert same(one, other) == same(other, one) == agrees


@pytest.mark.parametrize(
    ("content", "override", "message"),
    [
        ({"axes": {"coreset": [0.1, 0.01, "1e-1"]}}, {}, "axes: coreset: '1e-1' is there twice"),
        ({"axes": {"levels": [[2, 3], [2, 3]]}}, {}, r"axes: levels: \[2, 3\] is there twice"),
        ({"axes": {"dim": [1]}}, {"axes": {"dim": [2, 2.0]}}, "axes: dim: 2.0 is there twice"),
        ({"set": {"epoch": 7}}, {}, "epoch = 7 is not among checkpoints .* choose one of these, or add it"),
        ({}, {"set": {"epoch": "7"}}, "epoch = 7 is not among checkpoints"),
    ],
)
def test_rows_that_could_not_be_told_apart_or_made(content, override, message) -> None:
    with pytest.raises(ReconpatchError, match=f"experiment x: {message}"):
        rows_of(content, override)


def test_an_epoch_of_the_baseline_that_is_not_kept_or_not_reached() -> None:
    baseline = DEFAULT["baseline"] | {"epoch": 7}
    with pytest.raises(ReconpatchError, match="epoch = 7 is not among checkpoints"):
        rows_of({}, baseline=baseline)
    assert rows_of({}, baseline=baseline, checkpoints=[7])[0].run.epoch == 7
    assert expanded({"set": {"epochs": 3}}, baseline=baseline | {"epoch": 40})[0] == []


def test_two_backbones_with_one_stand_in_are_two_equal_rows() -> None:
    content = {"axes": {"backbone": [WIDE50, WIDE101]}}
    assert len(rows_of(content)) == 2
    with pytest.raises(ReconpatchError, match=r"experiment x: two rows are .*same stand-in"):
        rows_of(content, stand_ins={WIDE50: {"backbone": WIDE101}})
