"""What one job costs: its peak memory in MB (10^6 bytes, as Snakemake counts) and its seconds, as formulas of sizes.

Memory follows from the arrays that the code allocates. Bases, which the stage table adds, are what a process holds that
has imported its packages and worked on a few small images, measured with the locked packages on Linux and rounded up.

Seconds follow from the number of operations and from rates that were measured with the locked packages on two cores of
shared virtual machines, in CPU seconds: those of training, decoding and index on an AMD EPYC with AVX-512, which takes
1.4 times as long in matrix products, all others on an Intel Sapphire Rapids (benchmarks/RESULTS.md, and the jobs of
whole runs). docs/scaling.md compares predictions and measurements. Another machine has other rates, and the rate of a
coreset depends on the data. Nothing was measured on a GPU.
"""

from dataclasses import dataclass, replace
from typing import NamedTuple

from reconpatch.experiments.run import Run
from reconpatch.method.batching import count_batches
from reconpatch.method.feature_files import CHUNK, PAIRS, RESIDENT
from reconpatch.method.initialisation import BLOCK
from reconpatch.method.rows import BLOCK_ROWS
from reconpatch.runtime import MB

MEGAPIXEL = 10**6  # px of an image whose size cannot be told

# timm architecture -> bytes per pixel of the batch that its largest activations take at the same time, measured on a
# CPU at 224 to 480 px, with the holes they leave in the heap.
ACTIVATIONS = {
    "resnet18": 120,
    "wide_resnet50_2": 570,
    "wide_resnet101_2": 850,
    "resnext101_32x8d": 930,
    "densenet201": 1000,
    "tf_efficientnet_lite0": 200,
    "tf_efficientnet_lite2": 250,
}
OTHER_ACTIVATIONS = 1000  # most other networks need less
DECODED = 9  # bytes per pixel of a photograph while it is decoded: 3 as an array, 4 as an image, and its file

# timm architecture -> (multiply-adds per pixel of the crop up to level 3, operations per second of one core). A
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
# For other networks: multiply-adds per pixel and parameter, at most half of it in the networks above; and the rate.
OTHER_NETWORK = 0.01, 40e9

# Rates: operations per second of one core, or seconds per unit.
GPU_SPEED = 100.0  # of dense work on a GPU, in cores. Assumed: nothing was measured on one
SEARCH_RATE, TRAINING_RATE = 100e9, 85e9  # operations per second in the matrix products of a search and of training
LOAD_NETWORK, LOAD_PARAMETER = 1.0, 80e-9  # s per network, and per parameter of it
DECODE_PIXEL = 19e-9  # s per pixel of a photograph: decoded and scaled down. For PNG; JPEG takes half of it
INDEX_PIXEL = 20e-9  # s per pixel of a photograph: read, digested, its header and whether it is complete. As above
PATCH_VALUE = 6e-9  # s per value of patch features: 3 to 12, averaged over positions and channels
WRITE_BYTE = 2e-9  # s per byte of features: written and digested
READ_BYTE = 0.5e-9  # s per byte of features, from the system's cache
POOL_VALUE = 3e-9  # s per value of features that PatchCore's pooling makes a representation of
# s of a training step beside its matrix products, and more per pair, parameter and value.
STEP, STEP_PAIR, STEP_PARAMETER, STEP_VALUE = 0.5e-3, 3e-9, 1.5e-9, 0.7e-9
# s per point and dimension, times this power of the number of picks: most distances are never computed.
GREEDY_VALUE, GREEDY_POWER = 1.6e-9, 0.58
REWEIGHT_VALUE = 3e-9  # s per value of the differences that reweighting takes
MAP_PIXEL = 55e-9  # s per pixel of the maps and their metrics
MASK_PIXEL = 5e-9  # s per pixel of a mask's file
TABLE_RESULT, TABLE_IMAGE = 0.01, 2e-4  # s per result of a table, and per test image of it, in 2,000 resamples
PICTURE, PICTURE_PIXEL = 0.5, 3e-7  # s per figure, and per pixel of its panels


