"""The class `ReConPatch`, which follows scikit-learn, for your own photographs.

from reconpatch import ReConPatch
model = ReConPatch(backbone="tf_efficientnet_lite0", weights="embedded", epochs=10).fit("photos/good")
model.predict("photos/new")  # 1 normal, -1 anomalous
"""

import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, OutlierMixin
from sklearn.exceptions import NotFittedError
from sklearn.utils import Tags

from reconpatch.detector.detector import Detection, Detector, Seen, seen_remarks
from reconpatch.detector.fit import Fitted, fit_detector
from reconpatch.detector.model_folder import Card, load, save
from reconpatch.detector.photographs import Photograph, Purpose, Source, check_names, find_photographs
from reconpatch.detector.settings import (
    AUTO,
    BATCH_IMAGES,
    FALSE_ALARM_RATE,
    SAME_NAME,
    FitOptions,
    LoadOptions,
    Progress,
    checked,
    detector_run,
    with_preset,
)
from reconpatch.detector.threshold import Calibration, Threshold, choose_threshold
from reconpatch.errors import ReconpatchError, quote, warn_user
from reconpatch.experiments.run import DEFAULTS
from reconpatch.files import replacing
from reconpatch.records.provenance import code_digest, stage_facts
from reconpatch.runtime import peak_bytes

if TYPE_CHECKING:
    from reconpatch.detector.export import Parity

Images = (
    str | os.PathLike[str] | Iterable[str | os.PathLike[str] | Source] | NDArray[Any]
)  # or a data frame of one column


def sources_of(images: Images, purpose: Purpose) -> list[Source]:
    """A folder, or a list, one-dimensional array or column of a table with paths, PIL images and uint8 arrays (H, W, 3)
    or (H, W), or one array (N, H, W, 3), and what they are for -> a list with one source per image. Warns of what the
    names of files and folders leave open.

    A folder among the paths counts as the photographs in it, in its place in the list. Raises ReconpatchError for
    anything else, and what `find_photographs` raises for a folder.
    """
    if isinstance(images, (str, os.PathLike)):
        return _photographs_of(images, purpose, inside="")
    sources: list[Source] = []
    files: list[Path] = []
    for image in _listed(images):
        if not isinstance(image, (str, os.PathLike)):
            sources.append(image)
        elif os.fspath(image) and not Path(image).is_dir():
            files.append(Path(image))
            sources.append(Photograph(str(image), Path(image)))
        else:
            sources += _photographs_of(image, purpose, inside=str(image))
    warn_user(*check_names(list(dict.fromkeys(files)), purpose, named=files))  # a file may be given twice
    return sources


def _photographs_of(path: str | os.PathLike[str], purpose: Purpose, inside: str) -> list[Source]:
    """Path of a folder, or of a file if `inside` is "", and what it is for -> the photographs in it, with names that
    begin with `inside`.
    """
    if not os.fspath(path):
        raise ReconpatchError("an empty path", where="images", fix="give . for the folder you are in")
    found, remarks = find_photographs([Path(path)], purpose)
    warn_user(*remarks)
    return [Photograph(f"{inside}/{each.name}" if inside else each.name, each.path) for each in found]


def _listed(images: Any) -> Iterable[Any]:
    """What was given instead of one path -> one object per image; ReconpatchError if it is no list of images."""
    where, columns = "images", getattr(images, "columns", None)
    if columns is not None:  # a table of pandas or polars, which would iterate over the names of its columns
        if len(columns) != 1:
            names = ", ".join(quote(name) for name in columns)
            raise ReconpatchError(
                f"a table with the columns {names}", where=where, fix="give the one that holds paths, as table['path']"
            )
        images = images[columns[0]]
    if isinstance(images, np.ndarray):
        holds_paths = images.dtype.kind in "OUT"  # objects, text
        if holds_paths and images.ndim == 2 and images.shape[1] == 1:  # the only column of a table
            images = images[:, 0]
        if images.ndim != (1 if holds_paths else 4):
            is_one = images.ndim == 2 or images.shape[2:] == (3,)
            raise ReconpatchError(
                f"an array {images.dtype} {images.shape}",
                where=where,
                fix="put one image into a list: [image]"
                if is_one
                else "give an array (N, H, W, 3), or a list of images",
            )
    if isinstance(images, (bytes, Mapping, Set)) or not isinstance(images, Iterable):
        raise ReconpatchError(
            f"an object of type {type(images).__name__}",
            where=where,
            fix="give a folder, or a list of images; put one image into a list: [image]",
        )
    return images


