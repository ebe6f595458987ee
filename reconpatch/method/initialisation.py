"""How f and g begin: what their training starts from, and all there is of an untrained f."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from reconpatch.errors import ReconpatchError
from reconpatch.method.feature_files import batches, read_slice
from reconpatch.runtime import one_blas_thread

LENGTH = np.float32(3**-0.5)  # the root of the mean square length of a row that is uniform in +-1/sqrt(inputs)
BLOCK = 8192  # patches in memory in float64 while their covariance is summed: 64 MB at 1,024 values
Layer = tuple[NDArray[np.float32], NDArray[np.float32]]  # weight (outputs, inputs), bias (outputs)


def draw_layer(rng: np.random.Generator, inputs: int, outputs: int, bias: bool = True) -> Layer:
    """A linear layer, (weight (outputs, inputs), bias (outputs)), drawn from `rng`: uniform in +-1/sqrt(inputs).

    That is torch's default initialisation. Without `bias` the biases are 0, and all else is drawn as with it.
    """
    bound = inputs**-0.5
    weight, drawn = rng.uniform(-bound, bound, (outputs, inputs)), rng.uniform(-bound, bound, outputs)
    return weight.astype(np.float32), (drawn if bias else np.zeros(outputs)).astype(np.float32)


def first_layer(
    rng: np.random.Generator, patches: NDArray[Any], dim: int, init: str = "uniform", bias: bool = True
) -> Layer:
    """(generator, (N, C) patches, D) -> f as its training begins, (weight (D, C), bias (D)).

    `init` is one of
    uniform: as `draw_layer` draws it;
    orthogonal: the rows of the weight are orthogonal, of a random orientation, and the bias is that of uniform;
    pca: the rows are the principal directions of the patches, and the bias maps their mean to 0.
    Rows of orthogonal and pca are as long as those of uniform are on average, so that `init` alone does not change what
    `sigma` means.

    Patches, possibly a memory map, are read for pca alone. What `rng` gives afterwards does not depend on `init` and
    `bias`. Raises ReconpatchError if there cannot be as many orthogonal rows, or a patch is not finite.
    """
    inputs = patches.shape[1]
    uniform = draw_layer(rng, inputs, dim, bias)
    if init == "uniform":
        return uniform
    if dim > inputs:
        raise ReconpatchError(
            f"of {inputs} values, init: {init} makes at most {inputs}",
            where=f"dim {dim}",
            fix="lower dim, or set init: uniform",
        )
    with one_blas_thread():  # another number of threads rounds differently
        if init == "orthogonal":
            return LENGTH * orthonormal_rows(rng.spawn(1)[0], inputs, dim), uniform[1]
        directions, mean = principal_directions(patches, dim)
    weight = LENGTH * np.ascontiguousarray(directions, np.float32)
    return weight, (-weight @ mean).astype(np.float32) if bias else uniform[1]


def orthonormal_rows(rng: np.random.Generator, inputs: int, outputs: int) -> NDArray[np.float32]:
    """Generator, C, D <= C -> (D, C) orthonormal rows, all orientations equally likely.

    They are the Q of a Gaussian matrix, with the signs that make the diagonal of R positive.
    """
    q, r = np.linalg.qr(rng.standard_normal((inputs, outputs)))
    return np.ascontiguousarray((q * np.sign(np.diag(r))).T, np.float32)


def principal_directions(patches: NDArray[Any], count: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(N, C) patches, D <= C -> ((D, C) orthonormal directions of the largest variances, largest first; (C) mean).

    The largest component of every direction is positive. The covariance is summed in float64, by blocks of patches.
    """
    total, products = np.zeros(patches.shape[1]), np.zeros((patches.shape[1],) * 2)
    for rows in batches(patches, BLOCK):
        block = read_slice(patches, rows).astype(np.float64)
        total += block.sum(0)
        products += block.T @ block
        del block  # before the next one is made
    if not np.isfinite(products).all():
        raise ReconpatchError("some patch features are not finite", where="init pca", fix="check the weights")
    mean = total / len(patches)
    variances_ascend = np.linalg.eigh(products / len(patches) - np.outer(mean, mean))
    directions = variances_ascend.eigenvectors.T[::-1][:count]
    largest = np.abs(directions).argmax(1)[:, None]
    return directions * np.sign(np.take_along_axis(directions, largest, 1)), mean
