"""The tables: each line of the first is a ratio or a value, with its goal; the second holds what was measured."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any

Results = Mapping[str, Mapping[str, Any]]  # run -> field -> value; or "missing" -> why there are none
UNITS = {"extra_mb": " MB", "peak_mb": " MB", "held_mb": " MB", "predicted_h": " h", "gflop_per_s": " GFLOP/s"}
UNITS |= {"ns_per_pair": " ns", "cpu_s_per_image": " s", "import_cpu_s": " s", "wall_s": " s", "cpu_s": " s"}


@dataclass(frozen=True)
class Line:
    """`field` of run `top` divided by that of `bottom`, where there is one; of several runs at the top the smallest.

    What is not divided is printed as it is. No limit: no goal, the value is for information.
    """

    what: str
    field: str
    top: tuple[str, ...]
    bottom: str | None = None
    at_least: float | None = None
    at_most: float | None = None
    difference: bool = False  # top minus bottom instead


def cells(line: Line, results: Results) -> list[str]:
    """Line and medians -> value, goal, met or missed."""
    runs = [*line.top, *([line.bottom] if line.bottom else [])]
    goal = "" if line.at_least is None else f"≥ {line.at_least:g}"
    goal = goal if line.at_most is None else f"≤ {line.at_most:g}"
    missing = {str(results[run]["missing"]) for run in runs if "missing" in results[run]}
    if missing:
        return [", ".join(sorted(missing)), goal, "not judged" if goal else ""]
    value = min(results[run][line.field] for run in line.top)
    if isinstance(value, bool):
        return ["yes" if value else "no", "yes", "met" if value else "missed"]
    unit, estimate = UNITS.get(line.field, ""), any(results[run].get("est") for run in runs)
    if line.bottom is not None and line.difference:
        return [f"{value - results[line.bottom][line.field]:+.1e}", goal, ""]
    if line.bottom is not None:
        value, unit = value / results[line.bottom][line.field], "x"
    fits = (line.at_least is None or value >= line.at_least) and (line.at_most is None or value <= line.at_most)
    shown = f"{value:.3g}" if value < 100 else f"{value:.0f}"
    return [f"{shown}{unit}{' est.' if estimate else ''}", goal, ("met" if fits else "missed") if goal else ""]


def medians(entries: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Measurements in the order made -> per run the median of every number, of the repeats that did not fail."""
    by_run: dict[str, list[Mapping[str, Any]]] = {}
    codes: dict[str, set[str]] = {}  # commits of the project
    for entry in entries:
        by_run.setdefault(entry["run"], []).append(entry["values"])
        codes.setdefault(entry["run"], set()).add(entry["code"])
    found = {}
    for run, repeats in by_run.items():
        whole = [values for values in repeats if "missing" not in values]
        values = dict((whole or repeats)[0])
        for field, value in values.items():
            if isinstance(value, (int, float)) and not isinstance(value, bool):
                values[field] = median(values[field] for values in whole)
        if any(other.get("picks") != values.get("picks") for other in whole):
            values["picks"] = "differ between repeats"
        found[run] = values | {"repeats": len(whole), "code": ", ".join(sorted(codes[run]))}
    return found


def ratios(wanted: Iterable[Line], results: Results) -> str:
    """Lines -> the Markdown table with goals."""
    rows = ["| what | measured | goal | |", "| --- | --- | --- | --- |"]
    return "\n".join([*rows, *(f"| {' | '.join([line.what, *cells(line, results)])} |" for line in wanted)])


def measurements(results: Results) -> str:
    """Medians -> the Markdown table of all that was measured."""
    costs = ("wall_s", "cpu_s", "peak_mb", "extra_mb")
    rows = ["| run | wall s | CPU s | peak MB | extra MB | repeats | commit | more |", "| --- " * 8 + "|"]
    for run, values in results.items():
        shown = [f"{values[c]:.4g}" if c in values else "" for c in costs]
        more = {k: v for k, v in values.items() if k not in (*costs, "repeats", "code") and not isinstance(v, dict)}
        said = ", ".join(f"{k} {v:.5g}" if isinstance(v, float) else f"{k} {v}" for k, v in more.items())
        rows.append(f"| {run} | {' | '.join(shown)} | {values['repeats']} | {values['code']} | {said} |")
    return "\n".join(rows)
