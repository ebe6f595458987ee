"""The commands for photographs of one's own: fit, predict, evaluate, show; and some to try them with, sample."""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from reconpatch.cli.progress import Steps
from reconpatch.data.layouts import NORMAL
from reconpatch.detector.card import read_card
from reconpatch.detector.descriptions import described, thresholds, told
from reconpatch.detector.photographs import Photograph, find
from reconpatch.detector.truth import MASKS, from_file, from_folders
from reconpatch.errors import ReconpatchError, quote
from reconpatch.files import check_writable, replacing, write_text

SOME_UNREADABLE = 3  # exit status: the others were scored


def photographs_in(folders: Sequence[Path], use: str) -> list[Photograph]:
    """Folders -> photographs below them; remarks are printed. Raises ReconpatchError where a whole data set is given,
    whose masks or defects would be taken for what they are not; `use` says what to give instead, "" that all is meant.
    """
    found, remarks = find(folders)
    for remark in remarks:
        print(f"remark: {remark}", file=sys.stderr)
    kinds: dict[Path, set[str]] = {}  # folder -> which folders it has that hold photographs
    for each in found:
        for folder in each.path.parents:
            above = folder.parent
            if any(above == f or f in above.parents for f in folders):
                kinds.setdefault(above, set()).add(folder.name)
    for folder, names in sorted(kinds.items()):
        if use and ({"train", "test"} <= names or (MASKS in names and len(names) > 1)):
            raise ReconpatchError(f"{quote(folder)}: holds {' and '.join(sorted(names))}, a whole data set; give {use}")
    return found


def fit(given: argparse.Namespace) -> None:
    """Folders of good photographs -> a saved model."""
    out: Path = given.out
    if out.exists():
        raise ReconpatchError(f"{out}: is there already; give another folder, or remove it")
    check_writable(out.absolute().parent)
    photographs = photographs_in(given.images, "its folder of good images, as train/good")
    calibration = photographs_in(given.calibrate, "a folder of good images") if given.calibrate else []
    from reconpatch.detector.estimator import ReConPatch  # heavy: torch

    keys = (
        *("method", "backbone", "weights", "weight_file", "size", "resize", "aspect", "dim", "coreset", "epochs"),
        *("hold_out", "false_alarm_rate", "seed", "device", "threads", "batch_images"),
    )
    options = {key: getattr(given, key) for key in keys if getattr(given, key) is not None}
    steps = Steps()
    model = ReConPatch(**options, settings=dict(given.set), progress=steps)
    model.fit(photographs, calibration=calibration)
    seconds = {step: round(taken, 3) for step, taken in steps.seconds.items()}
    try:
        card = model.save(out)
    except (ReconpatchError, OSError) as error:  # what took hours is not lost where there is no room
        rescue = Path(tempfile.mkdtemp(prefix="reconpatch-")) / "model"
        model.save(rescue)
        raise ReconpatchError(f"{error}; the model is in {rescue} instead: copy it where it belongs") from None
    if given.json:
        print(json.dumps(told(card) | {"seconds": seconds}, indent=1))
        return
    print("\n".join([f"saved in {out}", *described(card)]))
    if given.profile:
        print("\n".join(["seconds:", *(f"  {step}: {taken:.2f}" for step, taken in seconds.items())]))


def show(given: argparse.Namespace) -> None:
    """Check a saved model's digests and print what it is."""
    card = read_card(given.model)
    print(json.dumps(told(card), indent=1) if given.json else "\n".join([*described(card), "all digests fit"]))


