import re
from pathlib import Path

import pytest
import yaml

from reconpatch.errors import ReconpatchError
from reconpatch.experiments.config import RULES, expand_path, read_config, read_experiment
from reconpatch.experiments.run import Run, description, digest, of_training, vary

ROOT = Path(__file__).parents[3]
DEFAULT = yaml.safe_load((ROOT / "configs/default.yaml").read_text())


@pytest.fixture
def baseline() -> Run:
    return read_config(DEFAULT).baseline


def test_default_gives_every_key_with_a_reason() -> None:
    """The shipped file sets every field and comments on every line of the baseline."""
    config = read_config(DEFAULT)
    assert set(DEFAULT["baseline"]) == set(Run.model_fields)
    assert set(DEFAULT) == set(type(config).model_fields)
    lines = (ROOT / "configs/default.yaml").read_text().split("baseline:\n")[1].splitlines()
    silent = [line for line, above in zip(lines, ["", *lines], strict=False) if "#" not in line and "#" not in above]
    assert not silent


def test_baseline_is_the_papers(baseline) -> None:
    assert (baseline.backbone, baseline.dim, baseline.coreset, baseline.epochs) == (
        "wide_resnet50_2.tv_in1k",
        512,
        0.01,
        120,
    )
    assert (baseline.learning_rate, baseline.weight_decay, baseline.alpha, baseline.k, baseline.margin) == (
        1e-5,
        1e-2,
        0.5,
        5,
        1,
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"coreset": 0}, "coreset = 0: .*greater than 0"),
        ({"coreset": 2}, "coreset = 2: .*less than or equal to 1"),
        ({"corset": 0.1}, "unknown key corset"),
        ({"patch_size": 4}, "patch_size = 4: must be odd"),
        ({"levels": [3, 2]}, r"levels = .*every level once, lowest first"),
        ({"levels": []}, "levels"),
        ({"crop": 300}, "crop 300 is larger than resize 256"),
        ({"method": "padim"}, "method = 'padim'"),
        ({"epochs": 1.5}, "epochs = 1.5"),
        ({"learning_rate": "fast"}, "learning_rate = 'fast'"),
        ({"seed": -1}, "seed = -1"),
        ({"precision": "float16"}, "precision = 'float16'.*'float32' or 'bfloat16'"),
        ({"augment": "train"}, "augment = 'train'.*'none', 'test' or 'both'"),
        ({"augment_rotation": 181}, "augment_rotation = 181"),
        ({"augment_translation": 1}, "augment_translation = 1"),
        ({"augment_brightness": 1}, "augment_brightness = 1"),
        ({"augment_contrast": 1}, "augment_contrast = 1"),
        ({"augment_blur": -0.1}, "augment_blur = -0.1"),
        ({"mask_rule": "half"}, "mask_rule = 'half'.*'any' or 'official'"),
        ({"epoch": 0}, "epoch = 0"),
        ({"epoch": 121}, "epoch 121 comes after the last of 120 epochs"),
        ({"batch": 8}, "batch 8 holds too few patches for k = 5"),
        ({"feature_dim": 2049}, "feature_dim 2049 is more than there is to pool, 2 levels of level_dim 1024"),
        ({"levels": [2], "feature_dim": 1025}, "feature_dim 1025 is more than there is to pool, 1 levels"),
        ({"method": "patchcore", "dim": 2049}, "dim 2049 is more than there is to pool"),
        ({"sigma": float("nan")}, "sigma = nan: Input should be a finite number"),
        ({"learning_rate": "1e400"}, "learning_rate = '1e400': Input should be a finite number"),
        ({"dim": True}, "dim = True: true and false are no numbers"),
    ],
)
def test_bad_values_are_named(change, message, baseline) -> None:
    with pytest.raises(ReconpatchError, match=f"experiment x: .*{message}|experiment x: {message}"):
        vary(baseline, change, "experiment x")


def test_values_that_do_not_fit_together_are_named_without_the_whole_run(baseline) -> None:
    with pytest.raises(ReconpatchError) as caught:
        vary(baseline, {"crop": 300}, "experiment x")
    assert str(caught.value) == "experiment x: crop 300 is larger than resize 256; lower crop or raise resize"


def test_misspelt_and_missing_keys_are_listed_together() -> None:
    content = {k: v for k, v in DEFAULT.items() if k != "device"} | {"sedes": [1]}
    with pytest.raises(ReconpatchError) as caught:
        read_config(content)
    assert "unknown key sedes" in str(caught.value) and "key device is missing" in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"features_gb": -1}, "features_gb = -1"),
        ({"checkpoints": [0]}, r"checkpoints.0 = 0"),
        ({"seeds": []}, "seeds"),
        ({"resamples": 99}, "resamples = 99"),
        ({"tolerance": 0}, "tolerance = 0"),
        ({"overrides": {"table_btad": {"sets": {}}}}, "unknown key overrides.table_btad.sets"),
        ({"overrides": {"table_btad": {"figures": {"bars": {}}}}}, "overrides.table_btad.figures.bars"),
        ({"stand_ins": {"a": "b"}}, "stand_ins.a = 'b'"),
        ({"datasets": {"a": {"layout": "mvtec", "root": None}}}, "datasets.a.layout = 'mvtec'"),
    ],
)
def test_bad_values_of_the_whole_are_named(change, message) -> None:
    with pytest.raises(ReconpatchError, match=f"configuration: .*{message}"):
        read_config(DEFAULT | change)


