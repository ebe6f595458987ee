"""The command evaluate: models, or tables of scores that `predict` wrote, compared with the truth and with each other.

What costs seconds to import (PyTorch, matplotlib) is imported where it is used, after the cheap checks.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from reconpatch.cli.photographs import (
    check_free,
    check_no_model,
    choose_thresholds,
    load_detector,
    photographs_in,
    print_remarks,
)
from reconpatch.cli.progress import Steps
from reconpatch.data.layouts import NORMAL
from reconpatch.data.remarks import counted
from reconpatch.detector.comparison import Comparison, compare
from reconpatch.detector.measures import Evaluation, doubts, measure
from reconpatch.detector.model_folder import CARD, Card, card_lines, read_card
from reconpatch.detector.photographs import Photograph, csv_safe
from reconpatch.detector.scores_table import ScoresTable, read_scores
from reconpatch.detector.truth import (
    GOOD_LABELS,
    Truth,
    doubtful_types,
    photographs_from_file,
    surplus_masks,
    truth_from_file,
    truth_from_folders,
)
from reconpatch.errors import ReconpatchError, listed, quote
from reconpatch.files import write_text

if TYPE_CHECKING:
    from reconpatch.detector.detector import Detector


@dataclass(frozen=True)
class Subject:
    """What is evaluated: a model, or a table of scores."""

    path: Path
    source: Card | ScoresTable

    def about(self) -> list[str]:
        """What it is, in lines."""
        if isinstance(self.source, Card):
            return card_lines(self.source)
        model = f"of the model {self.source.model}..." if self.source.model else "of a model that it does not name"
        return [f"scores {model}, read from a table: it does not say with which weights they were made"]

    @property
    def model(self) -> str:
        """Identity of the model, or its beginning, empty if it is not known."""
        return self.source.identity if isinstance(self.source, Card) else self.source.model


def evaluate(given: argparse.Namespace) -> None:
    """Models or tables of scores, photographs whose truth is known -> metrics, and how often the threshold is right."""
    paths, images = subjects_and_images(given.model, given.images)
    check_options(given, paths)
    subjects = [Subject(path, read_scores(path) if is_table(path) else read_card(path)) for path in paths]
    judge = threshold_of_model(given, subjects[0]) if given.threshold_of else None
    photographs = photographs_to_evaluate(given, subjects, images)
    truths = read_truths(given, photographs)
    # Tables first: an image that one lacks must not be found out after a model has scored all.
    order = sorted(range(len(subjects)), key=lambda n: isinstance(subjects[n].source, Card))
    found = {n: evaluate_one(given, subjects[n], photographs, truths, judge, len(subjects) > 1) for n in order}
    done = [found[n] for n in range(len(subjects))]
    evaluations = [evaluation for evaluation, _ in done]
    for each in evaluations:
        each.remarks.extend(doubts(each))
    names = [str(subject.path) for subject in subjects]
    comparison = compare((names[0], names[1]), *evaluations) if len(subjects) > 1 else None
    print_remarks(dict.fromkeys(remark for each in evaluations for remark in each.remarks))
    parts = [{"model": s.model} | each.to_json() for s, each in zip(subjects, evaluations, strict=True)]
    content, lines = parts[0], evaluations[0].lines()
    if comparison is not None:
        named = [{"path": name} | part for name, part in zip(names, parts, strict=True)]
        content, lines = {"evaluations": named} | comparison.to_json(), comparison.lines()
    text = json.dumps(content, indent=1)
    if given.out:
        write_text(given.out, text + "\n")
    if given.report:
        write_report(given, subjects, photographs, done, comparison)
        lines.append(f"page: {given.report}")
    print(text if given.json else "\n".join(lines))


def is_table(path: Path) -> bool:
    """Whether a path is that of a table of scores, by its name."""
    return path.suffix.lower() == ".csv"


def subjects_and_images(first: Path, others: Sequence[Path]) -> tuple[list[Path], list[Path]]:
    """First and other paths of the command line -> (one or two models or tables of scores, folders of images)."""
    if others and (is_table(others[0]) or (others[0] / CARD).is_file()):
        return [first, others[0]], list(others[1:])
    return [first], list(others)


def check_options(given: argparse.Namespace, paths: Sequence[Path]) -> None:
    """Raise ReconpatchError for options that contradict each other, and if a file cannot be written."""
    if given.labels and (given.masks or given.good):
        raise ReconpatchError(
            "the file itself says which images are good, and its column mask where masks are",
            where="--labels",
            fix="leave out --good and --masks",
        )
    if len(paths) > 1 and (given.threshold is not None or given.threshold_of):
        raise ReconpatchError(
            "scores of two models have no common scale",
            where="--threshold" if given.threshold is not None else "--threshold-of",
            fix="leave it out; models have thresholds of their own, and --false-alarms sets the rate of both",
        )
    if given.false_alarms is not None and any(map(is_table, paths)) and not given.threshold_of:
        raise ReconpatchError(
            "a table of scores does not say which threshold belongs to this rate",
            where="--false-alarms",
            fix="give --threshold-of MODEL, too, or evaluate the model and not its table",
        )
    if given.threshold_of and (given.threshold is not None or not is_table(paths[0])):
        raise ReconpatchError(
            "is for a table of scores, and in the place of --threshold",
            where="--threshold-of",
            fix="give one of the two",
        )
    if given.out and given.report and given.out.resolve() == given.report.resolve():
        raise ReconpatchError("is the file of --report, too", where=f"--out {given.out}", fix="give another file")
    for option in ("out", "report"):
        if file := getattr(given, option):
            check_free(file, f"give another --{option}, or remove it")
            for path in paths:
                check_no_model(file, path, file.absolute().parent)


def threshold_of_model(given: argparse.Namespace, subject: Subject) -> tuple[float, str]:
    """Arguments, the table that is judged -> (threshold of the model named, whose it is)."""
    card = read_card(given.threshold_of)
    if subject.model and not card.identity.startswith(subject.model):
        raise ReconpatchError(
            f"is the model {card.identity[: len(subject.model)]}..., and {quote(subject.path)} holds scores of the "
            f"model {subject.model}...",
            where=f"--threshold-of {given.threshold_of}",
            fix="give the model that the table was made with",
        )
    _, threshold, _ = choose_thresholds(given, card)
    if threshold is None:
        raise ReconpatchError("has no threshold", where=f"--threshold-of {given.threshold_of}", fix="give --threshold")
    return threshold, f"of the model {given.threshold_of}"


def photographs_to_evaluate(
    given: argparse.Namespace, subjects: Sequence[Subject], images: Sequence[Path]
) -> list[Photograph]:
    """Arguments, what is evaluated, folders of images -> the photographs: those in the folders, else those that the
    labels list, else those of the first table.
    """
    if images:
        return photographs_in(images, None if given.labels else "evaluate")
    scored = any(isinstance(subject.source, Card) for subject in subjects)
    if given.labels:
        return photographs_from_file(given.labels, must_exist=scored)
    table = subjects[0].source
    if scored or not isinstance(table, ScoresTable):
        raise ReconpatchError(
            "a model scores photographs, and none are given",
            where=subjects[0].path,
            fix="give folders of images, or --labels FILE, which lists them",
        )
    return [Photograph(name, Path(name)) for name in table.scores]


def read_truths(given: argparse.Namespace, photographs: Sequence[Photograph]) -> list[Truth]:
    """The truth of each photograph; remarks are printed if none is normal, and on masks of no photograph."""
    if given.labels:
        truths = truth_from_file(given.labels, photographs)
    else:
        truths = truth_from_folders(photographs, given.good or NORMAL, given.masks)
        surplus = [f"{mask.parent.name}/{mask.name}" for mask in surplus_masks(photographs, truths)]
        print_remarks(counted("masks of no image that was given", surplus))
    print_remarks(doubtful_types(truths, GOOD_LABELS if given.labels else given.good or NORMAL))
    if all(truth.label for truth in truths):
        if given.labels:
            types = ", ".join(listed(sorted({quote(truth.defect_type) for truth in truths}), 5))
            names = ", ".join(sorted(GOOD_LABELS))
            remark = f"the labels are {types}, and none of {names}; write good for the normal ones"
        else:
            names = ", ".join(sorted(given.good or NORMAL))
            remark = f"no folder is called {names}; name your own with --good NAME"
        print_remarks([f"no image is normal, because {remark}"])
    return truths


def evaluate_one(
    given: argparse.Namespace,
    subject: Subject,
    photographs: Sequence[Photograph],
    truths: Sequence[Truth],
    judge: tuple[float, str] | None,
    paired: bool,
) -> "tuple[Evaluation, Detector | None]":
    """Arguments, what is evaluated, N photographs, N truths, threshold for a table, whether it will be compared ->
    (Evaluation, the model's detector if the page needs it).
    """
    own = (given.threshold, "as given") if given.threshold is not None else judge
    if isinstance(subject.source, ScoresTable):
        names = [csv_safe(photograph.name) for photograph in photographs]
        scores = subject.source.of(names, own)
        unused = len(subject.source.scores) - len(names)
        remarks = [f"{unused} images of {quote(subject.path)} are not evaluated, as their truth is not given"]
        if any(truth.mask for truth in truths):
            remarks.append(f"masks count in no metric of {quote(subject.path)}, because a table holds no maps")
        evaluation = measure(names, truths, scores)
        evaluation.remarks.extend(remarks if unused else remarks[1:])
        return evaluation, None
    from reconpatch.detector.evaluate import evaluate as evaluate_photographs

    card = subject.source
    _, threshold, _ = choose_thresholds(given, card)
    detector, steps = load_detector(given, subject.path, card), Steps()
    evaluation = evaluate_photographs(
        detector,
        photographs,
        truths,
        threshold,
        steps,
        source="as given" if given.threshold is not None else "of the model",
        least=given.mask_rule,
        paired=paired,
    )
    steps.close()
    return evaluation, detector if given.report else None


def write_report(
    given: argparse.Namespace,
    subjects: Sequence[Subject],
    photographs: Sequence[Photograph],
    done: "Sequence[tuple[Evaluation, Detector | None]]",
    comparison: Comparison | None,
) -> None:
    """Arguments, what was evaluated, N photographs, evaluations and detectors, comparison of two -> the page."""
    from reconpatch.detector.evaluation_page import Shown, overlays_of_model, overlays_of_table, write_page

    shown = []
    for subject, (evaluation, detector) in zip(subjects, done, strict=True):
        card = subject.source
        if detector is not None and isinstance(card, Card):
            _, _, map_threshold = choose_thresholds(given, card)
            overlays = overlays_of_model(detector, photographs, card.level, map_threshold)
            marks = ["random weights"] if card.run.weights == "random" else []
        else:
            overlays, marks = overlays_of_table(subject.path.parent, evaluation.names), []
        shown.append(Shown(str(subject.path), subject.about(), marks, evaluation, overlays))
    write_page(given.report, shown, comparison, given.mask_rule)
