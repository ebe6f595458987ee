"""Tables: records -> one frame -> CSV with raw numbers, and Markdown, LaTeX and HTML with AUROC x 100."""

import html
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from reconpatch.errors import ReconpatchError
from reconpatch.records import Record

METRICS = {"image_auroc": "image AUROC", "pixel_auroc": "pixel AUROC", "aupro_30": "AUPRO (30 %)"}
METHODS = {"patchcore": "PatchCore", "reconpatch": "ReConPatch"}
MISSING = "–"


def results_frame(records: Sequence[Record], axes: Sequence[str]) -> pd.DataFrame:
    """records -> one row each: data set, category, method, the experiment's axes, seed, flags and metrics."""
    rows = []
    for record in records:
        row: dict[str, Any] = {"dataset": record.dataset, "category": record.category}
        row |= {axis: _plain(record.description.get(axis)) for axis in dict.fromkeys(["method", *axes])}
        row |= {"seed": record.seed, "run": record.run, "flags": "; ".join(record.flags)}
        rows.append(row | {name: _number(record.metrics.get(name)) for name in METRICS})
    return pd.DataFrame(rows)


def comparison(frame: pd.DataFrame, axes: Sequence[str]) -> pd.DataFrame:
    """results_frame -> mean over seeds, one row per category and axis values, one column per metric and method.

    Where both methods ran, a difference (ReConPatch - PatchCore) follows each metric. More than one category adds a
    mean row, over the categories of the table. Values stay in [0, 1]; columns are (metric, method) pairs; `sd` columns
    hold the standard deviation over seeds where there are several.
    """
    keys = ["dataset", "category", *(a for a in axes if a not in ("method", "seed"))]
    names = list(METRICS)
    order = frame[keys].drop_duplicates()
    methods = [m for m in METHODS if m in set(frame["method"])]
    mean = frame.groupby([*keys, "method"], sort=False, dropna=False)[names].mean()
    sd = frame.groupby([*keys, "method"], sort=False, dropna=False)[names].std()
    table = order.copy()
    for name in names:
        for method in methods:
            for suffix, source in (("", mean), (" sd", sd)):
                column = source[name].xs(method, level="method").reindex(pd.MultiIndex.from_frame(order))
                table[f"{name}|{METHODS[method]}{suffix}"] = column.to_numpy()
        if len(methods) == 2:
            ours, theirs = (table[f"{name}|{METHODS[m]}"] for m in ("reconpatch", "patchcore"))
            table[f"{name}|difference"] = ours - theirs
    numbers = [c for c in map(str, table) if "|" in c]
    table = table.drop(columns=[c for c in numbers if c.endswith(" sd") and table[c].isna().all()])
    return _with_means(table.reset_index(drop=True), keys)


