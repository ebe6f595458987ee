from pathlib import Path

import pytest
import yaml

from reconpatch.config import Run, description, expand, read_config, read_experiment, vary
from reconpatch.errors import ReconpatchError

ROOT = Path(__file__).parents[2]
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
        ({"batch": 8}, "batch 8 holds too few patches for k = 5"),
    ],
)
def test_bad_values_are_named(change, message, baseline) -> None:
    with pytest.raises(ReconpatchError, match=f"experiment x: .*{message}|experiment x: {message}"):
        vary(baseline, change, "experiment x")


def test_misspelt_and_missing_keys_are_listed_together() -> None:
    content = {k: v for k, v in DEFAULT.items() if k != "device"} | {"sedes": [1]}
    with pytest.raises(ReconpatchError) as caught:
        read_config(content)
    assert "unknown key sedes" in str(caught.value) and "key device is missing" in str(caught.value)


@pytest.mark.parametrize("name", ["../x", "a/b", "-x", "", "a b", "a\nb", "x" * 65])
def test_names_that_could_leave_the_results_folder_are_refused(name) -> None:
    with pytest.raises(ReconpatchError, match="names start with a letter or digit"):
        read_config(DEFAULT | {"datasets": {name: DEFAULT["datasets"]["btad"]}})


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
    assert expand("$SOMEWHERE/x", "root") == Path("/data/x")
    assert "~" not in str(expand("~/x", "root"))
    with pytest.raises(ReconpatchError, match=r"root = '\$NOWHERE_SET/x'"):
        expand("$NOWHERE_SET/x", "root")


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


def test_numbers_given_as_text_are_numbers(baseline) -> None:
    """What `--config 'baseline={dim: 64}'` and a bare 1e-5 in YAML arrive as."""
    run = vary(baseline, {"dim": "64", "learning_rate": "1e-5", "levels": ["2", "3"]}, "")
    assert (run.dim, run.learning_rate, run.levels) == (64, 1e-5, (2, 3))
    assert read_config(DEFAULT | {"seeds": ["0", "1"]}).seeds == [0, 1]
