import argparse

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconpatch.cli import photographs as commands
from reconpatch.cli.arguments import EXAMPLES, add_commands, number, setting, whole


@pytest.fixture
def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="reconpatch")
    add_commands(parser.add_subparsers(dest="command", required=True))
    return parser


def test_setting_is_read_as_yaml() -> None:
    pairs = {"sigma=0.5": 0.5, "levels=[1, 2]": [1, 2], "teacher_norm=true": True, "epoch=null": None, "a=b=c": "b=c"}
    assert {text: setting(text)[1] for text in pairs} == pairs
    for text in ("sigma", "=3", "", "a=[1", "a=!!python/object/apply:os.getcwd []"):
        with pytest.raises(argparse.ArgumentTypeError):
            setting(text)


@given(st.integers(1, 10**9))
def test_whole_numbers(n) -> None:
    assert whole(str(n)) == n


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "", "one", "1e3", " 1", "+1"])
def test_what_is_no_whole_number(text) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="no whole number"):
        whole(text)


def test_numbers_are_finite() -> None:
    assert number("1e-3") == 0.001 and number("-2") == -2
    for text in ("nan", "inf", "-inf", "1e999"):
        with pytest.raises(argparse.ArgumentTypeError, match="no finite number"):
            number(text)


@pytest.mark.parametrize("name", ["fit", "predict", "evaluate", "show"])
def test_help_shows_examples_and_every_option(name, parser, capsys) -> None:
    with pytest.raises(SystemExit) as done:
        parser.parse_args([name, "--help"])
    said = capsys.readouterr().out
    assert done.value.code == 0 and EXAMPLES[name].strip() in said
    assert all(f"reconpatch {name} " in line for line in EXAMPLES[name].splitlines() if line.startswith("  reconpatch"))


@pytest.mark.parametrize("line", [e for text in EXAMPLES.values() for e in text.splitlines() if e.startswith("  r")])
def test_the_examples_parse(line, parser) -> None:
    command = line.split("   ")[0].split() if "   " in line.strip() else line.split()
    given = parser.parse_args(command[1:])
    assert given.call is getattr(commands, command[1])


@pytest.mark.parametrize(
    "line",
    [
        "fit --out m",
        "fit photos",
        "fit photos --out m --size 0",
        "fit photos --out m --coreset nan",
        "fit photos --out m --weights file",
        "fit photos --out m --aspect square",
        "fit photos --out m --set sigma",
        "predict m photos",
        "predict m photos --out o --threshold nan",
        "predict m photos --out o --map-threshold inf",
        "predict m photos --out o --threads 0",
        "evaluate m",
        "evaluate m photos --device gpu",
        "show",
        "show a b",
    ],
)
def test_wrong_usage_ends_with_2(line, parser, capsys) -> None:
    with pytest.raises(SystemExit) as done:
        parser.parse_args(line.split())
    told = capsys.readouterr()
    assert done.value.code == 2 and told.out == "" and "usage: reconpatch" in told.err
