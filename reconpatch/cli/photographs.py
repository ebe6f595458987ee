"""The commands for your own photographs: fit, predict, show, export and sample; `evaluation` has evaluate.

What costs seconds to import (PyTorch, matplotlib) is imported inside the commands, after the cheap checks.
"""

import argparse
import json
import logging
import sys
import tempfile
import time
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reconpatch.cli.progress import Steps
from reconpatch.detector.model_folder import CARD, Card, card_json, card_lines, read_card, thresholds
from reconpatch.detector.photographs import Photograph, Purpose, find_photographs
from reconpatch.detector.settings import NOTES, FitOptions, Machine, checked, exported_view, with_preset
from reconpatch.detector.threshold import Threshold
from reconpatch.errors import ReconpatchError, Remark, quote
from reconpatch.files import check_writable, replacing

if TYPE_CHECKING:
    from reconpatch.detector.detector import Detector
    from reconpatch.detector.estimator import ReConPatch
    from reconpatch.detector.predict import Predictions, Profile

SOME_UNREADABLE = 3  # exit status
FIT_OPTIONS = (
    *("method", "backbone", "weights", "weight_file", "size", "resize", "aspect", "dim", "coreset", "epochs"),
    *("hold_out", "folds", "group", "false_alarm_rate", "seed", "device", "threads", "batch_images"),
)


def photographs_in(folders: Sequence[Path], purpose: Purpose | None) -> list[Photograph]:
    """Folders and files -> the photographs in them; remarks are printed."""
    photographs, remarks = find_photographs(folders, purpose)
    print_remarks(remarks)
    return photographs


def print_remarks(remarks: Iterable[str]) -> None:
    """Print each remark on standard error."""
    for remark in remarks:
        print(f"remark: {remark}", file=sys.stderr)


@contextmanager
def remarks_printed() -> Iterator[None]:
    """Warnings of the class Remark are printed as the remarks of other commands are, all others as before."""
    with warnings.catch_warnings():
        warnings.simplefilter("always", Remark)
        show_others = warnings.showwarning

        def show(message: Warning | str, *details: Any, **more: Any) -> None:
            if isinstance(message, Remark):
                print_remarks([str(message)])
            else:
                show_others(message, *details, **more)

        warnings.showwarning = show
        yield


@contextmanager
def choices_printed() -> Iterator[None]:
    """What is chosen for the user is printed on standard error, with the reason."""
    handler = logging.StreamHandler(sys.stderr)
    level = NOTES.level
    NOTES.addHandler(handler)
    NOTES.setLevel(logging.INFO)
    try:
        yield
    finally:
        NOTES.removeHandler(handler)
        NOTES.setLevel(level)


def fit(given: argparse.Namespace) -> None:
    """Folders of good photographs -> a saved model; remarks are printed."""
    out: Path = given.out
    check_free(out, "give another folder, or remove it")
    photographs = photographs_in(given.images, "fit")
    calibration = photographs_in(given.calibrate, "fit") if given.calibrate else []
    options = {name: getattr(given, name) for name in FIT_OPTIONS if getattr(given, name) is not None}
    options = with_preset(given.preset, options) if given.preset else options
    if calibration and given.hold_out is None:
        options.pop("hold_out", None)  # of a preset
    checked(FitOptions, {name: options[name] for name in FitOptions.model_fields.keys() & options.keys()})
    from reconpatch.detector.estimator import ReConPatch  # imports torch: seconds

    steps = Steps()
    model = ReConPatch(**options, settings=dict(given.set), progress=steps)
    with remarks_printed(), choices_printed():
        model.fit(photographs, calibration=calibration)
    card = save_somewhere(model, out)
    seconds = {step: round(taken, 3) for step, taken in steps.seconds.items()}
    if given.json:
        print(json.dumps(card_json(card) | {"seconds": seconds}, indent=1))
        return
    print("\n".join([f"saved in {out}", *card_lines(card)]))
    if given.profile:
        print("\n".join(["seconds:", *(f"  {step}: {taken:.2f}" for step, taken in seconds.items())]))


def save_somewhere(model: "ReConPatch", out: Path) -> Card:
    """Save a model. If that fails, save it in a temporary folder, so that hours of work are not lost, and raise
    ReconpatchError that names this folder.
    """
    try:
        return model.save(out)
    except (ReconpatchError, OSError) as error:
        rescue = Path(tempfile.mkdtemp(prefix="reconpatch-")) / "model"
        model.save(rescue)
        raise ReconpatchError(f"{error}; the model is in {rescue} instead, copy it from there") from None


def show(given: argparse.Namespace) -> None:
    """Check the digests of a saved model and print what it is."""
    card = read_card(given.model)
    if given.json:
        print(json.dumps(card_json(card), indent=1))
    else:
        print("\n".join([*card_lines(card), "all digests fit"]))


