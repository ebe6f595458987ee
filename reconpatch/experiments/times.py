"""Seconds of one job of every stage, from the operations its sizes ask for and what an operation took on one core.

Rates were measured with the locked packages on two cores of a shared virtual machine (Intel Sapphire Rapids, AVX-512),
in CPU seconds: benchmarks/RESULTS.md, and the jobs of whole runs; docs/scaling.md compares both. Another machine has
other rates, a coreset's depend on the data, and nothing was measured on a GPU: what comes out is for planning, and
`minutes` leaves room.
"""

import math
from dataclasses import dataclass

SAFETY, LEAST_MINUTES = 4, 10  # schedulers kill what runs longer: slower machines, slow disks, neighbours

# Seconds of a process before its work, with what it imports, and of leaving.
START = {
    "index_category": 0.3,
    "extract_features": 4.5,
    "read_masks": 0.3,
    "train_representation": 2.5,
    "select_coreset": 0.6,
    "score_run": 0.6,
    "score_training": 0.6,
    "combine_ensemble": 0.4,
    "make_table": 0.5,
    "draw_qualitative": 0.8,
    "draw_gallery": 0.8,
}
# Whole jobs whose time hardly depends on sizes.
SMALL = {
    "draw_sample": 1.0,
    "fetch_weights": 60.0,  # a download: a guess
    "write_plan": 0.3,
    "draw_histogram": 1.0,
    "draw_umap": 10.0,
    "draw_positions": 10.0,
    "draw_curve": 1.0,
    "draw_sweep": 1.0,
    "report": 0.3,
}

# timm architecture -> (multiply-adds a pixel of the crop up to level 3, operations a second of one core). A
# multiply-add is two operations. Depthwise and narrow convolutions wait for memory.
NETWORKS = {
    "resnet18": (27952, 100e9),
    "wide_resnet50_2": (183088, 115e9),
    "wide_resnet101_2": (409392, 125e9),
    "resnext101_32x8d": (292912, 100e9),
    "densenet201": (72496, 38e9),
    "tf_efficientnet_lite0": (4848, 40e9),
    "tf_efficientnet_lite2": (7680, 40e9),
}
UNKNOWN = 0.01, 40e9  # multiply-adds a pixel and parameter: at most half of it in the networks above; and their rate

PRODUCTS, STEPS = 100e9, 120e9  # operations a second of one core in matrix products of a search, of training
LOAD = 1.0, 80e-9  # s of preparing a network, and a parameter
DECODE = 25e-9  # s a pixel of a photograph: decoded, scaled down
INDEX = 10e-9  # s a pixel: read, digested, its header and whether it is whole
PATCH = 6e-9  # s a value of patch features: 3 to 12, averaged over positions and channels
WRITE = 2e-9  # s a byte of features: written and digested
READ = 0.5e-9  # s a byte of features, from the system's cache
PAIR, PARAMETER, VALUE = 11e-9, 8e-9, 3e-9  # s a pair, parameter and value of a training step beside its products
GREEDY, POWER = (
    1.6e-9,
    0.58,
)  # s a point and dimension, times this power of the picks: most distances are never computed
AROUND = 3e-9  # s a value of the differences that reweighting takes
PIXEL = 55e-9  # s a pixel of the maps and their metrics
MASK = 5e-9  # s a pixel of a mask's file
RESULT, RESAMPLED = 0.01, 2e-4  # s a result of a table, and a test image of it, in 2,000 resamples
PICTURE = 0.5, 3e-7  # s of a figure, and a pixel of its panels


@dataclass(frozen=True)
class Time:
    """Seconds of a job: before its work; its work on one core; what of that is dense, so that a GPU would do it."""

    start: float
    work: float
    dense: float = 0.0

    def wall(self, threads: int = 1) -> float:
        """Seconds of the whole job, its work shared by some threads."""
        return self.start + self.work / threads

    @property
    def cpu(self) -> float:
        """Seconds of one core that the whole job takes."""
        return self.start + self.work


def minutes(seconds: float) -> int:
    """Predicted seconds of a job -> minutes after which a scheduler may end it: several times as many, rounded up."""
    return max(LEAST_MINUTES, math.ceil(SAFETY * seconds / 60))


def small(rule: str) -> Time | None:
    """Rule -> the time of its jobs, None where that depends on sizes."""
    return Time(SMALL[rule], 0.0) if rule in SMALL else None


def product(n: float, k: int, m: int, rate: float = PRODUCTS) -> float:
    """Seconds of the matrix product (n, k) x (k, m) on one core."""
    return 2 * n * k * m / rate


def index(images: int, pixels: int) -> Time:
    """Images of a category, px of each -> time of indexing it."""
    return Time(START["index_category"], images * pixels * INDEX)