class Network(NamedTuple):
    """What timm says of a backbone: patches along a side of a square image of the size wanted, parameters up to the
    last level used, and the channels of each level used.
    """

    grid: int
    parameters: int
    channels: tuple[int, ...]


@dataclass(frozen=True)
class Memory:
    """MB that a job holds, and MB of the files it maps, which the system takes back where memory is short."""

    held: float
    mapped: float = 0.0

    @property
    def mb(self) -> int:
        """What the job asks Snakemake for, and its predicted high-water mark."""
        return round(self.held + self.mapped)


@dataclass(frozen=True)
class Time:
    """Seconds of a job: until its work begins, its work on one core, and the part of that a GPU would do."""

    start: float
    work: float = 0.0
    dense: float = 0.0

    def wall(self, threads: int = 1) -> float:
        """Seconds of the whole job with some threads, which share the work but not the start."""
        return self.start + self.work / threads

    def on_gpu(self, threads: int = 1) -> float:
        """Seconds of the whole job with a GPU for the dense work and some threads for the rest."""
        return self.start + (self.work - self.dense) / threads + self.dense / GPU_SPEED

    @property
    def cpu(self) -> float:
        """Seconds of one core that the whole job takes."""
        return self.start + self.work


@dataclass(frozen=True)
class Sizes:
    """All that the cost of a job depends on. A job uses the fields that concern it; the others keep their defaults."""

    train: int = 0  # training images
    test: int = 0  # test images
    pixels: int = MEGAPIXEL  # px of an image's file
    threads: int = 1  # that decode images
    batch_images: int = 8  # images per pass of the network
    gpu_batch_images: int = 64  # the same on a GPU
    backbone: str = ""
    parameters: int = 0  # of the network, up to the last level used
    crop: int = 0  # px, the shorter side of the network's input and of the maps
    grid: int = 0  # patches along that side
    elongation: float = 1.0  # the longer side of the network's input over the shorter
    width: int = 0  # values of a patch's features
    learnt: bool = False  # whether f is a linear map, or pools as PatchCore does
    dim: int = 0  # of a patch's representation
    projection_dim: int = 0  # of what g makes of it while training
    batch: float = 1  # patches per training step
    principal: bool = False  # whether an f begins with the principal directions of the patches
    epochs: int = 1
    coreset_dim: int = 0  # of the random projection before the greedy selection
    kept: int = 0  # rows of the memory bank in its file
    used: int = 0  # rows of it that the run uses
    neighbours: int = 1  # of the bank, by which an image score is weighted
    by_defect: bool = False  # whether every defect is marked alone, and kinds of anomalies are measured apart
    members: int = 2  # of an ensemble
    references: bool = True  # whether the ensemble also reads scores of the training images
    results: int = 0  # of a table
    panels: int = 0  # of a figure

    @property
    def frame(self) -> int:
        """px of the network's input and of a map."""
        return round(self.crop**2 * self.elongation)

    @property
    def cells(self) -> int:
        """Patches of an image."""
        return round(self.grid**2 * self.elongation)

    @property
    def train_patches(self) -> int:
        """Patches of all training images."""
        return self.train * self.cells

    @property
    def test_patches(self) -> int:
        """Patches of all test images."""
        return self.test * self.cells


def features_bytes(run: Run, network: Network, images: int, elongation: float = 1.0) -> int:
    """A run, its network, a number of images, how much longer than wide they are seen -> bytes of their float16
    features, without the header of the file.
    """
    return images * round(network.grid**2 * elongation) * run.width * 2


