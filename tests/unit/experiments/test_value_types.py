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


@pytest.mark.parametrize(
    ("kind", "fine", "wrong"),
    [
        (value_types.Positive, [1, "5", 2.0, 10**6], [0, True, "x", 2.5, None, 10**6 + 1, float("inf"), 10**400]),
        (value_types.Seed, [0, 2**32 - 1], [-1, 2**32, False]),
        (value_types.PatchSize, [1, 63, "3"], [2, 65, True]),
        (value_types.Levels, [[0, 1], ["2", 3]], [[], [3, 2], [2, 2], [-1], [True], [100]]),
        (value_types.Share, [0, 1, "0.5"], [-1e-9, 1.0001, True]),
        (value_types.Part, [5e-324, 1], [0, -0.0]),
        (value_types.Digest, ["0" * 64, "aF" * 32], ["0" * 63, "g" * 64, "0" * 64 + "\n", 0]),
        (value_types.Line, ["480 px, s = 3"], ["", " ", "a\nb", "a\x1b[2J", "x" * 201]),
        (value_types.Categories, ["all", ["a", "b"], []], ["some", ["a", "a"], ["a", "A"], [1], None, ["../a"]]),
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
