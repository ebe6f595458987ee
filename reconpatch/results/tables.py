"""Tables as text: cells -> Markdown, LaTeX and HTML with AUROC x 100, the paper beside ours, and what must be said."""

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from reconpatch.method.metrics import METRICS
from reconpatch.results.comparison import BETWEEN, Result
from reconpatch.results.names import METHODS

MISSING = "–"
MEANS = {"mean": "mean of {}", "object": "mean of {} objects", "texture": "mean of {} textures"}


@dataclass(frozen=True)
class Table:
    """A table of strings: rows of column -> text; `links` names, per row and column, the records behind a cell."""

    title: str
    rows: Sequence[Mapping[str, str]]
    notes: Sequence[str] = ()
    links: Sequence[Mapping[str, Sequence[str]]] = field(default_factory=list)

    @property
    def columns(self) -> list[str]:
        """All columns of all rows, in order of appearance."""
        return list(dict.fromkeys(column for row in self.rows for column in row))


def comparison_table(cells: pd.DataFrame, labels: Sequence[str], title: str, notes: Sequence[str]) -> Table:
    """cells -> a row per data set, category, place and method, columns per metric.

    Ours with its 95 % interval; where the paper has numbers, the paper's and the verdict with the difference; where
    PatchCore ran too, the gain over it with its interval. PatchCore's row is not repeated where a place changes only
    what PatchCore does not have.
    """
    keys = ["dataset", "category", *labels, "method"]
    hidden = {"dataset"} if cells["dataset"].nunique() == 1 else set()
    # AUPRO has no interval, so its gain would say little
    given = {"paper": "paper", "gain": "gain_low"}
    extra = {
        metric: [name for name, column in given.items() if column in part and part[column].notna().any()]
        for metric, part in cells.groupby("metric")
    }
    rows, links, seen = [], [], set()
    for _, part in cells.groupby(keys, sort=False, dropna=False):
        first = part.iloc[0]
        same = (first["dataset"], first["category"], first["runs"])
        if first["method"] == "patchcore" and same in seen:
            continue
        seen.add(same)
        row = {key: _text(first[key]) for key in keys if key not in hidden}
        name = MEANS.get(first["category"], "") if first["categories"] > 1 else ""  # a category may be called so
        row["category"] = name.format(first["categories"]) if name else first["category"].replace("_", " ")
        row["method"] = METHODS[first["method"]]
        link = {}
        for _, cell in part.iterrows():
            shown = METRICS[cell["metric"]].label
            row |= {shown: _value(cell)} | _beside(cell, shown, extra[cell["metric"]])
            link[shown] = cell["links"].split()
        rows.append(row)
        links.append(link)
    return Table(title, rows, notes, links)


def _value(cell: pd.Series) -> str:
    """Ours, with its interval."""
    if cell["value"] != cell["value"]:  # NaN differs from itself
        return MISSING
    ends = "" if cell["low"] != cell["low"] else f" [{100 * cell['low']:.1f}, {100 * cell['high']:.1f}]"
    return f"{100 * cell['value']:.2f}{ends}"


def _beside(cell: pd.Series, shown: str, extra: Sequence[str]) -> dict[str, str]:
    """The columns beside a metric: the paper's number, the verdict, the gain over PatchCore."""
    row = {}
    if "paper" in extra:
        known = cell["paper"] == cell["paper"]
        row[f"{shown}, paper"] = f"{100 * cell['paper']:.2f}" if known else MISSING
        difference = "" if cell["difference"] != cell["difference"] else f" ({100 * cell['difference']:+.2f})"
        row[f"{shown}, verdict"] = f"{cell['verdict']}{difference}" if known else MISSING
    if "gain" in extra:
        known = cell["gain"] == cell["gain"]
        ends = f" [{100 * cell['gain_low']:+.1f}, {100 * cell['gain_high']:+.1f}]"
        ends = "" if cell["gain_low"] != cell["gain_low"] else ends
        row[f"{shown}, gain over PatchCore"] = f"{100 * cell['gain']:+.2f}{ends}" if known else ""
    return row


