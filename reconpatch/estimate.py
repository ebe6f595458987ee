"""What a plan will need: images, jobs' memory and disk, from the numbers of files and the shapes, before any job."""

from dataclasses import dataclass
from functools import cache, partial

from reconpatch.config import Run, description, of_training
from reconpatch.data import category_folder, count_images
from reconpatch.plan import Plan, stage_name

BASE_MB = 700  # a process with torch, timm and faiss loaded


@dataclass(frozen=True)
class Estimate:
    """Predicted needs of a plan."""

    features_gb: float  # disk of all feature files together
    largest_gb: float  # of the largest single set of them
    memory_gb: float  # of the largest job, without the memory-mapped features
    largest_job: str


def grid(run: Run) -> int:
    """Patches along a side: level i of a network has a stride of 2^(i+1)."""
    return -(-run.crop // int(2 ** (run.levels[0] + 1)))


def width(run: Run) -> int:
    """Values a patch feature has: PatchCore may pool directly to its dimension."""
    return int(description(run, "features")["feature_dim"])


def image_counts(plan: Plan, dataset: str, category: str) -> tuple[int, int]:
    """(training, test) images of a category; the embedded sample's are not counted."""
    data = plan.dataset(dataset)
    if data.layout == "sample":
        return (0, 0)
    return count_images(data.layout, category_folder(data.layout, plan.root(dataset), category))


def features_bytes(run: Run, images: int) -> int:
    """Disk of the patch features of some images, float16, without the file's header."""
    return images * grid(run) ** 2 * width(run) * 2


def estimate(plan: Plan) -> Estimate:
    """Plan -> predicted disk and memory."""
    features: dict[tuple[str, str, str], int] = {}
    memory, job = 0.0, "none"
    counted = cache(partial(image_counts, plan))
    for name, targets in plan.targets.items():
        for dataset, category in targets:
            train, test = counted(dataset, category)
            for run in (plan.runs[key] for key in plan.members(name) if key in plan.runs):
                for side in (run, of_training(run)):
                    features[dataset, category, stage_name(side, "features")] = features_bytes(run, train + test)
                for needed, what in ((_bank_mb(run, train), "coreset"), (_score_mb(run, train, test), "score")):
                    if needed > memory:
                        memory, job = needed, f"{what} of {dataset}/{category}, {key_of(run)}"
    return Estimate(sum(features.values()) / 1e9, max(features.values(), default=0) / 1e9, memory / 1000, job)


def key_of(run: Run) -> str:
    """The settings of a run that decide its memory, in words."""
    return f"{run.crop} px, levels {'+'.join(map(str, run.levels))}, dim {run.dim}, coreset {run.coreset:g}"


def _bank_mb(run: Run, train: int) -> float:
    """Projected patches and their distances, one chunk of features, the picks twice, projected, and the bank."""
    patches, projected = train * grid(run) ** 2, min(run.coreset_dim, run.dim)
    chunk = 65536 * (width(run) + 2 * run.dim) * 4
    return BASE_MB + (patches * (projected * 4 + 24 + run.coreset * (projected * 8 + run.dim * 4)) + chunk) / 1e6


def _score_mb(run: Run, train: int, test: int) -> float:
    """The bank in memory and in the search index, one chunk of features, and the maps with what the metrics sort."""
    bank = train * grid(run) ** 2 * run.coreset * run.dim * 4
    chunk = 65536 * (width(run) + 2 * run.dim) * 4
    return BASE_MB + (2 * bank + chunk + test * run.crop**2 * 4 * 5) / 1e6
