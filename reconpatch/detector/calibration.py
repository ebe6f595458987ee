"""Which good images the threshold follows from, and their scores: images that are held out, or every image once.

Held out: a share of the images, or images that are given for this alone, is not in the memory bank. The finished
detector scores them.

Folds: the images are parted into folds. The images of a fold are scored by a memory bank of all others, which has as
many rows as the final bank: with fewer rows all scores would be higher, and the threshold too high. f is trained once,
on all images. docs/product.md says what was measured.

Copies of an image, and images of a group, are never parted: a copy in the memory bank would give its twin a better
score than any new image has.
"""

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reconpatch.data.images import View
from reconpatch.data.remarks import ImageFacts
from reconpatch.detector.detector import Detector, maps_of, scores_of
from reconpatch.detector.photographs import Photograph, Source, csv_safe
from reconpatch.detector.settings import FOLDS, HOLD_OUT, MANY_IMAGES, NOTES, FitOptions, Progress
from reconpatch.detector.threshold import HELD_OUT, Calibration
from reconpatch.errors import ReconpatchError, quote
from reconpatch.experiments.run import Run
from reconpatch.method.feature_files import read_slice
from reconpatch.method.memory_bank import MemoryBank, Representation, build_bank
from reconpatch.method.search import search_in
from reconpatch.rng import named_rng


@dataclass(frozen=True)
class Parting:
    """Numbers of images: which are not in the memory bank, and which are left out once in each fold."""

    held_out: list[int]  # with copies
    folds: list[list[int]]  # with copies
    calibration: Calibration


@dataclass
class Scored:
    """What the threshold follows from: scores of good images, each copy counted once."""

    scores: list[float] = field(default_factory=list)  # image scores
    peaks: list[float] = field(default_factory=list)  # the maxima of their anomaly maps
    levels: list[float] = field(default_factory=list)  # the medians of their anomaly maps

    def add(self, score: float, anomalies: NDArray[np.float32], content: NDArray[np.bool_]) -> None:
        """Add an image: its score, its (H, W) map, and which pixels of it lie on the image."""
        self.scores.append(score)
        self.peaks.append(float(anomalies.max()))
        self.levels.append(float(np.median(anomalies[content])))

    @property
    def level(self) -> float:
        """The median of all maps; 0 without images."""
        return float(np.median(self.levels)) if self.levels else 0.0


def groups_of(sources: Sequence[Source], group: str) -> list[str]:
    """N photographs, how they are grouped -> N names of groups.

    `folder`: photographs in one folder. A name that ends in .csv: a file with the columns image (as in scores.csv) and
    group. Anything else: a regular expression that is searched in the name of the photograph; its first bracket is the
    group, or all that it finds. Raises ReconpatchError for images without names, files that cannot be read, expressions
    that are none, the first photograph without a group, and a file for photographs of which two have one name.
    """
    photographs = [source for source in sources if isinstance(source, Photograph)]
    if len(photographs) < len(sources):
        raise ReconpatchError("arrays and PIL images have no names to group by", where="group", fix="give paths")
    if group == "folder":
        return [str(each.path.parent.resolve()) for each in photographs]
    if group.lower().endswith(".csv"):
        listed = _groups_in(Path(group))
        path_of = {each.name: each.path for each in photographs}
        if twins := [each.name for each in photographs if path_of[each.name] != each.path]:
            raise ReconpatchError(
                f"two photographs are called {quote(twins[0])}",
                where=f"group {quote(group)}",
                fix="give their common folder, so that their names differ",
            )
        found = [listed.get(csv_safe(each.name)) for each in photographs]
    else:
        try:
            pattern = re.compile(group)
        except re.error as error:
            raise ReconpatchError(f"not a valid regular expression ({error})", where=f"group {quote(group)}") from None
        matches = [pattern.search(each.name) for each in photographs]
        found = [None if match is None else match[1 if pattern.groups else 0] for match in matches]
    missing = [each.name for each, name in zip(photographs, found, strict=True) if not name]
    if missing:
        raise ReconpatchError(
            f"{len(missing)} images have no group, first {quote(missing[0])}",
            where=f"group {quote(group)}",
            fix="give folder, a CSV file with the columns image,group, or an expression that fits all names",
        )
    return [str(name) for name in found]


def _groups_in(file: Path) -> dict[str, str]:
    """CSV file with the columns image and group -> the group of each image."""
    try:
        with open(file, newline="", encoding="utf-8-sig") as stream:
            rows = csv.DictReader(stream)
            if not {"image", "group"} <= set(rows.fieldnames or ()):
                raise ReconpatchError("must be a CSV file whose first line is image,group", where=file)
            groups: dict[str, str] = {}
            for row in rows:
                image, group = str(row["image"]), (row["group"] or "").strip()
                if groups.setdefault(image, group) != group:
                    raise ReconpatchError(f"has {quote(image)} in two groups", where=file, fix="name every image once")
            return groups
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ReconpatchError(f"cannot be read ({error})", where=file) from None


