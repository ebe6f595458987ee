"""Fitting a detector to photographs of good products: the paper's method on a folder of your own."""

import math
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reconpatch.data.images import View
from reconpatch.data.remarks import ImageFacts, enlarged_remarks, image_remarks, told_apart_by_files
from reconpatch.detector.detector import Detector, backbone_of, pixels, views_of
from reconpatch.detector.photographs import Source, examine
from reconpatch.detector.settings import AUTO, SIZE, FitOptions, Progress, choose_aspect, seen_as
from reconpatch.device import repeating, resolve, torch_threads
from reconpatch.errors import ReconpatchError, quote, warn_user
from reconpatch.experiments.costs import sizes_of
from reconpatch.experiments.networks import Networks
from reconpatch.experiments.run import Run, embedding_remark
from reconpatch.experiments.stages import STAGES
from reconpatch.method.backbones import Backbone, check_pretrained, load_network, state_of
from reconpatch.method.embedded import check_weights
from reconpatch.method.feature_files import write_header
from reconpatch.method.features import stream_features
from reconpatch.method.memory_bank import Representation, build_bank
from reconpatch.method.training import Epoch, TrainingSettings, train
from reconpatch.rng import named_rng
from reconpatch.runtime import machine_mb, openmp_threads

CHECKED_STAGES = ("features", "training", "bank", "score")  # of the workflow, whose work is done here too


@dataclass(frozen=True)
class Fitted:
    """A detector, what it was made from, and its scores of good images it has not seen."""

    detector: Detector
    facts: list[ImageFacts]  # of all images
    held_out: list[int]  # numbers of the images that are not in the memory bank
    scores: list[float]  # image scores of these, without copies
    peaks: list[float]  # the maxima of their anomaly maps
    level: float  # the median of their anomaly maps; 0 without held-out images
    seen: float  # smallest share of an image's area that the network sees
    epochs: list[Epoch]


def fit_detector(images: Sequence[Source], run: Run, options: FitOptions, calibration: Sequence[Source] = ()) -> Fitted:
    """N photographs of good products, parameters, options -> Fitted.

    A share of the images, or those of `calibration` instead, is kept out of the memory bank and scored by the finished
    detector. Patch features are written to a temporary file meanwhile. Equal images, parameters and seeds give equal
    bytes. Warns of what is odd in the images. Raises ReconpatchError for everything that cannot work, before the
    network sees the first image.
    """
    networks = Networks(setting=SIZE)
    check_settings(run, options, networks)
    if not images:
        raise ReconpatchError("no images to fit on")
    device, threads, progress = resolve(options.device), options.threads, options.progress
    sources = [*images, *calibration]
    facts = examine(sources, threads, lambda done, total: progress("reading images", done, total))
    fitted, others = facts[: len(images)], facts[len(images) :]
    run = with_aspect(run, options, facts, networks)
    views = views_of(facts, run)
    warn_user(
        *image_remarks(facts),
        *enlarged_remarks([each.name for each in facts], [each.enlargement() for each in views]),
        *told_apart_by_files("calibration", others, "fitted", fitted),
    )
    held_out = choose_held_out(facts, len(images), run, options.hold_out)
    kept = sorted(set(range(len(images))) - set(held_out))
    with repeating(device, openmp_threads(threads)), tempfile.TemporaryDirectory(prefix="reconpatch-") as folder:
        workspace = Path(folder)
        on_image = patches_on_images([views[n] for n in kept], run, networks)
        check_resources(run, networks, views, on_image, facts, options, workspace)
        network, weights = load_network(run.backbone, run.levels, run.weights, options.weight_file, seed=run.seed)
        state = state_of(network)
        backbone = backbone_of(network, weights, run, device)
        names = [facts[n].name for n in kept]
        patches = extract_patches([sources[n] for n in kept], names, on_image, backbone, run, options, workspace)
        representation, epochs = learn_representation(patches, on_image, run, device, progress)
        bank = build_bank(
            patches,
            representation,
            ratio=run.coreset,
            coreset_dim=run.coreset_dim,
            seed=run.seed,
            threads=threads,
            progress=lambda done, total: progress("coreset", done, total),
        )
        del patches  # closes the file before its folder is removed
    modes = sorted({each.mode for each in facts})
    detector = Detector(backbone, state, bank, run, threads, options.batch_images, modes)
    scores, peaks, level = score_held_out(detector, sources, facts, held_out, progress)
    seen = min(each.seen() for each in views)
    return Fitted(detector, facts, held_out, scores, peaks, level, seen, epochs)