def sizes_of(
    run: Run,
    network: Network,
    counts: tuple[int, int],
    *,
    ratio: float,
    batch_images: int,
    pixels: int = MEGAPIXEL,
    threads: int = 2,
    elongation: float = 1.0,
) -> Sizes:
    """A run, its network, (training, test) images -> the sizes of its jobs.

    `ratio` is the share of the patches in the file of the memory bank, `batch_images` the images per pass, `pixels` the
    px of an image's file, `threads` those that decode images, `elongation` how many times longer the longer side of
    the network's input is than the shorter.
    """
    side = network.grid
    cells = round(side**2 * elongation)
    patches = counts[0] * cells
    kept, used = (max(1, int(patches * share)) for share in (ratio, run.coreset))  # as memory_bank.coreset_size
    return Sizes(
        train=counts[0],
        test=counts[1],
        pixels=pixels,
        threads=threads,
        batch_images=batch_images,
        backbone=run.backbone,
        parameters=network.parameters,
        crop=run.crop,
        grid=side,
        elongation=elongation,
        width=run.width,
        learnt=run.method != "patchcore",
        dim=run.dim,
        projection_dim=run.projection_dim,
        batch=run.batch if run.batches == "all" else cells / count_batches(cells, run.batch),
        principal=run.method != "patchcore" and run.init == "pca",
        epochs=run.epochs,
        coreset_dim=run.coreset_dim,
        kept=kept,
        used=used,
        neighbours=run.neighbours,
    )


# --- memory ----------------------------------------------------------------------------------------------------------


def features_file(patches: int, width: int) -> tuple[float, float]:
    """Patches of float16 features -> (MB of their file that are mapped, MB that a block of its rows is copied to)."""
    size = patches * width * 2
    return (size / MB, 0.0) if size <= RESIDENT else (0.0, min(patches, CHUNK) * width * 2 / MB)


def block_mb(patches: int, width: int, dim: int, neighbours: int = 1) -> float:
    """MB of representing patches block by block: float32 features beside their result and the result of the last block.

    With more than one neighbour a result, its differences to one neighbour and what their norm takes come later.
    """
    rows, last = min(patches, CHUNK), int(patches > CHUNK)
    return rows * 4 * max(width + dim * (1 + last), 4 * dim * int(neighbours > 1)) / MB


def metrics_mb(images: int, frame: int) -> float:
    """MB of the maps and masks of some images, of so many px each, and of what the metrics make of them.

    That is the sorted normal pixels and which of all are normal; the anomalous ones, few, in several arrays of 8
    bytes; and for both kinds 4,096 bins and gaps per image, once more while they are joined.
    """
    return (images * frame * (4 + 1 + 4 + 1 + 2) + images * 8192 * 8 * 3) / MB


def search_memory(sizes: Sizes, patches: int) -> Memory:
    """Patches to score -> memory of the search: the bank beside the index of its used rows, and one image's patches."""
    mapped, _ = features_file(patches, sizes.width)
    rows = max(2 * sizes.kept, sizes.kept + sizes.used)  # mapped and copied while it is read
    image = block_mb(sizes.cells, sizes.width, sizes.dim, sizes.neighbours)
    return Memory(rows * sizes.dim * 4 / MB + image + patches * 16 / MB, mapped)


def index_memory(sizes: Sizes) -> Memory:
    """Each thread holds an image."""
    return Memory(sizes.threads * sizes.pixels * DECODED / MB)


def _images_of_pass(sizes: Sizes, batch: int) -> int:
    """Images that go through the network at a time, as `features.passes` chooses them: the px of a batch of squares."""
    return max(1, int(batch / sizes.elongation))


def extraction_memory(sizes: Sizes) -> Memory:
    """The network, a pass with its activations and patches, and an image for each thread.

    While it is prepared, the network's float32 weights are held three times: as made, folded, and as oneDNN wants
    them. A patch passes as two terms of a convolution, their sum and the resized level, in float32, into float16; the
    features of a batch wait for its last pass. Two batches of images wait beside the one under way.
    """
    network = 12 * sizes.parameters / MB
    images = _images_of_pass(sizes, sizes.batch_images)
    patches = sizes.cells * sizes.width * (12 * images + 2 * sizes.batch_images) / MB
    activations = ACTIVATIONS.get(sizes.backbone.split(".")[0], OTHER_ACTIVATIONS)
    batch = sizes.frame * (images * activations + sizes.batch_images * 3 * 3) / MB
    return Memory(network + batch + patches + sizes.threads * sizes.pixels * DECODED / MB)


