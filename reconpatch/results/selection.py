"""Selection of an epoch, or of a value of another axis, on the test set: the oracle shows what that would inflate."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from reconpatch.results.comparison import ORACLE, Result


def with_oracle(results: Sequence[Result], axis: str) -> list[Result]:
    """Results, an axis of their table -> the same and, for every group of results that differ in this axis alone, the
    one of the best image AUROC on the test set, labelled as `ORACLE`.

    The choice is made for every category and seed. Of equal values the first wins. In a group with a missing run the
    choice is missing, too.
    """
    groups: dict[tuple[Any, ...], list[Result]] = {}
    for r in results:
        rest = tuple((key, value) for key, value in r.labels.items() if key != axis)
        groups.setdefault((r.dataset, r.category, rest, r.method, r.seed), []).append(r)
    return [*results, *(_best(group, axis) for group in groups.values())]


def _best(group: Sequence[Result], axis: str) -> Result:
    complete = all(r.record for r in group)
    best = max(group, key=_image_auroc) if complete else replace(group[0], record=None, saved=None)
    others = tuple(text for text in best.departures if not text.startswith(f"{axis} = "))
    return replace(
        best, labels=dict(best.labels) | {axis: ORACLE}, departures=(*others, f"{axis} chosen on the test set (oracle)")
    )


def _image_auroc(result: Result) -> float:
    value = result.record.metrics["image_auroc"] if result.record else None
    return -1.0 if value is None else value