def test_targets_of_the_workflow_are_no_names_of_experiments() -> None:
    """`smoke` is an experiment and a rule; its rule takes the experiment's files."""
    found = set()
    for file in [*(ROOT / "workflow/rules").glob("*.smk"), ROOT / "workflow/Snakefile"]:
        found |= set(re.findall(r"^rule (\w+):", file.read_text(), re.MULTILINE))
    assert found - {"smoke"} == RULES


def test_a_wide_f_is_no_mistake(baseline) -> None:
    assert vary(baseline, {"dim": 4096}, "").dim == 4096
    vary(baseline, {"feature_dim": 2048}, "")


def test_minus_zero_makes_no_other_run(baseline) -> None:
    one, other = (vary(baseline, {"blur": zero, "margin": zero}, "") for zero in (0, "-0.0"))
    assert digest(description(one, "score")) == digest(description(other, "score"))


def test_pins_are_compared_in_lower_case() -> None:
    config = read_config(DEFAULT | {"weight_digests": {"resnet18": "AB" * 32}})
    assert config.weight_digests == {"resnet18": "ab" * 32} and config.baseline == read_config(DEFAULT).baseline


@pytest.mark.parametrize("name", ["../x", "a/b", "-x", "", "a b", "a\nb", "x" * 65])
def test_names_that_could_leave_the_results_folder_are_refused(name) -> None:
    with pytest.raises(ReconpatchError, match="names start with a letter or digit"):
        read_config(DEFAULT | {"datasets": {name: DEFAULT["datasets"]["btad"]}})


# Which stages of a ReConPatch run are made anew when one field changes, by hand: the images, the patches behind f, f,
# the coreset, the scores. Augmentation of the test images reaches features and masks, but not what is trained.
IMAGES = {"masks", "features", "training", "bank", "score"}
PATCHES, TRAINED = IMAGES - {"masks"}, {"training", "bank", "score"}
CHANGES: dict[str, tuple[object, set[str]]] = {
    "method": ("patchcore", {"bank", "score"}),
    "seed": (1, TRAINED),
    "backbone": ("resnet18", PATCHES),
    "weights": ("file", PATCHES),
    "resize": (300, IMAGES),
    "crop": (200, IMAGES),
    "interpolation": ("bicubic", PATCHES),
    "precision": ("bfloat16", PATCHES),
    "augment": ("test", {"masks", "features", "score"}),
    "augment_rotation": (1.0, set()),
    "augment_translation": (0.01, set()),
    "augment_brightness": (0.01, set()),
    "augment_contrast": (0.01, set()),
    "augment_blur": (0.01, set()),
    "levels": ((1, 2), PATCHES),
    "patch_size": (5, PATCHES),
    "level_dim": (512, PATCHES),
    "feature_dim": (512, PATCHES),
    "dim": (256, TRAINED),
    "coreset": (0.1, {"score"}),
    "coreset_dim": (64, {"bank", "score"}),
    "neighbours": (9, {"score"}),
    "reweight": ("image", set()),
    "blur": (1.0, {"score"}),
    "mask_rule": ("official", {"masks", "score"}),
    "projection_dim": (64, TRAINED),
    "epochs": (60, TRAINED),
    "epoch": (40, {"bank", "score"}),
    "batch": (64, TRAINED),
    "learning_rate": (1e-4, TRAINED),
    "weight_decay": (1e-3, TRAINED),
    "alpha": (0.1, TRAINED),
    "k": (7, TRAINED),
    "sigma": (3.0, TRAINED),
    "margin": (0.1, TRAINED),
    "gamma": (0.9, TRAINED),
    "teacher_norm": (True, TRAINED),
}
ONLY_TRAINING = {"projection_dim", "epochs", "epoch", "batch", "learning_rate", "weight_decay", "alpha", "k", "sigma"}
ONLY_TRAINING |= {"margin", "gamma", "teacher_norm"}


def changed(before: Run, after: Run) -> set[str]:
    """Stages whose descriptions differ; PatchCore has no training."""
    stages = IMAGES - ({"training"} if "patchcore" in (before.method, after.method) else set())
    return {stage for stage in stages if description(before, stage) != description(after, stage)}


@pytest.mark.parametrize("key", Run.model_fields)
def test_a_changed_field_changes_exactly_the_stages_that_depend_on_it(key, baseline) -> None:
    value, stages = CHANGES[key]
    assert changed(baseline, vary(baseline, {key: value}, "")) == stages
    if key != "method":
        patchcore = vary(baseline, {"method": "patchcore"}, "")
        expected = set() if key in ONLY_TRAINING else stages - {"training"}
        assert changed(patchcore, vary(patchcore, {key: value}, "")) == expected