def masks_memory(sizes: Sizes) -> Memory:
    """One mask as in its file, as an array, compared and as 0 and 255; and all at the size of the maps, twice."""
    return Memory((defects_bytes(sizes) + 2 * sizes.test * sizes.frame + 4 * sizes.pixels) / MB)


def defects_bytes(sizes: Sizes) -> int:
    """Bytes of the defects one by one, about one on every test image, and once more while they are joined or chosen."""
    return 2 * sizes.test * sizes.frame if sizes.by_defect else 0


def kinds_bytes(sizes: Sizes) -> int:
    """Bytes of the defects, and of the maps and masks of one kind of anomalies beside those of all."""
    return defects_bytes(sizes) + 5 * sizes.test * sizes.frame if sizes.by_defect else 0


def principal_mb(sizes: Sizes) -> float:
    """MB of finding the principal directions of patches, if f begins so: a block, as read and in float64, and square
    matrices of float64, among them two that LAPACK works in.
    """
    width = sizes.width
    return (BLOCK * width * (2 + 8) + 6 * width**2 * 8) / MB if sizes.principal else 0.0


def training_memory(sizes: Sizes) -> Memory:
    """The (batch, batch) similarities and distances; a batch in float16, in float32 and centred; an epoch's order; and
    of both layers student, teacher, two moments of the optimiser and gradients.
    """
    mapped = features_file(sizes.train_patches, sizes.width)[0]
    pairs = 2 * sizes.batch**2 * 4
    rows = sizes.batch * (sizes.width * 6 + sizes.projection_dim * 32)
    layers = (sizes.width * sizes.dim + sizes.dim * sizes.projection_dim) * 4 * 6
    return Memory(max(principal_mb(sizes), (pairs + rows + layers + sizes.train_patches * 16) / MB), mapped)


def bank_memory(sizes: Sizes) -> Memory:
    """The largest of three moments: projecting and selecting, representing the kept rows, writing them. An untrained f
    may need its principal directions before.

    First all projected patches lie beside a block of features, then beside bounds and indices (once also whether each
    value is finite) and twice the picks. Then the kept rows lie beside a block of them, read into memory; the last
    block of representations stays until then. At the end there are the kept rows and the copy that is written.
    """
    patches, width, dim, kept = sizes.train_patches, sizes.width, sizes.dim, sizes.kept
    mapped, copied = features_file(patches, width)
    d, part = min(dim, sizes.coreset_dim), copied + block_mb(patches, width, dim)
    projected = patches * d * 4 / MB
    greedy = (patches * (24 + d) + kept * (2 * d * 4 + 8)) / MB
    rows, last = (n * dim * 4 / MB for n in (kept, (patches - 1) % CHUNK + 1))
    again = min(kept, CHUNK) * width * 2 / MB + block_mb(kept, width, dim)
    held = max(projected + max(part, last + greedy), rows + last + again, 2 * rows, principal_mb(sizes))
    return Memory(held, mapped)


def score_memory(sizes: Sizes) -> Memory:
    """The search, then the metrics; the bank stays until the end, its index and the block do not."""
    search = search_memory(sizes, sizes.test_patches)
    later = (sizes.kept * sizes.dim * 4 + kinds_bytes(sizes)) / MB + metrics_mb(sizes.test, sizes.frame)
    return Memory(max(search.held, later), search.mapped)


def submission_memory(sizes: Sizes) -> Memory:
    """Network and bank at the same time, and a map of an image's own size, once in float64 and twice in float32."""
    maps = sizes.pixels * 16 / MB
    return Memory(extraction_memory(sizes).held + search_memory(sizes, sizes.cells).held + maps)


def training_scores_memory(sizes: Sizes) -> Memory:
    """The search for the patches of the training images."""
    return search_memory(sizes, sizes.train_patches)