def network(backbone: str, parameters: int, crop: int) -> float:
    """Network, its parameters up to the last level, px of the crop -> seconds of its forward pass of one image."""
    a_parameter, rate = UNKNOWN
    adds, rate = NETWORKS.get(backbone.split(".")[0], (a_parameter * parameters, rate))
    return 2 * adds * crop**2 / rate


def extraction(backbone: str, parameters: int, crop: int, grid: int, width: int, images: int, pixels: int) -> Time:
    """Network, its parameters, px of the crop, patches along a side, their width, images, px of an image's file -> time
    of extraction.
    """
    dense = images * (network(backbone, parameters, crop) + grid**2 * width * PATCH)
    files = images * (pixels * DECODE + grid**2 * width * 2 * WRITE)
    base, each = LOAD
    return Time(START["extract_features"], base + parameters * each + files + dense, dense)


def training(patches: int, width: int, dim: int, projection_dim: int, batch: int, epochs: int) -> Time:
    """Patches, their width, sizes of f and g, patches a batch, epochs -> time of training.

    A step multiplies both layers, of student and teacher, projects, compares all pairs by either, and takes gradients:
    of the projections, and of both layers through their product. Then passes over pairs, layers and batch.
    """
    count = max(1, round(patches / batch))
    n = patches / count
    layers = 4 * product(projection_dim, dim, width, STEPS)  # two forward, two back
    rows = 3 * product(n, width, projection_dim, STEPS)  # two forward, one back
    pairs = 3 * product(n * n, projection_dim, 1, STEPS)  # two matrices of distances, one gradient
    passes = n**2 * PAIR + (width + projection_dim) * dim * PARAMETER + n * (width + 8 * projection_dim) * VALUE
    work = epochs * count * (layers + rows + pairs + passes)
    return Time(START["train_representation"], work, work)


def represented(patches: int, width: int, dim: int, learnt: bool) -> float:
    """Patches, their width and that of the representation, whether f makes it or pooling -> seconds."""
    return patches * width * 2 * READ + (product(patches, width, dim) if learnt else patches * width * VALUE)


def bank(patches: int, width: int, dim: int, coreset_dim: int, kept: int, learnt: bool) -> Time:
    """Patches, their width, sizes of representation and projection, rows kept, whether f is learnt -> time of the
    coreset: represented, projected, selected, and the rows kept represented again.
    """
    d = min(dim, coreset_dim)
    projected = product(patches, dim, d) if dim > d else 0.0
    greedy = patches * d * GREEDY * kept**POWER
    work = represented(patches + kept, width, dim, learnt) + projected + greedy
    return Time(START["select_coreset"], work)


def search(patches: int, width: int, dim: int, used: int, neighbours: int, learnt: bool) -> float:
    """Patches to score, their width and dimension, rows of the bank, neighbours, whether f is learnt -> seconds: every
    patch against every row; for reweighting the rows found against all, and differences to their neighbours.
    """
    around = 0.0
    if neighbours > 1:
        around = product(min(patches, used), dim, used) + patches * neighbours * dim * AROUND
    return represented(patches, width, dim, learnt) + product(patches, dim, used) + around


def score(patches: int, width: int, dim: int, used: int, neighbours: int, learnt: bool, images: int, crop: int) -> Time:
    """As `search`, and the test images with the px of their maps -> time of scoring and measuring a run."""
    dense = search(patches, width, dim, used, neighbours, learnt)
    return Time(START["score_run"], dense + images * crop**2 * PIXEL, dense)


def training_scores(patches: int, width: int, dim: int, used: int, neighbours: int, learnt: bool) -> Time:
    """As `search`, of the training images."""
    dense = search(patches, width, dim, used, neighbours, learnt)
    return Time(START["score_training"], dense, dense)


def ensemble(images: int, crop: int, members: int) -> Time:
    """Test images, px of their maps, members -> time of an ensemble: the members' maps made anew, and the metrics."""
    return Time(START["combine_ensemble"], images * crop**2 * PIXEL * (1 + members / 4))


def masks(images: int, crop: int, pixels: int) -> Time:
    """Test images, px of their masks, of a mask's file -> time of reading masks."""
    return Time(START["read_masks"], images * (pixels + crop**2) * MASK)


def table(results: int, images: int) -> Time:
    """Results of an experiment, test images of each -> time of its table."""
    return Time(START["make_table"], results * (RESULT + images * RESAMPLED))


def pictures(rule: str, panels: int, crop: int) -> Time:
    """A figure's rule, its panels, px of their images -> time of drawing it."""
    base, each = PICTURE
    return Time(START[rule], base + panels * crop**2 * each)
