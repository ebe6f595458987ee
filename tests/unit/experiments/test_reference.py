"""The reference of the configuration: current, complete, and true to what the models accept."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import TypeAdapter, ValidationError

from reconpatch.errors import ReconpatchError
from reconpatch.experiments.config import Config, Dataset, Ensemble, Experiment, Override, Variant
from reconpatch.experiments.reference import comments, reference, values
from reconpatch.experiments.run import Run

ROOT = Path(__file__).parents[3]
TEXT = (ROOT / "configs/default.yaml").read_text()
DEFAULT = yaml.safe_load(TEXT)
PAGE = (ROOT / "docs/configuration.md").read_text()
MODELS = (Config, Run, Dataset, Experiment, Variant, Ensemble, Override)


def section(name: str) -> list[list[str]]:
    """Cells of a section's table, as a reader of the page splits them."""
    text = re.split(r"^## ", PAGE, flags=re.MULTILINE)
    (found,) = [part for part in text if part.startswith(f"{name}\n")]
    return [re.split(r"(?<!\\) \| ", line[2:-2]) for line in found.splitlines() if line.startswith("| `")]


def test_page_is_current() -> None:
    """`reconpatch schemas` has been run since the models or the comments of default.yaml changed."""
    assert reference(TEXT) == PAGE


@pytest.mark.parametrize("model", MODELS, ids=lambda m: m.__name__)
def test_every_key_is_there_once_with_all_its_cells(model) -> None:
    rows = section(model.__name__)
    assert [row[0].strip("`") for row in rows] == list(model.model_fields)
    assert all(len(row) == (5 if model is Run else 4) and all(cell.strip() for cell in row) for row in rows)


def test_every_section_of_both_kinds_of_files_is_there() -> None:
    sections = {"Config", "Experiment"}
    for model in (Config, Experiment):
        sections |= set(model.model_json_schema().get("$defs", {}))
    assert sections == {model.__name__ for model in MODELS}
    assert re.findall(r"^## (\w+)", PAGE, re.MULTILINE) == [model.__name__ for model in MODELS]


@pytest.mark.parametrize(("name", "given"), [("Config", DEFAULT), ("Run", DEFAULT["baseline"])])
def test_defaults_are_those_of_the_file(name, given) -> None:
    for row in section(name):
        value = given[row[0].strip("`")]
        if row[2].startswith("the "):
            assert row[2] == f"the {len(value)} of the file" and isinstance(value, dict)
        else:
            assert yaml.safe_load(row[2].strip("`")) == value, row


@pytest.mark.parametrize("model", [m for m in MODELS if m not in (Config, Run)], ids=lambda m: m.__name__)
def test_defaults_of_other_sections_are_the_models(model) -> None:
    for row in section(model.__name__):
        field = model.model_fields[row[0].strip("`")]
        assert (row[2] == "required") == field.is_required()
        if not field.is_required():
            assert yaml.safe_load(row[2].strip("`")) == field.default, row


def accepts(model: Any, key: str, value: object) -> bool:
    """Whether a value alone, whatever the other keys are, may stand under a key."""
    field = model.model_fields[key]
    try:
        TypeAdapter(field.rebuild_annotation()).validate_python(value)
    except ValidationError:
        return False
    return True


def limits(said: str) -> tuple[list[float], list[float]]:
    """Words on a number -> (values it may have at its limits, values just beyond them)."""
    step = 1 if "whole" in said else 1e-9
    step = 2 if "odd" in said else step
    inside, outside = [], []
    for word, digits in re.findall(r"(from|at least|above|to|below) ([\d,.]+\d|\d)", said):
        limit, sign = float(digits.replace(",", "")), -1 if word in ("to", "below") else 1
        allowed = limit + sign * step if word in ("above", "below") else limit
        inside.append(allowed)
        outside.append(allowed - sign * step)
    return inside, outside


NUMBERS = [(m, row[0].strip("`"), row[1]) for m in (Config, Run) for row in section(m.__name__) if "number " in row[1]]


@pytest.mark.parametrize(("model", "key", "said"), NUMBERS, ids=lambda v: v if isinstance(v, str) else v.__name__)
def test_limits_are_what_is_accepted(model, key, said) -> None:
    inside, outside = limits(said)
    assert inside
    for value in inside:
        assert accepts(model, key, int(value) if "whole" in said else value), value
    for value in outside:
        assert not accepts(model, key, int(value) if "whole" in said else value), value
    assert accepts(model, key, None) == ("`null`" in said) and not accepts(model, key, True)


CHOICES = [(m, row[0].strip("`"), row[1]) for m in MODELS for row in section(m.__name__) if row[1].startswith("`")]


@pytest.mark.parametrize(("model", "key", "said"), CHOICES, ids=lambda v: v if isinstance(v, str) else v.__name__)
def test_choices_are_what_is_accepted(model, key, said) -> None:
    choices = [yaml.safe_load(value) if "true" in said else value for value in re.findall("`([^`]+)`", said)]
    assert len(choices) > 1 or " or " in said
    assert all(accepts(model, key, choice) for choice in choices)
    assert not accepts(model, key, "another") and not accepts(model, key, 7)


def test_a_key_without_meaning_or_value_is_refused() -> None:
    with pytest.raises(ReconpatchError, match=r"Config\.device: say what it means, in configs/default\.yaml"):
        reference(re.sub(r"(?m)^(device: auto) #.*$", r"\1", TEXT))
    with pytest.raises(ReconpatchError, match=r"Run\.weight_decay: say what it means"):
        reference(re.sub(r"(?m)^(  weight_decay: 1.0e-2) #.*$", r"\1 # [paper]", TEXT))
    with pytest.raises(ReconpatchError, match=r"Run\.gamma: say what it means"):
        reference(re.sub(r"(?m)^  gamma:.*\n", "", TEXT))


def test_every_default_of_a_run_has_a_source() -> None:
    assert all(re.match("paper|PatchCore|STML|codes|ours", row[3]) for row in section("Run"))


def test_comments_above_and_behind_belong_to_a_key() -> None:
    text = """\
# the file

# above,
# two lines
a: 1 # and behind
b: "x # y" # the rest
c:  # a section
  # within
  d: [1, 2] # a list
  e: {f: 1}
g: 2
"""
    assert comments(text) == {
        "a": ("`1`", "above, two lines and behind"),
        "b": ('`"x # y"`', "the rest"),
        "c": ("the 2 of the file", "a section"),
        "g": ("`2`", ""),
    }
    assert comments(text, "c") == {"d": ("`[1, 2]`", "within a list"), "e": ("`{f: 1}`", "")}


def test_words_for_values() -> None:
    for annotation, said in {
        int | None: "whole number or `null`",
        dict[str, list[float]]: "section, by text: list of numbers",
        tuple[bool, ...]: "list of `true`, `false`",
        Any: "any value",
    }.items():
        assert values(TypeAdapter(annotation).json_schema()) == said