def ensemble_memory(sizes: Sizes) -> Memory:
    """The scores of all members, then the sum of the maps and one member's, or the metrics."""
    references = sizes.train_patches if sizes.references else 0
    scores = sizes.members * (sizes.test_patches * 4 + references * 4 + sizes.test**2 * 8)
    maps = sizes.test * sizes.frame * 4 * 2
    return Memory(scores / MB + max(maps / MB, kinds_bytes(sizes) / MB + metrics_mb(sizes.test, sizes.frame)))


def table_memory(sizes: Sizes) -> Memory:
    """Which image of each pair won, for every result."""
    return Memory(sizes.results * (2 * sizes.test**2 * 4 + 60_000) / MB)


def pictures_memory(sizes: Sizes) -> Memory:
    """Panels of a figure, each resampled in colours of 8 bytes."""
    return Memory(38 * sizes.panels * sizes.frame / MB)


# --- memory of a GPU: MB of the arrays there. None of this was measured -----------------------------------------------


def extraction_gpu(sizes: Sizes) -> float:
    """The network, as it was made and folded, and a batch with its activations and patches."""
    activations = ACTIVATIONS.get(sizes.backbone.split(".")[0], OTHER_ACTIVATIONS)
    image = sizes.frame * (activations + 3 * 5) + sizes.cells * sizes.width * 14
    return (8 * sizes.parameters + _images_of_pass(sizes, sizes.gpu_batch_images) * image) / MB


def training_gpu(sizes: Sizes) -> float:
    """All patches in float16; five matrices of pairs; a batch and the layers as in the processor's memory."""
    resident = training_memory(replace(sizes, train=0, principal=False)).held
    return (sizes.train_patches * sizes.width * 2 + 3 * sizes.batch**2 * 4) / MB + resident


def bank_gpu(sizes: Sizes) -> float:
    """The projected patches, and their differences to the last pick."""
    return 2 * sizes.train_patches * min(sizes.dim, sizes.coreset_dim) * 4 / MB


def search_gpu(sizes: Sizes) -> float:
    """The centred bank, and the distances of a block of it to the patches of an image."""
    return (sizes.used * sizes.dim + min(PAIRS, sizes.cells * sizes.used)) * 4 / MB


# --- time: each returns seconds of work on one core, and the part of them that is dense -------------------------------

Work = tuple[float, float]


def product(n: float, k: int, m: int, rate: float = SEARCH_RATE) -> float:
    """Seconds of the matrix product (n, k) x (k, m) on one core."""
    return 2 * n * k * m / rate


def network_seconds(backbone: str, parameters: int, frame: int) -> float:
    """Seconds of a network's forward pass of one image; for unknown networks from the number of parameters."""
    per_parameter, rate = OTHER_NETWORK
    adds, rate = NETWORKS.get(backbone.split(".")[0], (per_parameter * parameters, rate))
    return 2 * adds * frame / rate


def principal_seconds(sizes: Sizes) -> float:
    """Seconds of finding the principal directions of patches, if f begins so: half of the products, in float64."""
    return product(sizes.train_patches, sizes.width, sizes.width) if sizes.principal else 0.0


def represent_seconds(sizes: Sizes, patches: int) -> float:
    """Seconds of reading the features of patches and representing them, by f or by pooling."""
    values = patches * sizes.width
    made = product(patches, sizes.width, sizes.dim) if sizes.learnt else values * POOL_VALUE
    return values * 2 * READ_BYTE + made


def search_work(sizes: Sizes, patches: int) -> Work:
    """Patches are represented, and compared with every row of the bank, which a GPU does; for reweighting also the rows
    that each image finds with all rows, and differences to their neighbours.
    """
    dense, reweighting = product(patches, sizes.dim, sizes.used), 0.0
    if sizes.neighbours > 1:
        images = patches / sizes.cells
        found = images * min(sizes.cells, sizes.used)
        dense += product(found, sizes.dim, sizes.used)
        reweighting = patches * sizes.neighbours * sizes.dim * REWEIGHT_VALUE
    return represent_seconds(sizes, patches) + dense + reweighting, dense


