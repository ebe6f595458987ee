"""Greedy coreset selection: python benchmarks/coreset.py {ours,brute,check,patchcore,anomalib} --points N --ratio R."""

import argparse
import hashlib
from collections.abc import Callable
from typing import Any

import numpy as np
from inputs import clustered
from measure import emit, estimated, measured, threads
from numpy.typing import NDArray


def ours(points: NDArray[np.float32], wanted: int, _: int) -> dict[str, Any]:
    """The whole selection, measured in full after a small one that loads the compiled code."""
    from reconpatch.method.coreset import greedy_order

    greedy_order(clustered(5000, points.shape[1]), 50, 0, threads())
    order, costs = measured(lambda: greedy_order(points, wanted, 0, threads()))
    multiple = costs["extra_mb"] * 2**20 / points.nbytes
    pair = 1e9 * costs["wall_s"] / (len(points) * wanted)
    digest = hashlib.sha256(order.tobytes()).hexdigest()[:12]
    return costs | {"extra_per_input": multiple, "ns_per_pair": pair, "picks": digest}


def brute_order() -> Callable[[NDArray[Any], int, int], NDArray[np.int64]]:
    """The plain rule: one pass over all points a pick. In the points' own precision."""
    from numba import njit, prange

    @njit(parallel=True, fastmath={"reassoc", "contract", "nsz"})
    def lower(points, centre, bounds, zero):  # type: ignore[no-untyped-def]
        for i in prange(points.shape[0]):
            total = zero
            for j in range(points.shape[1]):
                difference = points[i, j] - points[centre, j]
                total += difference * difference
            bounds[i] = min(bounds[i], total)

    def order(points: NDArray[Any], wanted: int, first: int) -> NDArray[np.int64]:
        picks, bounds = np.empty(wanted, np.int64), np.full(len(points), np.finfo(points.dtype).max, points.dtype)
        picks[0] = first
        for n in range(1, wanted):
            lower(points, picks[n - 1], bounds, points.dtype.type(0))
            bounds[picks[n - 1]] = -1
            picks[n] = np.argmax(bounds)
        return picks

    return order


def brute(points: NDArray[np.float32], wanted: int, picks: int) -> dict[str, Any]:
    """One fused pass per pick, compiled as ours is: the best that any method with a pass per pick can do."""
    order = brute_order()
    return estimated(lambda n: order(points, n, 0), 5, 5 + picks, wanted)


def check(points: NDArray[np.float32], wanted: int, _: int) -> dict[str, Any]:
    """Whether ours picks the same points in the same order as the plain rule in float32, and in float64."""
    from reconpatch.method.coreset import greedy_order

    mine, order = greedy_order(points, wanted, 0, threads()), brute_order()
    single, double = order(points, wanted, 0), order(points.astype(np.float64), wanted, 0)
    same = {"same_order": bool((mine == double).all()), "same_set": set(mine.tolist()) == set(double.tolist())}
    return same | {"same_order_float32": bool((mine == single).all())}


def patchcore(points: NDArray[np.float32], wanted: int, picks: int) -> dict[str, Any]:
    """ApproximateGreedyCoresetSampler. Points as wide as the projection it is asked for are not projected by it."""
    import torch
    from patchcore.sampler import ApproximateGreedyCoresetSampler

    width, tensor = points.shape[1], torch.from_numpy(points)

    def select(n: int) -> None:
        sampler = ApproximateGreedyCoresetSampler((n + 0.5) / len(points), torch.device("cpu"), 10, width)
        with torch.no_grad():
            sampler.run(tensor)

    return estimated(select, 20, 20 + picks, wanted)


def anomalib(points: NDArray[np.float32], wanted: int, picks: int) -> dict[str, Any]:
    """KCenterGreedy with its own sparse projection, whose width follows from the number of points."""
    import torch
    from anomalib.models.components.sampling.k_center_greedy import KCenterGreedy

    tensor, width = torch.from_numpy(points), 0

    def select(n: int) -> None:
        nonlocal width
        sampler = KCenterGreedy(tensor, (n + 0.5) / len(points))
        with torch.no_grad():
            sampler.select_coreset_idxs()
        width = sampler.features.shape[1]

    return estimated(select, 20, 20 + picks, wanted) | {"width": width}


def main() -> None:
    """The command line."""
    variants = {f.__name__: f for f in (ours, brute, check, patchcore, anomalib)}
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("variant", choices=variants)
    parser.add_argument("--points", type=int, default=160_000)
    parser.add_argument("--dim", type=int, default=128)
    parser.add_argument("--ratio", type=float, default=0.1)
    parser.add_argument("--picks", type=int, default=150, help="picks measured of methods whose every pick costs alike")
    given = parser.parse_args()
    points = clustered(given.points, given.dim)
    emit(**variants[given.variant](points, int(given.points * given.ratio), given.picks))


if __name__ == "__main__":
    main()
