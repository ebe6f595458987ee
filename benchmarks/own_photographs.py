"""The numbers of docs/product.md on real photographs, bottle, pill and screw below $RECONPATCH_DATA/mvtec_ad.

python benchmarks/own_photographs.py aspects [CATEGORY ...]    strips in every aspect, squares cropped and stretched
python benchmarks/own_photographs.py values [CATEGORY ...]     all values of PatchCore's features against half of them
python benchmarks/own_photographs.py rows [CATEGORY ...]       sizes of the memory bank
python benchmarks/own_photographs.py folds [CATEGORY ...]      thresholds from folds: stated and true rates of PatchCore
python benchmarks/own_photographs.py training [CATEGORY ...]   the same of ReConPatch, with one f and with an f a fold

All with the embedded network. `aspects` and `values` fit the first 60 photographs at 224 px.
"""

import argparse
import os
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from sklearn.metrics import roc_auc_score

from reconpatch import ReConPatch
from reconpatch.detector.calibration import bank_without, part_in_folds
from reconpatch.detector.comparison import compare
from reconpatch.detector.detector import Detector, pixels, scores_of, views_of
from reconpatch.detector.evaluate import evaluate, seen_mask, whole_mask
from reconpatch.detector.measures import Evaluation
from reconpatch.detector.photographs import Photograph, examine, find_photographs
from reconpatch.detector.threshold import Calibration, choose_threshold
from reconpatch.detector.truth import truth_from_folders
from reconpatch.experiments.run import Run
from reconpatch.method.features import features_of
from reconpatch.method.memory_bank import MemoryBank, Representation, build_bank, coreset_size
from reconpatch.method.scoring import anomaly_maps
from reconpatch.method.search import search_in
from reconpatch.method.training import train
from reconpatch.method.training_settings import TrainingSettings

NETWORK = {"backbone": "tf_efficientnet_lite0", "weights": "embedded"}
FITTED = 60  # photographs
SIZE = 160  # px, of `rows`, `folds` and `training`
ROWS = (200, 800, 1600, 3200, 6400)
FRESH = 120  # good photographs that true rates are measured on
RATES = (0.1, 0.25)  # false alarms that are asked for


def strips(category: Path, folder: Path) -> Path:
    """A category -> folder of strips of it: full width, the middle 40 % of the height, without defects outside."""
    for file in sorted([*category.glob("train/*/*"), *category.glob("test/*/*")]):
        image = Image.open(file)
        top = round(image.height * 0.3)
        box = (0, top, image.width, top + round(image.height * 0.4))
        mask_file = category / "ground_truth" / file.parent.name / f"{file.stem}_mask.png"
        mask = Image.open(mask_file).convert("L").crop(box) if mask_file.is_file() else None
        if mask is not None and not np.asarray(mask).any():
            continue
        for part, path in ((image.crop(box), file.with_suffix(".png")), (mask, mask_file)):
            if part is not None:
                target = folder / path.relative_to(category)
                target.parent.mkdir(parents=True, exist_ok=True)
                part.save(target, compress_level=1)
    return folder


def measured(category: Path, **options: Any) -> tuple[Evaluation, str]:
    """A category, options of PatchCore -> its evaluation, and the metrics in a line."""
    model = ReConPatch("patchcore", **NETWORK, hold_out=0, threads=1, **options)
    model.fit(sorted((category / "train/good").iterdir())[:FITTED])
    photographs = find_photographs([category / "test"], "evaluate")[0]
    truths = truth_from_folders(photographs, {"good"}, category / "ground_truth")
    found = evaluate(model.detector_, photographs, truths, None, lambda *_: None)
    run, (low, high) = model.detector_.run, found.intervals["image_auroc"]
    return found, (
        f"{run.aspect}, {run.dim} values: image AUROC {found.metrics['image_auroc']:.3f} "
        f"({low:.3f} to {high:.3f}), pixel AUROC {found.metrics['pixel_auroc']:.3f}, "
        f"AUPRO {found.metrics['aupro_30']:.3f}"
    )