def units_of(facts: Sequence[ImageFacts], groups: Sequence[str] | None = None) -> NDArray[np.int64]:
    """Facts of N images, names of their groups -> (N,) number of the unit of each: images that must not be parted.

    Copies are in one unit, and so are the images of a group, and all of two groups of which a copy is in either. Units
    are numbered in the order in which they first appear.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    digests = np.unique([each.pixels_sha256 for each in facts], return_inverse=True)[1]
    if groups is not None:
        names = np.unique(groups, return_inverse=True)[1] + len(facts)
        edges = coo_array((np.ones(len(facts)), (digests, names)), shape=(2 * len(facts),) * 2)
        digests = connected_components(edges, directed=False)[1][digests]
    _, first, number = np.unique(digests, return_index=True, return_inverse=True)
    return np.asarray(np.argsort(np.argsort(first))[number], np.int64)


def unit_sizes(facts: Sequence[ImageFacts], units: NDArray[np.int64]) -> NDArray[np.int64]:
    """Facts of N images, the unit of each -> (U,) number of different images in each unit."""
    different = {each.pixels_sha256: unit for each, unit in zip(facts, units.tolist(), strict=True)}
    return np.bincount(list(different.values()), minlength=int(units.max(initial=-1)) + 1)


def part(
    facts: Sequence[ImageFacts], groups: Sequence[str] | None, images: int, seed: int, options: FitOptions
) -> Parting:
    """Facts of all images, names of their groups if there are any, how many of the images, the first, are to fit on
    (the others are for the threshold alone), seed, options -> which images set the threshold.

    Raises ReconpatchError if there are too few, and if an image for the threshold alone is a copy of one to fit on, or
    of its group.
    """
    if len(facts) > images:
        check_no_copies(facts, images)
        own = list(range(images, len(facts)))
        units = units_of(facts, groups)
        if parted := np.flatnonzero(np.isin(units[images:], units[:images])).tolist():
            raise ReconpatchError(
                f"{len(parted)} images are of groups that also hold images to fit on, first "
                f"{quote(facts[images + parted[0]].name)}",
                where="calibration",
                fix="give images of other groups, or leave out the grouping",
            )
        return Parting(own, [], Calibration(0, groups_scored(units, different(facts, own), groups)))
    units = units_of(facts, groups)
    sizes = unit_sizes(facts, units)
    number, what = len(sizes), "groups" if groups else "different images"
    if groups and number < 2 and options.hold_out != 0:
        raise ReconpatchError(
            f"all {len(facts)} images are in one group",
            where=f"group {options.group}",
            fix="a threshold needs two or more; give others, or hold_out=0 (--hold-out 0) for a model without one",
        )
    share, folds = options.hold_out, options.folds
    if share is None and folds is None and number >= MANY_IMAGES:
        share = HOLD_OUT
        NOTES.info("threshold: %g of the images are held out, as there are many %s (%d)", share, what, number)
    elif share is None and folds is None:
        folds = min(FOLDS, number)
        reason = f"with fewer than {MANY_IMAGES} that is surer than to hold out a fifth of them"
        NOTES.info("threshold: from all %d %s, each left out once in %d folds; %s", number, what, folds, reason)
    if folds is not None:
        if not 2 <= folds <= number:
            raise ReconpatchError(f"{number} {what} are too few for {max(2, folds)} folds", fix="give more")
        fold_of = part_in_folds(sizes, folds, seed)[units]
        left_out = [np.flatnonzero(fold_of == fold).tolist() for fold in range(folds)]
        scored = [n for fold in left_out for n in different(facts, fold)]
        return Parting([], left_out, Calibration(folds, groups_scored(units, scored, groups)))
    if not share:
        return Parting([], [], HELD_OUT)
    chosen = draw_units(sizes, share, seed, what)
    held_out = np.flatnonzero(np.isin(units, chosen)).tolist()
    return Parting(held_out, [], Calibration(0, groups_scored(units, different(facts, held_out), groups)))


def check_no_copies(facts: Sequence[ImageFacts], images: int) -> None:
    """Raise ReconpatchError if one of the images after the first `images` is a copy of one of these."""
    to_fit = {each.pixels_sha256: each.name for each in facts[:images]}
    copies = [each for each in facts[images:] if each.pixels_sha256 in to_fit]
    if copies:
        raise ReconpatchError(
            f"{len(copies)} images are copies of images to fit on, first {quote(copies[0].name)} of "
            f"{quote(to_fit[copies[0].pixels_sha256])}",
            where="calibration",
            fix="a threshold needs images that are not in the memory bank",
        )


def groups_scored(units: NDArray[np.int64], numbers: Sequence[int], groups: Sequence[str] | None) -> tuple[int, ...]:
    """Units of all images, numbers of those whose scores set the threshold, names of groups if there are any -> the
    group of each of these.
    """
    return () if groups is None else tuple(int(units[n]) for n in numbers)


def draw_units(sizes: NDArray[np.int64], share: float, seed: int, what: str) -> NDArray[np.int64]:
    """(U,) numbers of different images in each unit, share of all images to hold out, seed, what units are -> the
    units to hold out, at least one: those of a random order that together have no more images than that, or the
    smallest unit if each has more.

    Raises ReconpatchError if nothing is left to fit on, and if the smallest unit has more than twice as many images.
    """
    wanted = max(1, round(share * int(sizes.sum())))
    chosen, held_out = [], 0
    for unit in named_rng(seed, "held out").permutation(len(sizes)).tolist():
        if held_out + sizes[unit] <= wanted:
            chosen.append(unit)
            held_out += int(sizes[unit])
    chosen = chosen or [int(sizes.argmin())]
    if len(chosen) >= len(sizes):
        raise ReconpatchError(
            f"{len(sizes)} {what} are too few to hold {len(chosen)} out and fit on the rest", fix="give more"
        )
    if sizes[chosen].sum() > 2 * wanted:
        raise ReconpatchError(
            f"the smallest of the {what} has {sizes.min()} of {sizes.sum()} images, where {wanted} are to be held out",
            where=f"hold_out {share:g}",
            fix="give folds=K (--folds K), or smaller groups",
        )
    return np.array(chosen)


def part_in_folds(sizes: NDArray[np.int64], folds: int, seed: int) -> NDArray[np.int64]:
    """(U,) numbers of different images in each unit, number of folds, seed -> (U,) the fold of each unit.

    Each unit in turn, large ones first and equal ones in random order, goes to the fold that has the fewest images.
    """
    order = named_rng(seed, "folds").permutation(len(sizes))
    load, fold_of = np.zeros(folds, np.int64), np.empty(len(sizes), np.int64)
    for unit in order[np.argsort(-sizes[order], kind="stable")]:
        fold_of[unit] = load.argmin()
        load[fold_of[unit]] += sizes[unit]
    return fold_of


def different(facts: Sequence[ImageFacts], numbers: Sequence[int]) -> list[int]:
    """Facts of all images, numbers of some -> the numbers of these without copies, ascending."""
    return sorted({facts[n].pixels_sha256: n for n in reversed(numbers)}.values())


def score_held_out(
    detector: Detector,
    sources: Sequence[Source],
    facts: Sequence[ImageFacts],
    held_out: Sequence[int],
    progress: Progress,
) -> Scored:
    """Detector, all sources, their facts, numbers of the held-out ones -> Scored."""
    numbers, scored = different(facts, held_out), Scored()
    for detection in detector(sources[n] for n in numbers):
        scored.add(detection.score, detection.map, detection.view.content(detection.view.shape))
        progress("held-out images", len(scored.scores), len(numbers))
    return scored


def score_left_out(
    patches: NDArray[Any],
    on_image: Sequence[NDArray[np.bool_]],
    views: Sequence[View],
    facts: Sequence[ImageFacts],
    folds: Sequence[Sequence[int]],
    detector: Detector,
    progress: Progress,
) -> Scored:
    """(M, C) patches of N images in their order, N (H, W) bool that say where these patches lie, N views, their
    facts, numbers of the images of each fold, the finished detector -> Scored, fold by fold, each copy counted once.

    Copies of a left-out image are left out with it.
    """
    run, threads, scored, rows = detector.run, detector.threads, Scored(), len(detector.bank.patches)
    total = sum(len(different(facts, left_out)) for left_out in folds)
    counts = [int(cells.sum()) for cells in on_image]
    ends = np.cumsum(counts)
    for left_out in folds:
        bank = bank_without(patches, counts, left_out, rows, detector.bank.representation, run, threads)
        search = search_in(bank.patches, threads, detector.backbone.device)
        for n in different(facts, left_out):
            cells = on_image[n]
            features = np.zeros((1, *cells.shape, patches.shape[1]), patches.dtype)
            features[0][cells] = read_slice(patches, slice(ends[n] - counts[n], ends[n]))
            image, patch = scores_of(features, cells[None], bank, run, search)
            anomalies = maps_of(patch, cells[None], [views[n]], run)[0]
            scored.add(float(image[0]), anomalies, views[n].content(views[n].shape))
            progress("left-out images", len(scored.scores), total)
        del bank, search  # before the next fold's are made
    return scored


def bank_without(
    patches: NDArray[Any],
    counts: Sequence[int],
    left_out: Sequence[int],
    rows: int,
    representation: Representation,
    run: Run,
    threads: int,
) -> MemoryBank:
    """(M, C) patches of N images in their order, the number of patches of each, numbers of the images to leave out,
    rows of the bank, f, parameters -> a bank of the other images with so many rows, or all that there are.
    """
    among = np.flatnonzero(np.repeat(~np.isin(np.arange(len(counts)), left_out), counts))
    return build_bank(
        patches,
        representation,
        ratio=min(1.0, (rows + 0.5) / len(among)),  # which is rounded down to these rows
        coreset_dim=run.coreset_dim,
        seed=run.seed,
        among=among,
        threads=threads,
    )
