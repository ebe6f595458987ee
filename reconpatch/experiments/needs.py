"""Peak memory of one job of every stage, from the arrays its code allocates: MB of 10^6 bytes, as Snakemake counts.

A process also holds what it imports, measured with the locked packages on Linux: torch alone is 0.8 GB, as it brings
CUDA. Bases are rounded up, so that a prediction is seldom too low. Pages of a mapped file count in a process's
high-water mark while they lie in memory, but the system takes them back when it needs them: they are kept apart. On a
GPU nothing was measured.
"""

from dataclasses import dataclass
from typing import NamedTuple

from reconpatch.method.feature_files import RESIDENT

MB = 1e6
BLOCK = 65536  # patches represented at a time: memory.CHUNK, whose module costs the import of faiss

# MB of a process that has imported what the script needs and done its work on a few small images.
IMPORTS = {
    "extract_features": 1000,
    "train_representation": 1000,
    "select_coreset": 370,  # with what compiles its loops, the first time
    "score_run": 300,
    "score_training": 270,
    "combine_ensemble": 85,
}
# Whole jobs whose memory hardly depends on sizes.
SMALL = {
    "draw_sample": 90,
    "fetch_weights": 1500,
    "write_plan": 36,
    "draw_histogram": 100,
    "draw_umap": 680,
    "draw_positions": 680,
    "draw_curve": 100,
    "draw_sweep": 140,
    "report": 60,
}

# MB of the two Snakemakes around a job of a cluster: 188 MB each with the smoke run's plan, 193 MB with the paper's.
AROUND = 400
CUDA = 2000  # MB of host memory of a job of a cluster that computes on a GPU: not measured, and rather too much

# timm architecture -> bytes a pixel of the batch that its largest activations take beside each other, measured on a CPU
# at 224 to 480 px, with the holes they leave in the heap.
ACTIVATIONS = {
    "resnet18": 120,
    "wide_resnet50_2": 570,
    "wide_resnet101_2": 850,
    "resnext101_32x8d": 930,
    "densenet201": 1000,
    "tf_efficientnet_lite0": 200,
    "tf_efficientnet_lite2": 250,
}
UNKNOWN = 1000  # most need less
DECODED = 9  # bytes a pixel of a photograph: as read and turned, then as RGB, 4 each, beside its file


class Network(NamedTuple):
    """What timm says of a backbone: the stride of the first level wanted, parameters up to the last."""

    stride: int
    parameters: int


@dataclass(frozen=True)
class Need:
    """Memory of a job in MB: its own, and of mapped files, which the system takes back where it is short."""

    held: float
    mapped: float = 0.0

    @property
    def mb(self) -> int:
        """What the job asks of Snakemake, and its predicted high-water mark."""
        return round(self.held + self.mapped)


def features_file(patches: int, width: int) -> tuple[float, float]:
    """Patches of float16 features -> (MB of their file that are mapped, MB a block of its rows is copied to)."""
    size = patches * width * 2
    return (size / MB, 0.0) if size <= RESIDENT else (0.0, min(patches, BLOCK) * width * 2 / MB)


def block(patches: int, width: int, dim: int, neighbours: int = 1) -> float:
    """MB of representing patches a block at a time: float32 features beside their result, and the last block's until
    that is there. With more neighbours than one, then a result, its differences to one and what their norm takes.
    """
    rows, again = min(patches, BLOCK), int(patches > BLOCK)
    return rows * 4 * max(width + dim * (1 + again), 4 * dim * int(neighbours > 1)) / MB


def index(pixels: int, threads: int) -> Need:
    """px of an image, threads -> memory of indexing a category: each thread holds an image."""
    return Need(50 + threads * pixels * DECODED / MB)


def extraction(
    backbone: str, parameters: int, crop: int, grid: int, width: int, batch: int, image: int, threads: int
) -> Need:
    """Network, its parameters, px of the crop, patches along a side, their width, images a pass, px of an image's file,
    threads that decode -> memory of extraction.

    Preparing the network holds its float32 weights three times: as made, folded, and as oneDNN wants them. A patch
    passes as two convolutions' terms, their sum and the resized level, float32, into float16. Images at the size of the
    crop wait, two batches and the one under way; each thread holds one as it was.
    """
    network = 12 * parameters / MB
    patches = batch * grid**2 * width * 14 / MB
    pixels = batch * crop**2 * (ACTIVATIONS.get(backbone.split(".")[0], UNKNOWN) + 3 * 3) / MB
    return Need(IMPORTS["extract_features"] + network + pixels + patches + threads * image * DECODED / MB)


