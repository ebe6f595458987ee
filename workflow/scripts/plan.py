"""Write the plan: one row per experiment, category and run."""

from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from reconpatch.files import write_text
from reconpatch.jobs import job

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with job(snakemake.log[0], "plan"):
    write_text(Path(snakemake.output[0]), pd.DataFrame(snakemake.params.rows).to_csv(index=False))
