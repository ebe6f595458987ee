"""Equations 1 to 7 on the processor, row by row, in compiled loops; `loss.py` has the same in operations of PyTorch.

A step of the training would read and write the N x N pairs of a batch many times, if each operation passed over all of
them. Here a row stays in the innermost cache for all that is done to it. What is left are the matrix products, of which
half are computed where they are symmetric.

The loops take rows first..last of all N, which threads may share. Matrices of pairs have more columns than N, as
`pitch` says; the last ones are not used.
"""

from concurrent.futures import Executor

import numpy as np
import torch
from numpy.typing import NDArray

from reconpatch.method.compiled import compiled
from reconpatch.method.loss import COINCIDE, LOWEST, bandwidth
from reconpatch.method.rows import by_rows

Floats = NDArray[np.float32]
Indices = NDArray[np.int64]
LINE = 16  # float32 values in a line of the cache
CHUNK = 64  # distances of which the least is known while neighbours are searched
LARGEST = np.int32(2**31 - 1)
ZERO, ONE, TWO = np.float32(0), np.float32(1), np.float32(2)
LOG2_E, LN_2 = np.float32(np.log2(np.e)), np.float32(np.log(2))
# 1/i!: the Taylor series of exp, whose error is about 1e-7, that of rounding, for arguments up to ln(2)/2
TAYLOR = tuple(np.float32(1 / x) for x in (720, 120, 24, 6, 2, 1, 1))


