"""Anomaly maps: the scores of patches, up-sampled to the image and smoothed."""

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

Scores = NDArray[np.float32]


def upsampling(inputs: int, outputs: int, blur: float) -> Scores:
    """(h -> H, sigma in output px) -> (H, h) matrix: bilinear up-sampling (half-pixel centres), then a Gaussian.

    Both are linear and separable, so a map is U @ scores @ U.T: the same numbers as interpolating and filtering the
    image (reflected edges, kernel cut at 4 sigma), for a fraction of the time.
    """
    centres = np.clip((np.arange(outputs) + 0.5) * inputs / outputs - 0.5, 0, inputs - 1)
    low = np.minimum(centres.astype(int), max(inputs - 2, 0))
    matrix = np.zeros((outputs, inputs))
    matrix[np.arange(outputs), low] += 1 - (centres - low)
    matrix[np.arange(outputs), np.minimum(low + 1, inputs - 1)] += centres - low
    if blur:
        matrix = gaussian_filter1d(matrix, blur, axis=0, mode="reflect", truncate=4.0)
    return matrix.astype(np.float32)


def anomaly_maps(patch: Scores, size: int, blur: float) -> Scores:
    """(N, H, W) patch scores -> (N, size, size) anomaly maps: bilinear, then a Gaussian of sigma `blur` px."""
    rows, columns = (upsampling(n, size, blur) for n in patch.shape[1:])
    return np.asarray(rows @ patch @ columns.T, np.float32)


def content_map(padded: Scores, cells: NDArray[np.bool_], content: NDArray[np.bool_], blur: float) -> Scores:
    """((size, size) map made with scores of 0 on padding, (H, W) cells that are none, (size, size) pixels that are
    none, the map's `blur`) -> the map of the cells' scores alone, 0 on padding.

    Divided by what a score of 1 everywhere would give: without that a map fades towards padding.
    """
    share = anomaly_maps(cells[None].astype(np.float32), len(padded), blur)[0]
    return np.asarray(np.divide(padded, share, out=np.zeros_like(padded), where=content & (share > 0)))
