"""Scoring photographs whose truth is known: image and pixel metrics, and which defects the network can see at all."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from reconpatch.data.decoding import decode, read_file
from reconpatch.data.images import View
from reconpatch.data.layouts import mask_names
from reconpatch.data.pictures import mask_facts, mask_greys
from reconpatch.data.remarks import (
    ImageFacts,
    MaskFacts,
    counted,
    enlarged_remarks,
    grouped,
    image_remarks,
    mask_problems,
    mask_remarks,
    told_apart_by_files,
)
from reconpatch.detector.detector import Detector, views_of
from reconpatch.detector.measures import Evaluation, InView, Scores, measure
from reconpatch.detector.photographs import Photograph, load_with_facts
from reconpatch.detector.truth import LEAST_GREY, Truth, marked
from reconpatch.errors import ReconpatchError, listed, quote
from reconpatch.experiments.costs import metrics_mb
from reconpatch.experiments.stages import STAGES
from reconpatch.method.bootstrap import pixel_wins
from reconpatch.method.metrics import pixel_metrics
from reconpatch.runtime import MB, machine_mb, read_ahead

NAMES_OF_PROBLEM = 20  # files that are named with one problem


def evaluate(
    detector: Detector,
    photographs: Sequence[Photograph],
    truths: Sequence[Truth],
    threshold: float | None,
    progress: Callable[[str, int, int], None],
    *,
    source: str = "as given",
    least: int = LEAST_GREY["any"],
    paired: bool = False,
) -> Evaluation:
    """Detector, N photographs, N truths, threshold of image scores -> Evaluation.

    `source` says whose threshold it is, `least` is the grey value from which on masks mark a defect, and `paired` says
    whether another evaluation will be compared with this one. Pixel metrics are computed if every anomalous photograph
    has a mask; pixels of the padding do not count. Raises ReconpatchError, before any photograph is scored, if
    photographs or masks cannot be read, if `reconpatch check` would refuse a mask, if only some anomalous photographs
    have masks, and if memory is too small.
    """
    masks_given = _count_masks(photographs, truths)
    facts, remarks = check_files(
        photographs, truths, detector.modes, detector.threads, lambda *done: progress("reading images", *done), least
    )
    views = views_of(facts, detector.run)
    height, width = (max(sides) for sides in zip(*(sorted(each.shape) for each in views), strict=True))
    if masks_given:
        check_map_memory(len(photographs), height * width)
    seen_of = _Seen()
    scores = np.empty(len(photographs))  # float64, because `predict` compares such with the threshold
    shape = (len(photographs) if masks_given else 0, height, width)
    # Maps that are higher than wide are turned on their side. Smaller ones lie in a corner; the rest does not count.
    maps, masks, on_image = np.zeros(shape, np.float32), np.zeros(shape, bool), np.zeros(shape, bool)
    for detection in detector(photographs):
        n = detection.number
        scores[n] = detection.score
        if masks_given:
            seen = detection.view
            whole = whole_mask(truths[n], seen, least)
            high, wide = sorted(seen.shape)
            corner = n, slice(high), slice(wide)
            maps[corner] = lying(detection.map)
            masks[corner] = lying(seen_mask(whole, seen))
            on_image[corner] = lying(seen.content(seen.shape))
            if truths[n].label:
                inside = np.isfinite(seen.back(detection.map))
                seen_of.add(photographs[n].name, whole, inside, bool(masks[n].any()))
        progress("scoring", n + 1, len(photographs))
    names = [each.name for each in photographs]
    evaluation = measure(names, truths, Scores.above(scores, threshold, source))
    remarks += [*enlarged_remarks(names, [each.enlargement() for each in views]), *seen_of.remarks()]
    if not masks_given:
        return replace(evaluation, remarks=remarks)
    return replace(
        evaluation,
        metrics=evaluation.metrics | pixel_metrics(maps, masks, on_image),
        masks=masks_given,
        view=seen_of.in_view(),
        wins=pixel_wins(maps, masks, counted=on_image) if paired else None,
        geometry=f"{detector.run.crop} px, aspect {detector.run.aspect}, resize {detector.run.resize}",
        remarks=remarks,
    )


def _count_masks(photographs: Sequence[Photograph], truths: Sequence[Truth]) -> int:
    """Number of anomalous photographs with a mask; ReconpatchError if only some of them have one."""
    anomalous = [(photograph, truth) for photograph, truth in zip(photographs, truths, strict=True) if truth.label]
    lacking = [photograph.name for photograph, truth in anomalous if truth.mask is None]
    if 0 < len(lacking) < len(anomalous):
        raise ReconpatchError(
            f"{len(lacking)} of {len(anomalous)} anomalous images have no mask, first {quote(lacking[0])}",
            fix="give all masks, or none; in a folder of masks, that of this image is called "
            f"{mask_names(PurePosixPath(lacking[0]))}",
        )
    return len(anomalous) - len(lacking)


def whole_mask(truth: Truth, view: View, least: int = LEAST_GREY["any"]) -> NDArray[np.bool_]:
    """Truth, how its photograph is seen, the grey value from which on a mask marks a defect -> (height, width) bool of
    the photograph, true on the defect.

    Raises ReconpatchError if mask and photograph differ in size, because the files changed meanwhile.
    """
    if truth.mask is None:
        return np.zeros((view.height, view.width), bool)
    mask = marked(truth.mask, least)
    if mask.shape != (view.height, view.width):
        raise ReconpatchError("changed while it was evaluated", where=truth.mask, fix="evaluate again")
    return mask


def seen_mask(whole: NDArray[np.bool_], view: View) -> NDArray[np.bool_]:
    """(height, width) mask of a photograph, how this is seen -> mask in the map's shape, by nearest neighbour."""
    framed = view.framed(Image.fromarray(np.where(whole, np.uint8(255), np.uint8(0))), "nearest")
    return np.asarray((framed == 255) & view.content(view.shape))