def pitch(n: int) -> int:
    """N -> values in a row of a matrix of N x N pairs: whole lines of the cache, and an odd number of them.

    With a power of two, all values of a column would share a few places of the cache.
    """
    return LINE * (-(-n // LINE) | 1)


def similarity(
    z: Floats,
    sigma: float,
    k: int,
    alpha: float,
    out: Floats,
    sigma_unit: str = "one",
    pool: Executor | None = None,
) -> tuple[float, float]:
    """(N, D) teacher projections without their mean -> (mean pairwise, mean contextual similarity).

    As `loss.similarity`. The similarities go into `out` (N, pitch(N) or more). `pool` are threads.
    """
    n = len(z)
    neighbours, sums, norms = np.empty((n, k), np.int64), np.empty(n, np.float32), products_of_pairs(z, out, pool)

    def compare(first: int, last: int) -> None:
        squared_distances(out, norms, first, last)
        nearest(out, first, last, neighbours)

    by_rows(compare, n, pool)
    width = np.float32(bandwidth(torch.from_numpy(out)[:, :n], sigma, sigma_unit))
    share = np.float32(alpha)
    by_rows(lambda a, b: pairwise_similarities(out, width, np.float32(LOWEST), share, a, b, sums), n, pool)
    contextual = add_contextual_similarities(out, neighbours, np.float32(1 - alpha))
    return float(sums.sum(dtype=np.float64)) / n**2, contextual / n**2


def relaxed_contrastive_loss(
    z: Floats, weights: Floats, margin: float, out: Floats, pool: Executor | None = None
) -> tuple[float, Floats]:
    """((N, D) student projections without their mean, similarities as `similarity` writes them) -> (loss, its gradient
    (N, D)) (eq. 7).

    As `loss.relaxed_contrastive_loss`, for symmetric similarities, which are overwritten. `out` is memory for the
    distances.
    """
    n, norms = len(z), products_of_pairs(z, out, pool)
    losses, sums, terms = np.empty(n, np.float32), np.empty(n, np.float32), np.empty((3, n), np.float32)
    reach, coincide = np.float32(margin), np.float32(COINCIDE)
    by_rows(lambda a, b: row_losses(out, weights, norms, reach, coincide, a, b, losses, terms), n, pool)
    products = np.empty_like(z)

    def multiply(first: int, last: int) -> None:
        slopes(out, weights, terms, coincide, first, last, sums)
        np.matmul(weights[first:last, :n], z, out=products[first:last])

    by_rows(multiply, n, pool)
    return float(losses.mean()), 2 * (sums[:, None] * z - products)


def products_of_pairs(z: Floats, out: Floats, pool: Executor | None) -> Floats:
    """(N, D) -> the products z z^T in `out`, and the squared norms (N,).

    Of each block of rows, the products from the diagonal on are computed, and the others copied from the rows above.
    """

    def upper(first: int, last: int) -> None:
        np.matmul(z[first:last], z[first:].T, out=out[first:last, first : len(z)])

    def lower(first: int, last: int) -> None:
        out[first:last, :first] = out[:first, first:last].T

    by_rows(upper, len(z), pool)
    by_rows(lower, len(z), pool)
    norms: Floats = np.einsum("ij,ij->i", z, z)
    return norms


@compiled
def _at_least(value: np.float32, least: np.float32) -> np.float32:
    """The larger one; NaN stays NaN."""
    return least if value < least else value


@compiled
def squared_distances(pairs: Floats, norms: Floats, first: int, last: int) -> None:
    """Products z z^T, (N,) squared norms -> in place the squared distances |a|^2 - 2ab + |b|^2, 0 on the diagonal."""
    for i in range(first, last):
        row, norm = pairs[i], norms[i]
        for j in range(norms.shape[0]):
            row[j] = _at_least(norm + norms[j] - TWO * row[j], ZERO)
        row[i] = ZERO


@compiled
def nearest(distances: Floats, first: int, last: int, neighbours: Indices) -> None:
    """Squared distances -> (N, k) indices of the nearest, nearest first: N_k; of equally near ones the lower index.

    A patch is its own nearest neighbour, even where others coincide with it. Numbers that are not negative are ordered
    as their bits are, and the least integer of a chunk is found by vector instructions.
    """
    n, k = neighbours.shape
    bits = distances.view(np.int32)
    chunks = (n + CHUNK - 1) // CHUNK
    least, taken = np.empty(chunks, np.int32), np.empty(k, np.int32)
    for i in range(first, last):
        row, found = bits[i], neighbours[i]
        row[i] = LARGEST
        for c in range(chunks):
            least[c] = _least(row[c * CHUNK : min(n, (c + 1) * CHUNK)])
        found[0] = i
        for a in range(1, k):
            c = int(np.argmin(least))
            j = c * CHUNK
            while row[j] != least[c]:
                j += 1
            found[a], taken[a], row[j] = j, least[c], LARGEST
            least[c] = _least(row[c * CHUNK : min(n, (c + 1) * CHUNK)])
        for a in range(1, k):
            row[found[a]] = taken[a]
        row[i] = 0


@compiled
def _least(values: NDArray[np.int32]) -> np.int32:
    least = LARGEST
    for j in range(values.shape[0]):
        least = min(least, values[j])
    return least


@compiled
def pairwise_similarities(
    distances: Floats, sigma: np.float32, lowest: np.float32, alpha: np.float32, first: int, last: int, sums: Floats
) -> None:
    """Squared distances -> in place alpha times exp(-d / sigma), and its sum (N,) without alpha (eq. 1).

    No exponent is below `lowest`. exp(x) = 2^m exp(r), with m the integer nearest to x / ln(2), and exp(r) by its
    series.
    """
    n, scale = sums.shape[0], -ONE / sigma
    for i in range(first, last):
        row, total = distances[i], ZERO
        for j in range(n):
            x = _at_least(row[j] * scale, lowest) * LOG2_E
            m = np.int32(x - np.float32(0.5))  # rounded towards 0: x is negative
            r = (x - np.float32(m)) * LN_2
            e = TAYLOR[0]
            for coefficient in TAYLOR[1:]:
                e = e * r + coefficient
            e *= np.int32((m + 127) << 23).view(np.float32)  # the bits of 2^m
            total += e
            row[j] = alpha * e
        sums[i] = total


@compiled
def add_contextual_similarities(weights: Floats, neighbours: Indices, share: np.float32) -> float:
    """(N, k) neighbours: adds `share` times the contextual similarity -> the sum of all contextual similarities.

    Equations 2 to 5, as in `loss.contextual_similarity`, `reciprocal_neighbours`, `expanded_context` and
    `add_symmetric_`.
    """
    n, k = neighbours.shape
    half = max(1, k // 2)
    context = np.zeros((n, k), np.float32)  # eq. 2
    for i in range(n):
        for a in range(k):
            for of_one in neighbours[i]:
                for of_other in neighbours[neighbours[i, a]]:
                    context[i, a] += of_one == of_other
            context[i, a] /= np.float32(k)
    total = 0.0
    reciprocal = np.empty(half, np.bool_)
    for i in range(n):
        count = 0
        for b in range(half):  # eq. 3
            reciprocal[b] = False
            for of_other in neighbours[neighbours[i, b], :half]:
                reciprocal[b] |= of_other == i
            count += reciprocal[b]
        for b in range(half):  # eq. 4: the mean over reciprocal neighbours
            if reciprocal[b]:
                m = neighbours[i, b]
                for a in range(k):
                    j, value = neighbours[m, a], context[m, a] / np.float32(count)
                    total += value
                    weights[i, j] += share / TWO * value  # eq. 5
                    weights[j, i] += share / TWO * value
    return total


@compiled
def row_losses(
    pairs: Floats,
    weights: Floats,
    norms: Floats,
    margin: np.float32,
    coincide: np.float32,
    first: int,
    last: int,
    losses: Floats,
    terms: Floats,
) -> None:
    """Products z z^T, similarities w, squared norms -> in place the distances d, and (N,) the loss of each row (eq. 7).

    With mu the mean of a row of d, gap = max(margin mu - d, 0) and push = (1 - w) gap, the loss of the row is
    (sum w d^2 + sum push gap) / mu^2. `terms` (3, N) is what `slopes` needs of a row: c = 1 / (N mu^2), margin mu, and
    c e, where e = (sum w d^2 - sum push d) / (N mu) is the derivative by mu.
    """
    squared_distances(pairs, norms, first, last)
    size, n = norms.shape[0], np.float32(norms.shape[0])
    for i in range(first, last):
        d, w = pairs[i], weights[i]
        attract, total = ZERO, ZERO
        for j in range(size):
            attract += w[j] * d[j]
            d[j] = np.sqrt(d[j])
            total += d[j]
        mean = _at_least(total / n, coincide)
        repel, pushed = ZERO, ZERO
        for j in range(size):
            gap = _at_least(margin * mean - d[j], ZERO)
            push = (ONE - w[j]) * gap
            repel += push * gap
            pushed += push * d[j]
        losses[i] = (attract + repel) / (mean * mean)
        c = ONE / (n * mean * mean)
        terms[0, i], terms[1, i], terms[2, i] = c, margin * mean, c * (attract - pushed) / (n * mean)


@compiled
def slopes(
    distances: Floats, weights: Floats, terms: Floats, coincide: np.float32, first: int, last: int, sums: Floats
) -> None:
    """Distances d, similarities w, the terms of `row_losses` -> in place of w the slopes S, and their sums (N,).

    S = H + H^T, with H as in `loss.relaxed_contrastive_loss`: H_ij = c_i (w_ij - (push_ij + e_i) / d_ij). Since w and d
    are symmetric, both terms follow from one row of them. Pairs that coincide have no slope.
    """
    n = sums.shape[0]
    c, reach, ce = terms[0], terms[1], terms[2]
    for i in range(first, last):
        d, w, total = distances[i], weights[i], ZERO
        ci, reach_i, ce_i = c[i], reach[i], ce[i]
        for j in range(n):
            gaps = ci * _at_least(reach_i - d[j], ZERO) + c[j] * _at_least(reach[j] - d[j], ZERO)
            slope = w[j] * (ci + c[j]) - ((ONE - w[j]) * gaps + ce_i + ce[j]) / _at_least(d[j], coincide)
            slope = ZERO if d[j] <= coincide else slope
            total += slope
            w[j] = slope
        sums[i] = total
