"""ReConPatch in scikit-learn's manner, for photographs of one's own.

from reconpatch import ReConPatch
model = ReConPatch(backbone="tf_efficientnet_lite0", weights="embedded", epochs=10).fit("photos/good")
model.predict("photos/new")  # 1 normal, -1 anomalous
"""

import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, OutlierMixin
from sklearn.exceptions import NotFittedError

from reconpatch.detector.card import Card
from reconpatch.detector.detector import Detection, Detector
from reconpatch.detector.fit import Fitted, Progress, fit_detector
from reconpatch.detector.model_folder import load, save
from reconpatch.detector.photographs import Photograph, Source, find
from reconpatch.detector.settings import product_run, refuse_own
from reconpatch.detector.threshold import Threshold, check_rate, choose
from reconpatch.device import repeating, restored
from reconpatch.errors import ReconpatchError
from reconpatch.files import replacing
from reconpatch.records.provenance import code_digest, stage_facts
from reconpatch.runtime import peak_bytes, threads_here

Images = str | os.PathLike[str] | Sequence[str | os.PathLike[str] | Source] | NDArray[Any]


def sources_of(images: Images) -> list[Source]:
    """A folder, or paths, PIL images or uint8 arrays (H, W, 3) or (H, W), or one array (N, H, W, 3) -> sources.

    Raises ReconpatchError for anything else, and as `photographs.find`.
    """
    if isinstance(images, (str, os.PathLike)):
        return list(find([Path(images)])[0])
    if not isinstance(images, Iterable):
        raise ReconpatchError(f"images are {type(images).__name__}: give a folder, or a list of images")
    if isinstance(images, np.ndarray) and images.ndim != 4:
        raise ReconpatchError(f"images of {images.shape}: give (N, H, W, 3), or a list of images of any sizes")
    return [Photograph(str(image), Path(image)) if isinstance(image, (str, os.PathLike)) else image for image in images]