@pytest.mark.parametrize("key", [*[key for key in CHANGES if key.startswith("augment_")], "seed"])
def test_ranges_and_seed_matter_to_what_is_augmented(key, baseline) -> None:
    test, both = (vary(baseline, {"augment": augment}, "") for augment in ("test", "both"))
    own = TRAINED if key == "seed" else {"score"}
    assert changed(test, vary(test, {key: CHANGES[key][0]}, "")) == {"masks", "features"} | own
    assert changed(both, vary(both, {key: CHANGES[key][0]}, "")) == IMAGES


def test_both_readings_of_the_augmentation_see_the_same_test_images(baseline) -> None:
    test, both = (vary(baseline, {"augment": augment}, "") for augment in ("test", "both"))
    assert changed(test, both) == TRAINED
    assert of_training(test) == baseline == of_training(baseline) and of_training(both) == both


def test_the_last_epoch_is_no_checkpoint(baseline) -> None:
    assert changed(baseline, vary(baseline, {"epoch": 120}, "")) == set()


def test_neighbours_bring_the_reweighting_in(baseline) -> None:
    nine = vary(baseline, {"neighbours": 9}, "")
    assert changed(nine, vary(nine, {"reweight": "image"}, "")) == {"score"}


def test_random_weights_depend_on_the_seed(baseline) -> None:
    random = vary(baseline, {"weights": "random"}, "")
    assert changed(random, vary(random, {"seed": 1}, "")) == PATCHES


def test_description_holds_what_a_stage_depends_on(baseline) -> None:
    patchcore = vary(baseline, {"method": "patchcore"}, "")
    other = vary(patchcore, {"sigma": 9.0, "epochs": 1, "reweight": "image"}, "")
    assert description(patchcore, "score") == description(other, "score")
    assert description(patchcore, "features") == description(baseline, "features")
    assert description(vary(baseline, {"sigma": 9.0}, ""), "features") == description(baseline, "features")
    assert description(vary(baseline, {"sigma": 9.0}, ""), "training") != description(baseline, "training")
    assert description(vary(baseline, {"coreset": 0.1}, ""), "bank") == description(baseline, "bank")
    assert description(vary(baseline, {"seed": 1}, ""), "features") == description(baseline, "features")
    random = vary(baseline, {"weights": "random"}, "")
    assert description(vary(random, {"seed": 1}, ""), "features") != description(random, "features")


def test_patchcore_pools_directly_where_it_cannot_share(baseline) -> None:
    even, odd = (vary(baseline, {"method": "patchcore", "dim": d}, "") for d in (64, 384))
    assert description(even, "features")["feature_dim"] == 1024
    assert description(odd, "features")["feature_dim"] == 384


def test_paths_expand_or_name_their_key(monkeypatch) -> None:
    monkeypatch.setenv("SOMEWHERE", "/data")
    assert expand_path("$SOMEWHERE/x", "root") == Path("/data/x")
    assert "~" not in str(expand_path("~/x", "root"))
    with pytest.raises(ReconpatchError, match=r"root = '\$NOWHERE_SET/x'"):
        expand_path("$NOWHERE_SET/x", "root")
    with pytest.raises(ReconpatchError, match=r"root = '~nobody-of-this-name/x': .*home"):
        expand_path("~nobody-of-this-name/x", "root")
    monkeypatch.setenv("SOMEWHERE", "x" * 300)
    with pytest.raises(ReconpatchError, match=r"root = '\$SOMEWHERE/x': no path is that long"):
        expand_path("$SOMEWHERE/x", "root")


def test_experiment_files_are_closed(tmp_path) -> None:
    file = tmp_path / "e.yaml"
    file.write_text("title: x\ndatasets: {a: all}\naxis: {dim: [1]}\n")
    with pytest.raises(ReconpatchError, match=r"e\.yaml: unknown key axis"):
        read_experiment(file)
    file.write_text("title: [")
    with pytest.raises(ReconpatchError, match="not valid YAML"):
        read_experiment(file)
    with pytest.raises(ReconpatchError, match="no such file"):
        read_experiment(tmp_path / "absent.yaml")
    for text, message in (
        ("figures: {bars: {}}", "figures.bars"),
        ("figures: {umap: 1}", "figures.umap = 1"),
        ("variants: {a: {dim: 1}}", "unknown key variants.a.dim"),
        ("ensemble: {over: backbone, combine: []}", "ensemble.combine"),
        ("ensemble: {over: backbone, combine: [max]}", "ensemble.combine.0 = 'max'"),
        ("measure: speed", "measure = 'speed'"),
    ):
        file.write_text(f"title: x\ndatasets: {{a: all}}\n{text}\n")
        with pytest.raises(ReconpatchError, match=rf"e\.yaml: .*{message}"):
            read_experiment(file)


def test_numbers_given_as_text_are_numbers(baseline) -> None:
    """What `--config 'baseline={dim: 64}'` and a bare 1e-5 in YAML arrive as."""
    run = vary(baseline, {"dim": "64", "learning_rate": "1e-5", "levels": ["2", "3"]}, "")
    assert (run.dim, run.learning_rate, run.levels) == (64, 1e-5, (2, 3))
    assert read_config(DEFAULT | {"seeds": ["0", "1"]}).seeds == [0, 1]