def notes(results: Sequence[Result], cells: pd.DataFrame, *, count: int, tolerance: float) -> list[str]:
    """How to read the numbers of a table: units, intervals, gains, verdicts and what forbids a comparison."""
    several = len({r.seed for r in results}) > 1
    drawn = "test images and seeds" if several else "test images (one seed: what another would give is not in it)"
    lines = [f"Values × 100, in brackets the 95 % interval of {count} bootstrap draws of {drawn}."]
    if "gain" in cells and cells["gain"].notna().any():
        lines.append("Gain: ReConPatch − PatchCore, paired; an interval that holds 0 leaves open which is better.")
    if "verdict" in cells and cells["paper"].notna().any():
        lines.append(f"Verdict: agrees within ±{100 * tolerance:g} of the paper's number, else above or below.")
        lines += _caveats(results, cells)
    if cells["value"].isna().any():
        lines.append("A dash: undefined (no masks, or no normal or no anomalous test images), or not run.")
    return lines


def provenance(results: Sequence[Result], absent: str) -> list[str]:
    """What every table says of its runs: seeds, weights, flags, departures from the paper, what is missing."""
    seeds = sorted({r.seed for r in results})
    lines = [f"Seeds: {', '.join(map(str, seeds))}{' (means)' if len(seeds) > 1 else ''}."]
    records = [r.record for r in results if r.record is not None]
    backbones = sorted({f"{r.description['backbone']} ({r.weights.source})" for r in records})
    lines += [f"Backbone (weights): {', '.join(backbones)}."] if backbones else []
    for said, remarks in (("Not a result of the paper", False), ("Of the data", True)):
        lines += [f"{said}{where}: {'; '.join(flags)}." for where, flags in _flags(results, remarks).items()]
    lines += [f"Settings other than the paper's{where}: {'; '.join(d)}." for where, d in _departures(results).items()]
    missing = [f"{r.dataset}/{r.category} {r.run}" for r in results if r.record is None]
    if missing:
        lines.append(f"Missing, because the run failed or has not ended: {', '.join(dict.fromkeys(missing))}.")
    return lines + ([f"Not run: {absent}."] if absent else [])


def _caveats(results: Sequence[Result], cells: pd.DataFrame) -> list[str]:
    """Why cells are not comparable: settings and flags in general, the paper's caveats with the methods they are on."""
    said = {d for r in results for d in r.departures} | {f.text for r in results if r.record for f in r.record.flags}
    found: dict[str, set[str]] = {}
    for text, method in zip(cells["reasons"], cells["method"], strict=True):
        for reason in filter(None, text.split(BETWEEN)):
            found.setdefault("" if reason in said else reason, set()).add(METHODS[method])
    lines = ["Not comparable: rows with settings, weights or data other than the paper's, named below."]
    return (lines if "" in found else []) + [
        f"Not comparable, {' and '.join(sorted(methods))}: {reason.rstrip('.')}."
        for reason, methods in found.items()
        if reason
    ]


def _flags(results: Sequence[Result], remarks: bool) -> dict[str, list[str]]:
    """Where -> flags of the records there, by category, or remarks on their data instead; "" is everywhere."""
    made = [r for r in results if r.record is not None]
    every = {r.category for r in made}
    found: dict[str, set[str]] = {}
    for r in made:
        for flag in r.record.flags if r.record else ():
            if flag.forbids_comparison != remarks:
                found.setdefault(flag.text, set()).add(r.category)
    by_place: dict[str, list[str]] = {}
    for text, where in found.items():
        by_place.setdefault("" if where == every else f", {', '.join(sorted(where))}", []).append(text)
    return by_place


