"""What scores say beside the truth: metrics with intervals, how often the threshold is right, type by type.

Nothing here needs photographs or a network: `evaluate` scores photographs, `scores_table` reads scores from a file.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field

import numpy as np
from numpy.typing import NDArray

from reconpatch.detector.threshold import share_interval
from reconpatch.detector.truth import Truth
from reconpatch.errors import listed, quote
from reconpatch.method.bootstrap import Wins, interval, resamples
from reconpatch.method.metrics import METRICS, Metric, Metrics, image_metrics, resampled_images
from reconpatch.rng import named_rng

RESAMPLES = 2000
RESAMPLES_AT_ONCE = 100  # all at once would take as much memory as many maps
NAMES_SHOWN = 5  # images named in a line of text


@dataclass(frozen=True)
class Scores:
    """Scores of N images, and which of the images are called anomalous."""

    values: NDArray[np.float64]  # (N,), higher is more anomalous
    alarms: NDArray[np.bool_] | None = None  # (N,), true for images called anomalous; None without a threshold
    threshold: float | None = None  # None also where only the alarms are known
    source: str = ""  # whose threshold it is, in words

    @staticmethod
    def above(values: NDArray[np.float64], threshold: float | None, source: str) -> "Scores":
        """(N,) scores, threshold, whose it is -> Scores; an image is called anomalous above the threshold."""
        if threshold is None:
            return Scores(values)
        return Scores(values, values > threshold, threshold, source)


@dataclass(frozen=True)
class Share:
    """How many images of a group are called anomalous."""

    above: int
    of: int
    interval: tuple[float, float]  # 95 %, of the probability

    def text(self) -> str:
        """As one line of text."""
        low, high = self.interval
        return f"{self.above} of {self.of}, {self.above / self.of:.1%} (95 % interval {low:.1%} to {high:.1%})"


@dataclass(frozen=True)
class AtThreshold:
    """How often a threshold of image scores is right; None for a group without images."""

    value: float | None  # None where only its verdicts are known
    source: str  # whose threshold it is
    false_alarms: Share | None  # of normal images
    detected: Share | None  # of anomalous images
    detected_by_type: dict[str, Share]  # of each type of defect

    def title(self) -> str:
        """Its value, if it is known, and whose it is."""
        return self.source if self.value is None else f"{self.value:.4g}, {self.source}"


@dataclass(frozen=True)
class InView:
    """Where the defects that masks mark lie, beside what the network sees. A defect is all that one mask marks."""

    of: int  # defects
    outside: list[str]  # images whose defects lie wholly outside
    partly: list[str]  # images whose defects lie partly outside
    seen: float  # share of all marked pixels that the network sees

    def text(self, missed: set[str] | None) -> str:
        """As one line of text; `missed` are the names of the defective images that the threshold does not find."""
        text = f"{len(self.outside)} of {self.of} wholly, {len(self.partly)} partly; {self.seen:.2%} of the pixels that"
        text += " masks mark are seen"
        if missed is not None and self.outside:
            text += f"; of {len(missed)} defects not found, {len(missed & {*self.outside})} lie wholly out of view"
        if self.outside:
            text += f"; wholly: {', '.join(listed([quote(name) for name in self.outside], NAMES_SHOWN))}"
        return text


@dataclass(frozen=True)
class Evaluation:
    """Scores of N images compared with the truth."""

    names: Sequence[str]  # of the images
    truths: Sequence[Truth]
    scores: Scores
    metrics: Metrics  # in [0, 1]; None where undefined
    intervals: dict[str, tuple[float, float]]  # metric -> 95 %; empty without normal or without anomalous images
    type_auroc: dict[str, float]  # type of defect -> image AUROC of its images and all normal ones
    threshold: AtThreshold | None
    masks: int = 0  # that pixel metrics were computed with
    view: InView | None = None  # None without masks
    wins: Wins | None = None  # of the pixels, where two models are compared
    geometry: str = ""  # which pixels the maps have: models with the same have the same pixels
    remarks: list[str] = field(default_factory=list)  # what is odd in the photographs and masks

    @property
    def labels(self) -> NDArray[np.int64]:
        """(N,), 1 for anomalous images."""
        return np.array([truth.label for truth in self.truths], np.int64)

    @property
    def normal(self) -> int:
        """Number of normal images."""
        return int((self.labels == 0).sum())

    @property
    def anomalous(self) -> int:
        """Number of anomalous images."""
        return int(self.labels.sum())

    @property
    def missed(self) -> set[str] | None:
        """Names of the anomalous images that are not called so; None without a threshold."""
        if self.scores.alarms is None:
            return None
        verdicts = zip(self.names, self.truths, self.scores.alarms, strict=True)
        return {name for name, truth, alarm in verdicts if truth.label and not alarm}

    def to_json(self) -> dict[str, object]:
        """What `--json` prints."""
        content: dict[str, object] = {
            "normal": self.normal,
            "anomalous": self.anomalous,
            "masks": self.masks,
            "metrics": self.metrics,
            "image_auroc_by_kind": self.type_auroc,
            "remarks": self.remarks,
        }
        content |= {f"{name}_interval": interval for name, interval in self.intervals.items()}
        if self.threshold is not None:
            at = asdict(self.threshold)
            content["threshold"] = {
                "value": at["value"],
                "source": at["source"],
                "false_alarms": at["false_alarms"],
                "found": at["detected"],
                "found_by_kind": at["detected_by_type"],
            }
        if self.view is not None:
            content["out_of_view"] = asdict(self.view)
        return content

    def lines(self) -> list[str]:
        """What is printed without `--json`."""
        lines = [f"{self.normal} normal and {self.anomalous} anomalous images, {self.masks} masks"]
        for name in METRICS:
            if name in self.metrics:
                lines.append(f"  {METRICS[name].label}: {self.metric_text(name)}")
            if name == "image_auroc" and len(self.type_auroc) > 1:
                lines += [f"    of {defect_type}: {value:.4f}" for defect_type, value in self.type_auroc.items()]
        if self.view is not None:
            lines.append(f"  defects out of view: {self.view.text(self.missed)}")
        if self.threshold is not None:
            groups = {
                "  false alarms": self.threshold.false_alarms,
                "  anomalous images found": self.threshold.detected,
            }
            groups |= {f"    of {name}": share for name, share in self.threshold.detected_by_type.items()}
            lines.append(f"at the threshold {self.threshold.title()}:")
            lines += [f"{name}: {share.text()}" for name, share in groups.items() if share]
        return lines

    def metric_text(self, name: str) -> str:
        """Name of a metric -> its value, with its interval if it has one."""
        value = self.metrics[name]
        text = "undefined" if value is None else f"{value:.4f}"
        if value is not None and METRICS[name].threshold is not None:
            text += ", at the threshold that is best for this truth"
        if name in self.intervals:
            low, high = self.intervals[name]
            text += f" (95 % interval {low:.4f} to {high:.4f})"
        return text


def measure(names: Sequence[str], truths: Sequence[Truth], scores: Scores) -> Evaluation:
    """N names, N truths, N scores -> Evaluation, with image metrics alone."""
    labels = np.array([truth.label for truth in truths], np.int64)
    values = scores.values.astype(np.float32)
    draws = {name: drawn_metric(metric, values, labels) for name, metric in METRICS.items()}
    return Evaluation(
        names=names,
        truths=truths,
        scores=scores,
        metrics=image_metrics(values, labels),
        intervals={name: interval(each) for name, each in draws.items() if each is not None},
        type_auroc=_auroc_by_type(values, truths),
        threshold=at_threshold(scores, truths),
    )


def doubts(evaluation: Evaluation) -> Iterator[str]:
    """Evaluation -> what makes its labels or an interval doubtful."""
    low, high = evaluation.intervals.get("image_auroc", (0.5, 0.5))
    if high < 0.5:
        yield "normal images have higher scores than anomalous ones (image AUROC below 0.5): are labels exchanged?"
    if low == high == 1:
        yield (
            "the scores part all normal images from all anomalous ones, and so they do in every resample: the interval "
            "of the image AUROC does not say how sure that is"
        )


def drawn_metric(metric: Metric, scores: NDArray[np.float32], labels: NDArray[np.int64]) -> NDArray[np.float64] | None:
    """Metric, (N,) scores, (N,) labels -> (RESAMPLES,) values, of the same resamples of the images for all metrics and
    all scores; None for a metric of pixels, one without intervals, and labels of one kind.
    """
    if metric.level != "image" or not metric.interval or len(set(labels.tolist())) < 2:
        return None
    return np.concatenate([resampled_images(metric, scores, labels, draw) for draw in drawn_images(labels)])


def drawn_images(labels: NDArray[np.int64]) -> Iterator[NDArray[np.float32]]:
    """(N,) labels -> parts (RESAMPLES_AT_ONCE, N) of how often each image is drawn, the same at every call."""
    rng = named_rng(0, "evaluate")
    return (resamples(labels, RESAMPLES_AT_ONCE, rng) for _ in range(RESAMPLES // RESAMPLES_AT_ONCE))


def at_threshold(scores: Scores, truths: Sequence[Truth]) -> AtThreshold | None:
    """Scores, N truths -> how many images of each group are called anomalous; None without a threshold."""
    if scores.alarms is None:
        return None
    alarms = scores.alarms.tolist()

    def share(label: int, defect_type: str | None = None) -> Share | None:
        group = [
            alarm
            for alarm, truth in zip(alarms, truths, strict=True)
            if truth.label == label and defect_type in (None, truth.defect_type)
        ]
        return Share(sum(group), len(group), share_interval(sum(group), len(group))) if group else None

    by_type = {defect_type: found for defect_type in types_of(truths) if (found := share(1, defect_type))}
    return AtThreshold(scores.threshold, scores.source, share(0), share(1), by_type)


def types_of(truths: Sequence[Truth]) -> list[str]:
    """Truths -> the types of defects among them, sorted."""
    return sorted({truth.defect_type for truth in truths if truth.label})


def _auroc_by_type(scores: NDArray[np.float32], truths: Sequence[Truth]) -> dict[str, float]:
    """(N,) scores, N truths -> type of defect -> image AUROC of its images and all normal ones, where there are any."""
    result: dict[str, float] = {}
    for defect_type in types_of(truths):
        chosen = [n for n, truth in enumerate(truths) if not truth.label or truth.defect_type == defect_type]
        labels = np.array([truths[n].label for n in chosen], np.int64)
        value = image_metrics(scores[chosen], labels)["image_auroc"]
        if value is not None:
            result[defect_type] = value
    return result
