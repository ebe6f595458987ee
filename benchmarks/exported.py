"""The latency of an exported model beside that of `predict`, from the pixels that the network sees to score and map.

python benchmarks/exported.py MODEL [--threads 1 2] [--batch 1 8] [--repeat 20]

All runtimes take turns in one process, so that what else the machine does falls on all of them. Processor time is what
they used on all cores together.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from reconpatch.detector.detector import Detector
from reconpatch.detector.export import FORMATS, export_detector, noise
from reconpatch.detector.model_folder import load
from reconpatch.detector.settings import Machine, exported_view

Call = Callable[[NDArray[np.uint8]], object]


def detect_all(detector: Detector, images: NDArray[np.uint8]) -> object:
    """Detector, (N, H, W, 3) pixels -> its N detections; the pixels have the network's size already."""
    return list(detector([Image.fromarray(image) for image in images], batch=len(images)))


def measure(calls: dict[str, Call], images: NDArray[np.uint8], repeat: int) -> dict[str, tuple[float, float]]:
    """What to measure by name, (N, H, W, 3) pixels -> median (wall, processor) ms per image."""
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in calls}
    for _ in range(repeat + 1):
        for name, call in calls.items():
            wall, processor = time.perf_counter(), time.process_time()
            call(images)
            times[name].append((time.perf_counter() - wall, time.process_time() - processor))
    per_image = {name: 1000 * np.array(taken[1:]) / len(images) for name, taken in times.items()}  # without the first
    return {name: (float(np.median(ms[:, 0])), float(np.median(ms[:, 1]))) for name, ms in per_image.items()}


def main() -> None:
    """Entry point of the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="of aspect stretch")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--repeat", type=int, default=20)
    given = parser.parse_args()
    print("| threads | batch | runtime | wall, ms/image | processor, ms/image | predict's wall to its | processor's |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as folder:
        files = {name: Path(folder) / f"model{kind.suffix}" for name, kind in FORMATS.items()}
        for threads in given.threads:
            detector, card = load(given.model, Machine(device="cpu", threads=threads))
            seen = exported_view(detector.run, None)
            for name, file in files.items():
                if not file.exists():
                    export_detector(detector, card, file, name)
            calls: dict[str, Call] = {"predict": lambda images, detector=detector: detect_all(detector, images)}
            calls |= {name: FORMATS[name].open(file, threads) for name, file in files.items()}
            for batch in given.batch:
                made_up = [np.asarray(image) for image in noise(seen)]
                images = np.stack([made_up[n % len(made_up)] for n in range(batch)])
                found = measure(calls, images, given.repeat)
                for name, (wall, processor) in found.items():
                    ratios = [f"{a / b:.2f}x" for a, b in zip(found["predict"], (wall, processor), strict=True)]
                    row = [threads, batch, name, f"{wall:.1f}", f"{processor:.1f}", *ratios]
                    print(f"| {' | '.join(map(str, row))} |", flush=True)


if __name__ == "__main__":
    main()
