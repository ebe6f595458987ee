"""Fitting a detector to photographs of good products: the paper's method on a folder of your own."""

import math
import shutil
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reconpatch.data.images import View
from reconpatch.data.remarks import ImageFacts, enlarged_remarks, image_remarks, told_apart_by_files, unlike_remarks
from reconpatch.detector.calibration import Parting, Scored, different, groups_of, part, score_held_out, score_left_out
from reconpatch.detector.detector import Detector, backbone_of, pixels, views_of
from reconpatch.detector.photographs import Source, examine
from reconpatch.detector.settings import AUTO, NOTES, SIZE, FitOptions, Progress, choose_aspect, enough_rows, seen_as
from reconpatch.device import repeating, resolve
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
from reconpatch.method.training import Epoch, train
from reconpatch.method.training_settings import TrainingSettings
from reconpatch.runtime import MB, machine_mb, openmp_threads, resident_bytes

LONG_TRAINING = 60  # s, from which on PatchCore is tried first
TIMED_STEPS = 4  # of a training, from which its time is predicted
CHECKED_STAGES = ("features", "training", "bank", "score")  # of the workflow, whose work is done here too


@dataclass(frozen=True)
class Fitted:
    """A detector, what it was made from, and scores of good images that were not in the memory bank."""

    detector: Detector
    facts: list[ImageFacts]  # of all images
    parting: Parting  # which of them set the threshold
    scored: Scored  # what their scores are
    seen: float  # smallest share of an image's area that the network sees
    epochs: list[Epoch]


def fit_detector(images: Sequence[Source], run: Run, options: FitOptions, calibration: Sequence[Source] = ()) -> Fitted:
    """N photographs of good products, parameters, options -> Fitted.

    The threshold follows from images that are left out once each, or held out, or from those of `calibration`, see
    `detector.calibration`. Patch features are written to a temporary file meanwhile. Equal images, parameters and seeds
    give equal bytes. Warns of what is odd in the images. Raises ReconpatchError for everything that cannot work, before
    the network sees the first image.
    """
    began = time.perf_counter()
    networks = Networks(setting=SIZE)
    check_settings(run, options, networks)
    if not images:
        raise ReconpatchError("no images to fit on")
    if calibration and (options.folds is not None or options.hold_out):
        raise ReconpatchError(
            "other images for the threshold are given",
            where=f"folds {options.folds}" if options.folds else f"hold_out {options.hold_out:g}",
            fix="leave one of them out",
        )
    device, threads, progress = resolve(options.device), options.threads, options.progress
    sources = [*images, *calibration]
    groups = None if options.group is None else groups_of(sources, options.group)
    facts = examine(sources, threads, lambda done, total: progress("reading images", done, total))
    fitted, others = facts[: len(images)], facts[len(images) :]
    run, reason = with_aspect(run, options, facts, networks)
    views = views_of(facts, run)
    if reason:
        NOTES.info("aspect: %s, %s", run.aspect, reason)
    warn_user(
        *image_remarks(facts),
        *unlike_remarks(fitted),
        *enlarged_remarks([each.name for each in facts], [each.enlargement() for each in views]),
        *told_apart_by_files("calibration", others, "fitted", fitted),
    )
    parting = part(facts, groups, len(images), run.seed, options)
    kept = sorted(set(range(len(images))) - set(parting.held_out))
    with repeating(device, openmp_threads(threads)), tempfile.TemporaryDirectory(prefix="reconpatch-") as folder:
        workspace = Path(folder)
        on_image = patches_on_images([views[n] for n in kept], run, networks)
        if options.coreset is None:
            run = enough_rows(run, sum(int(cells.sum()) for cells in on_image))
        check_resources(run, networks, views, on_image, facts, parting.folds, options, workspace)
        network, weights = load_network(run.backbone, run.levels, run.weights, options.weight_file, seed=run.seed)
        state = state_of(network)
        backbone = backbone_of(network, weights, run, device)
        names = [facts[n].name for n in kept]
        patches = extract_patches([sources[n] for n in kept], names, on_image, backbone, run, options, workspace)
        modes = sorted({each.mode for each in facts})
        folds = parting.folds

        def detector_of(patches: NDArray[Any], f: Representation, run: Run) -> Detector:
            bank = build_bank(
                patches,
                f,
                ratio=run.coreset,
                coreset_dim=run.coreset_dim,
                seed=run.seed,
                threads=threads,
                progress=lambda done, total: progress("coreset", done, total),
            )
            return Detector(backbone, state, bank, run, threads, options.batch_images, modes)

        def try_patchcore(patches: NDArray[Any], seconds: float) -> None:
            trial = detector_of(patches, Representation(run.dim), run.model_copy(update={"method": "patchcore"}))
            found = score_left_out(patches, on_image, views, facts, folds, trial, progress)
            taken = time.perf_counter() - began
            NOTES.info("PatchCore fitted in %.0f s; ReConPatch now takes about %s", taken, minutes(seconds))
            NOTES.info("%s", unusual(found.scores, [facts[n].name for fold in folds for n in different(facts, fold)]))

        if (
            folds
            and run.width % run.dim == 0
            and (seconds := training_seconds(patches, run, device, threads)) > LONG_TRAINING
        ):
            try_patchcore(patches, seconds)
        representation, epochs = learn_representation(patches, on_image, run, device, threads, progress)
        detector = detector_of(patches, representation, run)
        if folds:
            scored = score_left_out(patches, on_image, views, facts, folds, detector, progress)
        del patches  # closes the file before its folder is removed
    if not folds:
        scored = score_held_out(detector, sources, facts, parting.held_out, progress)
    seen = min(each.seen() for each in views)
    return Fitted(detector, facts, parting, scored, seen, epochs)


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


