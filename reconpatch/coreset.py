"""Greedy k-centre coreset (PatchCore, section 3.2), exact, in rounds that stay in the processor's cache.

The rule: start at `first`, then always pick the point farthest from everything picked, the lowest index on a tie. The
first n picks are the coreset of size n, so one ordering serves every smaller ratio.

A point's stored distance only falls as picks are added, so a stale one is an upper bound. A round takes the points
with the largest bounds, brings only those up to date, and runs the plain rule among them for as long as their maximum
exceeds every bound outside. Each pick is therefore the pick of the plain rule; most distances are never computed, and
the rest come from cache instead of memory.
"""

from collections.abc import Callable

import numpy as np
from numba import get_num_threads, njit, prange, set_num_threads
from numpy.typing import NDArray

from reconpatch.errors import ReconpatchError
from reconpatch.randomness import stream

REASSOCIATE = {"reassoc", "contract", "nsz"}  # lets the distance loop vectorise; NaN and infinity keep their meaning
ROUND = 4096  # candidates a round: 2 MB at 128 dimensions
BLOCK = 32  # candidates a thread brings up to date together
TILE = 64  # picks a candidate block is compared with at a time
LINE = 16  # int64 or float32 slots that keep two threads' results on separate cache lines


def random_projection(inputs: int, outputs: int, seed: int) -> NDArray[np.float32] | None:
    """(C, d) -> (C, d) Gaussian matrix that keeps squared distances in expectation; None where C <= d needs none."""
    if inputs <= outputs:
        return None
    matrix = stream(seed, "coreset/projection").standard_normal((inputs, outputs))
    return np.asarray(matrix / np.sqrt(outputs), np.float32)


@njit(fastmath=REASSOCIATE, cache=True)
def _distance(a, b):  # type: ignore[no-untyped-def]
    total = np.float32(0)
    for j in range(a.shape[0]):
        difference = a[j] - b[j]
        total += difference * difference
    return total


@njit(parallel=True, fastmath=REASSOCIATE, cache=True)
def _catch_up(points, candidates, bounds, seen, picked, n_picked):  # type: ignore[no-untyped-def]
    """Lower each candidate's bound to its distance to all n_picked picks; seen[i] of them are in it already."""
    for b in prange((candidates.shape[0] + BLOCK - 1) // BLOCK):
        low, high = b * BLOCK, min(candidates.shape[0], (b + 1) * BLOCK)
        oldest = n_picked
        for r in range(low, high):
            oldest = min(oldest, seen[candidates[r]])
        for tile in range(oldest, n_picked, TILE):
            end = min(n_picked, tile + TILE)
            for r in range(low, high):
                i = candidates[r]
                best = bounds[i]
                for j in range(max(tile, seen[i]), end):
                    best = min(best, _distance(points[i], picked[j]))
                bounds[i] = best
        for r in range(low, high):
            seen[candidates[r]] = n_picked


@njit(parallel=True, fastmath=REASSOCIATE, cache=True)
def _pick(rows, distances, threshold, picked, order, candidates, n_picked, wanted, threads):  # type: ignore[no-untyped-def]
    """The plain rule among the candidates' rows while their maximum exceeds the threshold; returns picks made."""
    share = (rows.shape[0] + threads - 1) // threads
    best = np.empty(threads * LINE, np.float32)
    where = np.empty(threads * LINE, np.int64)
    chosen = np.argmax(distances)  # the first, so the lowest index, on a tie
    while n_picked < wanted and distances[chosen] > threshold:
        order[n_picked] = candidates[chosen]
        picked[n_picked] = rows[chosen]
        distances[chosen] = -1  # below every distance: never picked again, even among coinciding points
        centre = picked[n_picked]
        n_picked += 1
        for t in prange(threads):
            top, at = np.float32(-1), 0
            for r in range(t * share, min(rows.shape[0], (t + 1) * share)):
                d = min(distances[r], _distance(rows[r], centre))
                distances[r] = d
                if d > top:
                    top, at = d, r
            best[t * LINE], where[t * LINE] = top, at
        chosen = where[np.argmax(best[::LINE]) * LINE]
    return n_picked


def greedy_order(
    points: NDArray[np.float32],
    wanted: int,
    first: int,
    threads: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> NDArray[np.int64]:
    """(N, d) float32 -> the first `wanted` picks of greedy k-centre, as indices in the order picked.

    Memory beyond the points is O(N + wanted * d). `progress` is called with (picks done, picks wanted) a round.
    Raises ReconpatchError when more picks are wanted than there are points, or a point is not finite.
    """
    n = len(points)
    if not 1 <= wanted <= n:
        raise ReconpatchError(f"coreset of {wanted} patches wanted from {n}: must be between 1 and {n}")
    if not np.isfinite(points).all():
        raise ReconpatchError("coreset: some patch features are not finite")
    points = np.ascontiguousarray(points, np.float32)
    order = np.empty(wanted, np.int64)
    picked = np.empty((wanted, points.shape[1]), np.float32)
    order[0], picked[0] = first, points[first]
    bounds = np.full(n, np.inf, np.float32)
    bounds[first] = -1
    seen = np.zeros(n, np.int64)
    before = get_num_threads()
    set_num_threads(min(threads, before))
    try:
        _catch_up(points, np.arange(n), bounds, seen, picked, 1)
        done = 1
        while done < wanted:
            pivot = np.float32(-1) if n <= ROUND else np.partition(bounds, n - ROUND)[n - ROUND]
            candidates = np.flatnonzero(bounds >= pivot)  # in ascending order, with every tie of the last
            outside = bounds[bounds < pivot]
            threshold = outside.max() if len(outside) else np.float32(-1)
            _catch_up(points, candidates, bounds, seen, picked, done)
            distances = bounds[candidates]
            done = _pick(points[candidates], distances, threshold, picked, order, candidates, done, wanted, threads)
            bounds[candidates] = distances
            seen[candidates] = done
            if progress is not None:
                progress(done, wanted)
    finally:
        set_num_threads(before)
    return order
