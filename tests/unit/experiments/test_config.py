"""Configuration and experiment files. Wordings of mistakes are in tests/reliability/test_broken_inputs.py."""

from pathlib import Path

import pytest
import yaml
from running import ROOT

from reconpatch.errors import ReconpatchError
from reconpatch.experiments.config import expand_path, read_config, read_yaml

DEFAULT = yaml.safe_load((ROOT / "configs/default.yaml").read_text())


def test_text_is_read_as_the_number_or_digest_it_means() -> None:
    config = read_config(DEFAULT | {"seeds": ["0", "1"], "weight_digests": {"resnet18": "AB" * 32}})
    assert config.seeds == [0, 1] and config.weight_digests == {"resnet18": "ab" * 32}


def test_paths_expand_or_name_their_key(monkeypatch) -> None:
    monkeypatch.setenv("SOMEWHERE", "/data")
    assert expand_path("$SOMEWHERE/x", "root") == Path("/data/x")
    assert "~" not in str(expand_path("~/x", "root"))
    monkeypatch.setenv("SOMEWHERE", "x" * 300)
    for path in ("$NOWHERE_SET/x", "~nobody-of-this-name/x", "$SOMEWHERE/x"):
        with pytest.raises(ReconpatchError) as error:
            expand_path(path, "root")
        assert error.value.where == f"root = {path!r}"


def test_a_path_that_is_there_is_taken_as_written(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SOMEWHERE", "elsewhere")
    for path in ("c$/a", "$HERE/a", "${HERE}/b", "a$", "$", "$SOMEWHERE/x", "100%$5"):
        Path(path).mkdir(parents=True)
        assert expand_path(path, "root") == Path(path)
    assert expand_path("$SOMEWHERE/y", "root") == Path("elsewhere/y")
    assert expand_path("d$/a", "root") == Path("d$/a")  # whoever reads it says that it is not there
    for path in ("$HERE/absent", "${HERE}x"):
        with pytest.raises(ReconpatchError, match="no environment variable"):
            expand_path(path, "root")


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
