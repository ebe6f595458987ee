from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from reconpatch.experiments import value_types as kinds


@given(st.text(max_size=70))
def test_names_are_safe(name) -> None:
    try:
        kinds.checked_name(name)
    except ValueError:
        return
    assert name.isascii() and 1 <= len(name) <= 64 and not set(name) & set('/\\:*?"<>|\n\x00 ~$')
    assert not name.startswith((".", "-"))


@pytest.mark.parametrize("name", ["..", "", "a\n", "é", "a" * 65])
def test_unsafe_names_are_refused(name) -> None:
    with pytest.raises(ValueError, match="names start with"):
        kinds.checked_name(name)


@pytest.mark.parametrize("name", ["01", "metal_nut", "console", "com10", "a.b-c", "A" * 64])
def test_safe_names_are_accepted(name) -> None:
    assert kinds.checked_name(name) == name


@pytest.mark.parametrize("path", ["", " ", "a\x00b", "a\nb", "x" * 256, "é" * 128, "a/" * 2048 + "a"])
def test_paths_that_no_file_can_have(path) -> None:
    with pytest.raises(ValueError, match="path"):
        kinds.checked_path(path)
    assert kinds.checked_path("é" * 127) and kinds.checked_path("a/" * 2047 + "a") and kinds.checked_path("/data/ä b")


def test_clashes() -> None:
    assert kinds.clash(["a", "b", "A.b"]) is None
    assert kinds.clash(["a", "b", "a"]) == "'a' is there twice: give every name once"
    assert (
        kinds.clash(["Nut", "bolt", "nut"]) == "'Nut' and 'nut' would be one file on some systems: rename one of them"
    )


@pytest.mark.parametrize(
    ("kind", "fine", "wrong"),
    [
        (kinds.Positive, [1, "5", 2.0, 10**6], [0, True, "x", 2.5, None, 10**6 + 1, float("inf"), 10**400]),
        (kinds.Seed, [0, 2**32 - 1], [-1, 2**32, False]),
        (kinds.Side, [1, 8192], [0, 8193]),
        (kinds.Width, [1, 16384], [0, 16385]),
        (kinds.Batch, [2, 16384], [1, 16385]),
        (kinds.PatchSize, [1, 63, "3"], [2, 65, True]),
        (kinds.Levels, [[0, 1], ["2", 3]], [[], [3, 2], [2, 2], [-1], [True], [100]]),
        (kinds.Share, [0, 1, "0.5"], [-1e-9, 1.0001, True]),
        (kinds.Blur, [0, 256], [-1, 257]),
        (kinds.Part, [5e-324, 1], [0, -0.0]),
        (kinds.Digest, ["0" * 64, "aF" * 32], ["0" * 63, "g" * 64, "0" * 65, "0" * 64 + "\n", 0]),
        (kinds.Line, ["480 px, s = 3"], ["", " ", "a\nb", "a\x1b[2J", "x" * 201]),
        (kinds.Categories, ["all", ["a", "b"], []], ["some", ["a", "a"], ["a", "A"], [1], 5, None, ["../a"]]),
        (kinds.Backbone, ["wide_resnet50_2.tv_in1k"], ["../x", "hf-hub:a/b", "", "x" * 101]),
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
        str(TypeAdapter(kinds.Amount).validate_python("-0.0"))
        == str(TypeAdapter(kinds.Blur).validate_python(-0.0))
        == "0.0"
    )


@given(st.recursive(st.integers() | st.text() | st.none() | st.floats(), st.lists) | st.just(10**5000))
def test_anything_is_shown_on_one_short_line(value) -> None:
    text = kinds.shown(value)
    assert text.isprintable() and len(text) < 5000