class ReConPatch(OutlierMixin, BaseEstimator):  # type: ignore[misc]
    """Anomaly detection on photographs, fitted on good ones alone. The defaults are the paper's, with a
    larger memory bank for few images (`coreset=None`), and all values of the patch features for PatchCore (`dim=None`).
    `preset` has others.

    The signs are scikit-learn's: `predict` returns 1 for normal and -1 for anomalous, and lower values of
    `score_samples` and `decision_function` are more anomalous. `anomaly_scores` and `anomaly_maps` have the paper's
    sign: higher is more anomalous.

    The threshold follows from all images, each left out of a memory bank once in `folds`, or from the share `hold_out`
    of them, which is in no memory bank; by default the number of images decides. With a `hold_out` of 0 there is no
    threshold, and `predict` raises. Images of a `group` are never parted: "folder", a CSV file image,group, or a
    regular expression, see `calibration.groups_of`. `false_alarm_rate` is the share of good images that may be called
    anomalous. `settings` holds other parameters of a run from configs/default.yaml, for example {"sigma": 0.5}.
    `aspect="auto"` keeps the shape of photographs that are not square, and crops squares as the paper does;
    `detector_.run.aspect` says which it was. `threads=None` takes OMP_NUM_THREADS, or all cores. `progress` is called
    with (step, done, of how many).

    Several threads may use one model, or fit several, at once. While a call runs, PyTorch's deterministic algorithms
    are on in the whole process, and `threads` is its number of threads in the thread that calls. When the last call
    has ended, all is as before.

    A fitted model can be copied and pickled, for example to hand it to other processes. A forked process computes with
    one thread. Keep models with `save`: a pickle can run code when it is read, and holds for one version only.

    What is odd in the images (transparent parts, 12 bits in 16, a single colour, another mode than at `fit`) is a
    warning of the class `reconpatch.errors.Remark`.
    """

    def __init__(
        self,
        method: str = DEFAULTS.method,
        *,
        backbone: str = DEFAULTS.backbone,
        weights: str = DEFAULTS.weights,
        weight_file: str | os.PathLike[str] | None = None,
        size: int = DEFAULTS.crop,
        resize: int | None = None,
        aspect: str = AUTO,
        dim: int | str | None = None,
        coreset: float | None = None,
        epochs: int = DEFAULTS.epochs,
        settings: Mapping[str, Any] | None = None,
        hold_out: float | None = None,
        folds: int | None = None,
        group: str | None = None,
        false_alarm_rate: float = FALSE_ALARM_RATE,
        seed: int = DEFAULTS.seed,
        device: str = "auto",
        threads: int | None = None,
        batch_images: int = BATCH_IMAGES,
        progress: Progress | None = None,
    ) -> None:
        self.method = method
        self.backbone = backbone
        self.weights = weights
        self.weight_file = weight_file
        self.size = size
        self.resize = resize
        self.aspect = aspect
        self.dim = dim
        self.coreset = coreset
        self.epochs = epochs
        self.settings = settings
        self.hold_out = hold_out
        self.folds = folds
        self.group = group
        self.false_alarm_rate = false_alarm_rate
        self.seed = seed
        self.device = device
        self.threads = threads
        self.batch_images = batch_images
        self.progress = progress

    @classmethod
    def preset(cls, name: str, **options: Any) -> "ReConPatch":
        """Name of a preset, parameters that replace its own -> ReConPatch, not fitted.

        `fast` is PatchCore with the embedded network: no training and no download. `paper` has the paper's settings.
        """
        return cls(**with_preset(name, options))

    def __sklearn_tags__(self) -> Tags:
        """What scikit-learn's tools may give to `fit`: images or their paths, not tables of numbers."""
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.one_d_array = tags.input_tags.string = True
        tags.no_validation = True
        return tags

    def fit(self, X: Images, y: object = None, *, calibration: Images = ()) -> "ReConPatch":  # noqa: N803
        """N good images, as `sources_of` takes them -> self, fitted. y is ignored.

        `calibration` holds more good images; the threshold then follows from these, and all of X is fitted on. Sets
        `detector_`, `threshold_` (None without held-out images), `map_threshold_`, `offset_`, `rate_` (the false-alarm
        rate of these thresholds) and `fitted_`. Raises ReconpatchError for parameters, images or weights that cannot
        work, before the network sees an image.
        """
        began, began_cpu = time.perf_counter(), time.process_time()
        options = checked(FitOptions, {name: getattr(self, name) for name in FitOptions.model_fields})
        run = detector_run({name: getattr(self, name) for name in SAME_NAME}, options)
        fitted = fit_detector(sources_of(X, "fit"), run, options, sources_of(calibration, "fit"))
        usage = {
            "wall_s": round(time.perf_counter() - began, 3),
            "cpu_s": round(time.process_time() - began_cpu, 3),
            "peak_mb": round(peak_bytes() / 2**20, 1),
        }
        self.fitted_ = fitted
        code = code_digest(Path(__file__).with_name("fit.py"))
        facts = stage_facts(code, options.threads, fitted.detector.backbone.device, usage)
        self.made_ = facts.model_dump(exclude={"folder"})
        if hasattr(self, "card_"):  # of a model that was saved or loaded before
            del self.card_
        scored = fitted.scored
        self._set_detector(
            fitted.detector, scored.scores, scored.peaks, fitted.parting.calibration, options.false_alarm_rate
        )
        return self

    def _set_detector(
        self,
        detector: Detector,
        scores: Sequence[float],
        peaks: Sequence[float],
        calibration: Calibration,
        rate: float,
    ) -> None:
        """Set what is known after `fit` and after `load`."""
        self.detector_, self.rate_ = detector, rate
        self.threshold_: Threshold | None = choose_threshold(scores, rate, calibration) if len(scores) else None
        self.map_threshold_ = choose_threshold(peaks, rate, calibration).value if len(peaks) else None
        self.offset_ = -self.threshold_.value if self.threshold_ else 0.0

    def _fitted_detector(self) -> Detector:
        if not hasattr(self, "detector_"):
            raise NotFittedError("this ReConPatch is not fitted yet: call fit, or ReConPatch.load(FOLDER)")
        return self.detector_

    def _detections(self, X: Images) -> Iterator[Detection]:  # noqa: N803
        """N images -> N detections; then warns of what is odd in the images."""
        detector, seen = self._fitted_detector(), list[Seen]()
        for detection in detector(sources_of(X, "predict")):
            seen.append((detection.facts, detection.view))
            yield detection
        warn_user(*seen_remarks(seen, detector.modes))

    def detect(self, X: Images) -> list[Detection]:  # noqa: N803
        """N images -> N detections: score, map, and where on the photograph the map lies."""
        return list(self._detections(X))

    def anomaly_scores(self, X: Images) -> NDArray[np.float64]:  # noqa: N803
        """N images -> (N,) image scores, Euclidean distances between representations; higher is more anomalous."""
        return np.array([detection.score for detection in self._detections(X)])

    def anomaly_maps(self, X: Images) -> NDArray[np.float32]:  # noqa: N803
        """N images -> (N, H, W) anomaly maps of what the network sees, (N, size, size) unless the model's aspect is
        keep; higher is more anomalous.

        Raises ReconpatchError for images that are seen in several shapes.
        """
        detector = self._fitted_detector()
        maps = [detection.map for detection in self._detections(X)]
        if shapes := sorted({each.shape for each in maps})[1:]:
            raise ReconpatchError(
                f"the images are seen in {len(shapes) + 1} shapes, so their maps make no one array",
                fix="take the maps from detect(images), or give images of one shape",
            )
        return np.stack(maps) if maps else np.empty((0, detector.run.crop, detector.run.crop), np.float32)

    def score_samples(self, X: Images) -> NDArray[np.float64]:  # noqa: N803
        """N images -> (N,) negative image scores; lower is more anomalous."""
        return -self.anomaly_scores(X)

    def decision_function(self, X: Images) -> NDArray[np.float64]:  # noqa: N803
        """N images -> (N,) threshold minus image score; negative is anomalous.

        Raises ReconpatchError if there is no threshold.
        """
        self._fitted_detector()
        if self.threshold_ is None:
            raise ReconpatchError("there is no threshold", fix="fit without hold_out=0, or with calibration images")
        return self.score_samples(X) - self.offset_

    def predict(self, X: Images) -> NDArray[np.int64]:  # noqa: N803
        """N images -> (N,) 1 for normal, -1 for anomalous. Raises ReconpatchError if there is no threshold."""
        return np.where(self.decision_function(X) < 0, -1, 1)

    def save(self, folder: str | os.PathLike[str]) -> Card:
        """Write the fitted model as one folder, completely or not at all.

        Raises ReconpatchError if the folder exists, and if this model was itself loaded from a folder.
        """
        fitted: Fitted | None = getattr(self, "fitted_", None)
        if fitted is None:
            self._fitted_detector()
            raise ReconpatchError("this model was loaded from a folder", fix="copy that folder")
        target = Path(folder)
        if target.exists():
            raise ReconpatchError("exists already", where=target, fix="give another folder, or remove it")
        with replacing(target) as temporary:
            self.card_ = save(fitted, self.rate_, self.made_, temporary)
        return self.card_

    def export(
        self,
        file: str | os.PathLike[str],
        *,
        format: str = "onnx",  # noqa: A002
        photograph: tuple[int, int] | None = None,
        check: Images = (),
    ) -> "Parity":
        """File to write, `onnx`, `openvino` or `torchscript`, px (width, height) of the photographs where the aspect
        keeps their shape or pads, photographs to compare with this model (otherwise made-up ones) -> how far the file's
        results are from this model's.

        Raises ReconpatchError if the model was not saved, because the file names its identity, if it is not on the CPU,
        if the file exists, and, without leaving a file, if results differ by more than `export.LARGEST_ERROR`.
        """
        from reconpatch.detector.export import export_detector

        detector = self._fitted_detector()
        if not hasattr(self, "card_"):
            raise ReconpatchError("a model that was not saved cannot be exported", fix="call save first")
        if detector.backbone.device != "cpu":
            raise ReconpatchError(
                "a model on a GPU cannot be exported", fix='ReConPatch.load(FOLDER, device="cpu").export(FILE)'
            )
        return export_detector(
            detector,
            self.card_,
            Path(file),
            format,
            threshold=self.threshold_,
            map_threshold=self.map_threshold_,
            photograph=photograph,
            check=sources_of(check, "predict"),
        )

    @classmethod
    def load(
        cls,
        folder: str | os.PathLike[str],
        *,
        device: str = "auto",
        threads: int | None = None,
        batch_images: int = BATCH_IMAGES,
        false_alarm_rate: float | None = None,
    ) -> "ReConPatch":
        """Folder of a saved model -> fitted ReConPatch on this machine's device.

        `false_alarm_rate=None` keeps the model's rate. If you fit the loaded model again, it holds out the same share
        of images, or leaves all out in as many folds, without groups. Raises ReconpatchError if the folder was edited
        or damaged.
        """
        given = {"device": device, "threads": threads, "batch_images": batch_images}
        options = checked(LoadOptions, given | {"false_alarm_rate": false_alarm_rate})
        detector, card = load(Path(folder), options)
        rate = card.false_alarm_rate if options.false_alarm_rate is None else options.false_alarm_rate
        run = card.run
        own = {name: getattr(run, name) for name in (*SAME_NAME, "aspect")}
        model = cls(
            **own,
            size=run.crop,
            resize=run.resize if run.aspect == "crop" else None,
            settings=run.model_dump(mode="json", exclude={*own, "crop", "resize"}),
            hold_out=None if card.calibration.folds else len(card.scores) / max(1, card.images.different),
            folds=card.calibration.folds or None,
            false_alarm_rate=rate,
            device=device,
            threads=threads,
            batch_images=batch_images,
        )
        model.card_ = card
        model._set_detector(detector, card.scores, card.peaks, card.calibration, rate)
        return model
