"""Fitting a detector to photographs of good products: the paper's method on a folder of one's own."""

import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from reconpatch.data.images import view
from reconpatch.detector.detector import Detector, pixels
from reconpatch.detector.photographs import Facts, Source, examine
from reconpatch.device import repeatable, resolve
from reconpatch.errors import ReconpatchError, quote
from reconpatch.experiments.costs import Network, features_bytes, grid, sizes_of, width
from reconpatch.experiments.run import Run, description
from reconpatch.experiments.stages import STAGES
from reconpatch.method.backbones import check_levels, check_weights, count_parameters, load_network, prepare_backbone
from reconpatch.method.features import write_features
from reconpatch.method.memory_bank import Representation, build_bank
from reconpatch.method.training import Epoch, TrainingSettings, train
from reconpatch.rng import named_rng
from reconpatch.runtime import machine_mb

Progress = Callable[[str, int, int], None]  # what is being done, done, of how many


@dataclass(frozen=True)
class Fitted:
    """A detector with what it was made from and what it says of good images it has not seen."""

    detector: Detector
    state: dict[str, Tensor]  # the network's weights as they came, for saving
    facts: list[Facts]  # of all images
    held_out: list[int]  # numbers of those left out of the memory bank
    scores: list[float]  # image scores of the different ones among these
    peaks: list[float]  # the maxima of their maps
    level: float  # the median of their maps: where a map shows nothing
    seen: float  # smallest share of an image's area that is looked at
    epochs: list[Epoch]


def check_machine(device: str, threads: int, batch: int) -> None:
    """Raise ReconpatchError for a device that is none, and where nobody or nothing would be at work."""
    if device not in ("auto", "cpu", "cuda"):
        raise ReconpatchError(f"device {device!r}: choose auto, cpu or cuda")
    for name, value in (("threads", threads), ("batch_images", batch)):
        if value < 1:
            raise ReconpatchError(f"{name} {value}: must be at least 1")


def draw_held_out(facts: Sequence[Facts], share: float, seed: int) -> list[int]:
    """Facts of N images, share in [0, 1) -> sorted numbers of those held out, at least one unless the share is 0.

    Copies of one image stay on one side: a copy in the memory bank would make its twin look better than any new image.
    """
    if not 0 <= share < 1:
        raise ReconpatchError(f"hold_out {share}: must be at least 0 and below 1, as 0.2 for a fifth of the images")
    first = {each.sha256: n for n, each in reversed(list(enumerate(facts)))}
    different = sorted(first.values())
    count = max(1, round(share * len(different))) if share else 0
    if count >= len(different) > 0:
        raise ReconpatchError(
            f"{len(different)} different images are too few to hold {count} out and fit on the rest: give more"
        )
    chosen = named_rng(seed, "held out").permutation(len(different))[:count]
    digests = {facts[different[n]].sha256 for n in chosen}
    return [n for n, each in enumerate(facts) if each.sha256 in digests]


def check_room(
    run: Run, network: Network, images: int, patches: int, pixels_each: int, batch: int, threads: int, at: Path
) -> None:
    """Raise ReconpatchError, with advice, where memory or the disk at `at` is too small or the run asks too much.

    `patches` are those on the images, without their padding, which is on disk for a while only.
    """
    if run.patch_size > grid(run.crop, network.stride):
        raise ReconpatchError(f"patch_size {run.patch_size}: larger than the grid of patches at {run.crop} px")
    if problem := run.problem_with(patches):
        raise ReconpatchError(problem)
    counts = (images, batch)
    sizes = sizes_of(run, network, counts, ratio=run.coreset, batch_images=batch, pixels=pixels_each, threads=threads)
    for stage in (STAGES[name] for name in ("features", "training", "bank", "score")):
        held = stage.memory_of(sizes).held
        if held > machine_mb():
            raise ReconpatchError(
                f"{stage.rule.replace('_', ' ')} needs about {held / 1000:.1f} GB of memory, there are "
                f"{machine_mb() / 1000:.1f} GB: {stage.advice}"
            )
    wanted, free = features_bytes(run, network.stride, images), shutil.disk_usage(at).free
    if wanted > free:
        raise ReconpatchError(
            f"{at}: patch features take {wanted / 1e9:.1f} GB there while fitting, {free / 1e9:.1f} GB are free; make "
            "room, or set TMPDIR to a folder of a larger disk"
        )