def predict(given: argparse.Namespace) -> int:
    """Saved model, photographs -> scores.csv, overlays and masks -> exit status."""
    check_outside(given.out, given.images)
    check_no_model(given.out, given.model, given.out)
    card = read_card(given.model)
    photographs = photographs_in(given.images, "predict")
    from reconpatch.detector.predict import PredictOptions, check_output, profile  # imports torch: seconds
    from reconpatch.detector.predict import predict as predict_photographs

    check_output(given.out)
    chosen, threshold, map_threshold = choose_thresholds(given, card)
    if given.map_threshold is not None:
        map_threshold = given.map_threshold
    if given.masks and map_threshold is None:
        raise ReconpatchError(
            "the model has no threshold", where="--masks", fix="give --map-threshold, or fit without --hold-out 0"
        )
    detector = load_detector(given, given.model, card)
    options = PredictOptions(
        threshold, map_threshold, card.level, not given.no_overlays, given.masks, model=card.identity
    )
    steps, began = Steps(), time.perf_counter()
    predictions = predict_photographs(detector, photographs, given.out, options, steps)
    steps.close()
    seconds = time.perf_counter() - began
    print_remarks(predictions.remarks)
    measured = profile(detector, photographs, seconds, len(predictions.rows)) if given.profile else None
    if given.json:
        content: dict[str, object] = {"model": card.identity, "threshold": threshold, "map_threshold": map_threshold}
        content |= {"uncertainty": asdict(chosen) if chosen else None} | predictions_json(predictions)
        print(json.dumps(content | {"profile": measured.to_json() if measured else None}, indent=1))
    else:
        print("\n".join(prediction_lines(predictions, given.out, chosen, threshold, measured)))
    if predictions.unreadable:
        count = len(predictions.unreadable)
        print(f"{count} images could not be read and were left out, see above", file=sys.stderr)
        return SOME_UNREADABLE
    return 0


def predictions_json(predictions: "Predictions") -> dict[str, object]:
    """Predictions -> what `--json` prints about them."""
    return {
        "anomalous": predictions.anomalous,
        "images": [asdict(row) for row in predictions.rows],
        "unreadable": [asdict(each) for each in predictions.unreadable],
        "remarks": predictions.remarks,
    }


def prediction_lines(
    predictions: "Predictions",
    out: Path,
    chosen: Threshold | None,
    threshold: float | None,
    measured: "Profile | None",
) -> list[str]:
    """Predictions, folder, the model's threshold if it was used, the threshold's value, profile -> lines to print."""
    from reconpatch.detector.predict import SCORES

    verdict = "no threshold" if threshold is None else f"{predictions.anomalous} anomalous"
    lines = [f"{len(predictions.rows)} images, {verdict}: {out / SCORES}"]
    if chosen is not None:
        lines.append(f"threshold {chosen.sentence()}")
    elif threshold is not None:
        lines.append(f"threshold {threshold:.4g}, as given: its rate of false alarms is not known")
    return [*lines, *(measured.lines() if measured else [])]


def export(given: argparse.Namespace) -> None:
    """Saved model -> one file for another runtime, after its results were compared with the model's."""
    check_writable(given.out.absolute().parent)
    check_no_model(given.out, given.model, given.out.absolute().parent)
    card = read_card(given.model)
    exported_view(card.run, given.photograph)  # refuses a size that is missing or not needed
    chosen, threshold, map_threshold = choose_thresholds(given, card)
    photographs = photographs_in(given.check, "predict") if given.check else []
    from reconpatch.detector.export import KEY, check_format, export_detector, parts  # imports torch: seconds
    from reconpatch.detector.model_folder import load

    check_format(given.format, given.out)
    detector, _ = load(given.model, checked(Machine, {"device": "cpu", "threads": given.threads}), card)
    parity = export_detector(
        detector,
        card,
        given.out,
        given.format,
        threshold=chosen or threshold,
        map_threshold=map_threshold,
        photograph=given.photograph,
        check=photographs,
    )
    files = [str(each) for each in parts(given.out)]
    if given.json:
        print(json.dumps({"model": card.identity, "files": files, "facts": KEY, "parity": asdict(parity)}, indent=1))
    else:
        print(f"saved in {' and '.join(files)}\n{parity.sentence()}")


def sample(given: argparse.Namespace) -> None:
    """Write the embedded sample in MVTec AD's layout; it is the same on every machine."""
    folder = given.out / given.category
    check_free(folder, "give another folder, or remove it")
    from reconpatch.data.sample import write_sample

    with replacing(folder) as temporary:
        write_sample(temporary, given.category, 0)
    print(f"{folder}: train/good, test/good, test/<defect> and masks in ground_truth/<defect>")


def check_free(path: Path, fix: str) -> None:
    """Raise ReconpatchError if a file or folder exists, or if it cannot be written."""
    if path.exists():
        raise ReconpatchError("exists already", where=path, fix=fix)
    check_writable(path.absolute().parent)


def check_outside(out: Path, images: Sequence[Path]) -> None:
    """Raise ReconpatchError if the output would lie in a folder of photographs."""
    resolved = out.resolve()
    for folder in images:
        if folder.resolve() in (resolved, *resolved.parents):
            raise ReconpatchError(
                f"lies in {quote(folder)}, where overlays would be taken for photographs",
                where=f"--out {out}",
                fix="give a folder elsewhere",
            )


def check_no_model(out: Path, model: Path, folder: Path) -> None:
    """Raise ReconpatchError if the folder of the output is one of a model, or lies in the one given."""
    resolved = folder.resolve()
    if (folder / CARD).exists() or model.resolve() in (resolved, *resolved.parents):
        raise ReconpatchError(
            f"would lie in the folder of a model, {quote(folder)}, which holds the files of `reconpatch fit` alone",
            where=f"--out {out}",
            fix="give a path elsewhere",
        )


def choose_thresholds(given: argparse.Namespace, card: Card) -> tuple[Threshold | None, float | None, float | None]:
    """Arguments, card -> (the model's threshold if it is used, threshold of image scores, threshold of maps)."""
    chosen, map_threshold = thresholds(card, given.false_alarms)
    if given.threshold is not None:
        return None, given.threshold, map_threshold
    return chosen, chosen.value if chosen else None, map_threshold


def load_detector(given: argparse.Namespace, folder: Path, card: Card) -> "Detector":
    """Arguments, folder of a model, its card -> its detector."""
    from reconpatch.detector.model_folder import load

    machine = checked(Machine, {name: getattr(given, name) for name in Machine.model_fields})
    return load(folder, machine, card)[0]
