"""Write the plan: one row per experiment, category and run."""

import csv
from pathlib import Path
from typing import TYPE_CHECKING

from reconpatch.files import replacing
from reconpatch.pipeline.job import job

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with job(snakemake.log[0], "plan"):
    rows = list(snakemake.params.rows)
    columns = list(dict.fromkeys(column for row in rows for column in row))  # an ensemble's row has others than a run's
    with replacing(Path(snakemake.output[0])) as path, open(path, "w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, columns, lineterminator="\n")
        table.writeheader()
        table.writerows(rows)