def _departures(results: Sequence[Result]) -> dict[str, list[str]]:
    """Where in the table -> departures from the paper there; "" is everywhere."""
    places = {tuple(r.labels.items()) for r in results}
    found: dict[str, set[tuple[Any, ...]]] = {}
    for r in results:
        for departure in r.departures:
            found.setdefault(departure, set()).add(tuple(r.labels.items()))
    by_place: dict[str, list[str]] = {}
    for departure, where in found.items():
        names = sorted(", ".join(_text(value) for _, value in labels) for labels in where)
        by_place.setdefault("" if len(where) == len(places) else f" ({' | '.join(names)})", []).append(departure)
    return by_place


def published_table(paper: pd.DataFrame, title: str) -> Table | None:
    """The paper's numbers of other methods: image and pixel AUROC, a column a method."""
    others = paper[~paper["method"].isin(list(METHODS))]
    if others.empty:
        return None
    rows = []
    for category, part in others.groupby("category", sort=False):
        row = {"category": str(category).replace("_", " ")}
        for method in dict.fromkeys(others["method"]):
            values = part[part["method"] == method].set_index("metric")["value"]
            pair = [f"{values[m]:.2f}" if m in values else MISSING for m in ("image_auroc", "pixel_auroc")]
            row[method] = ", ".join(pair)
        rows.append(row)
    return Table(title, rows, ["Image AUROC, pixel AUROC of other methods as the paper prints them."])


def to_markdown(table: Table) -> str:
    """Table -> GitHub Markdown with title and notes."""
    escaped = _frame(table).rename(columns=_markdown).map(_markdown)
    body = escaped.to_markdown(index=False, disable_numparse=True)
    return "\n".join([f"**{table.title}**", "", body, "", *(f"- {line}" for line in table.notes), ""])


def to_latex(table: Table) -> str:
    """Table -> a LaTeX table (booktabs), every name escaped."""
    escaped = _frame(table).rename(columns=_latex).map(_latex)
    caption = " ".join(map(_latex, [f"{table.title}.", *table.notes]))
    styled = escaped.style.hide(axis="index")
    return str(styled.to_latex(hrules=True, caption=caption, position="htbp", column_format="l" * len(table.columns)))


def to_html(table: Table) -> str:
    """Table -> an HTML fragment, every name escaped; a cell links to its records, the first behind its number."""
    links = table.links or [{} for _ in table.rows]
    head = "".join(f"<th>{html.escape(column)}</th>" for column in table.columns)
    body = ""
    for row, link in zip(table.rows, links, strict=True):
        fields = ((_linked(row.get(c, ""), link.get(c, ())), row.get(c, "")) for c in table.columns)
        body += "<tr>" + "".join(f'<td class="{_kind(text)}">{shown}</td>' for shown, text in fields) + "</tr>\n"
    items = "".join(f"<li>{html.escape(line)}</li>" for line in table.notes)
    title = html.escape(table.title)
    return (
        f"<figure><figcaption>{title}</figcaption><div><table><thead><tr>{head}</tr></thead>\n"
        f"<tbody>{body}</tbody></table></div><ul>{items}</ul></figure>\n"
    )


def _linked(text: str, links: Sequence[str]) -> str:
    shown = html.escape(text)
    if not links or text == MISSING:
        return shown
    more = "".join(f' <a href="{html.escape(link, quote=True)}">{n}</a>' for n, link in enumerate(links[1:], 2))
    return f'<a href="{html.escape(links[0], quote=True)}">{shown}</a>{more}'


def _kind(text: str) -> str:
    return next((word for word in ("agrees", "above", "below") if text.startswith(word)), "")


def _frame(table: Table) -> pd.DataFrame:
    return pd.DataFrame(list(table.rows), columns=table.columns).fillna("")


def _markdown(text: str) -> str:
    return text.replace("|", r"\|")  # else it would end the cell


def _latex(text: str) -> str:
    special = {c: f"\\{c}" for c in "&%$#_{}"} | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}"}
    special |= {"<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}", "^": r"\textasciicircum{}"}
    special |= {"±": r"$\pm$", "×": r"$\times$", "−": "$-$", "–": "--"}
    return "".join(special.get(c, c) for c in text)


def _text(value: Any) -> str:
    return MISSING if value is None or value != value else str(value)
