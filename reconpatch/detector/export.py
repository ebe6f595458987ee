"""A fitted detector as one file for another runtime: ONNX, OpenVINO's intermediate representation, or TorchScript.

The file holds the whole path from the pixels that the network sees to the image score and the anomaly map. Outside it
remains what makes these pixels of a photograph: decoding and resizing, whose kinds differ between libraries.
"""

import io
import json
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from reconpatch.data.images import View
from reconpatch.detector.detector import Detector, backbone_of, pixels
from reconpatch.detector.model_folder import Card
from reconpatch.detector.photographs import Source, name_of
from reconpatch.detector.settings import ONE_SHAPE, exported_view
from reconpatch.detector.threshold import Threshold
from reconpatch.device import repeating, torch_threads
from reconpatch.errors import ReconpatchError, quote
from reconpatch.experiments.run import Run
from reconpatch.files import replacing
from reconpatch.method.backbones import Backbone, network_of
from reconpatch.method.memory_bank import MemoryBank
from reconpatch.method.patches import level_parts, level_weights
from reconpatch.method.scoring import content_map, upsampling
from reconpatch.method.search import TorchSearch, search_in
from reconpatch.runtime import MB

SCHEMA = 1  # of the facts in a file
KEY = "reconpatch"  # under which they lie there, as one JSON object
FLOAT16_END = 65520.0  # from which on float32 values round to infinity in float16
BLOCK = 4096  # rows of the memory bank that are searched at a time: 13 MB of distances for an image of 28 x 28 patches
LARGEST_BANK = 1000  # MB; an ONNX file has at most 2 GB
LARGEST_ERROR = {"score": 1e-4, "map": 1e-3}  # relative to the score, and to the largest value of the map
BATCH = 5  # images that are compared at a time, after the first one alone
NOISE_IMAGES = 6  # made up where no photographs are given

Results = tuple[NDArray[np.float32], NDArray[np.float32]]  # (N,) scores, (N, H, W) maps
Runtime = Callable[[NDArray[np.uint8]], Results]


# The path as one module of PyTorch