def with_aspect(
    run: Run, options: FitOptions, facts: Sequence[ImageFacts], networks: Networks
) -> tuple[Run, str | None]:
    """Parameters, options, facts of all images -> (the run; if the options leave the aspect open, with the one that is
    chosen for the images, and why, if it is not the paper's).
    """
    if options.aspect != AUTO:
        return run, None

    def takes(frame: tuple[int, int]) -> bool:
        try:
            networks.grid(run.backbone, run.levels, frame)
        except ReconpatchError:
            return False
        return True

    aspect, reason = choose_aspect([(each.width, each.height) for each in facts], run, options, takes)
    return (run, None) if aspect == run.aspect else (seen_as(run, aspect), reason)


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
    folds: Sequence[Sequence[int]],
    options: FitOptions,
    workspace: Path,
) -> None:
    """Raise ReconpatchError, with advice, if there are too few patches for the parameters, or if memory or the disk of
    the workspace is too small.

    `views` and `facts` are those of all images, `on_image` says which patches of the images to fit on count, `folds`
    which of these are left out together.
    """
    network = networks(run.backbone, run.levels, run.crop)
    if run.patch_size > network.grid:
        raise ReconpatchError(f"larger than the grid of patches at {run.crop} px", where=f"patch_size {run.patch_size}")
    patches = [int(cells.sum()) for cells in on_image]
    if problem := run.problem_with(patches):
        raise ReconpatchError(problem)
    fewest = sum(patches) - max((sum(patches[n] for n in fold) for fold in folds), default=0)
    if run.neighbours > fewest:
        raise ReconpatchError(
            f"more than the {fewest} patches that are left without a fold",
            where=f"neighbours {run.neighbours}",
            fix="lower it, or give more folds",
        )
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
    held_mb = resident_bytes() / MB  # already, by what all stages together import
    fold_mb = 2 * sizes.kept * run.dim * 4 / MB if folds else 0  # the final bank, which the search copies
    for stage in (STAGES[name] for name in CHECKED_STAGES):
        needed_mb = stage.memory_of(sizes).held + max(0.0, held_mb - stage.base_mb)
        needed_mb += fold_mb if stage.name in ("bank", "score") else 0
        if needed_mb > machine_mb():
            raise ReconpatchError(
                f"{stage.rule.replace('_', ' ')} needs about {needed_mb / 1000:.1f} GB of memory, there are "
                f"{machine_mb() / 1000:.1f} GB",
                fix=stage.advice,
            )
    needed, free = sum(patches) * run.width * 2, shutil.disk_usage(workspace).free
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


def training_seconds(patches: NDArray[Any], run: Run, device: str, threads: int) -> float:
    """(N, C) patches, parameters -> seconds that the training takes on this machine as it is now, from a few steps of
    one; 0 for methods without a training.
    """
    if run.method != "reconpatch":
        return 0.0
    settings = replace(TrainingSettings.of(run.model_dump()), epochs=1, batches="all")
    first = patches[: TIMED_STEPS * run.batch]
    train(patches[: run.batch], settings, device=device, threads=threads)  # what is only done once in a process
    began = time.perf_counter()
    train(first, settings, device=device, threads=threads)
    return (time.perf_counter() - began) / len(first) * len(patches) * run.epochs


def minutes(seconds: float) -> str:
    """Seconds -> the same in words."""
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def unusual(scores: Sequence[float], names: Sequence[str]) -> str:
    """Scores of good images, their names -> a sentence on the highest."""
    first = sorted(zip(scores, names, strict=True), reverse=True)[:3]
    listed = ", ".join(f"{quote(name)} ({score:.3g})" for score, name in first)
    return (
        f"the photographs most unlike all others, see whether they are good: {listed}; median {np.median(scores):.3g}"
    )


def learn_representation(
    patches: NDArray[Any],
    on_image: Sequence[NDArray[np.bool_]],
    run: Run,
    device: str,
    threads: int,
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
    tensors, epochs = train(
        patches,
        settings,
        images=[int(cells.sum()) for cells in on_image],
        checkpoints=() if run.epoch is None else (run.epoch,),
        device=device,
        threads=threads,
        progress=lambda epoch: progress("training", epoch.epoch, run.epochs),
    )
    last = f"{run.epoch or run.epochs}."
    f = Representation(run.dim, tensors[f"{last}weight"].numpy(), tensors[f"{last}bias"].numpy())
    return f, list(epochs)
