"""Whether jobs fit into memory, and what to do about a job that needs more."""

from collections.abc import Mapping

from reconpatch.errors import ReconpatchError
from reconpatch.experiments.estimate import Job
from reconpatch.experiments.needs import Need

ADVICE = {
    "index_category": "scale the images",
    "read_masks": "scale the images, or lower crop",
    "extract_features": "lower batch_images, crop or feature_dim, scale very large images",
    "train_representation": "lower batch or dim",
    "select_coreset": "lower coreset, coreset_dim, dim or crop",
    "score_run": "lower coreset, dim or crop",
    "score_training": "lower coreset, dim or crop",
    "combine_ensemble": "lower crop",
}


def check_fits(jobs: Mapping[Job, Need], limit_mb: float) -> None:
    """Raise ReconpatchError, with advice, if the job that holds most holds more than the limit.

    Mapped files do not count: the system takes their memory back, which costs time only.
    """
    if not jobs:
        return
    job = max(jobs, key=lambda j: jobs[j].held)
    if jobs[job].held > limit_mb:
        advice = f"Either {ADVICE[job.rule]}, or use" if job.rule in ADVICE else "Use"
        raise ReconpatchError(
            f"{job.rule} of {'/'.join(filter(None, job[1:]))} needs about {jobs[job].held / 1000:.1f} GB of memory, "
            f"there are {limit_mb / 1000:.1f} GB. {advice} a machine with more, or a cluster. To try all the same, "
            "give the memory to count on: --config memory_gb=N"
        )