class Graph(nn.Module):
    """What `Detector` computes on the CPU, of PyTorch's operations alone, for photographs of one view."""

    def __init__(self, backbone: Backbone, bank: MemoryBank, run: Run, seen: View) -> None:
        super().__init__()
        self.backbone, self.run = backbone, run
        self.net = backbone.net  # so that its weights are this module's
        self.shape = seen.shape
        with torch.no_grad():
            levels = backbone(torch.zeros(1, *self.shape, 3, dtype=torch.uint8))
        channels = tuple(level.shape[1] for level in levels)
        self.grid = tuple(levels[0].shape[-2:])
        self.weights = level_weights(channels, run.patch_size, run.level_width, run.width, torch.device("cpu"))
        f = bank.representation
        self.f = None if f.weight is None or f.bias is None else (torch.from_numpy(f.weight), torch.from_numpy(f.bias))
        self.search = TorchSearch(bank.patches, "cpu")
        self.around: Tensor | None = None  # the nearest rows of every row of the bank
        if run.neighbours > 1:
            self.around = torch.from_numpy(search_in(bank.patches)(bank.patches, run.neighbours)[1])
        cells, content = seen.content(self.grid), seen.content(self.shape)
        self.cells = torch.from_numpy(cells.astype(np.float32))
        self.rows, self.columns = (
            torch.from_numpy(upsampling(cells, side, run.blur))
            for cells, side in zip(self.grid, self.shape, strict=True)
        )
        self.gain: Tensor | None = None  # of the map's pixels, where there is padding
        if not content.all():
            self.gain = torch.from_numpy(content_map(np.ones(self.shape, np.float32), cells, content, run.blur))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """(N, H, W, 3) uint8 images -> (N,) image scores, (N, H, W) anomaly maps."""
        features = self.patch_features(self.backbone(images))
        scores, patch = self.scores(self.represent(features))
        maps = self.rows @ patch @ self.columns.T
        return self.refused(scores, features), maps if self.gain is None else maps * self.gain

    def refused(self, scores: Tensor, features: Tensor) -> Tensor:
        """(N,) scores, (N * H * W, C) patch features -> the scores, infinite where a feature is not finite in float16,
        which the detector refuses. Runtimes lose NaN on the way: a maximum need not return it.
        """
        of_image = self.grid[0] * self.grid[1] * features.shape[1]
        fits = (features.abs() < FLOAT16_END).to(torch.float32).view(-1, of_image).amin(1)
        return torch.where(fits > 0, scores, torch.full_like(scores, torch.inf))

    def patch_features(self, levels: list[Tensor]) -> Tensor:
        """(N, C_l, H_l, W_l) per level -> (N * H * W, C) patch features, rounded to float16 as they are at `fit`."""
        parts = list(level_parts(levels, self.weights))
        stops = [*(each.start for each in self.weights[1:]), self.weights[-1].stop]
        alone = [part[..., : stop - each.start] for part, each, stop in zip(parts, self.weights, stops, strict=True)]
        return rounded(torch.cat(alone, -1).flatten(0, 2))

    def represent(self, patches: Tensor) -> Tensor:
        """(P, C) patch features -> (P, D), as `Representation` does."""
        if self.f is not None:
            return nn.functional.linear(patches, *self.f)
        # Not a mean over an axis of two: OpenVINO 2026.4 computes that wrongly.
        return nn.functional.avg_pool1d(patches[:, None], patches.shape[1] // self.run.dim)[:, 0]

    def scores(self, r: Tensor) -> tuple[Tensor, Tensor]:
        """(N * H * W, D) represented patches -> (N,) image scores, (N, H, W) patch scores for the map.

        As `scoring.patch_scores` and `scoring.image_scores` do.
        """
        found, rows = (each[:, 0] for each in self.search.nearest(r, 1, BLOCK))
        if self.run.distance == "squared":
            found = found.square()
        distances = found.view(-1, *self.grid) * self.cells
        flat = distances.flatten(1)
        if self.around is None:
            return flat.amax(1), distances
        if self.run.reweight == "map":
            patch = distances * self.reweighting(r, found, self.around[rows]).view(distances.shape)
            return patch.flatten(1).amax(1), patch
        largest, place = flat.max(1)
        place = place + torch.arange(len(flat)) * flat.shape[1]
        return largest * self.reweighting(r[place], largest, self.around[rows[place]]), distances

    def reweighting(self, r: Tensor, nearest: Tensor, around: Tensor) -> Tensor:
        """As `scoring.reweighting`: (P, D) patches, (P,) distances, (P, b) rows of the bank -> (P,) weights."""
        centred = r - self.search.mean
        to_around = torch.stack([(centred - self.search.bank[rows]).square().sum(1) for rows in around.T], 1)
        if self.run.distance != "squared":
            to_around = to_around.sqrt()
        return -torch.expm1((nearest - to_around.logsumexp(1)).clamp(max=0))


def rounded(values: Tensor) -> Tensor:
    """Float32 values -> the same to the eleven digits of float16, as Veltkamp splits a number.

    OpenVINO leaves out a conversion to float16 and back, and scores then differ by 1e-4.
    """
    large = values * (2**13 + 1)
    return large - (large - values)


def check_exportable(run: Run, bank: MemoryBank) -> None:
    """Raise ReconpatchError for a precision or a memory bank that cannot be exported."""
    size = bank.patches.nbytes / MB
    if run.precision != "float32":
        raise ReconpatchError(
            "only float32 can be exported, whose scores can be compared",
            where=f"precision {run.precision}",
            fix="fit the model again with --set precision=float32",
        )
    if size > LARGEST_BANK:
        raise ReconpatchError(
            f"{len(bank.patches)} rows of {run.dim} values have {size:.0f} MB, at most {LARGEST_BANK} MB can "
            "be exported",
            where="memory bank",
            fix="fit with a smaller --coreset or --dim",
        )


def graph_of(detector: Detector, seen: View) -> Graph:
    """Detector, view of the photographs -> its Graph. Raises as `check_exportable` does."""
    run = detector.run
    check_exportable(run, detector.bank)
    network = network_of(detector.state, run.backbone, run.levels)
    backbone = backbone_of(network, detector.backbone.weights, run, "cpu", portable=True)
    return Graph(backbone, detector.bank, run, seen).eval()


# Formats


@dataclass(frozen=True)
class Format:
    """A kind of file."""

    suffix: str
    modules: tuple[str, ...]  # that it needs and that are not always installed
    write: Callable[[Graph, str, Path], None]  # module, facts as JSON, file
    open: Callable[[Path, int], Runtime]  # file, threads -> what computes it


def write_onnx(graph: Graph, facts: str, file: Path) -> None:
    """Write an ONNX file."""
    file.write_bytes(onnx_model(graph, facts).SerializeToString(deterministic=True))


def onnx_model(graph: Graph, facts: str) -> Any:
    """Graph, facts as JSON -> ModelProto. What the exporter notes of the code and its place on this machine is left
    out.
    """
    program = torch.onnx.export(
        graph,
        (example(graph),),
        input_names=["images"],
        output_names=["score", "map"],
        dynamic_shapes={"images": {0: torch.export.Dim("N")}},
        dynamo=True,
        verbose=False,
    )
    if program is None:
        raise RuntimeError("the exporter returned nothing")
    model: Any = program.model_proto
    for place in (model, model.graph, *model.graph.node, *model.graph.value_info, *model.graph.initializer):
        place.ClearField("metadata_props")
        place.ClearField("doc_string")
    model.metadata_props.add(key=KEY, value=facts)
    return model


def example(graph: Graph) -> Tensor:
    """Graph -> a batch of two images of its shape; exporters take a batch of one for a constant."""
    return torch.zeros(2, *graph.shape, 3, dtype=torch.uint8)


def open_onnx(file: Path, threads: int) -> Runtime:
    """ONNX file -> what ONNX Runtime computes on the CPU."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    return lambda images: tuple(session.run(["score", "map"], {"images": images}))


def write_openvino(graph: Graph, facts: str, file: Path) -> None:
    """Write OpenVINO's .xml, and the .bin of the same name beside it. The facts lie below `framework`."""
    import openvino

    # Not openvino.convert_model, which reports its use to the makers of OpenVINO.
    model = openvino.Core().read_model(onnx_model(graph, facts).SerializeToString(deterministic=True))
    openvino.save_model(model, str(file), compress_to_fp16=False)


def open_openvino(file: Path, threads: int) -> Runtime:
    """OpenVINO's .xml, with its .bin -> what OpenVINO computes on the CPU, in float32 on every processor."""
    import openvino

    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads}
    model = openvino.Core().compile_model(str(file), "CPU", settings)

    def run(images: NDArray[np.uint8]) -> Results:
        found = model({"images": images})
        return found["score"], found["map"]

    return run