def check_settings(run: Run, options: FitOptions, networks: Networks) -> None:
    """Raise ReconpatchError for what cannot work, whatever the images are; warn of an embedding that does not fit."""
    check_weights(run.backbone, run.weights)
    if options.weight_file is not None and not options.weight_file.is_file():
        raise ReconpatchError("no such file", where=f"weights file {options.weight_file}")
    channels = networks.channels(run.backbone, run.levels, run.crop)
    if run.weights == "pretrained":
        check_pretrained(run.backbone)
    if remark := embedding_remark(run, channels):
        warn_user(remark)


def with_aspect(run: Run, options: FitOptions, facts: Sequence[ImageFacts], networks: Networks) -> Run:
    """Parameters, options, facts of all images -> the run; if the options leave the aspect open, with the one that is
    chosen for the images. The user is told if it is not the paper's.
    """
    if options.aspect != AUTO:
        return run

    def takes(frame: tuple[int, int]) -> bool:
        try:
            networks.grid(run.backbone, run.levels, frame)
        except ReconpatchError:
            return False
        return True

    aspect, reason = choose_aspect([(each.width, each.height) for each in facts], run, options, takes)
    if aspect == run.aspect:
        return run
    warn_user(f"aspect {aspect}: {reason}")
    return seen_as(run, aspect)


def choose_held_out(facts: Sequence[ImageFacts], images: int, run: Run, share: float) -> list[int]:
    """Facts of all images, of which the first `images` are to fit on and the others for calibration, parameters, share
    to hold out -> numbers of the images for the threshold.

    Raises ReconpatchError if a calibration image is a copy of an image to fit on.
    """
    if len(facts) == images:
        return draw_held_out(facts, share, run.seed)
    to_fit = {each.pixels_sha256: each.name for each in facts[:images]}
    copies = [each for each in facts[images:] if each.pixels_sha256 in to_fit]
    if copies:
        raise ReconpatchError(
            f"{len(copies)} images are copies of images to fit on, first {quote(copies[0].name)} of "
            f"{quote(to_fit[copies[0].pixels_sha256])}",
            where="calibration",
            fix="a threshold needs images that are not in the memory bank",
        )
    return list(range(images, len(facts)))


def draw_held_out(facts: Sequence[ImageFacts], share: float, seed: int) -> list[int]:
    """Facts of N images, share in [0, 1), seed -> sorted numbers of the images to hold out, at least one unless the
    share is 0.

    All copies of an image are held out, or none: a copy in the memory bank would give its twin a better score than any
    new image has.
    """
    first_copy = {each.pixels_sha256: n for n, each in reversed(list(enumerate(facts)))}
    different = sorted(first_copy.values())
    count = max(1, round(share * len(different))) if share else 0
    if count >= len(different) > 0:
        raise ReconpatchError(
            f"{len(different)} different images are too few to hold {count} out and fit on the rest", fix="give more"
        )
    chosen = named_rng(seed, "held out").permutation(len(different))[:count]
    digests = {facts[different[n]].pixels_sha256 for n in chosen}
    return [n for n, each in enumerate(facts) if each.pixels_sha256 in digests]


def patches_on_images(views: Sequence[View], run: Run, networks: Networks) -> list[NDArray[np.bool_]]:
    """N views, parameters -> N (rows, columns) bool, true for the patches that lie on the image and not on its padding.

    Raises ReconpatchError if the network takes no images of these shapes.
    """
    return [each.content(networks.grid(run.backbone, run.levels, each.frame)) for each in views]