def lying(array: NDArray[Any]) -> NDArray[Any]:
    """(H, W) array -> the same, or its transpose where it is higher than wide."""
    return array.T if array.shape[0] > array.shape[1] else array


class _Seen:
    """Which defects lie in what the network sees, collected mask by mask."""

    def __init__(self) -> None:
        self.of, self.marked, self.marked_inside = 0, 0, 0
        self.outside: list[str] = []
        self.partly: list[str] = []
        self.lost: list[str] = []  # seen, but too small

    def add(self, name: str, mask: NDArray[np.bool_], inside: NDArray[np.bool_], kept: bool) -> None:
        """Name of an image, its (H, W) mask, (H, W) which pixels the network sees, whether any marked pixel is left at
        the size at which it sees them.
        """
        if not mask.any():
            return
        pixels, seen = int(mask.sum()), int((mask & inside).sum())
        self.of += 1
        self.marked += pixels
        self.marked_inside += seen
        if seen == 0:
            self.outside.append(name)
        elif not kept:
            self.lost.append(name)
        if 0 < seen < pixels:
            self.partly.append(name)

    def in_view(self) -> InView:
        """What was collected of at least one mask that marks something."""
        return InView(self.of, self.outside, self.partly, self.marked_inside / max(1, self.marked))

    def remarks(self) -> list[str]:
        """What is odd."""
        what = "defects so small that no pixel of them is left at the size that the network sees"
        return list(counted(what, self.lost))


@dataclass
class _Pair:
    """What was found in a photograph and its mask."""

    problems: list[ReconpatchError]
    image: ImageFacts | None = None  # None if it cannot be read
    mask: MaskFacts | None = None  # None if there is none, or it cannot be read
    marked_by_rule: dict[str, int] = field(default_factory=dict)  # px of the mask on the defect, by every rule