def write_torchscript(graph: Graph, facts: str, file: Path) -> None:
    """Write a TorchScript file. What it notes of the code and its place on this machine is left out."""
    traced: Any = torch.jit.trace(graph, example(graph), check_trace=False, _store_inputs=False)  # type: ignore[no-untyped-call]
    content, shorter = io.BytesIO(traced.save_to_buffer(_extra_files={KEY: facts})), io.BytesIO()
    reader, writer = torch._C.PyTorchFileReader(content), torch._C.PyTorchFileWriter(shorter)
    for name in reader.get_all_records():
        if not name.endswith(".debug_pkl") and not name.startswith(".data/"):
            record = reader.get_record(name)
            writer.write_record(name, record, len(record))
    writer.write_end_of_file()
    file.write_bytes(shorter.getvalue())


def open_torchscript(file: Path, threads: int) -> Runtime:
    """TorchScript file -> what PyTorch computes on the CPU."""
    with _quiet():
        module: Any = torch.jit.load(file, "cpu")  # type: ignore[no-untyped-call]

    def run(images: NDArray[np.uint8]) -> Results:
        with torch.inference_mode(), torch_threads(threads):
            score, maps = module(torch.from_numpy(images))
        return score.numpy(), maps.numpy()

    return run


FORMATS = {
    "onnx": Format(".onnx", ("onnx", "onnxscript", "onnxruntime"), write_onnx, open_onnx),
    "openvino": Format(".xml", ("onnx", "onnxscript", "openvino"), write_openvino, open_openvino),
    "torchscript": Format(".pt", (), write_torchscript, open_torchscript),
}


