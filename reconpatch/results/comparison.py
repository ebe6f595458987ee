"""Every number of a table: ours with its interval, the paper's, the difference, a verdict, and the gain over PatchCore.

One cell per place, category (or mean over categories), method and metric. A cell's bootstrap draws test images, and
seeds where there are several; the same draws serve both methods, so gains are paired.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from reconpatch.data.published import KNOWN, TEXTURES
from reconpatch.method.bootstrap import interval, mean_over_seeds, resamples, seed_resamples
from reconpatch.method.metrics import METRICS, SavedScores, resampled
from reconpatch.records.record import Record
from reconpatch.results.paper import paper_mean, paper_value
from reconpatch.rng import named_rng

BETWEEN = " | "  # reasons of a cell: the paper's caveats have semicolons of their own
Draws = NDArray[np.float64]
Key = tuple[str, str, tuple[tuple[str, Any], ...], str]  # data set, category, labels, method


@dataclass(frozen=True)
class Result:
    """One run on one category at its place in a table. Without a record the run is missing."""

    labels: Mapping[str, Any]
    method: str
    seed: int
    dataset: str
    category: str
    run: str
    departures: Sequence[str]
    record: Record | None = None
    link: str = ""  # where the record lies, relative to the report
    saved: SavedScores | None = None  # what its intervals are drawn from


@dataclass(frozen=True)
class Entry:
    """Value of one group of seeds on one category, or a mean of such: in [0, 1], with its bootstrap draws."""

    value: float
    sd: float
    draws: Draws | None

    @staticmethod
    def mean(entries: Sequence["Entry"]) -> "Entry":
        """The unweighted mean over categories, whose draws are independent."""
        if len(entries) == 1:
            return entries[0]
        every = [e.draws for e in entries if e.draws is not None]
        draws = np.mean(every, axis=0) if len(every) == len(entries) else None
        return Entry(float(np.mean([e.value for e in entries])), float("nan"), draws)


def entries(results: Sequence[Result], count: int) -> dict[str, Entry]:
    """Results of all seeds of one place, method and category -> per metric an Entry; NaN where a run is missing."""
    found = {}
    first, saved = results[0], [r.saved for r in results if r.saved is not None]
    for name, metric in METRICS.items():
        if not metric.in_tables:
            continue
        values = [np.nan if r.record is None else _number(r.record.metrics.get(name)) for r in results]
        draws = None
        if metric.interval is not None and len(saved) == len(results) and not np.isnan(values).any():
            rng = f"bootstrap/{first.dataset}/{first.category}"  # the same for both methods and at every place
            images = resamples(saved[0].labels, count, named_rng(0, f"{rng}/images"))
            seeds = seed_resamples(len(saved), count, named_rng(0, f"{rng}/seeds"))
            draws = mean_over_seeds([resampled(metric, scores, images) for scores in saved], seeds)
        sd = float(np.std(values, ddof=1)) if len(values) > 1 else float("nan")
        found[name] = Entry(float(np.mean(values)), sd, draws)
    return found


def groups(layout: str, categories: Sequence[str]) -> dict[str, list[str]]:
    """Categories of a table -> the means it shows: object, texture and all, as the paper, where they are several."""
    if len(categories) < 2:
        return {}
    found = {"mean": list(categories)}
    if layout == "mvtec_ad":
        kinds = {"object": [c for c in categories if c not in TEXTURES]}
        kinds["texture"] = [c for c in categories if c in TEXTURES]
        found = {name: chosen for name, chosen in kinds.items() if 1 < len(chosen) < len(categories)} | found
    return found


def published(
    paper: pd.DataFrame | None,
    labels: Mapping[str, Any],
    group: str,
    members: Sequence[str],
    layout: str,
    key: tuple[str, str],
) -> tuple[float, str] | None:
    """The paper's value in [0, 1] for a category or a mean, with the reason why it cannot be compared, if there is one.

    A mean over some of the categories is compared with the paper's over the same, where it gives them.
    """
    if paper is None or layout not in KNOWN:  # someone's own "bottle" is not the paper's
        return None
    textures = {c for c in KNOWN[layout] if c in TEXTURES}
    means = {"mean": set(KNOWN[layout]), "texture": textures, "object": set(KNOWN[layout]) - textures}
    whole = group if group in members else next((m for m, all_ in means.items() if all_ == set(members)), None)
    if whole is not None:
        found = paper_value(paper, labels, whole, *key)
    elif strange := sorted(set(members) - means["mean"]):
        found = paper_value(paper, labels, group, *key)
        found = found and (found[0], f"the paper does not have {', '.join(strange)}")
    else:
        found = paper_mean(paper, labels, members, *key)
        if found is None:
            mean = paper_value(paper, labels, group, *key)
            part = f"{len(members)} of the paper's {len(means[group])} categories."
            found = mean and (mean[0], f"{part} {mean[1]}".strip())
    return found and (found[0] / 100, found[1])


def verdict(value: float, paper: float, tolerance: float, reasons: Sequence[str]) -> str:
    """(ours, paper's, tolerance), all in [0, 1], and what forbids a comparison -> the word for it."""
    if np.isnan(value):
        return "not run"
    if reasons:
        return "not comparable"
    # rounded, so that a difference of exactly the tolerance agrees in spite of binary fractions
    difference = round(value - paper, 9)
    return "agrees" if abs(difference) <= tolerance else "above" if difference > 0 else "below"


def cells(
    results: Sequence[Result],
    paper: pd.DataFrame | None,
    layouts: Mapping[str, str],
    *,
    count: int,
    tolerance: float,
) -> pd.DataFrame:
    """Results -> one row per data set, category or mean, place, method and metric; values in [0, 1].

    value is the mean over seeds, sd their standard deviation, low and high the ends of the 95 % interval of `count`
    bootstrap draws; gain is ReConPatch - PatchCore at the same place with the interval of the paired draws. Paper's
    values are compared within `tolerance`, in [0, 1].
    """
    placed: dict[Key, list[Result]] = {}
    for r in results:
        placed.setdefault((r.dataset, r.category, tuple(r.labels.items()), r.method), []).append(r)
    computed: dict[tuple[str, ...], dict[str, Entry]] = {}  # places that share their runs share the work
    found: dict[Key, dict[str, Entry]] = {}
    for key, chosen in placed.items():
        runs = (*key[:2], *(r.run for r in chosen))
        if runs not in computed:
            computed[runs] = entries(chosen, count)
        found[key] = computed[runs]
    rows = []
    for dataset, layout in layouts.items():
        names = list(dict.fromkeys(k[1] for k in placed if k[0] == dataset))
        places = dict.fromkeys(k[2:] for k in placed if k[0] == dataset)
        for group, members in ({name: [name] for name in names} | groups(layout, names)).items():
            for labels, method in places:
                keys = [(dataset, c, labels, method) for c in members]
                flat = [r for key in keys for r in placed[key]]
                partners = [(dataset, c, labels, "patchcore") for c in members] if method == "reconpatch" else []
                for metric in (m.name for m in METRICS.values() if m.in_tables):
                    mine = Entry.mean([found[key][metric] for key in keys])
                    theirs = [found[key][metric] for key in partners if key in found]
                    gain = _gain(mine, Entry.mean(theirs)) if len(theirs) == len(members) else {}
                    known = published(paper, dict(labels), group, members, layout, (method, metric))
                    rows.append(
                        {"dataset": dataset, "category": group, "categories": len(members)}
                        | dict(labels)
                        | {"method": method, "metric": metric, "value": mine.value, "sd": mine.sd}
                        | dict(zip(("low", "high"), _ends(mine.draws), strict=True))
                        | _against(mine.value, known, flat, tolerance)
                        | gain
                        | _origin(flat, len(members))
                    )
    return pd.DataFrame(rows)


def _against(
    value: float, known: tuple[float, str] | None, results: Sequence[Result], tolerance: float
) -> dict[str, Any]:
    """The paper's value, the difference, the verdict, and what forbids a comparison."""
    if known is None:
        return {"paper": np.nan, "difference": np.nan, "verdict": "", "reasons": ""}
    flags = [flag.text for r in results if r.record for flag in r.record.flags if flag.forbids_comparison]
    reasons = [*(departure for r in results for departure in r.departures), *flags]
    reasons = list(dict.fromkeys([*reasons, *([known[1]] if known[1] else [])]))
    said = verdict(value, known[0], tolerance, reasons)
    return {"paper": known[0], "difference": value - known[0], "verdict": said, "reasons": BETWEEN.join(reasons)}


def _gain(ours: Entry, theirs: Entry) -> dict[str, float]:
    """ReConPatch - PatchCore, with the interval of the paired draws."""
    paired = None if ours.draws is None or theirs.draws is None else ours.draws - theirs.draws
    low, high = _ends(paired)
    return {"gain": ours.value - theirs.value, "gain_low": low, "gain_high": high}


def _origin(results: Sequence[Result], categories: int) -> dict[str, Any]:
    """Seeds, runs and flags behind a cell; links to the records where it is one category's."""
    links = [r.link for r in results if r.record is not None] if categories == 1 else []
    seeds = sorted({r.seed for r in results})
    flags = dict.fromkeys(str(flag) for r in results if r.record is not None for flag in r.record.flags)
    return {
        "seeds": " ".join(map(str, seeds)),
        "runs": " ".join(dict.fromkeys(r.run for r in results)),
        "links": " ".join(links),
        "flags": "; ".join(flags),  # a number never stands without them
    }


def _ends(draws: Draws | None) -> tuple[float, float]:
    return (float("nan"), float("nan")) if draws is None else interval(draws)


def _number(value: float | None) -> float:
    return float("nan") if value is None else value
