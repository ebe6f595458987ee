"""Scoring photographs with a saved model: a table of scores, overlays and masks."""

import csv
import errno
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from PIL import Image

from reconpatch.detector.detector import Detection, Detector
from reconpatch.detector.overlays import defect_mask, map_scale, overlay
from reconpatch.detector.photographs import Photograph, cell, load
from reconpatch.errors import ReconpatchError, quote
from reconpatch.experiments.value_types import LONGEST_PART
from reconpatch.files import check_writable
from reconpatch.method.features import read_ahead

COLUMNS = ("image", "score", "anomalous", "peak_x", "peak_y", "width", "height", "seen")
SCORES, PART = "scores.csv", "scores.part.csv"
PICTURES = ("overlays", "masks")


@dataclass(frozen=True)
class Look:
    """What is written of every photograph: thresholds, above which something is anomalous, and which pictures."""

    threshold: float | None  # of image scores
    map_threshold: float | None
    level: float  # the usual value of good images' maps
    overlays: bool = True
    masks: bool = False


@dataclass
class Found:
    """Rows of the table, and which photographs could not be read, with the reason."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    unreadable: list[dict[str, str]] = field(default_factory=list)


def check_free(out: Path) -> None:
    """Raise ReconpatchError where scores or pictures are in the folder already, or nothing can be written."""
    if (out / SCORES).exists():
        raise ReconpatchError(f"{out / SCORES}: is there already; give another --out, or remove it")
    if (out / PART).exists() or any((out / kind).exists() for kind in PICTURES):
        raise ReconpatchError(
            f"{out}: holds what a run that was cut off, or is under way, has made ({PART}: the scores it knows); "
            "give another --out, or remove it"
        )
    check_writable(out)


def check_names(photographs: Sequence[Photograph], suffix: str = ".png") -> None:
    """Raise ReconpatchError where a picture could not be called as its photograph is, with another suffix behind."""
    names = {photograph.name + suffix for photograph in photographs}
    folders = {str(folder) for name in names for folder in PurePosixPath(name).parents}
    for name in sorted(names):
        if len(os.fsencode(PurePosixPath(name).name)) > LONGEST_PART:
            raise ReconpatchError(f"{quote(name)}: too long for the name of a picture; shorten the image's name")
        if name in folders:
            raise ReconpatchError(f"{quote(name)}: would be a picture and a folder of pictures; rename one of both")


def score_photographs(
    detector: Detector,
    photographs: Sequence[Photograph],
    out: Path,
    look: Look,
    progress: Callable[[str, int, int], None],
) -> Found:
    """Detector, photographs -> `out`/scores.csv, a row each as it is scored, overlays/ and masks/, which are drawn
    while the network sees the next batch.

    Until all are done the table is called scores.part.csv: what is known is not lost when the work is cut off. A
    photograph that cannot be read is left out and named. Raises ReconpatchError where a table is there already, where
    pictures cannot be called as their photographs, and where not one can be read.
    """
    check_free(out)
    if look.overlays or look.masks:
        check_names(photographs)
    found = Found()

    def leave_out(number: int, error: ReconpatchError) -> None:
        found.unreadable.append({"image": photographs[number].name, "error": str(error)})
        print(f"left out: {error}", file=sys.stderr)

    def draw(detection: Detection) -> Detection:
        write_pictures(photographs[detection.number], detection, look, out)
        return detection

    try:
        out.mkdir(parents=True, exist_ok=True)
        with open(out / PART, "x", newline="", encoding="utf-8") as stream:
            table = csv.DictWriter(stream, COLUMNS, lineterminator="\n")
            table.writeheader()

            def noted() -> Iterator[Detection]:
                for detection in detector(photographs, leave_out):
                    found.rows.append(row(photographs[detection.number], detection, look.threshold))
                    table.writerow(found.rows[-1])
                    stream.flush()
                    yield detection

            for done in read_ahead(draw, noted(), 1, depth=2 * detector.batch):
                progress("scoring", done.number + 1, len(photographs))
        if not found.rows:
            (out / PART).unlink()
            raise ReconpatchError(f"none of the {len(photographs)} images can be read: nothing was scored")
        (out / PART).replace(out / SCORES)
    except OSError as error:
        raise _unwritten(out / PART, error) from None
    return found


def row(photograph: Photograph, detection: Detection, threshold: float | None) -> dict[str, Any]:
    """A photograph's Detection, threshold of image scores -> its row of the table; the peak in px of the photograph."""
    x, y = detection.peak()
    return {
        "image": cell(photograph.name),
        "score": float(f"{detection.score:.6g}"),
        "anomalous": None if threshold is None else int(detection.score > threshold),
        "peak_x": x,
        "peak_y": y,
        "width": detection.view.width,
        "height": detection.view.height,
        "seen": round(detection.view.seen(), 4),
    }


def write_pictures(photograph: Photograph, detection: Detection, look: Look, out: Path) -> None:
    """A photograph's Detection -> overlays/<image>.png and masks/<image>.png below `out`, as wanted.

    The image's own suffix stays in the name: a.png and a.jpg are two images.
    """
    if look.overlays:
        against = "" if look.threshold is None else f" (threshold {look.threshold:.4g})"
        verdict = "" if look.threshold is None else ("  ANOMALOUS" if detection.score > look.threshold else "  normal")
        scale = map_scale(look.level, look.map_threshold, float(detection.map.max()))
        picture = overlay(load(photograph), detection, scale, f"score {detection.score:.4g}{against}{verdict}")
        _save(picture, out / "overlays" / f"{photograph.name}.png")
    if look.masks and look.map_threshold is not None:
        _save(defect_mask(detection, look.map_threshold), out / "masks" / f"{photograph.name}.png")


def _save(picture: Image.Image, file: Path) -> None:
    """Write a PNG. Not flushed to the disk one by one, as results are: that would take longer than the scoring."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        picture.save(file, compress_level=1)
    except OSError as error:
        raise _unwritten(file, error) from None


def _unwritten(file: Path, error: OSError) -> ReconpatchError:
    advice = "make room" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "mend that"
    return ReconpatchError(
        f"{quote(file)}: cannot be written ({error.strerror or error}); {advice}, or give another --out"
    )