def check_format(name: str, file: Path) -> None:
    """Format, file to write -> ReconpatchError if there is no such format, the name does not fit, the file exists, or a
    package is missing.
    """
    if name not in FORMATS:
        raise ReconpatchError(f"none of {', '.join(FORMATS)}", where=f"format {quote(name)}")
    kind = FORMATS[name]
    if file.suffix != kind.suffix:
        raise ReconpatchError(f"the name must end in {kind.suffix}", where=file)
    for each in parts(file):
        if each.exists():
            raise ReconpatchError("exists already", where=each, fix="give another name, or remove it")
    missing = [module for module in kind.modules if find_spec(module) is None]
    if missing:
        raise ReconpatchError(
            f"needs {', '.join(missing)}, which {'is' if len(missing) == 1 else 'are'} not installed",
            where=f"format {name}",
            fix="pip install 'reconpatch[export]'",
        )


def parts(file: Path) -> list[Path]:
    """File to be written -> it, and what belongs to it."""
    return [file, file.with_suffix(".bin")] if file.suffix == FORMATS["openvino"].suffix else [file]


# Export


@dataclass(frozen=True)
class Parity:
    """The largest differences between a file's results and the detector's."""

    images: int
    made_up: bool  # whether the images are noise, because no photographs were given
    score: float  # relative to the detector's score
    map: float  # relative to the largest value of the detector's map

    def sentence(self) -> str:
        """The differences as one line of text."""
        kind = "made-up images" if self.made_up else "photographs"
        return (
            f"on {self.images} {kind}, scores differ by at most {self.score:.1e} of their value "
            f"({LARGEST_ERROR['score']:g} is allowed), maps by {self.map:.1e} of their maximum "
            f"({LARGEST_ERROR['map']:g})"
        )


def export_detector(
    detector: Detector,
    card: Card,
    file: Path,
    format_name: str = "onnx",
    *,
    threshold: Threshold | float | None = None,
    map_threshold: float | None = None,
    photograph: tuple[int, int] | None = None,
    check: Sequence[Source] = (),
) -> Parity:
    """Detector on the CPU with its card, file to write, one of FORMATS, thresholds for the facts in the file, px
    (width, height) of the photographs where the file depends on them, photographs to compare with the detector
    (otherwise noise) -> Parity.

    Raises ReconpatchError, and leaves no file, if the detector cannot be exported or results differ by more than
    LARGEST_ERROR.
    """
    check_format(format_name, file)
    seen, kind = exported_view(detector.run, photograph), FORMATS[format_name]
    facts = json.dumps(facts_of(card, seen, photograph, threshold, map_threshold), indent=1, ensure_ascii=False)
    with repeating("cpu", detector.threads), _quiet():
        graph = graph_of(detector, seen)
        with _replacing_all(parts(file)) as (temporary, *_):
            try:
                with torch.no_grad():
                    kind.write(graph, facts, temporary)
                runtime = kind.open(temporary, detector.threads)
            except (ReconpatchError, OSError):
                raise
            except Exception as error:  # exporters and runtimes have classes of their own
                reason = f"{type(error).__name__}: {(str(error) or 'no reason').splitlines()[0]}"
                raise ReconpatchError(
                    f"cannot be exported to {format_name} ({reason})",
                    where=f"network {detector.run.backbone}",
                    fix="try another --format, or fit with another network",
                ) from error
            parity = compare(detector, runtime, check or noise(seen), seen, made_up=not check, least=card.level)
            if not (parity.score <= LARGEST_ERROR["score"] and parity.map <= LARGEST_ERROR["map"]):
                raise ReconpatchError(
                    f"{parity.sentence()}: not written",
                    where=file,
                    fix="try another --format; report this with the model's settings",
                )
    return parity


@contextmanager
def _replacing_all(files: Sequence[Path]) -> Iterator[list[Path]]:
    """As `replacing`, for a file and what belongs to it: the temporary ones have one stem, too."""
    if not files:
        yield []
        return
    with replacing(files[0]) as first, _replacing_all(files[1:]) as others:
        yield [first, *others]


