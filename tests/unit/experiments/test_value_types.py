from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from reconpatch.experiments import value_types


@given(st.text(max_size=70))
def test_names_are_safe(name) -> None:
    try:
        value_types.checked_name(name)
    except ValueError:
        return
    assert name.isascii() and 1 <= len(name) <= 64 and not set(name) & set('/\\:*?"<>|\n\x00 ~$')
    assert not name.startswith((".", "-"))


@pytest.mark.parametrize("name", ["..", "", "a\n", "é", "a" * 65])
def test_unsafe_names_are_refused(name) -> None:
    with pytest.raises(ValueError, match="names start with"):
        value_types.checked_name(name)


@pytest.mark.parametrize("name", ["01", "metal_nut", "console", "com10", "a.b-c", "A" * 64])
def test_safe_names_are_accepted(name) -> None:
    assert value_types.checked_name(name) == name


@pytest.mark.parametrize("path", ["", " ", "a\x00b", "a\nb", "x" * 256, "é" * 128, "a/" * 2048 + "a"])
def test_paths_that_no_file_can_have(path) -> None:
    with pytest.raises(ValueError, match="path"):
        value_types.checked_path(path)
    assert (
        value_types.checked_path("é" * 127)
        and value_types.checked_path("a/" * 2047 + "a")
        and value_types.checked_path("/data/ä b")
    )


def test_clashes() -> None:
    assert value_types.clash(["a", "b", "A.b"]) is None
    assert value_types.clash(["a", "b", "a"]) == "'a' is there twice: give every name once"
    assert (
        value_types.clash(["Nut", "bolt", "nut"])
        == "'Nut' and 'nut' would be one file on some systems: rename one of them"
    )


@pytest.mark.parametrize(
    ("kind", "fine", "wrong"),
    [
        (value_types.Positive, [1, "5", 2.0, 10**6], [0, True, "x", 2.5, None, 10**6 + 1, float("inf"), 10**400]),
        (value_types.Seed, [0, 2**32 - 1], [-1, 2**32, False]),
        (value_types.Side, [1, 8192], [0, 8193]),
        (value_types.Width, [1, 16384], [0, 16385]),
        (value_types.Batch, [2, 16384], [1, 16385]),
        (value_types.PatchSize, [1, 63, "3"], [2, 65, True]),
        (value_types.Levels, [[0, 1], ["2", 3]], [[], [3, 2], [2, 2], [-1], [True], [100]]),
        (value_types.Share, [0, 1, "0.5"], [-1e-9, 1.0001, True]),
        (value_types.Blur, [0, 256], [-1, 257]),
        (value_types.Part, [5e-324, 1], [0, -0.0]),
        (value_types.Digest, ["0" * 64, "aF" * 32], ["0" * 63, "g" * 64, "0" * 65, "0" * 64 + "\n", 0]),
        (value_types.Line, ["480 px, s = 3"], ["", " ", "a\nb", "a\x1b[2J", "x" * 201]),
        (value_types.Categories, ["all", ["a", "b"], []], ["some", ["a", "a"], ["a", "A"], [1], 5, None, ["../a"]]),
        (value_types.Backbone, ["wide_resnet50_2.tv_in1k"], ["../x", "hf-hub:a/b", "", "x" * 101]),
    ],
)
def test_limits(kind: Any, fine, wrong) -> None:
    adapter = TypeAdapter(kind)
    for value in fine:
        adapter.validate_python(value)
    for value in wrong:
        with pytest.raises(ValidationError):
            adapter.validate_python(value)


def test_minus_zero_is_zero() -> None:
    """Runs are named by the text of their settings."""
    assert (
        str(TypeAdapter(value_types.Amount).validate_python("-0.0"))
        == str(TypeAdapter(value_types.Blur).validate_python(-0.0))
        == "0.0"
    )


@given(st.recursive(st.integers() | st.text() | st.none() | st.floats(), st.lists) | st.just(10**5000))
def test_anything_is_shown_on_one_short_line(value) -> None:
    text = value_types.shown(value)
    assert text.isprintable() and len(text) < 5000
