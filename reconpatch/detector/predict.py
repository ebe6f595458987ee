"""Scoring photographs with a fitted detector: a table of scores, overlays, masks, and how long it took."""

import csv
import errno
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath

import numpy as np
from matplotlib import colormaps
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from reconpatch.detector.detector import Detection, Detector, Seen, seen_remarks
from reconpatch.detector.photographs import Photograph, Source, csv_safe, load
from reconpatch.errors import ReconpatchError
from reconpatch.experiments.value_types import LONGEST_PART
from reconpatch.files import check_writable
from reconpatch.runtime import read_ahead

SCORES, UNFINISHED_SCORES = "scores.csv", "scores.part.csv"
IDENTITY_SHOWN = 16  # digits of a model's identity
PICTURE_FOLDERS = ("overlays", "masks")

LONGEST_SIDE, SHORTEST_SIDE = 1280, 480  # px; limits of an overlay's longer side
TEXT_HEIGHT, TEXT_WIDTH = 22, 360  # px of the line of text above an overlay
OPACITY = 0.65  # of the map where it is strongest
OUTLINE_COLOUR = (255, 255, 255)  # of the line around what is above the threshold
UNSEEN_BRIGHTNESS = 0.35  # of the parts that the network does not see

TIMED_ALONE = 20  # images whose latency is measured one by one


@dataclass(frozen=True)
class PredictOptions:
    """What is written for each photograph."""

    threshold: float | None  # of image scores
    map_threshold: float | None  # of anomaly maps
    level: float  # median of the maps of good images
    overlays: bool = True
    masks: bool = False
    model: str = ""  # identity


@dataclass(frozen=True)
class Prediction:
    """One row of scores.csv."""

    image: str
    score: float  # higher is more anomalous
    anomalous: int | None  # 1 if the score is above the threshold, 0 if not, None without a threshold
    peak_x: int  # px of the photograph at which the map is largest
    peak_y: int
    width: int  # px of the photograph
    height: int
    seen: float  # share of the photograph's area that the network sees
    threshold: float | None  # that was used, the same in all rows
    model: str  # beginning of its identity, the same in all rows


COLUMNS = tuple(Prediction.__dataclass_fields__)


@dataclass(frozen=True)
class Unreadable:
    """A photograph that was left out, with the reason."""

    image: str
    error: str


@dataclass
class Predictions:
    """Everything that was predicted."""

    rows: list[Prediction] = field(default_factory=list)
    unreadable: list[Unreadable] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)  # what is odd in the photographs

    @property
    def anomalous(self) -> int:
        """Number of images above the threshold."""
        return sum(bool(row.anomalous) for row in self.rows)


def check_output(out: Path) -> None:
    """Raise ReconpatchError if the folder holds scores or pictures already, or if nothing can be written there."""
    if (out / SCORES).exists():
        raise ReconpatchError("exists already", where=out / SCORES, fix="give another --out, or remove it")
    if (out / UNFINISHED_SCORES).exists() or any((out / folder).exists() for folder in PICTURE_FOLDERS):
        raise ReconpatchError(
            f"holds files of a run that was interrupted or is still running ({UNFINISHED_SCORES}: its scores so far)",
            where=out,
            fix="give another --out, or remove it",
        )
    check_writable(out)


def check_picture_names(photographs: Sequence[Photograph]) -> None:
    """Raise ReconpatchError if a picture cannot have the name of its photograph plus `.png`."""
    names = {f"{photograph.name}.png" for photograph in photographs}
    folders = {str(folder) for name in names for folder in PurePosixPath(name).parents}
    for name in sorted(names):
        if len(os.fsencode(PurePosixPath(name).name)) > LONGEST_PART:
            raise ReconpatchError("too long for the name of a picture", where=name, fix="shorten the image's name")
        if name in folders:
            raise ReconpatchError("would be a picture and a folder of pictures", where=name, fix="rename one of them")


