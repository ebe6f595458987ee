"""Names in any script in figures: the fonts that have their characters, and what stands for those that none has."""

import re
from collections.abc import Iterable
from contextlib import suppress
from functools import cache
from textwrap import fill

from matplotlib import font_manager
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ft2font import FT2Font
from matplotlib.text import Text

USUAL = "DejaVu Sans"  # comes with matplotlib
REGULAR = 400  # weight
CODE_POINT = re.compile(r"U\+[0-9A-F]{4,6}")
CODES_IN_LINE = 24  # characters
NOTE = "U+ and digits stand for a character that no installed font has"


@cache
def characters_of(file: str) -> frozenset[str]:
    """File of a font -> the characters it has; none where it cannot be read."""
    try:
        return frozenset(map(chr, FT2Font(file).get_charmap()))
    except (OSError, RuntimeError):  # FreeType's own errors are of the second kind
        return frozenset()


@cache
def fonts_for(characters: frozenset[str]) -> tuple[tuple[str, ...], frozenset[str]]:
    """Characters -> (names of installed fonts that together have all that any has, the usual one first; the rest)."""
    fonts, missing = [USUAL], characters - characters_of(font_manager.findfont(USUAL))
    files = _installed() if missing else {}
    while missing:
        best = max(files, key=lambda name: len(missing & characters_of(files[name])), default=USUAL)
        added = missing & characters_of(files[best]) if best in files else frozenset()
        if not added:
            break
        fonts.append(best)
        missing -= added
    return tuple(fonts), missing


def _installed() -> dict[str, str]:
    """-> name of every installed font to the file of its upright, regular style."""
    manager = font_manager.fontManager
    for file in sorted({*font_manager.findSystemFonts()} - {entry.fname for entry in manager.ttflist}):
        with suppress(OSError, RuntimeError):  # installed since matplotlib made its list
            manager.addfont(file)
    # Last Resort has a box for every character.
    entries = [e for e in manager.ttflist if not e.name.lower().replace(" ", "").startswith(("lastresort", ".last"))]
    regular = [e for e in entries if e.weight == REGULAR and e.style == "normal" and e.stretch == "normal"]
    return {e.name: e.fname for e in sorted(regular, key=lambda e: (e.name, e.fname), reverse=True)}


def drawable(text: str) -> str:
    """Text -> the same with the code point, as U+88C2, in the place of every character that no installed font has."""
    missing = fonts_for(_visible(text))[1]
    if not missing:
        return text
    pattern = f"[{re.escape(''.join(sorted(missing)))}]+"
    codes = re.sub(pattern, lambda run: " " + " ".join(f"U+{ord(c):04X}" for c in run[0]) + " ", text)
    return "\n".join(fill(" ".join(line.split()), CODES_IN_LINE) for line in codes.split("\n"))


def _visible(text: str) -> frozenset[str]:
    return frozenset(text) - {"\n"}


def make_legible(figure: Figure) -> None:
    """Give every text of a figure fonts that have its characters, code points where there are none, and no meaning to
    dollar signs in it, which would begin a formula.
    """
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            _label_ticks(axis, axis.get_ticklabels())
    for text in figure.findobj(Text):
        content = text.get_text()
        if "$" in content and "\\mathdefault" not in content:  # with which matplotlib writes numbers
            text.set_parse_math(False)
        if not content.isascii():
            text.set_text(drawable(content))
            fonts, _ = fonts_for(_visible(text.get_text()))
            if len(fonts) > 1:
                text.set_fontfamily(fonts)


def _label_ticks(axis: Axis, labels: Iterable[Text]) -> None:
    """Write labels anew that have characters no font has: those of ticks are not kept where their text is changed."""
    texts = [label.get_text() for label in labels]
    if any(drawable(text) != text for text in texts if not text.isascii()):
        axis.set_ticks(axis.get_ticklocs(), [drawable(text) for text in texts])


def note(figure: Figure) -> str:
    """A legible figure -> what must be said of its characters, if anything."""
    return NOTE if any(CODE_POINT.search(text.get_text()) for text in figure.findobj(Text)) else ""
