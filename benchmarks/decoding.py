"""What reading files costs extraction: python benchmarks/decoding.py {files,decoded,decode,parts} FOLDER --images 24.

`files` extracts from PNGs of 1,024 px, `decoded` the same images already decoded, `decode` only decodes them, `parts`
tells the CPU seconds of each part of that and of the index. `--photographs` takes the first images of a folder instead.
"""

import argparse
from collections import defaultdict
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import ours
import torch
from inputs import MEAN, STD, write_pictures
from measure import emit, measured, threads, timed
from numpy.typing import NDArray
from ours import backbone, extract_files

from reconpatch.data.decoding import decode, pixel_digest, read_file, to_rgb
from reconpatch.data.images import image_array, view
from reconpatch.data.layouts import EXTENSIONS
from reconpatch.method.backbones import Backbone
from reconpatch.runtime import keep_freed_memory

ROUNDS = 5  # of which the fastest counts
T = TypeVar("T")


def parts(paths: list[Path]) -> dict[str, float]:
    """Files -> the parts of reading them, to CPU seconds of an image."""
    spent: dict[str, float] = defaultdict(float)
    mean, std = (torch.tensor(values)[:, None, None] for values in (MEAN, STD))
    normalise = Backbone(torch.nn.Identity(), mean, std, {})

    def part(name: str, call: Callable[..., T], *inputs: Any) -> T:
        result, seconds = timed(lambda: call(*inputs))
        spent[f"{name}_s"] += seconds / len(paths)
        return result

    for path in paths:
        content = part("read", read_file, path)
        part("hash", lambda content: sha256(content).hexdigest(), content)
        picture = part("decode", decode, content, path)
        image = part("to_rgb", to_rgb, picture.image)
        part("hash_pixels", pixel_digest, image)
        frame = part("resize", view(*image.size, size=224, resize=256).framed, image, "bilinear")
        part("to_tensor", normalise, torch.from_numpy(frame[None]))
    return spent


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("variant", choices=("files", "decoded", "decode", "parts"))
    parser.add_argument("folder", type=Path, help="for the images and the features")
    parser.add_argument("--photographs", type=Path, help="folder of photographs to read instead of drawn PNGs")
    parser.add_argument("--images", type=int, default=48)
    parser.add_argument("--side", type=int, default=1024)
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="float32")
    given = parser.parse_args()
    torch.set_num_threads(threads())
    if given.photographs:
        files = sorted(file for file in given.photographs.rglob("*") if file.suffix.lower() in EXTENSIONS)
        paths = files[: given.images]
    else:
        paths = write_pictures(given.folder / f"pictures{given.side}", given.images, given.side)
    megabytes = sum(path.stat().st_size for path in paths) / len(paths) / 1e6
    if given.variant == "parts":
        keep_freed_memory()
        rounds = [parts(paths) for _ in range(ROUNDS)]
        emit(**{name: min(costs[name] for costs in rounds) for name in rounds[0]}, megabytes_per_file=megabytes)
        return
    if given.variant == "decode":
        _, costs = measured(lambda: [image_array(path, 256, 224, "bilinear") for path in paths])
    else:
        if given.variant == "decoded":
            kept: dict[Path, NDArray[np.uint8]] = {path: image_array(path, 256, 224, "bilinear") for path in paths}

            def look_up(path: Path, *_: object) -> NDArray[np.uint8]:
                return kept[path]

            ours.image_array = look_up  # everything else of extraction stays
        network, out = backbone("wide_resnet50_2", given.precision), given.folder / f"{given.variant}.npy"
        extract_files(paths[:8], network, out, 256, 224, threads())
        _, costs = measured(lambda: extract_files(paths, network, out, 256, 224, threads()))
    rate = {"images_per_s": len(paths) / costs["wall_s"], "cpu_s_per_image": costs["cpu_s"] / len(paths)}
    emit(**costs, **rate, megabytes_per_file=megabytes)


if __name__ == "__main__":
    main()
