"""The steps of the workflow as functions: what each job reads, computes and writes.

One module a step, because a step is run again when a module that its script imports changes: `index`, `masks`,
`features`, `training`, `coreset`, `score`, `training_scores`, `ensemble`, `plan`, `weights`,
`report` and `figures`. Steps take paths and plain
settings and know nothing of Snakemake; `from_snakemake` alone reads its object. Only `workflow/scripts` and tests call
this room.
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
    "training",
    "training_scores",
    "weights",
]
