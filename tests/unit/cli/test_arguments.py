import argparse
import shutil
import subprocess

import pytest

from reconpatch.cli.arguments import EXAMPLES, count, make_parser, mask_rule, number, setting, whole_number
from reconpatch.experiments.run import DEFAULTS


def test_values() -> None:
    pairs = {"sigma=0.5": 0.5, "levels=[1, 2]": [1, 2], "teacher_norm=true": True, "epoch=null": None, "a=b=c": "b=c"}
    assert {text: setting(text)[1] for text in pairs} == pairs
    assert whole_number("12") == 12 and count("0") == 0 and number("1e-3") == 0.001 and number("-2") == -2
    assert [mask_rule(text) for text in ("any", "half", "1", "255")] == [1, 128, 1, 255]


@pytest.mark.parametrize(
    ("read", "texts"),
    [
        (setting, ["sigma", "=3", "", "a=[1", "a=!!python/object/apply:os.getcwd []"]),
        (whole_number, ["0", "-1", "1.5", "", "one", "1e3", " 1", "+1"]),
        (count, ["-1", "1.5", "", "one", " 1", "+1"]),
        (number, ["nan", "inf", "-inf", "1e999"]),
        (mask_rule, ["0", "256", "-1", "most", "1.5", ""]),
    ],
)
def test_values_that_are_refused(read, texts) -> None:
    for text in texts:
        with pytest.raises(argparse.ArgumentTypeError):
            read(text)


def test_help_of_fit_shows_the_papers_settings(capsys) -> None:
    with pytest.raises(SystemExit):
        make_parser().parse_args(["fit", "--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert all(
        f"(default: {getattr(DEFAULTS, key)})" in text for key in ("backbone", "weights", "crop", "dim", "coreset")
    )


@pytest.mark.parametrize("line", [e for text in EXAMPLES.values() for e in text.splitlines() if e.startswith("  r")])
def test_the_examples_parse(line) -> None:
    command = line.strip().split("   ")[0].split()
    assert make_parser().parse_args(command[1:]).call.__name__ == command[1]


@pytest.mark.parametrize(
    "line",
    [
        *("fit --out m", "fit photos", "fit photos --out m --size 0", "fit photos --out m --coreset nan"),
        *("fit photos --out m --weights file", "fit photos --out m --aspect square", "fit photos --out m --set sigma"),
        *("predict m photos", "predict m photos --out o --threshold nan", "predict m photos --out o --threads 0"),
        *("predict m photos --out o --threshold 1 --false-alarms 0.1", "fit photos --out m --fast --preset paper"),
        *("evaluate", "evaluate m photos --device gpu", "show", "show a b", "compare a", ""),
        *(
            "miniature",
            "miniature visa",
            "miniature folder f",
            "miniature visa f --seed -1",
            "miniature visa f --category",
        ),
    ],
)
def test_wrong_usage_ends_with_2(line, capsys) -> None:
    with pytest.raises(SystemExit) as done:
        make_parser().parse_args(line.split())
    printed = capsys.readouterr()
    assert done.value.code == 2 and printed.out == "" and "usage: reconpatch" in printed.err


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        (["eval"], {"evaluate"}),
        (["mini"], {"miniature"}),
        (["miniature", "mvtec_ad"], {"mvtec_ad", "mvtec_ad_2"}),
        (["miniature", "visa", "mod"], {"models"}),
        (["fit", "--pre"], {"--preset"}),
        (["fit", "--preset", ""], {"fast", "paper"}),
        (["evaluate", "mod"], {"models"}),
        (["export", "models", "--out", "mod"], {"models"}),
    ],
)
def test_bash_completes_commands_options_values_and_files(typed, offered, tmp_path, capsys) -> None:
    """As bash does when the tabulator is pressed after the last word."""
    with pytest.raises(SystemExit) as end:
        make_parser().parse_args(["--print-completion", "bash"])
    assert end.value.code == 0
    (tmp_path / "completion").write_text(capsys.readouterr().out)
    (tmp_path / "models").mkdir()
    words = " ".join(repr(word) for word in ["reconpatch", *typed])
    script = f"""
        source completion
        COMP_WORDS=({words}) COMP_CWORD={len(typed)}
        function=$(complete -p reconpatch | sed 's/.*-F \\([^ ]*\\).*/\\1/')
        $function reconpatch {typed[-1]!r} {typed[-2] if len(typed) > 1 else "reconpatch"!r} 2>/dev/null
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    bash = str(shutil.which("bash"))
    done = subprocess.run([bash, "-c", script], cwd=tmp_path, text=True, capture_output=True, check=True)
    assert set(done.stdout.split()) == offered