def predict(
    detector: Detector,
    photographs: Sequence[Photograph],
    out: Path,
    options: PredictOptions,
    progress: Callable[[str, int, int], None],
) -> Predictions:
    """Detector, N photographs, folder -> predictions; writes scores.csv, overlays/ and masks/ into the folder.

    A row is written as soon as an image is scored. Until all are scored the table is called scores.part.csv, so that an
    interrupted run loses nothing. Pictures are drawn while the network works on the next batch. A photograph that
    cannot be read is left out and named on standard error. Raises ReconpatchError if the folder holds results, if
    pictures cannot have the names of their photographs, and if no photograph can be read.
    """
    check_output(out)
    if options.overlays or options.masks:
        check_picture_names(photographs)
    predictions, seen = Predictions(), list[Seen]()

    def leave_out(number: int, error: ReconpatchError) -> None:
        predictions.unreadable.append(Unreadable(photographs[number].name, str(error)))
        print(f"left out: {error}", file=sys.stderr)

    def draw(detection: Detection) -> Detection:
        write_pictures(photographs[detection.number], detection, options, out)
        return detection

    try:
        out.mkdir(parents=True, exist_ok=True)
        with open(out / UNFINISHED_SCORES, "x", newline="", encoding="utf-8") as stream:
            table = csv.DictWriter(stream, COLUMNS, lineterminator="\n")
            table.writeheader()

            def detections() -> Iterator[Detection]:
                for detection in detector(photographs, leave_out):
                    row = prediction(photographs[detection.number], detection, options)
                    predictions.rows.append(row)
                    seen.append((detection.facts, detection.view))
                    table.writerow(asdict(row))
                    stream.flush()
                    yield detection

            for detection in read_ahead(draw, detections(), 1, depth=2 * detector.batch):
                progress("scoring", detection.number + 1, len(photographs))
        if not predictions.rows:
            (out / UNFINISHED_SCORES).unlink()
            raise ReconpatchError(f"none of the {len(photographs)} images can be read: nothing was scored")
        (out / UNFINISHED_SCORES).replace(out / SCORES)
        predictions.remarks.extend(seen_remarks(seen, detector.modes))
    except OSError as error:
        raise _cannot_write(out / UNFINISHED_SCORES, error) from None
    return predictions


def prediction(photograph: Photograph, detection: Detection, options: PredictOptions) -> Prediction:
    """Photograph, its detection, threshold and model from the options -> its row of the table."""
    threshold = options.threshold
    peak_x, peak_y = detection.peak()
    return Prediction(
        image=csv_safe(photograph.name),
        score=float(f"{detection.score:.6g}"),
        anomalous=None if threshold is None else int(detection.score > threshold),
        peak_x=peak_x,
        peak_y=peak_y,
        width=detection.view.width,
        height=detection.view.height,
        seen=round(detection.view.seen(), 4),
        threshold=threshold,
        model=options.model[:IDENTITY_SHOWN],
    )


def write_pictures(photograph: Photograph, detection: Detection, options: PredictOptions, out: Path) -> None:
    """Photograph, its detection -> `overlays/<image>.png` and `masks/<image>.png` in `out`, as the options say.

    `<image>` keeps its own suffix, because a.png and a.jpg are two images.
    """
    if options.overlays:
        text = f"score {detection.score:.4g}"
        if options.threshold is not None:
            verdict = "ANOMALOUS" if detection.score > options.threshold else "normal"
            text += f" (threshold {options.threshold:.4g})  {verdict}"
        scale = colour_scale(options.level, options.map_threshold, float(detection.map.max()))
        _save(overlay(load(photograph), detection, scale, text), out / "overlays" / f"{photograph.name}.png")
    if options.masks and options.map_threshold is not None:
        _save(defect_mask(detection, options.map_threshold), out / "masks" / f"{photograph.name}.png")