def check_resources(
    run: Run,
    networks: Networks,
    views: Sequence[View],
    on_image: Sequence[NDArray[np.bool_]],
    facts: Sequence[ImageFacts],
    options: FitOptions,
    workspace: Path,
) -> None:
    """Raise ReconpatchError, with advice, if there are too few patches for the parameters, or if memory or the disk of
    the workspace is too small.

    `views` and `facts` are those of all images, `on_image` says which patches of the images to fit on count.
    """
    network = networks(run.backbone, run.levels, run.crop)
    if run.patch_size > network.grid:
        raise ReconpatchError(f"larger than the grid of patches at {run.crop} px", where=f"patch_size {run.patch_size}")
    if problem := run.problem_with([int(cells.sum()) for cells in on_image]):
        raise ReconpatchError(problem)
    cells, elongation = sum(each.size for each in on_image), max(max(each.frame) for each in views) / run.crop
    # Images are counted as if all had the largest one's shape and the same patches together.
    images = math.ceil(cells / max(each.size for each in on_image))
    sizes = sizes_of(
        run,
        network,
        (images, options.batch_images),
        ratio=run.coreset,
        batch_images=options.batch_images,
        pixels=max(each.width * each.height for each in facts),
        threads=options.threads,
        elongation=elongation,
    )
    for stage in (STAGES[name] for name in CHECKED_STAGES):
        needed_mb = stage.memory_of(sizes).held
        if needed_mb > machine_mb():
            raise ReconpatchError(
                f"{stage.rule.replace('_', ' ')} needs about {needed_mb / 1000:.1f} GB of memory, there are "
                f"{machine_mb() / 1000:.1f} GB",
                fix=stage.advice,
            )
    needed, free = sum(int(each.sum()) for each in on_image) * run.width * 2, shutil.disk_usage(workspace).free
    if needed > free:
        raise ReconpatchError(
            f"patch features need {needed / 1e9:.1f} GB there while fitting, {free / 1e9:.1f} GB are free",
            where=workspace,
            fix="make room, or set TMPDIR to a folder on a larger disk",
        )


def extract_patches(
    sources: Sequence[Source],
    names: Sequence[str],
    on_image: Sequence[NDArray[np.bool_]],
    backbone: Backbone,
    run: Run,
    options: FitOptions,
    workspace: Path,
) -> NDArray[Any]:
    """N sources, their names, which patches lie on the images -> (M, C) float16 features of these patches, a memory map
    of a file in the workspace.
    """
    file = workspace / "features.npy"
    features = stream_features(
        sources,
        lambda source: pixels(source, run)[0],
        backbone,
        names=names,
        patch_size=run.patch_size,
        level_dim=run.level_width,
        dim=run.width,
        batch=options.batch_images,
        pixels=options.batch_images * run.crop**2,
        threads=options.threads,
        progress=lambda done, total: options.progress("patch features", done, total),
    )
    with open(file, "wb") as stream:  # not a memory map, which would count as memory
        write_header(stream, (sum(int(cells.sum()) for cells in on_image), run.width), np.dtype(np.float16))
        for of_image, cells in zip(features, on_image, strict=True):
            stream.write(of_image[cells].data)
    return np.asanyarray(np.load(file, mmap_mode="r"))


def learn_representation(
    patches: NDArray[Any],
    on_image: Sequence[NDArray[np.bool_]],
    run: Run,
    device: str,
    progress: Progress,
) -> tuple[Representation, list[Epoch]]:
    """(N, C) patches, where they lie on the images, parameters -> the trained f of ReConPatch with its epochs, or f as
    its training begins, or PatchCore's pooling, with none.
    """
    if run.method == "patchcore":
        return Representation(run.dim), []
    if run.method == "untrained":
        return Representation.untrained(patches, run.dim, run.seed, run.init, run.bias), []
    settings = TrainingSettings.of(run.model_dump())
    # One thread: another number rounds differently, and the small steps lose more by waiting than they gain.
    with torch_threads(1):
        tensors, epochs = train(
            patches,
            settings,
            images=[int(cells.sum()) for cells in on_image],
            checkpoints=() if run.epoch is None else (run.epoch,),
            device=device,
            progress=lambda epoch: progress("training", epoch.epoch, run.epochs),
        )
    last = f"{run.epoch or run.epochs}."
    f = Representation(run.dim, tensors[f"{last}weight"].numpy(), tensors[f"{last}bias"].numpy())
    return f, list(epochs)


def score_held_out(
    detector: Detector,
    sources: Sequence[Source],
    facts: Sequence[ImageFacts],
    held_out: Sequence[int],
    progress: Progress,
) -> tuple[list[float], list[float], float]:
    """Detector, all sources, their facts, numbers of the held-out ones -> (image scores, maxima of the maps, median of
    the maps) of the held-out images, each copy counted once.
    """
    different = sorted({facts[n].pixels_sha256: n for n in reversed(held_out)}.values())
    scores, peaks, levels = [], [], []
    for done, detection in enumerate(detector(sources[n] for n in different), 1):
        scores.append(detection.score)
        peaks.append(float(detection.map.max()))
        levels.append(float(np.median(detection.map[detection.view.content(detection.map.shape)])))
        progress("held-out images", done, len(different))
    return scores, peaks, float(np.median(levels)) if levels else 0.0
