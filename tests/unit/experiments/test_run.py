"""A run: its limits, its defaults, and which stages depend on which of its fields."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from reconpatch.errors import ReconpatchError
from reconpatch.experiments.run import BASELINE, ORIGINS, Run, SavedRun, description, digest, of_training, vary
from reconpatch.method.memory_bank import coreset_size


def vary_baseline(**changes: object) -> Run:
    return vary(BASELINE, changes, "x")


def test_the_defaults_are_the_settings_that_the_paper_prints() -> None:
    """Typed from the paper, section 4.1 and Table 2."""
    printed = {"backbone": "wide_resnet50_2.tv_in1k", "crop": 224, "levels": (2, 3), "patch_size": 3, "dim": 512}
    printed |= {"coreset": 0.01, "epochs": 120, "learning_rate": 1e-5, "weight_decay": 1e-2}
    assert {key: getattr(BASELINE, key) for key in printed} == printed
    assert all(ORIGINS[key].stated and ORIGINS[key].source.startswith("paper") for key in printed)


def test_every_field_says_what_it_means_and_where_its_default_comes_from() -> None:
    for key, field in Run.model_fields.items():
        assert field.description and ORIGINS[key].stages, key
        assert ORIGINS[key].source.split(":")[0].split(",")[0].split(";")[0].split()[0] in (
            *("paper", "PatchCore", "STML", "codes", "ours"),
        )


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"coreset": 0}, "coreset = 0"),
        ({"patch_size": 4}, "patch_size = 4: must be odd"),
        ({"levels": [3, 2]}, "lowest first"),
        ({"crop": 300}, "crop 300 is larger than resize 256"),
        ({"method": "padim"}, "method = 'padim'"),
        ({"epochs": 1.5}, "epochs = 1.5"),
        ({"augment_translation": 1}, "augment_translation = 1"),
        ({"epoch": 121}, "epoch 121 comes after the last of 120"),
        ({"batch": 8}, "batch 8 holds too few patches for k = 5"),
        ({"feature_dim": 2049}, "feature_dim 2049 is more than there is to pool, 2 levels"),
        ({"method": "patchcore", "dim": 2049}, "dim 2049 is more than there is to pool"),
        ({"sigma": float("nan")}, "sigma = nan"),
        ({"dim": True}, "dim = True"),
        ({"corset": 0.1}, "unknown key corset"),
    ],
)
def test_wrong_values_are_named(changes, words) -> None:
    with pytest.raises(ReconpatchError, match="x: ") as error:
        vary_baseline(**changes)
    assert words in str(error.value) and "\n" not in str(error.value)


def test_values_at_the_limits_are_accepted() -> None:
    assert vary_baseline(dim=4096).dim == 4096  # f may be wider than its input
    assert vary_baseline(feature_dim=2048, epoch=120, batch=10, crop=256).feature_dim == 2048


def test_numbers_given_as_text_are_numbers() -> None:
    """Snakemake's --config hands over text, and YAML reads 1e-5 as text."""
    run = vary_baseline(dim="64", learning_rate="1e-5", levels=["2", "3"])
    assert (run.dim, run.learning_rate, run.levels) == (64, 1e-5, (2, 3))


def test_minus_zero_is_no_other_run() -> None:
    one, other = (vary_baseline(blur=zero, margin=zero) for zero in (0, "-0.0"))
    assert digest(description(one, "score")) == digest(description(other, "score"))


def test_a_saved_run_has_every_key() -> None:
    """A default must not stand in for what another version, or damage, left out."""
    saved, adapter = BASELINE.model_dump(mode="json"), TypeAdapter(SavedRun)
    assert adapter.validate_python(saved) == adapter.validate_python(BASELINE) == BASELINE
    for key in Run.model_fields:
        with pytest.raises(ValidationError, match=f"{key} is missing"):
            adapter.validate_python({k: v for k, v in saved.items() if k != key})


@given(st.integers(1, 5000), st.floats(1e-4, 1), st.integers(1, 20), st.integers(2, 40))
def test_a_run_has_no_problem_where_its_bank_and_batches_are_large_enough(patches, coreset, neighbours, k) -> None:
    run = vary_baseline(coreset=coreset, neighbours=neighbours, k=k)
    batches = max(1, round(patches / run.batch))
    kept = int(patches * coreset)
    fits = kept >= 1 and neighbours <= kept and patches // batches >= k
    assert (run.problem_with(patches) is None) == fits
    assert not fits or coreset_size(patches, coreset) == kept


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


@pytest.mark.parametrize("key", CHANGES)
def test_a_changed_field_changes_exactly_the_stages_that_depend_on_it(key) -> None:
    value, stages = CHANGES[key]
    assert changed(BASELINE, vary_baseline(**{key: value})) == stages
    if key != "method":
        patchcore = vary(BASELINE, {"method": "patchcore"}, "")
        expected = set() if key in ONLY_TRAINING else stages - {"training"}
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


def test_random_weights_depend_on_the_seed() -> None:
    random = vary(BASELINE, {"weights": "random"}, "")
    assert changed(random, vary(random, {"seed": 1}, "")) == PATCHES


def test_patchcore_shares_wider_features_where_they_pool_evenly_to_its_dimension() -> None:
    even, odd = (vary_baseline(method="patchcore", dim=dim) for dim in (64, 384))
    assert description(even, "features") == description(BASELINE, "features")
    assert description(odd, "features")["feature_dim"] == 384
