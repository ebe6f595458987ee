"""The page of `reconpatch evaluate --report`: curves, histograms, tables by type of defect, and the worst images."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from reconpatch.detector.comparison import LETTERS, Comparison
from reconpatch.detector.detector import Detector
from reconpatch.detector.measures import Evaluation, Share, types_of
from reconpatch.detector.photographs import Photograph, load
from reconpatch.detector.predict import PICTURE_FOLDERS, TEXT_HEIGHT, colour_scale, overlay
from reconpatch.detector.truth import LEAST_GREY, Truth, marked
from reconpatch.errors import listed
from reconpatch.files import write_text
from reconpatch.method.metrics import METRICS, Metrics
from reconpatch.results.figures.common import svg
from reconpatch.results.figures.maps import curves, histograms_by_type
from reconpatch.results.page import anchor, data_uri, render_page
from reconpatch.results.thumbnails import outlined

WORST = 12  # images of a group that are shown at most
LONGEST_SIDE = 480  # px of a picture
QUALITY = 80  # of JPEG
LIMIT = 8 * 10**6  # bytes of the pictures of one page
MISSING, ALL, GOOD = "–", "all defects", "good"  # names of rows

# Numbers of images -> their overlays, as `predict.overlay` draws them, in the same order; None where there is none.
Overlays = Callable[[Sequence[int]], Iterator[Image.Image | None]]


@dataclass(frozen=True)
class Shown:
    """One model or table of scores, as the page shows it."""

    name: str
    about: Sequence[str]  # what it is, in lines
    marks: Sequence[str]  # what its figures say of it, such as random weights
    evaluation: Evaluation
    overlays: Overlays


@dataclass(frozen=True)
class Group:
    """Images that are shown together."""

    title: str
    images: list[int]  # the clearest error first


def overlays_of_model(
    detector: Detector, photographs: Sequence[Photograph], level: float, map_threshold: float | None
) -> Overlays:
    """Detector, N photographs, median and threshold of maps of good images -> overlays, drawn when asked for."""

    def draw(numbers: Sequence[int]) -> Iterator[Image.Image]:
        chosen = [photographs[n] for n in numbers]
        for detection in detector(chosen):
            scale = colour_scale(level, map_threshold, float(detection.map.max()))
            yield overlay(load(chosen[detection.number]), detection, scale, "")

    return draw


def overlays_of_table(folder: Path, names: Sequence[str]) -> Overlays:
    """Folder that `predict` wrote, names of N images -> the overlays in it."""

    def read(numbers: Sequence[int]) -> Iterator[Image.Image | None]:
        for n in numbers:
            file = folder / PICTURE_FOLDERS[0] / f"{names[n]}.png"
            try:
                with Image.open(file) as picture:
                    yield picture.convert("RGB")
            except OSError:  # not there, or no picture
                yield None

    return read


def write_page(
    file: Path, shown: Sequence[Shown], comparison: Comparison | None, least: int = LEAST_GREY["any"]
) -> None:
    """File, one or two models on the same images, their comparison, the grey value from which on masks mark a defect ->
    the page, which is whole or absent.
    """
    evaluations, letters = [each.evaluation for each in shown], LETTERS[: len(shown)] if comparison else ("",)
    lettered = list(zip(letters, evaluations, strict=True))
    first = evaluations[0]
    groups = disagreements(*evaluations) if comparison else worst(first)
    pictures, left_out = _pictures(groups, shown, least)
    models = [
        {
            "letter": letter,
            "name": each.name,
            "about": each.about,
            "warnings": each.marks,
            "threshold": each.evaluation.threshold.title() if each.evaluation.threshold else "none",
            "view": each.evaluation.view.text(each.evaluation.missed) if each.evaluation.view else "",
        }
        for letter, each in zip(letters, shown, strict=True)
    ]
    text = render_page(
        "evaluation.html.j2",
        title="Comparison of two models" if comparison else f"Evaluation of {shown[0].name}",
        models=models,
        images=f"{first.normal} normal and {first.anomalous} anomalous, {max(e.masks for e in evaluations)} with masks",
        metrics=_metrics(evaluations, letters, comparison),
        types=[_types(each, letter) for letter, each in lettered] + ([_verdicts(comparison)] if comparison else []),
        other_pixels=comparison.pixels_text() if comparison and not comparison.same_pixels else "",
        figures=_figures(shown, letters),
        remarks=list(dict.fromkeys(remark for each in evaluations for remark in each.remarks)),
        groups=[
            {"title": group.title, "anchor": anchor(group.title), "count": len(group.images), "images": items}
            for group, items in zip(groups, pictures, strict=True)
        ],
        left_out=left_out,
        limit_mb=LIMIT // 10**6,
    )
    write_text(file, text)


def worst(evaluation: Evaluation) -> list[Group]:
    """Evaluation -> the defects that are not found, lowest score first, and the false alarms, highest score first.

    Without a threshold these are all defects and all normal images in that order.
    """
    values, alarms, labels = evaluation.scores.values, evaluation.scores.alarms, evaluation.labels
    low = [int(n) for n in np.argsort(values, kind="stable")]
    defects = [n for n in low if labels[n] and (alarms is None or not alarms[n])]
    normal = [n for n in reversed(low) if not labels[n] and (alarms is None or alarms[n])]
    if alarms is None:
        return [Group("Defects with the lowest scores", defects), Group("Good images with the highest scores", normal)]
    return [Group("Defects not found", defects), Group("False alarms", normal)]


def disagreements(first: Evaluation, second: Evaluation) -> list[Group]:
    """Two evaluations of the same images -> those that one judges rightly and the other does not, and those that both
    judge wrongly; empty without thresholds.
    """
    if first.scores.alarms is None or second.scores.alarms is None:
        return []
    a, b = LETTERS
    wrong = [each.scores.alarms != first.labels.astype(bool) for each in (first, second)]
    defect = first.labels == 1
    parts = {
        f"Defects that only {a} finds": defect & ~wrong[0] & wrong[1],
        f"Defects that only {b} finds": defect & wrong[0] & ~wrong[1],
        "Defects that neither finds": defect & wrong[0] & wrong[1],
        f"False alarms of {a} only": ~defect & wrong[0] & ~wrong[1],
        f"False alarms of {b} only": ~defect & ~wrong[0] & wrong[1],
        "False alarms of both": ~defect & wrong[0] & wrong[1],
    }
    return [Group(title, [int(n) for n in np.flatnonzero(chosen)]) for title, chosen in parts.items()]


@dataclass(frozen=True)
class Table:
    """A table of the page: the first entry of a row is its header."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