def fit_detector(
    images: Sequence[Source],
    run: Run,
    *,
    aspect: str,
    weight_file: Path | None = None,
    hold_out: float = 0.2,
    calibration: Sequence[Source] = (),
    device: str = "auto",
    threads: int = 1,
    batch: int = 8,
    progress: Progress = lambda *_: None,
) -> Fitted:
    """Photographs of good products, settings -> Fitted.

    A share `hold_out` of the images, or those of `calibration` instead, is kept out of the memory bank and scored by
    the finished detector. Patch features lie in a temporary file meanwhile. The same images, settings and seed
    give the same bytes. Raises ReconpatchError for whatever cannot work before the network sees the first image.
    """
    check_machine(device, threads, batch)
    check_weights(run.backbone, run.weights)
    if weight_file is not None and not weight_file.is_file():
        raise ReconpatchError(f"weights file {weight_file}: no such file")
    stride = check_levels(run.backbone, run.levels)
    view(1, 1, size=run.crop, resize=run.resize, aspect=aspect)
    both = [*images, *calibration]
    if not images:
        raise ReconpatchError("no images to fit on")
    device = resolve(device)
    facts = examine(both, threads, lambda done, total: progress("reading images", done, total))
    held_out = list(range(len(images), len(both))) if calibration else draw_held_out(facts, hold_out, run.seed)
    kept = sorted(set(range(len(images))) - set(held_out))
    fitted = {facts[n].sha256: facts[n].name for n in kept}
    if both_uses := [n for n in held_out if facts[n].sha256 in fitted]:
        name, twin = facts[both_uses[0]].name, fitted[facts[both_uses[0]].sha256]
        raise ReconpatchError(
            f"calibration: {len(both_uses)} images are copies of images to fit on, first {quote(name)} of "
            f"{quote(twin)}; a threshold needs images the memory bank has not seen"
        )
    views = [view(e.width, e.height, size=run.crop, resize=run.resize, aspect=aspect) for e in facts]
    on_images = [views[n].content(grid(run.crop, stride)) for n in kept]
    network = Network(stride, count_parameters(run.backbone, run.levels))
    largest = max(each.width * each.height for each in facts)
    repeatable(device, threads)
    with tempfile.TemporaryDirectory(prefix="reconpatch-") as workspace:
        check_room(
            run, network, len(kept), sum(int(c.sum()) for c in on_images), largest, batch, threads, Path(workspace)
        )
        net, weights = load_network(run.backbone, run.levels, run.weights, weight_file, seed=run.seed)
        state = {key.removeprefix("model."): value.detach().clone() for key, value in net.state_dict().items()}
        backbone = prepare_backbone(net, weights, device, run.precision)
        file = Path(workspace) / "features.npy"
        write_features(
            [both[n] for n in kept],
            lambda source: pixels(source, run, aspect)[0],
            backbone,
            file,
            names=[facts[n].name for n in kept],
            patch_size=run.patch_size,
            level_dim=run.level_dim,
            dim=width(run),
            batch=batch,
            threads=threads,
            progress=lambda done, total: progress("patch features", done, total),
        )
        patches = without_padding(file, on_images)
        torch.set_num_threads(1)  # more round otherwise, and small steps lose more by waiting than they gain
        try:
            f, epochs = _represent(patches, run, device, progress)
        finally:
            torch.set_num_threads(threads)
        bank = build_bank(
            patches,
            f,
            ratio=run.coreset,
            coreset_dim=run.coreset_dim,
            seed=run.seed,
            threads=threads,
            progress=lambda done, total: progress("coreset", done, total),
        )
        del patches  # the file goes with the folder
    detector = Detector(backbone, bank, run, aspect, threads, batch)
    different = sorted({facts[n].sha256: n for n in reversed(held_out)}.values())  # a copy tells nothing more
    scores, peaks, levels = [], [], []
    for done, detection in enumerate(detector(both[n] for n in different), 1):
        scores.append(detection.score)
        peaks.append(float(detection.map.max()))
        levels.append(float(np.median(detection.map[detection.view.content(run.crop)])))
        progress("held-out images", done, len(different))
    seen = min(each.seen() for each in views)
    level = float(np.median(levels)) if levels else 0.0
    return Fitted(detector, state, facts, held_out, scores, peaks, level, seen, list(epochs))


def without_padding(file: Path, on_images: Sequence[NDArray[np.bool_]]) -> NDArray[Any]:
    """.npy file of (N, H, W, C) patch features, of N images which of the (H, W) patches lie on the image -> memory map
    of the (M, C) rows that do, in order.

    Where some do not, the others are moved to the beginning of the file, an image in memory at a time; it is then no
    longer what its header says.
    """
    features = np.load(file, mmap_mode="r")
    if all(cells.all() for cells in on_images):
        return np.asanyarray(features.reshape(-1, features.shape[-1]))
    start, width, kind = features.offset, features.shape[-1], features.dtype
    size = features[0].nbytes
    del features
    written = 0
    with open(file, "r+b") as stream:
        for n, cells in enumerate(on_images):
            stream.seek(start + n * size)
            rows = np.frombuffer(stream.read(size), kind).reshape(-1, width)[cells.ravel()]
            stream.seek(start + written * width * kind.itemsize)  # never beyond what was read
            stream.write(rows.tobytes())
            written += len(rows)
    return np.memmap(file, kind, "r", start, (written, width))


def _represent(
    patches: NDArray[Any], run: Run, device: str, progress: Progress
) -> tuple[Representation, Sequence[Epoch]]:
    """Patches -> the trained f, or PatchCore's pooling, and the epochs of the training."""
    if run.method == "patchcore":
        return Representation(run.dim), []
    tensors, epochs = train(
        patches,
        TrainingSettings.of(description(run, "training")),
        checkpoints=() if run.epoch is None else (run.epoch,),
        device=device,
        progress=lambda epoch: progress("training", epoch.epoch, run.epochs),
    )
    last = f"{run.epoch or run.epochs}."
    return Representation(run.dim, tensors[f"{last}weight"].numpy(), tensors[f"{last}bias"].numpy()), epochs
