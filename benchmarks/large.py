"""Memory with 1,000 images of 480 px and WRN-101: python benchmarks/large.py {extract,train,coreset,score,metrics}.

The features of 1,000 images (7.4 GB) are made up and written to FOLDER once, in blocks. Pages of a mapped file count
in `peak_mb` while they lie in memory, though the system takes them back at will; `held_mb` is the peak without them.
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from inputs import clustered, maps_and_masks, write_pictures
from measure import Held, emit, measured, threads
from numpy.typing import NDArray
from ours import DIM, backbone, extract_files
from step import SETTINGS

from reconpatch.method.bootstrap import pixel_wins
from reconpatch.method.feature_files import read_rows, write_header
from reconpatch.method.memory_bank import MemoryBank, Representation, build_bank, coreset_size
from reconpatch.method.metrics import pixel_metrics
from reconpatch.method.scoring import anomaly_maps, score_features
from reconpatch.method.training import train
from reconpatch.method.training_settings import TrainingSettings


def features(folder: Path, images: int, grid: int) -> NDArray[np.float16]:
    """Made-up features of so many images, (images, grid, grid, 1024) float16 on disk -> (patches, 1024), mapped."""
    file = folder / f"features_{images}_{grid}.npy"
    if not file.exists():
        draft = file.with_suffix(".draft.npy")
        with open(draft, "wb") as out:  # written in order, so that no page of it counts as this process's memory
            write_header(out, (images, grid, grid, DIM), np.dtype(np.float16))
            for image in range(images):
                out.write(clustered(grid * grid, DIM, image).astype(np.float16).data)
        draft.rename(file)
    found: NDArray[np.float16] = np.load(file, mmap_mode="r").reshape(-1, DIM)
    return found


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("variant", choices=("extract", "train", "coreset", "score", "metrics"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--side", type=int, default=480)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--extracted", type=int, default=24, help="images really extracted: a batch is held at a time")
    parser.add_argument("--scored", type=int, default=50, help="images scored: a block of patches is held at a time")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--maps", type=int, default=1000)
    given = parser.parse_args()
    torch.set_num_threads(threads())
    grid, f = given.side // 8, Representation(DIM)
    call: Callable[[], Any]
    if given.variant == "extract":
        paths = write_pictures(given.folder / f"pictures{given.side}", given.extracted, given.side)
        network, out = backbone("wide_resnet101_2", "float32"), given.folder / "extracted.npy"

        def call() -> None:
            extract_files(paths, network, out, given.side, given.side, threads())

    elif given.variant == "metrics":
        maps, masks = maps_and_masks(given.maps, given.side)

        def call() -> Any:
            return pixel_metrics(maps, masks), pixel_wins(maps, masks)

    else:
        patches = features(given.folder, given.images, grid)
        ratio = 0.01
        if given.variant == "train":
            sizes = {"dim": 512, "projection_dim": 128, "epochs": 1, "batch": 1024}

            def call() -> Any:
                some = patches[: given.steps * 1024]
                return train(some, TrainingSettings(**sizes, **SETTINGS))

        elif given.variant == "coreset":

            def call() -> Any:
                return build_bank(patches, f, ratio=ratio, coreset_dim=128, seed=0, threads=threads())

        else:
            size = coreset_size(len(patches), ratio)
            rows = np.linspace(0, len(patches) - 1, size).astype(np.int64)  # any bank of that size
            bank = MemoryBank(f(read_rows(patches, rows)), rows, f, len(patches))

            def call() -> Any:
                some = patches[: given.scored * grid * grid].reshape(given.scored, grid, grid, -1)
                patch = score_features(some, bank, neighbours=1, reweight_map=False, threads=threads()).patch
                every = np.resize(patch, (given.maps, grid, grid))
                return anomaly_maps(every, given.side, 4.0)

    with Held() as held:
        _, costs = measured(call)
    emit(**costs, held_mb=held.peak_mb)


if __name__ == "__main__":
    main()
