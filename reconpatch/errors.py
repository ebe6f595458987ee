"""The one exception and the one warning that are meant for the user, and how messages show names and long lists."""

import sys
import warnings
from collections.abc import Iterable, Sequence
from difflib import get_close_matches

PACKAGE = __name__.partition(".")[0]


class ReconpatchError(ValueError):
    """Bad input, shown without a traceback. A ValueError, which is what callers in scikit-learn's manner expect of it.

    `where` is the file or key, with its value; `what` is wrong there; `fix` is what to do.
    """

    def __init__(self, what: str, *, where: object = "", fix: str = "") -> None:
        self.what, self.where, self.fix = what, quote(where) if where else "", fix
        message = f"{self.where}: {what}" if where else what
        super().__init__(f"{message}; {fix}" if fix else message)

    def at(self, place: object) -> "ReconpatchError":
        """File or key -> the error with this as its place; the error itself if it has one."""
        return self if self.where else ReconpatchError(self.what, where=place, fix=self.fix)


class Remark(UserWarning):
    """Something about the user's input that they should know, although it stops nothing."""


def warn_user(*texts: str, category: type[Warning] = Remark) -> None:
    """Texts -> a warning of each, said of the line outside this package that led here."""
    level, frame = 1, sys._getframe()
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] == PACKAGE:
        level, frame = level + 1, frame.f_back
    for text in texts:
        warnings.warn(text, category, stacklevel=level)


def quote(name: object) -> str:
    """A name fit for messages: newlines, control characters and undecodable bytes escaped."""
    text = str(name)
    return text if text.isprintable() else text.encode("unicode_escape").decode()


def choose(wrong: object, known: Iterable[str]) -> str:
    """A name that is not known, those that are -> the fix: the nearest ones, or all where none is near."""
    names = list(known)
    if not names:
        return "there are none"
    near = get_close_matches(str(wrong), names)
    return f"did you mean {' or '.join(near)}?" if near else f"choose from {', '.join(names)}"


def listed(lines: Sequence[str], most: int = 20) -> list[str]:
    """Lines -> at most `most` of them, then how many more there are."""
    more = [f"and {len(lines) - most} more"] if len(lines) > most else []
    return [*lines[:most], *more]