def index_work(sizes: Sizes) -> Work:
    """Every image of the category is read."""
    return (sizes.train + sizes.test) * sizes.pixels * INDEX_PIXEL, 0.0


def extraction_work(sizes: Sizes) -> Work:
    """The network is prepared, and every image decoded, passed through it, and its patches written."""
    images, values = sizes.train + sizes.test, sizes.cells * sizes.width
    dense = images * (network_seconds(sizes.backbone, sizes.parameters, sizes.frame) + values * PATCH_VALUE)
    files = images * (sizes.pixels * DECODE_PIXEL + values * 2 * WRITE_BYTE)
    return LOAD_NETWORK + sizes.parameters * LOAD_PARAMETER + files + dense, dense


def masks_work(sizes: Sizes) -> Work:
    """Every mask of the test images is read and scaled."""
    return sizes.test * (sizes.pixels + sizes.frame) * MASK_PIXEL, 0.0


def training_work(sizes: Sizes) -> Work:
    """A step multiplies both layers, of student and teacher, projects, compares all pairs by either, and takes
    gradients: of the projections, and of both layers through their product. Then come passes over pairs, layers and
    batch.
    """
    patches, width, dim, out = sizes.train_patches, sizes.width, sizes.dim, sizes.projection_dim
    steps = count_batches(patches, sizes.batch)
    n = patches / steps
    layers = 4 * product(out, dim, width, TRAINING_RATE)  # two forward, two back
    rows = 3 * product(n, width, out, TRAINING_RATE)  # two forward, one back
    # Of two matrices of distances, the half from the diagonal on and half of the blocks on it; one gradient.
    pairs = (2 + min(1.0, BLOCK_ROWS / n)) * product(n * n, out, 1, TRAINING_RATE)
    passes = STEP + n**2 * STEP_PAIR + (width + out) * dim * STEP_PARAMETER + n * (width + 8 * out) * STEP_VALUE
    work = sizes.epochs * steps * (layers + rows + pairs + passes)
    return principal_seconds(sizes) + work, work


def bank_work(sizes: Sizes) -> Work:
    """An untrained f may begin with principal directions. Patches are represented, projected and selected, and the kept
    rows represented again.
    """
    patches, dim = sizes.train_patches, sizes.dim
    d = min(dim, sizes.coreset_dim)
    projected = product(patches, dim, d) if dim > d else 0.0
    greedy = patches * d * GREEDY_VALUE * sizes.kept**GREEDY_POWER
    return principal_seconds(sizes) + represent_seconds(sizes, patches + sizes.kept) + projected + greedy, 0.0


def score_work(sizes: Sizes) -> Work:
    """The search for the test images' patches, then maps and metrics."""
    work, dense = search_work(sizes, sizes.test_patches)
    return work + sizes.test * sizes.frame * MAP_PIXEL, dense


def submission_work(sizes: Sizes) -> Work:
    """The test images without truth pass the network and the search; a map of each is enlarged and written twice."""
    images = replace(sizes, train=0)
    parts = [extraction_work(images), search_work(images, images.test_patches)]
    written = sizes.test * sizes.pixels * (MAP_PIXEL + 4 * WRITE_BYTE)
    return sum(work for work, _ in parts) + written, sum(dense for _, dense in parts)


def training_scores_work(sizes: Sizes) -> Work:
    """The search for the training images' patches."""
    return search_work(sizes, sizes.train_patches)


def ensemble_work(sizes: Sizes) -> Work:
    """The members' maps are made anew, and the metrics."""
    return sizes.test * sizes.frame * MAP_PIXEL * (1 + sizes.members / 4), 0.0


def table_work(sizes: Sizes) -> Work:
    """Every result is read and resampled."""
    return sizes.results * (TABLE_RESULT + sizes.test * TABLE_IMAGE), 0.0


def pictures_work(sizes: Sizes) -> Work:
    """Every panel is drawn."""
    return PICTURE + sizes.panels * sizes.frame * PICTURE_PIXEL, 0.0