def _metrics(evaluations: Sequence[Evaluation], letters: Sequence[str], comparison: Comparison | None) -> Table:
    """A row for each metric."""
    names = [name for name in METRICS if any(name in each.metrics for each in evaluations)]
    rows = []
    for name in names:
        row = [METRICS[name].label]
        for each in evaluations:
            row.append(each.metric_text(name) if name in each.metrics else MISSING)
        if comparison is not None:
            difference = comparison.differences.get(name)
            row.append(MISSING if difference is None else difference.text())
        rows.append(row)
    values = ["value"] if comparison is None else [*letters, f"{letters[1]} − {letters[0]}, paired"]
    return Table("Metrics", ["metric", *values], rows)


def _types(evaluation: Evaluation, letter: str) -> Table:
    """A row for each type of defect, for all defects and for the good images."""
    at, view, types = evaluation.threshold, evaluation.view, types_of(evaluation.truths)
    of_type = Counter(truth.defect_type for truth in evaluation.truths if truth.label)
    sizes = {name: of_type[name] for name in types} | {ALL: evaluation.anomalous, GOOD: evaluation.normal}
    shares: dict[str, Share | None] = {}
    if at is not None:
        shares = {**at.detected_by_type, ALL: at.detected, GOOD: at.false_alarms}
    aurocs: Metrics = {**evaluation.type_auroc, ALL: evaluation.metrics["image_auroc"]}
    columns = ["type", "images", *(["called anomalous", "share", "95 % interval"] if shares else []), "image AUROC"]
    columns += ["wholly out of view", "partly"] if view else []
    rows = []
    for name, size in sizes.items():
        if not size:
            continue
        row, share, auroc = [name, str(size)], shares.get(name), aurocs.get(name)
        if share is not None:
            low, high = share.interval
            row += [f"{share.above} of {share.of}", f"{share.above / share.of:.1%}", f"{low:.1%} to {high:.1%}"]
        row.append(MISSING if auroc is None else f"{auroc:.4f}")
        if view:
            row += _out_of_view(evaluation, types if name == ALL else [name])
        rows.append(row)
    return Table("Types of defects" + (f": {letter}" if letter else ""), columns, rows)


def _verdicts(comparison: Comparison) -> Table:
    """A row for each type of defect, for all defects and for the good images: which of the two calls how many images
    anomalous.
    """
    a, b = LETTERS
    groups = {**comparison.found_by_type, ALL: comparison.found, GOOD: comparison.false_alarms}
    rows = [
        [name, *(str(n) for n in (v.both, v.first_only, v.second_only, v.neither)), f"{v.p:.3g}"]
        for name, v in groups.items()
        if v is not None
    ]
    columns = ["type", "by both", f"by {a} only", f"by {b} only", "by neither", "p, exact McNemar test"]
    return Table("Called anomalous, each at its threshold", columns, rows)


def _out_of_view(evaluation: Evaluation, types: Sequence[str]) -> list[str]:
    """Evaluation with a view, types of defects -> how many of these defects lie wholly and partly out of view."""
    if evaluation.view is None:
        return []
    of_types = {
        name
        for name, truth in zip(evaluation.names, evaluation.truths, strict=True)
        if truth.label and truth.defect_type in types
    }
    return [str(len(of_types.intersection(each))) for each in (evaluation.view.outside, evaluation.view.partly)]