def _with_means(table: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    """Add, per data set and axis values, the mean over categories, where there is more than one."""
    groups = [k for k in keys if k != "category"]
    parts = [table]
    for _, part in table.groupby(groups, sort=False):
        if len(part) > 1:
            numbers = part[[c for c in map(str, part) if "|" in c and not c.endswith(" sd")]].mean(skipna=False)
            first = part.iloc[0][groups].to_dict()
            parts.append(pd.DataFrame([first | {"category": f"mean of {len(part)}"} | numbers.to_dict()]))
    return pd.concat(parts, ignore_index=True)[list(table.columns)]


def formatted(table: pd.DataFrame) -> pd.DataFrame:
    """comparison -> strings: x 100, two decimals, +- standard deviation over seeds; undefined values print a dash."""
    shown = pd.DataFrame({c: [_shown(v) for v in table[c]] for c in map(str, table) if "|" not in c})
    for column in [c for c in map(str, table) if "|" in c and not c.endswith(" sd")]:
        metric, method = column.split("|")
        sd = table.get(f"{column} sd", pd.Series(np.nan, table.index))
        signed = "+" if method == "difference" else ""
        shown[f"{METRICS[metric]}, {method}"] = [
            MISSING
            if np.isnan(value)
            else f"{100 * value:{signed}.2f}" + ("" if np.isnan(spread) else f" ± {100 * spread:.2f}")
            for value, spread in zip(table[column], sd, strict=True)
        ]
    return shown


def panels(records: Sequence[Record]) -> list[str]:
    """records of one figure -> a title for each: its method, and its run where methods repeat.

    Raises ReconpatchError when their images or maps are not of one geometry and so cannot stand side by side.
    """
    for key in ("resize", "crop", "interpolation", "blur"):
        values = [record.description[key] for record in records]
        if len(set(values)) > 1:
            raise ReconpatchError(f"figures: the runs drawn differ in {key}: {values}; choose one value under figures")
    titles = [METHODS[record.description["method"]] for record in records]
    return [f"{t} {r.run}" if titles.count(t) > 1 else t for t, r in zip(titles, records, strict=True)]


def footnote(records: Sequence[Record]) -> str:
    """records of one figure -> the line below it: backbone, weights, settings of the runs and every flag."""
    backbones = sorted({f"{r.description['backbone']} ({r.weights['source']} weights)" for r in records})
    settings = sorted({f"{r.description['dim']} dimensions, coreset {r.description['coreset']:g}" for r in records})
    return "; ".join([*backbones, *settings, *sorted({flag for record in records for flag in record.flags})])


def notes(frame: pd.DataFrame, records: Sequence[Record], differences: Sequence[str]) -> list[str]:
    """What stands below a table: units, seeds, weights, flags and how the runs depart from the paper's settings."""
    lines = ["Values × 100; difference: ReConPatch − PatchCore."]
    seeds = sorted(set(frame["seed"]))
    lines.append(f"Seeds: {', '.join(map(str, seeds))}" + (" (mean ± standard deviation)." if len(seeds) > 1 else "."))
    backbones = sorted({f"{r.description['backbone']} ({r.weights['source']})" for r in records})
    lines.append(f"Backbone (weights): {', '.join(backbones)}.")
    flags = sorted({flag for record in records for flag in record.flags})
    lines += [f"Not a result of the paper: {flag}." for flag in flags]
    if frame[list(METRICS)].isna().any(axis=None):
        lines.append("A dash: undefined (no masks, or no normal or no anomalous test images), or not run.")
    if differences:
        lines.append(f"Settings other than the paper's: {'; '.join(differences)}.")
    return lines


def to_markdown(table: pd.DataFrame, title: str, lines: Sequence[str]) -> str:
    """formatted table -> GitHub Markdown with title and notes."""
    body = table.to_markdown(index=False, disable_numparse=True)
    return "\n".join([f"**{title}**", "", body, "", *(f"- {line}" for line in lines), ""])


def to_latex(table: pd.DataFrame, title: str, lines: Sequence[str]) -> str:
    """formatted table -> a LaTeX table (booktabs), every name escaped."""
    escaped = table.rename(columns=_latex).map(_latex)
    caption = " ".join(map(_latex, [f"{title}.", *lines]))
    styled = escaped.style.hide(axis="index")
    return str(styled.to_latex(hrules=True, caption=caption, position="htbp", column_format="l" * len(table.columns)))


def to_html(table: pd.DataFrame, title: str, lines: Sequence[str]) -> str:
    """formatted table -> an HTML fragment, every name escaped."""
    body = table.to_html(index=False, border=0, escape=True, na_rep=MISSING)
    items = "".join(f"<li>{html.escape(line)}</li>" for line in lines)
    return f"<figure><figcaption>{html.escape(title)}</figcaption><div>{body}</div><ul>{items}</ul></figure>\n"


def _latex(text: str) -> str:
    special = {c: f"\\{c}" for c in "&%$#_{}"} | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}"}
    special |= {"^": r"\textasciicircum{}", "±": r"$\pm$", "×": r"$\times$", "−": "$-$", "–": "--"}
    return "".join(special.get(c, c) for c in text)


def _shown(value: Any) -> str:
    return MISSING if value is None or value != value else str(value)  # NaN differs from itself


def _number(value: float | None) -> float:
    return float("nan") if value is None else value


def _plain(value: Any) -> Any:
    return "+".join(map(str, value)) if isinstance(value, list) else value
