import io

import pytest

from reconpatch.cli import progress
from reconpatch.cli.progress import Steps


@pytest.fixture
def clock(monkeypatch) -> list[float]:
    """Seconds that the test sets."""
    now = [100.0]
    monkeypatch.setattr(progress.time, "perf_counter", lambda: now[0])
    return now


def test_a_line_a_finished_step_where_there_is_no_terminal(clock, capsys) -> None:
    steps = Steps(latest=100.0)
    for second, call in enumerate([("read", 1, 2), ("read", 2, 2), ("train", 1, 3), ("train", 3, 3)], 1):
        clock[0] = 100.0 + second**2
        steps(*call)
    steps.close()
    told = capsys.readouterr()
    assert told.out == "" and told.err == "read: 2 in 4.0 s\ntrain: 3 in 12.0 s\n"
    assert steps.seconds == {"read": 4.0, "train": 12.0}


def test_a_step_that_ends_early_has_its_line_all_the_same(clock, capsys) -> None:
    """As where the last image cannot be read: at the next step, or in the end, once."""
    steps = Steps(latest=100.0)
    for second, call in enumerate([("read", 1, 3), ("read", 2, 3), ("score", 1, 1), ("draw", 1, 2)], 1):
        clock[0] = 100.0 + second
        steps(*call)
    assert capsys.readouterr().err == "read: 2 of 3 in 2.0 s\nscore: 1 in 1.0 s\n"
    steps.close()
    steps.close()
    assert capsys.readouterr().err == "draw: 1 of 2 in 1.0 s\n"


def test_silent_steps_count_all_the_same(clock, capsys) -> None:
    steps = Steps(silent=True, latest=100.0)
    clock[0] = 103.0
    steps("read", 1, 1)
    told = capsys.readouterr()
    assert told.out + told.err == "" and steps.seconds == {"read": 3.0}


def test_a_bar_a_step_on_a_terminal(monkeypatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    shown = Terminal()
    monkeypatch.setattr("sys.stderr", shown)
    steps = Steps()
    for call in [("read", 1, 2), ("read", 2, 2), ("train", 1, 2)]:
        steps(*call)
    assert steps.bar is not None and steps.bar.n == 1
    steps.close()
    assert steps.bar is None
    assert "read: 100%" in shown.getvalue() and "train:  50%" in shown.getvalue()
    steps.close()  # twice does no harm