def _figures(shown: Sequence[Shown], letters: Sequence[str]) -> list[dict[str, str]]:
    """Curves of all and histograms of each, with captions and what they show in words."""
    names = [letter or "image score" for letter in letters]
    values = [each.evaluation.scores.values.astype(np.float32) for each in shown]
    marks = list(dict.fromkeys(mark for each in shown for mark in each.marks))
    aurocs = [each.evaluation.metrics["image_auroc"] for each in shown]
    areas = [f"{name} {MISSING if v is None else f'{v:.4f}'}" for name, v in zip(names, aurocs, strict=True)]
    figures = [
        {
            "uri": data_uri(svg(curves(values, shown[0].evaluation.labels, names, 1), marks), "image/svg+xml"),
            "alt": f"ROC and precision-recall curves of the image scores; areas under the ROC: {', '.join(areas)}",
            "caption": "ROC and precision-recall curves of the image scores. Grey: scores without any information."
            + _marked(marks),
        }
    ]
    for letter, each, scores in zip(letters, shown, values, strict=True):
        types = [truth.defect_type for truth in each.evaluation.truths]
        drawn = histograms_by_type(scores, types, each.evaluation.scores.threshold)
        medians = [f"{name} {np.median(scores[[other == name for other in types]]):.4g}" for name in sorted(set(types))]
        figures.append(
            {
                "uri": data_uri(svg(drawn, each.marks), "image/svg+xml"),
                "alt": f"Histograms of the image scores by type of defect; medians: {', '.join(listed(medians))}",
                "caption": f"Image scores{letter and f' of {letter}'} by type of defect. Good images are filled,"
                " defects hatched." + _marked(each.marks),
            }
        )
    return figures


def _marked(marks: Sequence[str]) -> str:
    """What a figure says of itself -> a sentence of its caption."""
    return f" Note: {', '.join(marks)}." if marks else ""


def _pictures(groups: Sequence[Group], shown: Sequence[Shown], least: int) -> tuple[list[list[dict[str, object]]], int]:
    """Groups of images, models, rule of masks -> (what is shown of each group, how many pictures were left out because
    of LIMIT). The first images of all groups come first.
    """
    chosen = [group.images[:WORST] for group in groups]
    wanted = list(dict.fromkeys(n for row in range(WORST) for images in chosen for n in images[row : row + 1]))
    made: dict[int, list[tuple[str, str]]] = {}  # number of an image -> letter of the model, picture
    left, left_out = LIMIT, 0
    for n, *overlays in zip(wanted, *(each.overlays(wanted) for each in shown), strict=True):
        truth = shown[0].evaluation.truths[n]
        drawn = zip(LETTERS, overlays, strict=False)
        made[n] = [(letter, _jpeg(each, truth, least)) for letter, each in drawn if each is not None]
        size = sum(len(uri) for _, uri in made[n])
        if size > left:
            made[n], size, left_out = [], 0, left_out + 1
        left -= size
    return [[_image(n, shown, made[n]) for n in images] for images in chosen], left_out


def _image(n: int, shown: Sequence[Shown], pictures: Sequence[tuple[str, str]]) -> dict[str, object]:
    """Number of an image, models, its pictures with the letters of their models -> what the page says of it."""
    evaluation = shown[0].evaluation
    truth, name = evaluation.truths[n], evaluation.names[n]
    scores = []
    for letter, each in zip(LETTERS, shown, strict=False):
        cut = each.evaluation.scores.threshold
        text = f"score {each.evaluation.scores.values[n]:.4g}" + ("" if cut is None else f", threshold {cut:.4g}")
        scores.append(text if len(shown) == 1 else f"{letter}: {text}")
    views = [(letter, each.evaluation.view) for letter, each in zip(LETTERS, shown, strict=False)]
    unseen = [letter for letter, view in views if view is not None and name in view.outside]
    of = f" of {' and '.join(unseen)}" if len(shown) > 1 else ""
    outside = f"; the defect lies wholly out of view{of}" if unseen else ""
    letters = f"; shown: {', '.join(letter for letter, _ in pictures)}" if len(shown) > 1 and pictures else ""
    return {
        "pictures": [
            {
                "uri": uri,
                "alt": f"{truth.defect_type}: {name}, with the anomaly map{f' of {letter}' if letters else ''} over it",
            }
            for letter, uri in pictures
        ],
        "caption": f"{name}: {truth.defect_type}; {'; '.join(scores)}{outside}{letters}",
    }


def _jpeg(drawn: Image.Image, truth: Truth, least: int) -> str:
    """Overlay with its line of text, truth of the image, rule of masks -> data URI of the small overlay, with the true
    defect outlined.
    """
    width, height = drawn.width, drawn.height - TEXT_HEIGHT
    mask = None
    if truth.mask is not None:
        mask = marked(truth.mask, least)
        width = min(width, max(1, round(height * mask.shape[1] / mask.shape[0])))  # narrow ones stand on a wider canvas
    picture = drawn.crop((0, TEXT_HEIGHT, width, TEXT_HEIGHT + height))
    picture.thumbnail((LONGEST_SIDE, LONGEST_SIDE), Image.Resampling.LANCZOS)
    if mask is not None:
        picture = Image.fromarray(outlined(np.asarray(picture), mask))
    stream = BytesIO()
    picture.save(stream, "JPEG", quality=QUALITY)
    return data_uri(stream.getvalue(), "image/jpeg")
