"""The steps of the workflow as functions: what each job reads, computes and writes.

There is one module for each step, because Snakemake runs a step again when a module that its script imports has
changed. Steps take paths and plain settings and know nothing of Snakemake; `from_snakemake` alone reads its object, and
`job` is what every step runs in. Only `workflow/scripts` and tests call this room.
"""

__all__ = [
    "coreset",
    "ensemble",
    "features",
    "figures",
    "from_snakemake",
    "index",
    "job",
    "masks",
    "plan",
    "report",
    "score",
    "submission",
    "thumbnails",
    "training",
    "training_scores",
    "weights",
]
