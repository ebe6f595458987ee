"""Saved scores against the truth once more: labels, masks, metrics and the bootstrap's counts computed anew."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file

from reconpatch.errors import ReconpatchError
from reconpatch.method.metrics import evaluate
from reconpatch.records.compare import short
from reconpatch.records.findings import TOLERANCE, Findings, Source, Unverifiable
from reconpatch.records.record import Record

WINS = ("pairs", "positives", "negatives")
Arrays = dict[str, NDArray[Any]]
Masks = NDArray[np.bool_]


def read_scores(found: Findings, file: Path, source: Source, needed: Sequence[str]) -> Arrays:
    """The saved scores of a run or an ensemble, N images: `needed` of "image" (N,) and "patch" (N, h, w), "label" (N,),
    and the bootstrap's counts. Raises Unverifiable when one lacks or has another shape or kind.
    """
    arrays: Arrays = source.read(file, load_file)
    names = [*needed, "label", *(f"{kind}_{part}" for kind in ("image", "pixel") for part in WINS)]
    found.same(f"tensors of {source.name(file)}", sorted(arrays), sorted(names))
    lack = [name for name in names if name not in arrays]
    if lack:
        raise Unverifiable(f"{source.name(file)} lacks {', '.join(lack)}")
    count = len(arrays["label"]) if arrays["label"].ndim else 0
    for name in names:
        array = arrays[name]
        square = (
            (count, count) if name.endswith("pairs") else (count, *array.shape[1:]) if name == "patch" else (count,)
        )
        axes = 3 if name == "patch" else len(square)
        kind = "i" if name == "label" else "f"
        if not count or array.ndim != axes or array.shape != square or not array.size or array.dtype.kind != kind:
            raise Unverifiable(
                f"{source.name(file)}: {name} is {array.dtype} of shape {array.shape}, of {count} images"
            )
        if not np.isfinite(array).all():
            raise Unverifiable(f"{source.name(file)}: {name} holds values that are not finite")
    return arrays


def check_labels(found: Findings, scores: Arrays, truth: Sequence[int] | None) -> None:
    """Compare the saved labels with those of the manifest's test images, if these are known."""
    stored, known = scores["label"].tolist(), scores["label"].tolist() if truth is None else truth
    if len(stored) != len(known):
        found.differs.append(f"labels: stored of {len(stored)} images, the manifest has {len(known)} test images")
    for n, (one, two) in enumerate(zip(stored, known, strict=False)):
        if one != two:
            found.differs.append(f"label of test image {n}: stored {one}, the manifest has {short(two)}")
            break


def read_masks(file: Path, source: Source) -> Masks:
    """Saved masks, (N, H, W). Raises Unverifiable when the file is missing or holds anything else."""
    masks = source.read(file, lambda path: np.lib.format.open_memmap(path, mode="r"))
    if masks.dtype != np.bool_ or masks.ndim != 3 or not masks.size:
        raise Unverifiable(f"{source.name(file)}: is {masks.dtype} of shape {masks.shape}, masks are bool (N, H, W)")
    return np.array(masks)


def map_settings(description: Mapping[str, Any], masks: Masks) -> tuple[int, float]:
    """Size and blur of the maps. Raises Unverifiable for what does not fit the masks: a record may hold anything."""
    size, blur = description.get("crop"), description.get("blur")
    if type(size) is not int or masks.shape[1:] != (size, size):
        raise Unverifiable(f"masks of {masks.shape[1:]} px are not of crop {short(size)}")
    if type(blur) not in (int, float) or not 0 <= blur <= size:  # type: ignore[operator]
        raise Unverifiable(f"blur {short(blur)} is not between 0 and the crop, {size}")
    return size, float(blur)  # type: ignore[arg-type]


def check_numbers(found: Findings, record: Record, stored: Arrays, maps: NDArray[Any], masks: Masks) -> None:
    """Compute metrics and the bootstrap's counts anew from saved scores and compare them with what is stored."""
    try:
        metrics, wins = evaluate(stored["image"], stored["label"].astype(np.int64), maps, masks)
    except ReconpatchError as error:
        found.differs.append(f"metrics do not follow from the saved scores: {error}")
        return
    for name in dict.fromkeys([*metrics, *record.metrics]):
        if name not in metrics or name not in record.metrics:
            where = "only recomputed" if name in metrics else "only stored"
            found.differs.append(f"metrics.{name}: {where}")
        else:
            found.close(f"metrics.{name}", record.metrics[name], metrics[name])
    for kind in ("image", "pixel"):
        pairs = float(wins[f"{kind}_positives"].sum() * wins[f"{kind}_negatives"].sum()) or 1.0
        for part in WINS:
            one, two = stored[f"{kind}_{part}"], wins[f"{kind}_{part}"]
            if np.array_equal(one, two):
                continue
            moved = float(np.abs(one.astype(np.float64) - two).sum()) / pairs  # of an AUROC, at most
            n = np.unravel_index(int(np.argmax(np.abs(one.astype(np.float64) - two))), one.shape)
            said = f"{kind}_{part}{list(map(int, n))}: stored {float(one[n])!r}, recomputed {float(two[n])!r}"
            (found.rounding if part == "pairs" and moved <= TOLERANCE else found.differs).append(said)


def read_references(file: Path, source: Source) -> Arrays:
    """Saved scores of a member's training images. Raises Unverifiable when they are missing or something else."""
    arrays: Arrays = source.read(file, load_file)
    for name in ("image", "patch"):
        if name not in arrays or arrays[name].dtype.kind != "f":
            raise Unverifiable(f"{source.name(file)} lacks {name}")
    return arrays
