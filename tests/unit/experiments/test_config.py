"""Configuration and experiment files. Wordings of mistakes are in tests/reliability/test_broken_inputs.py."""

from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from running import ROOT

from reconpatch.errors import ReconpatchError
from reconpatch.experiments.config import Config, Experiment, expand_path, read_config, read_experiment, read_yaml

DEFAULT = yaml.safe_load((ROOT / "configs/default.yaml").read_text())


def test_misspelt_and_missing_keys_are_listed_together() -> None:
    with pytest.raises(ReconpatchError) as error:
        read_config({key: value for key, value in DEFAULT.items() if key != "device"} | {"sedes": [1]})
    assert "unknown key sedes" in str(error.value) and "key device is missing" in str(error.value)


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"features_gb": -1}, "features_gb = -1"),
        ({"checkpoints": [0]}, "checkpoints.0 = 0"),
        ({"seeds": []}, "seeds"),
        ({"resamples": 99}, "resamples = 99"),
        ({"overrides": {"table_btad": {"sets": {}}}}, "overrides.table_btad.sets"),
        ({"overrides": {"table_btad": {"figures": {"bars": {}}}}}, "overrides.table_btad.figures.bars"),
        ({"stand_ins": {"a": "b"}}, "stand_ins.a = 'b'"),
        ({"stand_ins": {"a": {"dmi": 1}}}, "stand_ins.a"),
        ({"datasets": {"a": {"layout": "mvtec", "root": None}}}, "datasets.a.layout = 'mvtec'"),
        ({"datasets": {"../x": DEFAULT["datasets"]["btad"]}}, "datasets"),
        ({"experiments": {"make_table": "x.yaml"}}, "experiments.make_table"),
    ],
)
def test_wrong_values_are_named(change, place) -> None:
    with pytest.raises(ReconpatchError) as error:
        read_config(DEFAULT | change)
    assert f"configuration: {place}" in str(error.value).replace("unknown key ", "")


def test_text_is_read_as_the_number_or_digest_it_means() -> None:
    config = read_config(DEFAULT | {"seeds": ["0", "1"], "weight_digests": {"resnet18": "AB" * 32}})
    assert config.seeds == [0, 1] and config.weight_digests == {"resnet18": "ab" * 32}


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("axis: {dim: [1]}", "axis"),
        ("figures: {bars: {}}", "figures.bars"),
        ("figures: {umap: 1}", "figures.umap = 1"),
        ("variants: {a: {dim: 1}}", "variants.a.dim"),
        ("ensemble: {over: backbone, combine: [max]}", "ensemble.combine.0 = 'max'"),
        ("measure: speed", "measure = 'speed'"),
    ],
)
def test_experiment_files_have_no_other_keys_and_values(text, place, tmp_path) -> None:
    file = tmp_path / "e.yaml"
    file.write_text(f"title: x\ndatasets: {{a: all}}\n{text}\n")
    with pytest.raises(ReconpatchError, match=r"e\.yaml: ") as error:
        read_experiment(file)
    assert place in str(error.value)


def test_paths_expand_or_name_their_key(monkeypatch) -> None:
    monkeypatch.setenv("SOMEWHERE", "/data")
    assert expand_path("$SOMEWHERE/x", "root") == Path("/data/x")
    assert "~" not in str(expand_path("~/x", "root"))
    monkeypatch.setenv("SOMEWHERE", "x" * 300)
    for path in ("$NOWHERE_SET/x", "~nobody-of-this-name/x", "$SOMEWHERE/x"):
        with pytest.raises(ReconpatchError) as error:
            expand_path(path, "root")
        assert error.value.where == f"root = {path!r}"


@pytest.mark.parametrize("file", sorted((ROOT / "configs").rglob("*.yaml")), ids=lambda file: file.name)
def test_shipped_files_are_read_as_pyyaml_reads_them(file) -> None:
    assert read_yaml(file) == yaml.safe_load(file.read_text())


PLAIN = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()


@given(st.recursive(PLAIN, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))
def test_what_pyyaml_writes_is_read_as_it_was(tmp_path_factory, content) -> None:
    file = tmp_path_factory.getbasetemp() / "content.yaml"
    file.write_text(yaml.safe_dump({"key": content}), encoding="utf-8")
    assert read_yaml(file) == {"key": content}


@pytest.mark.parametrize(
    "text", ["a: 1\nb: {c: 1,\n c: 2}", "a: 1\na: 2", "a: &x {b: 1}\nc: {<<: *x, b: 2, b: 3}", "'1': a\n1: b"]
)
def test_a_key_given_twice_is_refused_with_its_line(text, tmp_path) -> None:
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(ReconpatchError, match="twice") as error:
        read_yaml(tmp_path / "a.yaml")
    assert error.value.where == f"{tmp_path / 'a.yaml'}, line 2" or "line 3" in error.value.where


def test_merged_keys_may_be_replaced(tmp_path) -> None:
    (tmp_path / "a.yaml").write_text("base: &b {x: 1, y: 2}\nmore: &m {<<: *b, x: 3}\nlast: {<<: *m, y: 4}\n")
    assert read_yaml(tmp_path / "a.yaml")["last"] == {"x": 3, "y": 4}


def test_every_section_is_closed() -> None:
    for model in (Config, Experiment):
        schema = model.model_json_schema()
        assert all(part["additionalProperties"] is False for part in [schema, *schema["$defs"].values()])
