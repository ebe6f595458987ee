"""What is refused stands, with its messages, in tests/reliability/test_broken_inputs.py."""

from pathlib import Path

import pytest
import yaml

from reconpatch.errors import ReconpatchError
from reconpatch.experiments.config import LARGEST, MOST_VALUES, read_yaml

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("file", sorted((ROOT / "configs").rglob("*.yaml")), ids=lambda f: f.name)
def test_shipped_files_are_read_as_pyyaml_reads_them(file) -> None:
    assert read_yaml(file) == yaml.safe_load(file.read_text())


@pytest.mark.parametrize(
    "text",
    [
        *("", "# nothing", "null", "[1, 2.5, true, ~, text]", "'1': 1", "a: &x {b: 1}\nc: *x", "a: 1e-5\nb: 1.0e-5"),
        *(
            "base: &b {x: 1, y: 2}\nmore: {<<: *b, x: 3}",
            "a: &l [1]\nb: {c: *l, d: *l}",
            "\ufeffa: é",
            "a: |\n  b\n  c\n",
        ),
    ],
)
def test_plain_yaml_is_read_as_pyyaml_reads_it(text, tmp_path) -> None:
    (tmp_path / "a.yaml").write_text(text, encoding="utf-8")
    assert read_yaml(tmp_path / "a.yaml") == yaml.safe_load(text)


def test_limits_are_where_they_are_said_to_be(tmp_path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text("#" * LARGEST)
    assert read_yaml(file) is None
    rows = MOST_VALUES // 101
    for count, fine in ((rows - 2, True), (rows + 2, False)):
        file.write_text("a: &a [" + "0, " * 100 + "]\nb: [" + "*a, " * count + "]")
        if fine:
            assert len(read_yaml(file)["b"]) == count
        else:
            with pytest.raises(ReconpatchError, match=f"unfold into more than {MOST_VALUES} values"):
                read_yaml(file)


@pytest.mark.parametrize(
    "text",
    ["{a: 1, a: 2}", "a: {<<: {b: 1}, <<: {c: 2}}", "? [1]\n: 2", "true: 1", "a: !!set {b}", "a: !x 1", "a: !!bool 3"],
)
def test_what_no_one_means_is_refused_with_its_line(text, tmp_path) -> None:
    (tmp_path / "a.yaml").write_text(f"# first\n{text}\n")
    with pytest.raises(ReconpatchError, match=r"a\.yaml.*(line 2|a value cannot be read)"):
        read_yaml(tmp_path / "a.yaml")