def predict(given: argparse.Namespace) -> int:
    """Saved model, photographs -> scores.csv, overlays and masks -> exit status."""
    from reconpatch.detector.predict import SCORES, Look, check_free, score_photographs  # heavy: torch

    check_free(given.out)
    out = given.out.resolve()
    if inside := [folder for folder in given.images if folder.resolve() in (out, *out.parents)]:
        raise ReconpatchError(
            f"--out {quote(given.out)}: lies in {quote(inside[0])}, where overlays would be taken for photographs; "
            "give a folder elsewhere"
        )
    card = read_card(given.model)
    photographs = photographs_in(given.images, "the folder of images to look at, as test")
    image, map_threshold = thresholds(card, given.false_alarms)
    if given.map_threshold is not None:
        map_threshold = given.map_threshold
    threshold = given.threshold if given.threshold is not None else image.value if image else None
    if given.masks and map_threshold is None:
        raise ReconpatchError("--masks: the model has no threshold; give --map-threshold, or fit with --hold-out 0.2")
    from reconpatch.detector.model_folder import load
    from reconpatch.detector.profiling import lines, profile
    from reconpatch.runtime import threads_here

    threads = given.threads or threads_here()
    detector, _ = load(given.model, device=given.device, threads=threads, batch=given.batch_images, card=card)
    look, steps = Look(threshold, map_threshold, card.level, not given.no_overlays, given.masks), Steps()
    began = time.perf_counter()
    found = score_photographs(detector, photographs, given.out, look, steps)
    steps.close()
    taken = time.perf_counter() - began
    timing = profile(detector, photographs, taken, len(found.rows)) if given.profile else None
    flagged = sum(bool(row["anomalous"]) for row in found.rows)
    stated = image if given.threshold is None else None  # of a threshold the user gives, nothing is known
    if given.json:
        summary: dict[str, Any] = {"model": card.identity, "threshold": threshold, "map_threshold": map_threshold}
        summary |= {"uncertainty": asdict(stated) if stated else None, "anomalous": flagged, "images": found.rows}
        print(json.dumps(summary | {"unreadable": found.unreadable, "profile": timing}, indent=1))
    else:
        verdict = "no threshold" if threshold is None else f"{flagged} anomalous"
        print(f"{len(found.rows)} images, {verdict}: {given.out / SCORES}")
        if stated:
            print(f"threshold {stated.sentence()}")
        elif threshold is not None:
            print(f"threshold {threshold:.4g}, as given: its rate of false alarms is not known")
        if timing:
            print("\n".join(lines(timing)))
    if found.unreadable:
        print(f"{len(found.unreadable)} images could not be read and were left out, see above", file=sys.stderr)
    return SOME_UNREADABLE if found.unreadable else 0


def evaluate(given: argparse.Namespace) -> None:
    """Saved model, photographs whose truth is known -> metrics, and how often the threshold is right."""
    if given.labels and (given.masks or given.good):
        raise ReconpatchError(
            "--labels: the file itself says which images are good, and in its column mask where masks are"
        )
    if given.out:
        if given.out.exists():
            raise ReconpatchError(f"{given.out}: is there already; give another --out, or remove it")
        check_writable(given.out.absolute().parent)
    card = read_card(given.model)
    use = "" if given.labels else "its folder test, and as --masks its folder ground_truth"
    photographs = photographs_in(given.images, use)
    if given.labels:
        truths = from_file(given.labels, photographs)
    else:
        truths = from_folders(photographs, given.good or NORMAL, given.masks)
    if all(truth.label for truth in truths):
        names = ", ".join(sorted(given.good or NORMAL))
        print(f"remark: no image counts as good: no folder is called {names}; --good NAME names yours", file=sys.stderr)
    image, _ = thresholds(card, given.false_alarms)
    threshold = given.threshold if given.threshold is not None else image.value if image else None
    from reconpatch.detector.evaluate import assess, lines
    from reconpatch.detector.model_folder import load
    from reconpatch.runtime import threads_here

    threads = given.threads or threads_here()
    detector, _ = load(given.model, device=given.device, threads=threads, batch=given.batch_images, card=card)
    steps = Steps()
    found = {"model": card.identity} | assess(detector, photographs, truths, threshold, steps)
    steps.close()
    text = json.dumps(found, indent=1)
    if given.out:
        write_text(given.out, text + "\n")
    print(text if given.json else "\n".join(lines(found)))


def sample(given: argparse.Namespace) -> None:
    """Draw the embedded sample in MVTec AD's layout, the same on every machine."""
    folder = given.out / given.category
    if folder.exists():
        raise ReconpatchError(f"{folder}: is there already; give another folder, or remove it")
    from reconpatch.data.sample import write_sample

    with replacing(folder) as temporary:
        write_sample(temporary, given.category, 0)
    print(f"{folder}: train/good, test/good, test/<defect> and masks in ground_truth/<defect>")
