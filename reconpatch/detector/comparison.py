"""Two models, or tables of scores, on the same images: differences from paired resamples, and counts of verdicts."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from reconpatch.detector.measures import Evaluation, drawn_images, drawn_metric, types_of
from reconpatch.errors import ReconpatchError
from reconpatch.method.bootstrap import Wins, auroc, interval
from reconpatch.method.metrics import METRICS

LETTERS = ("A", "B")  # the first and the second in texts


@dataclass(frozen=True)
class Difference:
    """A metric of the second minus that of the first."""

    value: float
    interval: tuple[float, float] | None  # 95 %, from paired resamples; None for a metric without intervals

    def text(self) -> str:
        """As part of a line of text."""
        text = f"{self.value:+.4f}"
        if self.interval is not None:
            text += f" (95 % interval {self.interval[0]:+.4f} to {self.interval[1]:+.4f})"
        return text


@dataclass(frozen=True)
class Verdicts:
    """How many images of a group both, one or neither calls anomalous, each at its own threshold."""

    both: int
    first_only: int
    second_only: int
    neither: int
    p: float  # two-sided, of the exact McNemar test that both call as many images anomalous

    def text(self) -> str:
        """As part of a line of text."""
        first, second = LETTERS
        return (
            f"by both {self.both}, by {first} only {self.first_only}, by {second} only {self.second_only}, by neither "
            f"{self.neither}; p = {self.p:.3g}"
        )


@dataclass(frozen=True)
class Comparison:
    """The second compared with the first."""

    names: tuple[str, str]
    evaluations: tuple[Evaluation, Evaluation]
    differences: dict[str, Difference]  # by metric
    false_alarms: Verdicts | None  # of the normal images; None without thresholds or without such images
    found: Verdicts | None  # of the anomalous images
    found_by_type: dict[str, Verdicts]

    @property
    def same_pixels(self) -> bool:
        """Whether pixel metrics of both are of the same pixels."""
        return self.evaluations[0].geometry == self.evaluations[1].geometry

    def to_json(self) -> dict[str, object]:
        """What `--json` prints besides the evaluation of each."""
        verdicts = {
            "false_alarms": None if self.false_alarms is None else asdict(self.false_alarms),
            "found": None if self.found is None else asdict(self.found),
            "found_by_kind": {name: asdict(each) for name, each in self.found_by_type.items()},
        }
        return {"differences": {name: asdict(each) for name, each in self.differences.items()}, "verdicts": verdicts}

    def lines(self) -> list[str]:
        """What is printed without `--json`."""
        lines = []
        for letter, name, evaluation in zip(LETTERS, self.names, self.evaluations, strict=True):
            lines += [f"{letter}: {name}", *(f"  {line}" for line in evaluation.lines())]
        first, second = LETTERS
        lines.append(f"{second} - {first}, on the same images, intervals from paired resamples:")
        lines += [f"  {METRICS[name].label}: {each.text()}" for name, each in self.differences.items()]
        if not self.same_pixels:
            lines.append(f"  pixel metrics are not compared: {self.pixels_text()}")
        groups = {"false alarms": self.false_alarms, "anomalous images found": self.found}
        groups |= {f"  of {name}": verdicts for name, verdicts in self.found_by_type.items()}
        if self.found or self.false_alarms:
            lines.append("each at its threshold, with p of the exact McNemar test:")
            lines += [f"  {name}: {verdicts.text()}" for name, verdicts in groups.items() if verdicts]
        return lines

    def pixels_text(self) -> str:
        """Which pixels each sees."""
        seen = (
            f"{letter} sees {each.geometry or 'what its table does not say'}"
            for letter, each in zip(LETTERS, self.evaluations, strict=True)
        )
        return ", ".join(seen)


def compare(names: tuple[str, str], first: Evaluation, second: Evaluation) -> Comparison:
    """Names of two, evaluations of the same N images -> Comparison.

    AUROCs are resampled as in the intervals of each, with the same images drawn for both. Raises ReconpatchError if the
    images differ.
    """
    if list(first.truths) != list(second.truths):
        raise ReconpatchError("evaluations of different images cannot be compared")
    labels, same_pixels = first.labels, first.geometry == second.geometry
    differences: dict[str, Difference] = {}
    for name, metric in METRICS.items():
        a, b = first.metrics.get(name), second.metrics.get(name)
        if a is None or b is None or (metric.level == "pixel" and not same_pixels):
            continue
        a_drawn = b_drawn = None
        if metric.interval and metric.level == "image":
            a_drawn, b_drawn = (
                drawn_metric(metric, each.scores.values.astype(np.float32), labels) for each in (first, second)
            )
        elif name == "pixel_auroc":
            a_drawn, b_drawn = (_drawn_pixels(each.wins, labels) for each in (first, second))
        ends = None if a_drawn is None or b_drawn is None else interval(b_drawn - a_drawn)
        differences[name] = Difference(b - a, ends)
    alarms = first.scores.alarms, second.scores.alarms
    types = types_of(first.truths) if alarms[0] is not None and alarms[1] is not None else []
    of_type = [truth.defect_type if truth.label else None for truth in first.truths]
    by_type = {name: _verdicts(alarms, np.array([each == name for each in of_type])) for name in types}
    return Comparison(
        names=names,
        evaluations=(first, second),
        differences=differences,
        false_alarms=_verdicts(alarms, labels == 0),
        found=_verdicts(alarms, labels == 1),
        found_by_type={name: verdicts for name, verdicts in by_type.items() if verdicts},
    )


def _drawn_pixels(wins: Wins | None, labels: NDArray[np.int64]) -> NDArray[np.float64] | None:
    """Wins of the pixels of N images, (N,) labels -> (RESAMPLES,) pixel AUROCs; None without wins."""
    if wins is None or len(set(labels.tolist())) < 2:
        return None
    return np.concatenate([auroc(wins, draw) for draw in drawn_images(labels)])


def _verdicts(alarms: Sequence[NDArray[np.bool_] | None], group: NDArray[np.bool_]) -> Verdicts | None:
    """(N,) alarms of the first and of the second, (N,) which images belong to a group -> Verdicts; None for an empty
    group and without alarms.
    """
    from scipy.stats import binomtest

    first, second = alarms
    if first is None or second is None or not group.any():
        return None
    a, b = first[group], second[group]
    only_a, only_b = int((a & ~b).sum()), int((b & ~a).sum())
    p = float(binomtest(only_a, only_a + only_b).pvalue) if only_a + only_b else 1.0
    return Verdicts(int((a & b).sum()), only_a, only_b, int((~a & ~b).sum()), p)