@contextmanager
def _quiet() -> Iterator[None]:
    """Warnings of exporters, which say that they are deprecated or guess, are not shown in the block: the results are
    compared anyway.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def noise(seen: View) -> list[Source]:
    """View -> made-up photographs of its size, smooth and rough ones."""
    rng = np.random.default_rng(0)
    found: list[Source] = []
    for n in range(NOISE_IMAGES):
        coarse = max(1, seen.width >> n), max(1, seen.height >> n)
        values = rng.integers(0, 256, (coarse[1], coarse[0], 3), np.uint8)
        found.append(Image.fromarray(values).resize((seen.width, seen.height), Image.Resampling.BICUBIC))
    return found


def compare(
    detector: Detector, runtime: Runtime, sources: Sequence[Source], seen: View, *, made_up: bool, least: float
) -> Parity:
    """Detector, what computes the file, N photographs, their view -> Parity. The first photograph is computed alone,
    too. Raises ReconpatchError for a photograph of another view, and what the detector raises.

    Differences are relative to the detector's results, but to no less than `least`, the usual level of maps on good
    photographs, or a hundredth of a patch: the score of a photograph that is in the bank may be 0.
    """
    least = max(least, 0.01 * float(np.sqrt(np.square(detector.bank.patches).sum(1).mean())), 1e-12)
    errors = {"score": 0.0, "map": 0.0}
    for first, last in [(0, 1), *((i, i + BATCH) for i in range(0, len(sources), BATCH))]:
        batch, squares = sources[first:last], []
        for number, source in enumerate(batch, first):
            square, own, _ = pixels(source, detector.run, number)
            if detector.run.aspect not in ONE_SHAPE and (own.width, own.height) != (seen.width, seen.height):
                raise ReconpatchError(
                    f"has {own.width} x {own.height} px, the file is for {seen.width} x {seen.height}",
                    where=name_of(source, number),
                    fix="leave it out, or give its size with --photograph",
                )
            squares.append(square)
        scores, maps = runtime(np.stack(squares))
        for detection, score, each in zip(detector(batch), scores, maps, strict=True):
            differences = {
                "score": abs(float(score) - detection.score) / max(detection.score, least),
                "map": float(np.abs(each - detection.map).max() / max(float(np.abs(detection.map).max()), least)),
            }
            errors = {key: float(np.maximum(value, errors[key])) for key, value in differences.items()}  # keeps NaN
    return Parity(len(sources), made_up, errors["score"], errors["map"])


def facts_of(
    card: Card,
    seen: View,
    photograph: tuple[int, int] | None,
    threshold: Threshold | float | None,
    map_threshold: float | None,
) -> dict[str, Any]:
    """Card, view of the photographs, their size if the file is for one, thresholds -> what the file says of itself."""
    run = card.run
    facts: dict[str, Any] = {
        "schema_version": SCHEMA,
        "model": card.identity,
        "method": run.method,
        "backbone": run.backbone,
        "weights": card.weights.model_dump(),
        "input": f"images: uint8 (N, {seen.shape[0]}, {seen.shape[1]}, 3), RGB",
        "outputs": {
            "score": "float32 (N,): image score, anomalous above threshold",
            "map": "float32 (N, H, W): anomaly map of the input's pixels, anomalous above map_threshold",
        },
        "size": run.crop,
        "resize": run.resize,
        "aspect": run.aspect,
        "interpolation": run.interpolation,
        "photograph": photograph,  # px (width, height) of the photographs; None: of any size
        "scaled": None if run.aspect == "crop" else seen.scaled,  # px (width, height); None: by `resize`
        "padding": padding_of(seen),  # rows above and below, columns left and right
        "threshold": threshold,
        "map_threshold": map_threshold,
        "false_alarms": None,
    }
    if isinstance(threshold, Threshold):
        facts |= {"threshold": threshold.value}
        facts |= {"false_alarms": asdict(threshold) | {"sentence": threshold.sentence()}}
    if run.weights == "random":
        facts["remark"] = "the network's weights are random, not trained: for tests only"
    return facts


def padding_of(seen: View) -> list[tuple[int, int]]:
    """View -> as `numpy.pad` takes it: rows above and below, columns left and right, no channels."""
    before = [max(-shift, 0) for shift in seen.offset]
    after = [
        max(shift + side - length, 0) for shift, side, length in zip(seen.offset, seen.frame, seen.scaled, strict=True)
    ]
    columns, rows = zip(before, after, strict=True)
    return [rows, columns, (0, 0)]