def features(category: Path, part: str) -> tuple[Detector, list[Photograph], NDArray[np.float16]]:
    """A category, train or test -> a detector with its network, the photographs, (N, H, W, C) patch features."""
    photographs = find_photographs([category / part], "evaluate")[0]
    model = ReConPatch("patchcore", **NETWORK, size=SIZE, aspect="stretch", hold_out=0, threads=1)
    detector = model.fit(photographs[:4]).detector_
    run, parts = detector.run, []
    for n in range(0, len(photographs), 8):
        images = [pixels(each, run)[0] for each in photographs[n : n + 8]]
        parts.append(features_of(images, detector.backbone, run.patch_size, run.level_width, run.width))
    return detector, photographs, np.concatenate(parts)


def rows(category: Path) -> Iterator[str]:
    """A category -> lines of AUROCs by the number of rows of the bank, half of the values."""
    _, _, good = features(category, "train")
    detector, photographs, test = features(category, "test")
    truths = truth_from_folders(photographs, {"good"}, category / "ground_truth")
    views = views_of(examine(photographs, 1, lambda *_: None), detector.run)
    masks = np.stack([seen_mask(whole_mask(t, v), v) for t, v in zip(truths, views, strict=True)])
    labels = [truth.label for truth in truths]
    grid, width = test.shape[1:3], test.shape[3]
    for count in (20, 50, 200):
        values: dict[int, list[tuple[float, float]]] = {}
        for seed in range(3 if count < 200 else 1):
            own = np.random.default_rng(seed).permutation(len(good))[:count]
            patches = good[own].reshape(-1, width)
            most = min(1.0, max(ROWS) / len(patches))
            bank = build_bank(patches, Representation(width // 2), ratio=most, coreset_dim=128, seed=seed, threads=1)
            represented = bank.representation(test.reshape(-1, width))
            for kept in (number for number in ROWS if number <= len(bank.patches)):
                nearest = search_in(bank.patches[:kept], 1)(represented, 1)[0].reshape(len(test), *grid)
                maps = anomaly_maps(nearest, SIZE, 4.0)
                image = roc_auc_score(labels, nearest.reshape(len(test), -1).max(1))
                values.setdefault(kept, []).append((image, roc_auc_score(masks.ravel(), maps.ravel())))
        means = (f"{kept}: {100 * a:.1f} / {100 * b:.1f}" for kept, v in values.items() for a, b in [np.mean(v, 0)])
        yield f"{count} photographs, {len(patches)} patches; {', '.join(means)}"


def trained(patches: NDArray[np.float16], seed: int) -> Representation:
    """(N, C) patches -> f of half as many values after ten epochs."""
    width = patches.shape[1]
    values = Run(dim=width // 2, level_dim=width, feature_dim=width, epochs=10, seed=seed).model_dump()
    tensors, _ = train(patches, TrainingSettings.of(values | {"learning_rate": 1e-4}))
    return Representation(width // 2, tensors["10.weight"].numpy(), tensors["10.bias"].numpy())


def highest(images: NDArray[np.float16], bank: MemoryBank, run: Run) -> NDArray[np.float32]:
    """(N, H, W, C) patch features, bank, parameters -> (N,) image scores."""
    return scores_of(images, np.ones(images.shape[:3], bool), bank, run, search_in(bank.patches, 1))[0]


def rates(category: Path, method: str, count: int, ratio: float, draws: int) -> Iterator[str]:
    """A category, method, photographs, ratio of the coreset, draws of the photographs -> for each way to make the banks
    of five folds a line of the rates that thresholds state and of those of the finished bank on fresh photographs, and
    in how many draws the stated interval holds the latter.

    "As many rows" is what `fit` does, with its own functions.
    """
    _, _, good = features(category, "train")
    width = good.shape[-1]
    dim = width if method == "patchcore" else width // 2
    found: dict[tuple[str, float], list[tuple[float, float, bool]]] = {}
    for seed in range(draws):
        rng = np.random.default_rng(seed)
        order = rng.permutation(len(good))
        own, fresh = good[order[:count]], good[order[count : count + FRESH]]
        run = Run(dim=dim, level_dim=width, feature_dim=width, coreset=ratio, seed=seed)

        def learned(patches: NDArray[np.float16], seed: int = seed) -> Representation:
            return Representation(dim) if method == "patchcore" else trained(patches, seed)

        patches, counts = own.reshape(-1, width), [own[0, ..., 0].size] * count
        f, rows = learned(patches), coreset_size(len(patches), ratio)
        new = highest(fresh, bank_without(patches, counts, [], rows, f, run, 1), run)
        fold_of = part_in_folds(np.ones(count, np.int64), 5, seed)
        ways = ("as many rows", "the same share" if method == "patchcore" else "as many rows, f a fold")
        for way in ways:
            scores = np.empty(count)
            for fold in range(5):
                out = np.flatnonzero(fold_of == fold)
                of_fold = learned(own[fold_of != fold].reshape(-1, width)) if way.endswith("fold") else f
                kept = (
                    coreset_size(int((fold_of != fold).sum()) * counts[0], ratio) if way == "the same share" else rows
                )
                bank = bank_without(patches, counts, out.tolist(), kept, of_fold, run, 1)
                scores[out] = highest(own[out], bank, run)
            for rate in RATES:
                threshold = choose_threshold(scores.tolist(), rate, Calibration(5))
                true_rate = float((new > threshold.value).mean())
                holds = threshold.low <= true_rate <= threshold.high
                found.setdefault((way, rate), []).append((threshold.expected, true_rate, holds))
    for (way, _), values in found.items():
        stated, true, held = np.array(values).T
        error = true.std(ddof=1) / len(true) ** 0.5
        yield (
            f"{count} photographs, ratio {ratio:g}, {draws} draws, {way}: "
            f"stated {stated[0]:.1%}, true {true.mean():.1%} (standard error {error:.1%}), in the stated interval in "
            f"{held.sum():.0f} of {draws}"
        )


def lines(what: str, category: Path) -> Iterator[str]:
    """What to measure, a category -> lines of results."""
    if what == "rows":
        yield from rows(category)
    elif what == "folds":
        for count, ratio in ((60, 0.01), (24, 0.1)):
            yield from rates(category, "patchcore", count, ratio, 12)
    elif what == "training":
        yield from rates(category, "reconpatch", 30, 0.1, 4)
    else:
        with tempfile.TemporaryDirectory() as folder:
            cut = strips(category, Path(folder))
            if what == "aspects":
                kept, line = measured(cut, aspect="keep")
                yield f"strips, {line}"
                for aspect in ("crop", "stretch", "pad"):
                    other, line = measured(cut, aspect=aspect)
                    gain = compare((aspect, "keep"), other, kept).differences["image_auroc"]
                    yield f"strips, {line}; image AUROC of keep less this: {gain.text()}"
                for aspect in ("crop", "stretch"):
                    yield f"photographs, {measured(category, aspect=aspect)[1]}"
            else:
                for source, name in ((category, "photographs"), (cut, "strips")):
                    for dim in ("1/1", "1/2"):
                        yield f"{name}, {measured(source, dim=dim)[1]}"


def main() -> None:
    """Print the lines of what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["aspects", "values", "rows", "folds", "training"])
    parser.add_argument("categories", nargs="*", default=["bottle", "pill", "screw"])
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    for name in given.categories:
        for line in lines(given.what, Path(os.environ["RECONPATCH_DATA"]) / "mvtec_ad" / name):
            print(f"{name}: {line}", flush=True)


if __name__ == "__main__":
    main()
