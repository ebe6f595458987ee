"""How fast a detector is: throughput of a run, the share of its parts, and the latency of single images."""

import copy
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from reconpatch.detector.detector import Detector
from reconpatch.detector.photographs import Source

SAMPLE = 20  # images that are timed one by one


def profile(detector: Detector, sources: Sequence[Source], seconds: float, images: int) -> dict[str, Any]:
    """Detector after a run, what it was given, wall time of the run and images scored in it -> throughput, and latency.

    Latency is that of one image at a time, read, scored and mapped, after one that warms up; loading the model is in
    neither. `parts_s` are wall time: reading overlaps with the rest, so only waiting for it counts.
    """
    parts = {part: round(taken, 3) for part, taken in detector.seconds.items()}
    single, latency = copy.copy(detector), []  # the same network and search index
    single.batch, single.seconds = 1, Counter()
    for source in [*sources[:1], *sources[:SAMPLE]]:
        began = time.perf_counter()
        if list(single([source], lambda *_: None)):
            latency.append(1000 * (time.perf_counter() - began))
    found: dict[str, Any] = {
        "device": detector.backbone.device,
        "threads": detector.threads,
        "batch": detector.batch,
        "images": images,
        "seconds": round(seconds, 3),
        "images_per_second": round(images / seconds, 2),
        "parts_s": parts | {"pictures and files": round(max(0.0, seconds - sum(parts.values())), 3)},
    }
    if times := latency[1:]:
        of = {"images": len(times), "median": round(float(np.median(times)), 1)}
        found["latency_ms"] = of | {"95 %": round(float(np.quantile(times, 0.95)), 1)}
    return found


def lines(found: dict[str, Any]) -> list[str]:
    """What `profile` found -> lines to print."""
    said = [
        f"throughput: {found['images_per_second']:.2f} images/s on {found['device']}, {found['threads']} threads, "
        f"batches of {found['batch']} ({found['images']} images in {found['seconds']:.1f} s)"
    ]
    said += [f"  {part}: {seconds:.2f} s" for part, seconds in found["parts_s"].items()]
    if one := found.get("latency_ms"):
        said.append(
            f"latency, one image at a time: median {one['median']} ms, 95 % within {one['95 %']} ms "
            f"({one['images']} images)"
        )
    return said