def _save(picture: Image.Image, file: Path) -> None:
    """Write a PNG. It is not flushed to the disk as results are: that would take longer than the scoring."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        picture.save(file, compress_level=1)
    except OSError as error:
        raise _cannot_write(file, error) from None


def _cannot_write(file: Path, error: OSError) -> ReconpatchError:
    no_room = error.errno in (errno.ENOSPC, errno.EDQUOT)
    return ReconpatchError(
        f"cannot be written ({error.strerror or error})",
        where=file,
        fix=f"{'make room' if no_room else 'correct that'}, or give another --out",
    )


# Overlays and masks


@dataclass(frozen=True)
class ColourScale:
    """What the colours of an overlay mean, in the units of the maps."""

    low: float  # no colour
    high: float  # full colour
    threshold: float | None  # value of the line


def colour_scale(level: float, threshold: float | None, largest: float) -> ColourScale:
    """Median of good images' maps, threshold of maps, largest value of this map -> scale of colours.

    The threshold is in the middle of the scale, so that all images of a model have the same colours. Without a
    threshold each image is coloured up to its own maximum.
    """
    if threshold is None or threshold <= level:
        return ColourScale(level, max(largest, level + 1e-6), threshold)
    return ColourScale(level, 2 * threshold - level, threshold)


def overlay(photograph: Image.Image, detection: Detection, scale: ColourScale, text: str) -> Image.Image:
    """8-bit RGB photograph, its detection -> the photograph with the map over it and a line of text above.

    The longer side is brought to SHORTEST_SIDE to LONGEST_SIDE px. What the network does not see is dark. A white line
    surrounds what is above the threshold.
    """
    longest = max(photograph.size)
    factor = min(max(longest, SHORTEST_SIDE), LONGEST_SIDE) / longest
    size = (max(1, round(photograph.width * factor)), max(1, round(photograph.height * factor)))
    pixels = np.asarray(photograph.resize(size, Image.Resampling.LANCZOS), np.float32)
    values = detection.view.back(detection.map, *size)
    unseen = np.isnan(values)
    strength = np.clip((np.nan_to_num(values) - scale.low) / (scale.high - scale.low), 0, 1)[..., None]
    colours = colormaps["inferno"](strength[..., 0])[..., :3] * 255
    alpha = OPACITY * np.minimum(1, 2 * strength)  # full from the middle of the scale on
    mixed = np.where(unseen[..., None], UNSEEN_BRIGHTNESS * pixels, (1 - alpha) * pixels + alpha * colours)
    if scale.threshold is not None:
        mixed[_outline(np.nan_to_num(values, nan=-np.inf) > scale.threshold)] = OUTLINE_COLOUR
    canvas = Image.new("RGB", (max(size[0], TEXT_WIDTH), size[1] + TEXT_HEIGHT), (24, 24, 24))
    canvas.paste(Image.fromarray(mixed.astype(np.uint8)), (0, TEXT_HEIGHT))
    ImageDraw.Draw(canvas).text((6, 3), text, (235, 235, 235), ImageFont.load_default(14))
    return canvas


def _outline(region: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """(H, W) -> (H, W) its outer edge, 1 px wide per 500 px of the longer side."""
    width = max(1, round(max(region.shape) / 500))
    return np.asarray(ndimage.binary_dilation(region, np.ones((3, 3)), width) & ~region)


def defect_mask(detection: Detection, threshold: float) -> Image.Image:
    """Detection, threshold of maps -> mask of the photograph's size: 255 where the map is above it, 0 elsewhere."""
    values = np.nan_to_num(detection.view.back(detection.map), nan=-np.inf)
    return Image.fromarray(np.where(values > threshold, np.uint8(255), np.uint8(0)))


# Profile


@dataclass(frozen=True)
class Latency:
    """Time from reading one image to its map, images one by one."""

    images: int
    median: float  # ms
    percentile_95: float  # ms


@dataclass(frozen=True)
class Profile:
    """How fast a detector worked."""

    device: str
    threads: int
    batch: int
    images: int
    seconds: float
    images_per_second: float
    parts_s: dict[str, float]  # wall time of every part; reading counts only where the rest waited for it
    latency: Latency | None  # None if no image could be read

    def to_json(self) -> dict[str, object]:
        """What `--json` prints."""
        content: dict[str, object] = asdict(self)
        del content["latency"]
        if self.latency is not None:
            content["latency_ms"] = {
                "images": self.latency.images,
                "median": self.latency.median,
                "95 %": self.latency.percentile_95,
            }
        return content

    def lines(self) -> list[str]:
        """What `--profile` prints."""
        lines = [
            f"throughput: {self.images_per_second:.2f} images/s on {self.device}, {self.threads} threads, "
            f"batches of {self.batch} ({self.images} images in {self.seconds:.1f} s)"
        ]
        lines += [f"  {part}: {seconds:.2f} s" for part, seconds in self.parts_s.items()]
        if self.latency is not None:
            lines.append(
                f"latency, one image at a time: median {self.latency.median} ms, 95 % within "
                f"{self.latency.percentile_95} ms ({self.latency.images} images)"
            )
        return lines


def profile(detector: Detector, sources: Sequence[Source], seconds: float, images: int) -> Profile:
    """Detector after a run, what it was given, wall time of the run, number of images scored -> Profile.

    Latency is measured here, on at most TIMED_ALONE images after one to warm up. The time to load the model counts
    nowhere.
    """
    parts: dict[str, float] = {part: round(taken, 3) for part, taken in detector.seconds.items()}
    parts["pictures and files"] = round(max(0.0, seconds - sum(parts.values())), 3)
    times = []
    for source in [*sources[:1], *sources[:TIMED_ALONE]]:
        began = time.perf_counter()
        if list(detector([source], lambda *_: None, batch=1)):
            times.append(1000 * (time.perf_counter() - began))
    latency = None
    if len(times) > 1:
        median, percentile_95 = (round(float(np.quantile(times[1:], share)), 1) for share in (0.5, 0.95))
        latency = Latency(len(times) - 1, median, percentile_95)
    return Profile(
        device=detector.backbone.device,
        threads=detector.threads,
        batch=detector.batch,
        images=images,
        seconds=round(seconds, 3),
        images_per_second=round(images / seconds, 2),
        parts_s=parts,
        latency=latency,
    )