def training(patches: int, width: int, dim: int, projection_dim: int, batch: int) -> Need:
    """Patches, their width, sizes of f and g, patches a batch -> memory of training.

    The (batch, batch) similarities and distances, a batch in float16 and float32 and centred, the order of an epoch;
    of both layers student, teacher, two moments of the optimiser and gradients.
    """
    mapped = features_file(patches, width)[0]
    pairs = 2 * batch**2 * 4
    rows = batch * (width * 6 + projection_dim * 32)
    layers = (width * dim + dim * projection_dim) * 4 * 6
    return Need(IMPORTS["train_representation"] + (pairs + rows + layers + patches * 16) / MB, mapped)


def bank(patches: int, width: int, dim: int, coreset_dim: int, kept: int) -> Need:
    """Patches, their width, sizes of representation and projection, rows kept -> memory of the coreset.

    First all projected patches beside a block of features, then beside bounds and indices (and once whether each value
    is finite), and the picks twice; then the rows kept beside a block of them, read into memory. The last block of
    representations stays till then. At the end the rows kept and the copy that is written.
    """
    mapped, copied = features_file(patches, width)
    d, part = min(dim, coreset_dim), copied + block(patches, width, dim)
    projected = patches * d * 4 / MB
    greedy = (patches * (24 + d) + kept * (2 * d * 4 + 8)) / MB
    rows, last = (n * dim * 4 / MB for n in (kept, (patches - 1) % BLOCK + 1))
    again = min(kept, BLOCK) * width * 2 / MB + block(kept, width, dim)
    most = max(projected + max(part, last + greedy), rows + last + again, 2 * rows)
    return Need(IMPORTS["select_coreset"] + most, mapped)


def search(patches: int, width: int, dim: int, loaded: int, used: int, neighbours: int) -> tuple[float, float]:
    """Patches to score, their width and dimension, rows of the bank in its file and used, neighbours -> (held, mapped).

    The bank beside the index made of its first rows, a block, and what the search multiplies at a time.
    """
    mapped, copied = features_file(patches, width)
    bank_mb = max(2 * loaded, loaded + used) * dim * 4 / MB  # mapped and copied while it is read
    return bank_mb + copied + block(patches, width, dim, neighbours) + patches * 16 / MB, mapped


def metrics(images: int, crop: int) -> float:
    """MB of maps and masks and what the metrics make of them: the sorted normal pixels and which of all are normal; the
    others, few, in several arrays of 8 bytes; of both kinds 4,096 bins and gaps an image, one more while joined.
    """
    return (images * crop**2 * (4 + 1 + 4 + 1 + 2) + images * 8192 * 8 * 3) / MB


def score(patches: int, width: int, dim: int, loaded: int, used: int, neighbours: int, images: int, crop: int) -> Need:
    """As `search`, and the test images with the px of their maps -> memory of scoring a run. The bank stays till the
    end, the index and the block do not.
    """
    held, mapped = search(patches, width, dim, loaded, used, neighbours)
    later = loaded * dim * 4 / MB + metrics(images, crop)
    return Need(IMPORTS["score_run"] + max(held, later), mapped)


def training_scores(patches: int, width: int, dim: int, loaded: int, used: int, neighbours: int) -> Need:
    """As `search`, of the training images."""
    held, mapped = search(patches, width, dim, loaded, used, neighbours)
    return Need(IMPORTS["score_training"] + held, mapped)


def ensemble(images: int, crop: int, patches: int, references: int, members: int) -> Need:
    """Test images, px of their maps, patches of all and of the training images where they are needed, members -> memory
    of an ensemble: the scores of all members, the sum of the maps and one member's, or one member's reference in
    double precision; then the metrics.
    """
    scores = members * (patches * 4 + references * 4 + images**2 * 8)
    maps = images * crop**2 * 4 * 2
    return Need(IMPORTS["combine_ensemble"] + scores / MB + max(maps / MB, metrics(images, crop)))


def masks(images: int, crop: int, pixels: int) -> Need:
    """Test images, px of their masks, of a mask's file -> memory of reading masks: one of grey as in its file, as an
    array, compared and as 0 and 255; each at the size wanted, and all together.
    """
    return Need(48 + (2 * images * crop**2 + 4 * pixels) / MB)


def table(results: int, images: int) -> Need:
    """Results of an experiment, test images of each -> memory of its table: of every result the wins of image pairs."""
    return Need(110 + results * (2 * images**2 * 4 + 60_000) / MB)


def pictures(panels: int, crop: int) -> Need:
    """Panels of a figure, px of their images -> memory of drawing it: each is resampled in colours of 8 bytes."""
    return Need(135 + 38 * panels * crop**2 / MB)