def check_files(
    photographs: Sequence[Photograph],
    truths: Sequence[Truth],
    fitted_modes: Sequence[str],
    threads: int,
    progress: Callable[[int, int], None],
    least: int = LEAST_GREY["any"],
) -> tuple[list[ImageFacts], list[str]]:
    """Read N photographs and their masks whole, modes of the images that the detector was fitted to, the grey value
    from which on masks mark a defect -> facts of the photographs, remarks on them and their masks.

    The rules are those of `reconpatch check`. Raises one ReconpatchError that lists every file that cannot be read and
    every mask that cannot be used.
    """
    pairs: list[_Pair] = []
    of_each = zip(photographs, truths, strict=True)
    for done, pair in enumerate(read_ahead(lambda each: _read_pair(*each, least), of_each, threads, 2 * threads), 1):
        pairs.append(pair)
        progress(done, len(photographs))
    problems = [problem for pair in pairs for problem in pair.problems]
    if problems:
        raise ReconpatchError(
            "\n".join(["problems of the images and masks:", *listed(grouped(problems, NAMES_OF_PROBLEM))])
        )
    read = [(pair.image, pair.mask, truth.label) for pair, truth in zip(pairs, truths, strict=True) if pair.image]
    normal, anomalous = ([image for image, _, label in read if label == wanted] for wanted in (0, 1))
    facts = [image for image, _, _ in read]
    return facts, [
        *mask_remarks([(mask, image, label) for image, mask, label in read if mask], least),
        *_rule_remarks([pair.marked_by_rule for pair in pairs if pair.mask]),
        *image_remarks(facts, fitted_modes),
        *told_apart_by_files("anomalous", anomalous, "normal", normal),
    ]


def _rule_remarks(marked: Sequence[dict[str, int]]) -> Iterator[str]:
    """Of every mask, px that it marks by each rule -> whether the rule matters."""
    above, half = (sum(each[rule] for each in marked) for rule in ("any", "half"))
    if above != half:
        yield (
            f"the rule for grey values matters: {above} px are above 0 (--mask-rule any), {half} of them at least "
            f"{LEAST_GREY['half']} (--mask-rule half)"
        )


def _read_pair(photograph: Photograph, truth: Truth, least: int) -> _Pair:
    """A photograph with its truth, the grey value from which on masks mark a defect -> what is found in it and in its
    mask.
    """
    pair, mask = _Pair([]), truth.mask
    try:
        pair.image = load_with_facts(photograph)[1]
    except ReconpatchError as error:
        pair.problems.append(error)
    if mask is None:
        return pair
    try:
        picture = decode(read_file(mask), mask)
        pair.mask = mask_facts(f"{mask.parent.name}/{mask.name}", picture, least)
        greys = mask_greys(picture)
        pair.marked_by_rule = {rule: int(np.count_nonzero(greys >= value)) for rule, value in LEAST_GREY.items()}
    except ReconpatchError as error:
        pair.problems.append(error.at(mask))
        return pair
    size = (pair.image.width, pair.image.height) if pair.image else None
    faint = bool(truth.label and not pair.mask.marked and pair.marked_by_rule["any"])
    pair.problems += mask_problems(pair.mask, mask, photograph.path, size, truth.label, may_be_empty=faint)
    if faint:
        what = f"mask of a defective image has no value of at least {least}"
        pair.problems.append(ReconpatchError(what, where=mask, fix="mark the defect in white, or change --mask-rule"))
    return pair


def check_map_memory(images: int, frame: int) -> None:
    """Raise ReconpatchError if memory is too small for the maps and masks of N images, of `frame` px each."""
    # Which pixels count, and which of these are normal, takes a byte per pixel each.
    needed = STAGES["features"].base_mb + metrics_mb(images, frame) + 2 * images * frame / MB
    if needed > machine_mb():
        raise ReconpatchError(
            f"{images} images: their maps and masks need about {needed / 1000:.1f} GB of memory, there are "
            f"{machine_mb() / 1000:.1f} GB",
            fix="evaluate fewer images, or without masks",
        )
