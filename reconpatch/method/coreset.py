"""Exact greedy k-centre coreset (PatchCore, section 3.2), in rounds whose data fit into the processor's cache.

The rule: start at `first`, then always pick the point that is farthest from all picks; of equally far points, pick the
one with the lowest index. The first n picks are the coreset of size n, so one order gives every smaller coreset.

The distance of a point to its nearest pick only decreases when picks are added, so an old distance is an upper bound. A
round takes the points with the largest bounds, updates only these, and applies the rule to them while their maximum
exceeds the bounds of all other points. So every pick is the one of the rule, and most distances are never computed.

An update is one matrix product, |c|^2 - 2xc for all candidates x and all newer picks c. Its rounding error has a bound.
The distance itself is computed, from the differences, only where the product shows that a pick may be the nearest. So
the distances are those of the rule, and the time is that of matrix products.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numba import get_num_threads, njit, prange, set_num_threads
from numpy.typing import NDArray

from reconpatch.errors import ReconpatchError
from reconpatch.method.compiled import REASSOCIATE, compiled
from reconpatch.rng import named_rng
from reconpatch.runtime import forked, one_blas_thread

Floats = NDArray[np.float32]
ROUND = 4096  # candidates per round: 2 MB at 128 dimensions
BLOCK, TILE = 256, 2048  # candidates and picks of one matrix product, whose result is 2 MB
REPORTED = 500  # picks on an accelerator between two reports of progress
LINE = 16  # elements between the results of two threads, so that these lie on separate cache lines


def random_projection(inputs: int, outputs: int, seed: int) -> NDArray[np.float32] | None:
    """(C, d) -> (C, d) Gaussian matrix that keeps squared distances in expectation; None where C <= d needs none."""
    if inputs <= outputs:
        return None
    matrix = named_rng(seed, "coreset/projection").standard_normal((inputs, outputs))
    return np.asarray(matrix / np.sqrt(outputs), np.float32)


@compiled
def _distance(a: Floats, b: Floats) -> np.float32:
    total = np.float32(0)
    for j in range(a.shape[0]):
        difference = a[j] - b[j]
        total += difference * difference
    return total


@njit(parallel=True, fastmath=REASSOCIATE, cache=True)
def _distances(points: Floats, centre: Floats) -> Floats:
    """(N, d), (d,) -> (N,) squared distances."""
    out = np.empty(points.shape[0], np.float32)
    for i in prange(points.shape[0]):
        out[i] = _distance(points[i], centre)
    return out


@compiled
def _refine(
    products: Floats, least: Floats, norms: Floats, errors: Floats, rows: Floats, picked: Floats, bounds: Floats
) -> None:
    """Lower each row's bound to its distance to the nearest of the picks, if that is lower.

    products + norms are the squared distances, off by at most `errors`; `least` is the least product of a row.
    """
    for r in range(products.shape[0]):
        nearest = least[r] + norms[r]
        if nearest - errors[r] <= bounds[r]:
            limit = min(bounds[r], nearest + errors[r]) + errors[r] - norms[r]
            for j in range(products.shape[1]):
                if products[r, j] <= limit:
                    bounds[r] = min(bounds[r], _distance(rows[r], picked[j]))


@njit(parallel=True, fastmath=REASSOCIATE, cache=True)
def _pick(
    rows: Floats,
    distances: Floats,
    threshold: np.float32,
    picked: Floats,
    order: NDArray[np.int64],
    candidates: NDArray[np.int64],
    n_picked: int,
    wanted: int,
    threads: int,
) -> int:
    """Apply the rule to the candidates' rows while their maximum exceeds the threshold -> number of picks so far."""
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


# The same without numba's threads: numba ends a forked process that wants them where its parent had started some. These
# are not cached, because numba's cache would give them the code with threads.
_distances_alone, _pick_alone = (njit(fastmath=REASSOCIATE)(each.py_func) for each in (_distances, _pick))


def catch_up(
    rows: NDArray[np.float32],
    bounds: NDArray[np.float32],
    seen: NDArray[np.int64],
    picked: NDArray[np.float32],
    centred: NDArray[np.float32],
    mean: NDArray[np.float32],
    pool: ThreadPoolExecutor,
) -> None:
    """Lower the (M,) bounds of (M, d) rows to their squared distances to all (n, d) picks, of which each saw `seen`.

    `centred` are the picks less the mean, and their squared norms: (n, d + 1). To first order in u = 2^-24, with X and
    C the squared norms of x and c, rounding adds at most 4 u (X + C) by centring, (d + 1) u (X + 2 C) in the product,
    d u (X + C) in the norms, 2 u (X + C) in their sum and 2 (d + 2) u (X + C) in the differences it is compared with:
    together below 8 (d + 8) u (X + C), whatever the order of the sums.
    """
    order = np.argsort(seen, kind="stable")
    share = np.float32(8 * (rows.shape[1] + 8) * 2.0**-24)

    def update(start: int) -> None:
        block = order[start : start + BLOCK]
        inside, best = rows[block], bounds[block]
        x = np.empty((len(block), rows.shape[1] + 1), np.float32)
        np.subtract(inside, mean, out=x[:, :-1])
        norms = np.einsum("nd,nd->n", x[:, :-1], x[:, :-1])
        x[:, :-1] *= -2
        x[:, -1] = 1
        for tile in range(int(seen[block[0]]), len(picked), TILE):
            part = slice(tile, min(tile + TILE, len(picked)))
            products = x @ centred[part].T
            errors = share * (norms + centred[part, -1].max())
            _refine(products, products.min(1), norms, errors, inside, picked[part], best)
        bounds[block] = best

    list(pool.map(update, range(0, len(rows), BLOCK)))


