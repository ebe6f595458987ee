"""A table in its paper view and its long one as Markdown, LaTeX and HTML, every text escaped."""

import re
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING

import pandas as pd

from reconpatch.results.comparison import GAIN_VERDICTS, VERDICTS
from reconpatch.results.latex import breakable, escaped
from reconpatch.results.paper_view import Entry, PaperView
from reconpatch.results.tables import MISSING, Table

if TYPE_CHECKING:
    from jinja2 import Environment

COLUMN = 56  # characters of a row that fit in a column of a page of two
COLOURED = {*VERDICTS, *GAIN_VERDICTS} - {"not comparable"}
MARKDOWN = re.compile(r"[\\`*<|]")  # characters that mean something in Markdown
NUMBER = re.compile(r"[+-]?\d+(\.\d+)?(?=$|[\s,])")


def to_markdown(view: PaperView | None, tables: Sequence[Table]) -> str:
    """Paper view, if there is one, and tables -> GitHub Markdown with titles and notes."""
    parts = [] if view is None else [_view_in_markdown(view)]
    for table in tables:
        frame = pd.DataFrame(list(table.rows), columns=table.columns).fillna("")
        parts.append(_part(table.title, frame.rename(columns=_markdown).map(_markdown), table.notes))
    return "\n".join(parts)


def _view_in_markdown(view: PaperView) -> str:
    rows = [
        [*map(_markdown, row), *(_entry_in_markdown(view.entry(row, column)) for column in view.columns)]
        for row in view.rows
    ]
    header = [*view.row_levels, *(", ".join(filter(None, column)) for column in view.columns)]
    return _part(f"{view.title}. {view.about}", pd.DataFrame(rows, columns=[*map(_markdown, header)]), view.notes)


def _part(title: str, escaped: pd.DataFrame, notes: Sequence[str]) -> str:
    body = escaped.to_markdown(index=False, disable_numparse=True)
    return "\n".join([f"**{_markdown(title)}**", "", body, "", *(f"- {_markdown(line)}" for line in notes), ""])


def _entry_in_markdown(entry: Entry) -> str:
    return (f"**{entry.text}**" if entry.best else entry.text) + entry.mark.replace("*", r"\*")


def _markdown(text: str) -> str:
    return MARKDOWN.sub(r"\\\g<0>", text)


def to_latex(view: PaperView | None, tables: Sequence[Table], name: str) -> str:
    """Paper view, if there is one, tables, name of the experiment -> LaTeX tables (booktabs, siunitx) with labels, no
    wider than the page: `tab:name` is the view, `tab:name-1` the first of the others.
    """
    return (
        _latex()
        .get_template("table.tex.j2")
        .render(
            view=view,
            header=[] if view is None else view.header,
            depth=0 if view is None else len(view.row_levels),
            environment="table" if view is not None and _width(view) <= COLUMN else "table*",
            marked=view is not None and any(entry.mark for entry in view.entries.values()),
            tables=tables,
            name=name.replace("_", "-"),
        )
    )


def _width(view: PaperView) -> int:
    """A view -> characters of its widest row, with a space around each entry."""
    names = [max(map(len, texts)) for texts in zip(view.row_levels, *view.rows, strict=True)]
    below = [max(8, len(column[-1]) + 2) for column in view.columns]
    above = max(len(text) + 2 for level in view.header for text, span in level if span == 1)
    return sum(names) + 2 * len(names) + max(sum(below), above)


@cache
def _latex() -> "Environment":
    from jinja2 import Environment, PackageLoader

    environment = Environment(  # noqa: S701, HTML's escapes are not LaTeX's: `tex` and `number` are in every field
        loader=PackageLoader("reconpatch.results", "."),
        trim_blocks=True,
        lstrip_blocks=True,
        block_start_string="[%",
        block_end_string="%]",
        variable_start_string="[[",
        variable_end_string="]]",
        comment_start_string="[#",
        comment_end_string="#]",
    )
    environment.filters |= {"tex": escaped, "number": _number_in_latex, "breakable": breakable}
    return environment


def _number_in_latex(entry: Entry) -> str:
    """An entry -> what siunitx aligns at the decimal point: text that is no number stands in braces."""
    if not entry.text:
        return ""
    if entry.text == MISSING:
        return "{--}"
    mark = {"": "", "*": r"{\textsuperscript{*}}"}.get(entry.mark, r"{\textsuperscript{\textdagger}}")
    return (r"\bfseries " if entry.best else "") + entry.text + mark


def to_html(view: PaperView | None, tables: Sequence[Table]) -> str:
    """Paper view, if there is one, and tables -> an HTML fragment, the tables folded below the view.

    A number of a single category links to its records. Cells with a number have it as `data-value`.
    """
    template = _html().get_template("table.html.j2")
    return template.render(view=view, header=[] if view is None else view.header, tables=tables, missing=MISSING)


@cache
def _html() -> "Environment":
    from jinja2 import Environment, PackageLoader

    loader = PackageLoader("reconpatch.results", ".")
    environment = Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"value": _value, "verdict": _verdict}
    return environment


def _value(text: str) -> str | None:
    """The number that a text begins with."""
    found = NUMBER.match(text)
    return found and found[0]


def _verdict(text: str) -> str | None:
    """The verdict that a text begins with."""
    return next((word for word in sorted(COLOURED) if text.startswith(word)), None)
