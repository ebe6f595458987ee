import io

import pytest

from reconpatch.cli import progress
from reconpatch.cli.progress import Steps


def test_a_line_per_finished_step_without_a_terminal(monkeypatch, capsys) -> None:
    """A step that ends early, for example because the last image cannot be read, has one too."""
    now = [100.0]
    monkeypatch.setattr(progress.time, "perf_counter", lambda: now[0])
    steps = Steps()
    for second, call in enumerate([("read", 1, 3), ("read", 2, 3), ("score", 1, 1), ("draw", 1, 2)], 1):
        now[0] = 100.0 + second**2
        steps(*call)
    assert capsys.readouterr().err == "read: 2 of 3 in 4.0 s\nscore: 1 in 5.0 s\n"
    steps.close()
    steps.close()
    printed = capsys.readouterr()
    assert printed.out == "" and printed.err == "draw: 1 of 2 in 7.0 s\n"
    assert steps.seconds == {"read": 4.0, "score": 5.0, "draw": 7.0}


def test_a_bar_per_step_on_a_terminal(monkeypatch) -> None:
    terminal = io.StringIO()
    monkeypatch.setattr(terminal, "isatty", lambda: True, raising=False)
    monkeypatch.setattr("sys.stderr", terminal)
    steps = Steps()
    for call in [("read", 1, 2), ("read", 2, 2), ("train", 1, 2)]:
        steps(*call)
    steps.close()
    assert "read: 100%" in terminal.getvalue() and "train:  50%" in terminal.getvalue()
    assert pytest.approx(sum(steps.seconds.values()), abs=60) == 0
