"""Nearest neighbours and anomaly maps: python benchmarks/scoring.py {search,maps} {ours,torch,patchcore,anomalib}.

`torch` is the matrix product alone, of the size of the search; or interpolation followed by scipy's Gaussian.
"""

import argparse
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from inputs import clustered
from measure import emit, repeated, threads
from scipy.ndimage import gaussian_filter


def search(variant: str, queries: int, bank: int, dim: int) -> dict[str, Any]:
    """The nearest of `bank` rows for every query; the bank is set up before."""
    rows = clustered(bank + queries, dim)
    rows, asked = rows[:bank], rows[bank:]
    x, y = torch.from_numpy(asked), torch.from_numpy(rows)
    call: Callable[[], Any]
    if variant == "ours":
        from reconpatch.method.search import FaissSearch

        index = FaissSearch(rows, threads())

        def call() -> Any:
            return index(asked, 1)

    elif variant == "torch":
        out = torch.empty(min(4096, queries), bank)  # in strips: the whole product would not fit the memory

        def call() -> None:
            for strip in x.split(len(out)):
                torch.mm(strip, y.T, out=out[: len(strip)])

    elif variant == "patchcore":
        from patchcore.common import FaissNN

        peer = FaissNN(False, threads())
        peer.fit(rows)

        def call() -> Any:
            return peer.run(1, asked)

    else:
        from anomalib.models.image.patchcore.torch_model import PatchcoreModel

        model = PatchcoreModel(("layer1",), "resnet18", pre_trained=False, num_neighbors=1)
        model.memory_bank = y

        def call() -> Any:
            return model.nearest_neighbors(x, 1)

    costs = repeated(call, 1)
    gflop = 2e-9 * queries * bank * dim
    return costs | {"gflop_per_s": gflop / costs["wall_s"], "us_per_query": 1e6 * costs["wall_s"] / queries}


def maps(variant: str, count: int, grid: int, size: int) -> dict[str, Any]:
    """Scores of (count, grid, grid) patches to maps of (size, size), smoothed with sigma 4."""
    patch = np.random.default_rng(0).random((count, grid, grid), np.float32)
    x = torch.from_numpy(patch)
    call: Callable[[], Any]
    if variant == "ours":
        from reconpatch.method.scoring import anomaly_maps

        def call() -> Any:
            return anomaly_maps(patch, size, 4.0)

    elif variant == "torch":

        def call() -> Any:
            large = F.interpolate(x[:, None], size=size, mode="bilinear", align_corners=False)[:, 0].numpy()
            return np.stack([gaussian_filter(one, 4.0) for one in large])

    elif variant == "patchcore":
        from patchcore.common import RescaleSegmentor

        peer = RescaleSegmentor(torch.device("cpu"), (size, size))

        def call() -> Any:
            return peer.convert_to_segmentation(patch)

    else:
        from anomalib.models.image.patchcore.anomaly_map import AnomalyMapGenerator

        generator = AnomalyMapGenerator(sigma=4)

        def call() -> Any:
            return generator(x[:, None], (size, size))

    return repeated(call, 3) | {"maps": count}


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("what", choices=("search", "maps"))
    parser.add_argument("variant", choices=("ours", "torch", "patchcore", "anomalib"))
    for name, default in (("queries", 31_360), ("bank", 1600), ("dim", 1024), ("count", 100), ("grid", 28)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--size", type=int, default=224)
    given = parser.parse_args()
    torch.set_num_threads(threads())
    if given.what == "search":
        emit(**search(given.variant, given.queries, given.bank, given.dim))
    else:
        emit(**maps(given.variant, given.count, given.grid, given.size))


if __name__ == "__main__":
    main()
