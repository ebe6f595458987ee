"""What reading files costs extraction: python benchmarks/decoding.py {files,decoded,decode} FOLDER --images 24.

`files` extracts from PNGs of 1,024 px, `decoded` the same images already decoded, `decode` only decodes them.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from inputs import write_pictures
from measure import emit, measured, threads
from numpy.typing import NDArray
from ours import backbone, extract_files

from reconpatch.data.images import image_array
from reconpatch.method import features


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("variant", choices=("files", "decoded", "decode"))
    parser.add_argument("folder", type=Path, help="for the images and the features")
    parser.add_argument("--images", type=int, default=48)
    parser.add_argument("--side", type=int, default=1024)
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="float32")
    given = parser.parse_args()
    torch.set_num_threads(threads())
    paths = write_pictures(given.folder / f"pictures{given.side}", given.images, given.side)
    megabytes = sum(path.stat().st_size for path in paths) / len(paths) / 1e6
    if given.variant == "decode":
        _, costs = measured(lambda: [image_array(path, 256, 224, "bilinear") for path in paths])
    else:
        if given.variant == "decoded":
            kept: dict[Path, NDArray[np.uint8]] = {path: image_array(path, 256, 224, "bilinear") for path in paths}

            def look_up(path: Path, *_: object) -> NDArray[np.uint8]:
                return kept[path]

            features.image_array = look_up  # everything else of extraction stays
        network, out = backbone("wide_resnet50_2", given.precision), given.folder / f"{given.variant}.npy"
        extract_files(paths[:8], network, out, 256, 224, threads())
        _, costs = measured(lambda: extract_files(paths, network, out, 256, 224, threads()))
    rate = {"images_per_s": len(paths) / costs["wall_s"], "cpu_s_per_image": costs["cpu_s"] / len(paths)}
    emit(**costs, **rate, megabytes_per_file=megabytes)


if __name__ == "__main__":
    main()