class ReConPatch(OutlierMixin, BaseEstimator):  # type: ignore[misc]
    """Anomaly detection on photographs, fitted on good ones alone. Defaults are the paper's.

    As in scikit-learn, `predict` gives 1 for normal and -1 for anomalous, and of `score_samples` and
    `decision_function` lower is more anomalous. `anomaly_scores` and `anomaly_maps` have the sign of the paper and the
    rest of this package: higher is more anomalous. `false_alarm_rate` is the share of good images that may be called
    anomalous; the threshold follows from `hold_out`, the share of images kept out of the memory bank (0: no threshold,
    `predict` then raises). `settings` are further keys of a run in configs/default.yaml, as {"sigma": 0.5}. `threads`
    of None: all cores. `progress` is called with (what is being done, done, of how many).

    While it works, PyTorch's deterministic algorithms are on and its number of threads is `threads`, in the whole
    process; after each call both are as they were.
    """

    def __init__(
        self,
        method: str = "reconpatch",
        *,
        backbone: str = "wide_resnet50_2.tv_in1k",
        weights: str = "pretrained",
        weight_file: str | os.PathLike[str] | None = None,
        size: int = 224,
        resize: int | None = None,
        aspect: str = "crop",
        dim: int = 512,
        coreset: float = 0.01,
        epochs: int = 120,
        settings: Mapping[str, Any] | None = None,
        hold_out: float = 0.2,
        false_alarm_rate: float = 0.05,
        seed: int = 0,
        device: str = "auto",
        threads: int | None = None,
        batch_images: int = 8,
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
        self.false_alarm_rate = false_alarm_rate
        self.seed = seed
        self.device = device
        self.threads = threads
        self.batch_images = batch_images
        self.progress = progress

    def fit(self, X: Images, y: object = None, *, calibration: Images = ()) -> "ReConPatch":  # noqa: N803
        """N good images, a folder or as `sources_of` takes them -> itself, fitted; y is ignored.

        `calibration`: further good images for the threshold, in the place of a share `hold_out` of X. Sets `detector_`,
        `threshold_` (None without held-out images), `map_threshold_`, `offset_`, `rate_` (the false-alarm rate of
        these) and `fitted_`. Raises ReconpatchError for settings, images or weights that cannot work, before the
        network sees an image.
        """
        began, cpu = time.perf_counter(), time.process_time()
        check_rate(self.false_alarm_rate)
        refuse_own(self.settings or {}, "settings")
        if self.weights == "file" and self.weight_file is None:  # as after load
            raise ReconpatchError("weights: file, but none is named; give weight_file=FILE (--weight-file FILE)")
        keys = ("method", "backbone", "weights", "dim", "coreset", "epochs", "seed")
        changes = {key: getattr(self, key) for key in keys} | dict(self.settings or {})
        if self.weight_file is not None:
            changes.pop("weights")
        run = product_run(self.size, self.resize, self.aspect, self.weight_file, changes, "settings")
        if run.augment != "none":
            raise ReconpatchError("augment: only for the workflow's robustness study; leave it out")
        threads = self.threads or threads_here()
        with restored():
            self.fitted_ = fit_detector(
                sources_of(X),
                run,
                aspect=self.aspect,
                weight_file=None if self.weight_file is None else Path(self.weight_file),
                hold_out=self.hold_out,
                calibration=sources_of(calibration),
                device=self.device,
                threads=threads,
                batch=self.batch_images,
                progress=self.progress or (lambda *_: None),
            )
        usage = {
            "wall_s": round(time.perf_counter() - began, 3),
            "cpu_s": round(time.process_time() - cpu, 3),
            "peak_mb": round(peak_bytes() / 2**20, 1),
        }
        device = self.fitted_.detector.backbone.device
        code = code_digest(Path(__file__).with_name("fit.py"))
        self.made_ = stage_facts(code, threads, device, usage).model_dump(exclude={"folder"})
        if hasattr(self, "card_"):  # of the model that was loaded
            del self.card_
        self._use(self.fitted_.detector, self.fitted_.scores, self.fitted_.peaks)
        return self

    def _use(self, detector: Detector, scores: Sequence[float], peaks: Sequence[float]) -> None:
        self.detector_, self.rate_ = detector, self.false_alarm_rate
        self.threshold_: Threshold | None = choose(scores, self.false_alarm_rate) if len(scores) else None
        self.map_threshold_ = choose(peaks, self.false_alarm_rate).value if len(peaks) else None
        self.offset_ = -self.threshold_.value if self.threshold_ else 0.0

    def _fitted(self) -> Detector:
        if not hasattr(self, "detector_"):
            raise NotFittedError("this ReConPatch is not fitted yet: call fit, or ReConPatch.load(FOLDER)")
        return self.detector_

    def _detections(self, X: Images) -> Iterator[Detection]:  # noqa: N803
        """To be used up at once: the process is set up for it until then."""
        detector, sources = self._fitted(), sources_of(X)
        with repeating(detector.backbone.device, detector.threads):
            yield from detector(sources)

    def detect(self, X: Images) -> list[Detection]:  # noqa: N803
        """N images -> N Detections: score, map, and where on the photograph the map lies."""
        return list(self._detections(X))

    def anomaly_scores(self, X: Images) -> NDArray[np.float64]:  # noqa: N803
        """N images -> (N,) image scores, Euclidean distances in the representation; higher is more anomalous."""
        return np.array([detection.score for detection in self._detections(X)])

    def anomaly_maps(self, X: Images) -> NDArray[np.float32]:  # noqa: N803
        """N images -> (N, size, size) anomaly maps of the squares the network sees; higher is more anomalous."""
        maps = [detection.map for detection in self._detections(X)]
        return np.stack(maps) if maps else np.empty((0, self.size, self.size), np.float32)

    def score_samples(self, X: Images) -> NDArray[np.float64]:  # noqa: N803
        """N images -> (N,) negative image scores; lower is more anomalous, as everywhere in scikit-learn."""
        return -self.anomaly_scores(X)

    def decision_function(self, X: Images) -> NDArray[np.float64]:  # noqa: N803
        """N images -> (N,) threshold minus image score; negative is anomalous. Raises ReconpatchError without one."""
        if self._fitted() and self.threshold_ is None:
            raise ReconpatchError("there is no threshold: fit with hold_out above 0, or with calibration images")
        return self.score_samples(X) - self.offset_

    def predict(self, X: Images) -> NDArray[np.int64]:  # noqa: N803
        """N images -> (N,) 1 for normal, -1 for anomalous. Raises ReconpatchError without a threshold."""
        return np.where(self.decision_function(X) < 0, -1, 1)

    def save(self, folder: str | os.PathLike[str]) -> Card:
        """Write the fitted model as one folder, whole or not at all. Raises ReconpatchError where something is there,
        or where it was loaded: copy its folder.
        """
        fitted: Fitted | None = getattr(self, "fitted_", None)
        if fitted is None:
            self._fitted()
            raise ReconpatchError("this model was loaded from a folder: copy that folder")
        target = Path(folder)
        if target.exists():
            raise ReconpatchError(f"{target}: is there already; give another folder, or remove it")
        with replacing(target) as temporary:
            return save(fitted, self.rate_, self.made_, temporary)

    @classmethod
    def load(
        cls,
        folder: str | os.PathLike[str],
        *,
        device: str = "auto",
        threads: int | None = None,
        batch_images: int = 8,
        false_alarm_rate: float | None = None,
    ) -> "ReConPatch":
        """Folder of a saved model -> fitted ReConPatch on this machine's device. `false_alarm_rate` None: the model's.

        Fitted again it holds out the share the model did, and takes the place of what was loaded. Raises
        ReconpatchError where the folder was edited or damaged.
        """
        if false_alarm_rate is not None:
            check_rate(false_alarm_rate)
        with restored():
            detector, card = load(Path(folder), device=device, threads=threads or threads_here(), batch=batch_images)
        run = card.run
        keys = ("method", "backbone", "weights", "resize", "dim", "coreset", "epochs", "seed")
        given: dict[str, Any] = {key: getattr(run, key) for key in keys}
        rest = run.model_dump(mode="json", exclude={*keys, "crop"})
        model = cls(
            **given,
            size=run.crop,
            aspect=card.aspect,
            settings=rest,
            hold_out=len(card.scores) / max(1, card.images["different"]),
            false_alarm_rate=card.false_alarm_rate if false_alarm_rate is None else false_alarm_rate,
            device=device,
            threads=threads,
            batch_images=batch_images,
        )
        model.card_ = card
        model._use(detector, card.scores, card.peaks)
        return model