def check_points(points: Floats, wanted: int) -> None:
    """Raise ReconpatchError when more picks are wanted than there are points, or a point is not finite."""
    n = len(points)
    if not 1 <= wanted <= n:
        raise ReconpatchError(
            f"a coreset of {wanted} patches cannot be taken from {n}", where="coreset", fix=f"ask for 1 to {n} patches"
        )
    if not np.isfinite(points).all():
        raise ReconpatchError("some patch features are not finite", where="coreset", fix="check the network's weights")


def greedy_order(
    points: NDArray[np.float32],
    wanted: int,
    first: int,
    threads: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> NDArray[np.int64]:
    """(N, d) float32 -> the first `wanted` picks of greedy k-centre, as indices in the order picked.

    Memory beyond the points is O(N + wanted * d), and more only where more than ROUND points tie. `progress` is called
    with (picks done, picks wanted) a round. Raises ReconpatchError when more picks are wanted than there are points, or
    a point is not finite.
    """
    check_points(points, wanted)
    n = len(points)
    points = np.ascontiguousarray(points, np.float32)
    mean = points.mean(0, dtype=np.float64).astype(np.float32)
    order = np.empty(wanted, np.int64)
    picked = np.empty((wanted, points.shape[1]), np.float32)
    centred = np.empty((wanted, points.shape[1] + 1), np.float32)
    order[0], picked[0] = first, points[first]
    distances_to: Any = _distances_alone if forked() else _distances
    pick: Any = _pick_alone if forked() else _pick
    before, done, ready = get_num_threads(), 1, 0
    set_num_threads(min(threads, before))
    try:
        with one_blas_thread(), ThreadPoolExecutor(threads) as pool:
            bounds = distances_to(points, points[first])
            bounds[first] = -1
            seen = np.ones(n, np.int64)
            while done < wanted:
                pivot = np.float32(-1) if n <= ROUND else np.partition(bounds, n - ROUND)[n - ROUND]
                candidates = np.flatnonzero(bounds >= pivot)  # in ascending order, with every tie of the last
                outside = bounds[bounds < pivot]
                threshold = outside.max() if len(outside) else np.float32(-1)
                new = slice(ready, done)
                np.subtract(picked[new], mean, out=centred[new, :-1])
                centred[new, -1] = np.einsum("nd,nd->n", centred[new, :-1], centred[new, :-1])
                rows, distances = points[candidates], bounds[candidates]
                catch_up(rows, distances, seen[candidates], picked[:done], centred[:done], mean, pool)
                ready = done
                done = pick(rows, distances, threshold, picked, order, candidates, done, wanted, threads)
                bounds[candidates] = distances
                seen[candidates] = done
                if progress is not None:
                    progress(done, wanted)
    finally:
        set_num_threads(before)
    return order


def greedy_order_on_device(
    points: NDArray[np.float32],
    wanted: int,
    first: int,
    device: str,
    progress: Callable[[int, int], None] | None = None,
) -> NDArray[np.int64]:
    """(N, d) float32 -> as `greedy_order`, by the plain rule on an accelerator: all distances after every pick.

    There a pass over the points takes microseconds, and a round of candidates would wait for the host. Picks are those
    of `greedy_order` until two points are equally far to rounding, since sums have another order; then later picks may
    differ, too. Memory on the device: twice the points. Raises as `greedy_order` does.
    """
    import torch  # seconds, which a coreset on the CPU does without

    check_points(points, wanted)
    rows = torch.from_numpy(np.ascontiguousarray(points, np.float32)).to(device)
    differences = torch.empty_like(rows)
    distances = torch.full((len(rows),), torch.inf, device=device)
    order = torch.empty(wanted, dtype=torch.int64, device=device)
    chosen = torch.tensor(first, device=device)
    for n in range(wanted):
        order[n] = chosen
        torch.sub(rows, rows.index_select(0, chosen[None]), out=differences)
        torch.minimum(distances, differences.square_().sum(1), out=distances)
        distances.index_fill_(0, chosen[None], -1)  # below every distance, as in `_pick`
        chosen = distances.argmax()
        if progress is not None and n % REPORTED == REPORTED - 1:
            chosen.item()  # waits for the device, which is behind
            progress(n + 1, wanted)
    return np.asarray(order.cpu().numpy())
