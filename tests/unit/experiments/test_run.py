"""A run: its limits, its defaults, and which stages depend on which of its fields."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from reconpatch.errors import ReconpatchError
from reconpatch.experiments.run import (
    BASELINE,
    DEFAULTS,
    ORIGINS,
    Run,
    SavedRun,
    embedding_remark,
    fitted,
    of_training,
    vary,
)
from reconpatch.experiments.stages import STAGES, description
from reconpatch.method.memory_bank import coreset_size


def vary_baseline(**changes: object) -> Run:
    return vary(BASELINE, changes, "x")


def test_the_defaults_are_the_settings_that_the_paper_prints() -> None:
    """Typed from the paper, section 4.1 and Table 2."""
    printed = {"backbone": "wide_resnet50_2.tv_in1k", "crop": 224, "levels": (2, 3), "patch_size": 3, "dim": 512}
    printed |= {"coreset": 0.01, "epochs": 120, "learning_rate": 1e-5, "weight_decay": 1e-2}
    assert {key: getattr(BASELINE, key) for key in printed} == printed
    assert all(ORIGINS[key].stated and ORIGINS[key].source.startswith("paper") for key in printed)


def test_a_saved_run_has_every_key() -> None:
    """A default must not stand in for what another version, or damage, left out."""
    saved, adapter = BASELINE.model_dump(mode="json"), TypeAdapter(SavedRun)
    assert adapter.validate_python(saved) == adapter.validate_python(BASELINE) == BASELINE
    for key in Run.model_fields:
        with pytest.raises(ValidationError, match=f"{key} is missing"):
            adapter.validate_python({k: v for k, v in saved.items() if k != key})


@given(
    st.lists(st.integers(1, 1500), min_size=1, max_size=5),
    st.floats(1e-4, 1),
    st.integers(1, 20),
    st.integers(2, 40),
    st.sampled_from(["all", "image"]),
)
def test_a_run_has_no_problem_where_its_bank_and_batches_are_large_enough(images, coreset, neighbours, k, kind) -> None:
    run = vary_baseline(coreset=coreset, neighbours=neighbours, k=k, batch=128, batches=kind)
    patches = sum(images)
    smallest = min(n // max(1, round(n / 128)) for n in (images if kind == "image" else [patches]))
    kept = int(patches * coreset)
    fits = kept >= 1 and neighbours <= kept and smallest >= k
    assert (run.problem_with(images) is None) == fits
    assert not fits or coreset_size(patches, coreset) == kept


def test_f_begins_with_no_more_orthogonal_rows_than_it_has_inputs() -> None:
    for init in ("orthogonal", "pca"):
        vary_baseline(init=init, dim=1024)
        vary_baseline(init=init, dim=1025, method="patchcore")
        with pytest.raises(ReconpatchError, match=rf"dim 1025 is more than init {init} can make of feature_dim 1024"):
            vary_baseline(init=init, dim=1025)


# Which stages of a ReConPatch run are made anew when one field changes, by hand: the images, the patches behind f, f,
# the coreset, the scores. Augmentation of the test images reaches features and masks, but not what is trained.
IMAGES = {"masks", "features", "training", "bank", "score"}
PATCHES, TRAINED = IMAGES - {"masks"}, {"training", "bank", "score"}
IN_TRAINING = {"projection_dim": 64, "epochs": 60, "batch": 64, "learning_rate": 1e-4, "weight_decay": 1e-3}
IN_TRAINING |= {"alpha": 0.1, "k": 7, "sigma": 3.0, "margin": 0.1, "gamma": 0.9, "teacher_norm": True}
IN_TRAINING |= {"sigma_unit": "median", "batches": "image"}
OF_F = {"init": "pca", "bias": False}  # of the training, and of the untrained f
CHANGES: dict[str, tuple[object, set[str]]] = {key: (value, TRAINED) for key, value in (IN_TRAINING | OF_F).items()} | {
    **{f"augment_{name}": (0.01, set()) for name in ("rotation", "translation", "brightness", "contrast", "blur")},
    **{
        "aspect": ("keep", IMAGES),
        "resize": (300, IMAGES),
        "crop": (200, IMAGES),
        "backbone": ("resnet18", PATCHES),
        "weights": ("file", PATCHES),
    },
    **{"interpolation": ("bicubic", PATCHES), "precision": ("bfloat16", PATCHES), "levels": ((1, 2), PATCHES)},
    **{"batch_norm": ("probed", PATCHES), "patch_size": (5, PATCHES), "embedding": ("concat", PATCHES)},
    **{"level_dim": (512, PATCHES), "feature_dim": (512, PATCHES)},
    **{"method": ("patchcore", {"bank", "score"}), "seed": (1, TRAINED), "dim": (256, TRAINED)},
    **{"coreset_dim": (64, {"bank", "score"}), "epoch": (40, {"bank", "score"}), "coreset": (0.1, {"score"})},
    **{"neighbours": (9, {"score"}), "blur": (1.0, {"score"}), "reweight": ("image", set())},
    "distance": ("squared", {"score"}),
    **{"mask_rule": ("official", {"masks", "score"}), "augment": ("test", {"masks", "features", "score"})},
}


def changed(before: Run, after: Run) -> set[str]:
    """Stages whose descriptions differ; PatchCore has no training."""
    stages = IMAGES - ({"training"} if "patchcore" in (before.method, after.method) else set())
    return {stage for stage in stages if description(before, stage) != description(after, stage)}


def test_every_field_is_among_the_changes() -> None:
    assert CHANGES.keys() == Run.model_fields.keys()


@pytest.mark.parametrize("key", CHANGES)
def test_a_changed_field_changes_exactly_the_stages_that_depend_on_it(key) -> None:
    value, stages = CHANGES[key]
    assert changed(BASELINE, vary_baseline(**{key: value})) == stages
    if key != "method":
        patchcore = vary(BASELINE, {"method": "patchcore"}, "")
        expected = set() if key in {*IN_TRAINING, *OF_F, "epoch"} else stages - {"training"}
        assert changed(patchcore, vary(patchcore, {key: value}, "")) == expected


@pytest.mark.parametrize("key", [*[key for key in CHANGES if key.startswith("augment_")], "seed"])
def test_ranges_and_seed_matter_to_what_is_augmented(key) -> None:
    test, both = (vary(BASELINE, {"augment": augment}, "") for augment in ("test", "both"))
    own = TRAINED if key == "seed" else {"score"}
    assert changed(test, vary(test, {key: CHANGES[key][0]}, "")) == {"masks", "features"} | own
    assert changed(both, vary(both, {key: CHANGES[key][0]}, "")) == IMAGES


def test_both_readings_of_the_augmentation_see_the_same_test_images() -> None:
    test, both = (vary(BASELINE, {"augment": augment}, "") for augment in ("test", "both"))
    assert changed(test, both) == TRAINED
    assert of_training(test) == BASELINE == of_training(BASELINE) and of_training(both) == both


def test_the_last_epoch_is_no_checkpoint() -> None:
    assert changed(BASELINE, vary(BASELINE, {"epoch": 120}, "")) == set()


def test_neighbours_bring_the_reweighting_in() -> None:
    nine = vary(BASELINE, {"neighbours": 9}, "")
    assert changed(nine, vary(nine, {"reweight": "image"}, "")) == {"score"}


def test_what_is_not_cropped_has_no_size_before_the_crop() -> None:
    """A crop is the default, of which descriptions say nothing: names of runs are what they were before it had one."""
    kept = vary(BASELINE, {"aspect": "keep"}, "")
    assert changed(kept, vary(kept, {"resize": 300}, "")) == set()
    assert vary(kept, {"crop": 300}, "").crop == 300  # more than resize
    assert "aspect" not in description(BASELINE, "score") and description(kept, "score")["aspect"] == "keep"


def test_random_weights_depend_on_the_seed() -> None:
    random = vary(BASELINE, {"weights": "random"}, "")
    assert changed(random, vary(random, {"seed": 1}, "")) == PATCHES


def test_patchcore_shares_wider_features_where_they_pool_evenly_to_its_dimension() -> None:
    even, odd = (vary_baseline(method="patchcore", dim=dim) for dim in (64, 384))
    assert description(even, "features") == description(BASELINE, "features")
    assert description(odd, "features")["feature_dim"] == 384


CHANNELS = {"wide_resnet50_2.tv_in1k": {1: 256, 2: 512, 3: 1024}, "resnet18": {1: 64, 2: 128, 3: 256}}
WIDE = {"level_dim": 1024, "feature_dim": 1024}
CHANNELS |= {"tf_efficientnet_lite0": {2: 40, 3: 112}}


def channels(backbone: str, levels: tuple[int, ...], _: int = 224) -> list[int]:
    return [CHANNELS[backbone][level] for level in levels]


def test_the_defaults_are_the_papers_numbers_for_its_network() -> None:
    assert fitted(DEFAULTS, channels) == BASELINE


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"backbone": "resnet18"}, (256, 256, 128)),
        ({"backbone": "tf_efficientnet_lite0", "dim": "1/16"}, (80, 80, 5)),
        ({"levels": [1, 2, 3]}, (1024, 1024, 512)),  # Table 3, as the official code pools
        ({"backbone": "resnet18", "levels": [3], "dim": "1/1"}, (256, 256, 256)),
        ({"backbone": "resnet18", "level_dim": 100, "levels": [1, 2, 3], "dim": "3/8"}, (100, 256, 96)),
        ({"backbone": "resnet18", "feature_dim": 100, "dim": "1/1000"}, (256, 100, 1)),
        (
            {"backbone": "resnet18", "feature_dim": "64", "level_dim": "64", "dim": "64"},
            (64, 64, 64),
        ),  # text of numbers
    ],
)
def test_widths_fit_the_network(changes, expected) -> None:
    """(level_dim, feature_dim, dim), worked out by hand."""
    run = fitted(vary(DEFAULTS, changes, "x"), channels)
    assert (run.level_dim, run.feature_dim, run.dim) == expected
    assert type(run) is Run and all(type(width) is int for width in (run.level_dim, run.feature_dim, run.dim))


@pytest.mark.parametrize(("method", "dim", "width"), [("reconpatch", "1/2", 1536), ("patchcore", "1/5", 307)])
def test_concatenation_keeps_every_channel(method, dim, width) -> None:
    run = fitted(vary(DEFAULTS, {"embedding": "concat", "dim": dim, "method": method}, "x"), channels)
    assert (run.feature_dim, run.dim, run.width) == (1536, 1536 // int(dim[-1]), width)
    written = description(run, "features")
    assert written["level_dim"] is None and written["feature_dim"] == width
    assert description(run, "score")["embedding"] == "concat"


def test_an_epoch_may_be_a_share_of_all() -> None:
    for epochs, epoch, expected in ((120, "1/3", 40), (4, "1/3", 1), (2, "1/3", 1), (120, "1/1", 120), (120, 58, 58)):
        run = fitted(vary(DEFAULTS, {"epochs": epochs, "epoch": epoch}, "x"), channels)
        assert run.epoch == expected


@pytest.mark.parametrize("dim", ["3/2", "0/4", "1/0", "-1/2", "1/2/3", "a/b", "1/ 2", "half", 0.5])
def test_what_is_no_share_is_refused(dim) -> None:
    with pytest.raises(ReconpatchError, match=r"x: dim = .*1/2"):
        vary(DEFAULTS, {"dim": dim}, "x")


@pytest.mark.parametrize(("key", "value", "fix"), [("level_dim", "automatic", "auto"), ("epoch", "last", "1/2")])
def test_what_is_neither_number_nor_word_is_refused_with_the_words(key, value, fix) -> None:
    with pytest.raises(ReconpatchError, match=f"x: {key} = '{value}': must be a whole number.*{fix}"):
        vary(DEFAULTS, {key: value}, "x")


def test_an_unknown_network_is_named_where_widths_depend_on_it() -> None:
    def unknown(*_: object) -> list[int]:
        raise ReconpatchError("no such network")

    with pytest.raises(ReconpatchError, match="experiment e: no such network"):
        fitted(DEFAULTS, unknown, "experiment e")
    assert fitted(vary(DEFAULTS, {"level_dim": 1024, "feature_dim": 1024}, ""), unknown) == BASELINE


@pytest.mark.parametrize(
    ("changes", "remark"),
    [
        ({}, ""),
        ({"backbone": "resnet18"}, ""),
        ({"backbone": "resnet18", "embedding": "concat"}, ""),
        # ResNet-18 at the width of WideResNet-50: 128 * 9 * 2 / 1024 and 256 * 9 * 2 / 1024 positions
        (
            {"backbone": "resnet18", "level_dim": 1024, "feature_dim": 1024},
            "leaves surroundings unaveraged: .* 2.2 and 4.5 ",
        ),
        (
            {"backbone": "tf_efficientnet_lite0", "level_dim": 1024, "feature_dim": 1024},
            "repeats values: .* 0.7 and 2.0 ",
        ),
        ({"levels": [1, 2, 3]}, "leaves surroundings unaveraged: .* 6.8 and 13.5 and 27.0 "),  # the paper's own
        ({"levels": [3]}, ""),
        ({"backbone": "tf_efficientnet_lite0", "dim": 512}, "^f makes 512 values of 80, more than there are$"),
        ({"backbone": "tf_efficientnet_lite0", "dim": 80}, ""),
    ],
)
def test_embeddings_that_do_not_average_whole_surroundings_are_remarked_on(changes, remark) -> None:
    run = fitted(vary(DEFAULTS, changes, ""), channels)
    said = embedding_remark(run, channels(run.backbone, run.levels))
    assert re.search(remark, said) if remark else not said


def test_fields_name_stages_of_the_table() -> None:
    assert {stage for origin in ORIGINS.values() for stage in origin.stages} <= STAGES.keys()


def test_the_untrained_f_depends_on_its_shape_how_it_begins_and_seed_alone() -> None:
    untrained = vary_baseline(method="untrained")
    for key, value in IN_TRAINING.items():
        assert description(vary(untrained, {key: value}, ""), "score") == description(untrained, "score"), key
    for key, value in ({"dim": 256, "seed": 1, "feature_dim": 512} | OF_F).items():
        assert description(vary(untrained, {key: value}, ""), "bank") != description(untrained, "bank"), key
    assert description(untrained, "features") == description(BASELINE, "features")
