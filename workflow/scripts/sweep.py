"""Draw an experiment's AUROC over what it sweeps, both methods, with the paper's points."""

from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from reconpatch.pipeline.job import job
from reconpatch.records.record import read_record
from reconpatch.results.captions import footnote
from reconpatch.results.figures.maps import save
from reconpatch.results.figures.sweeps import sweep
from reconpatch.results.make_table import series
from reconpatch.results.names import METRICS

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with job(snakemake.log[0], f"sweep {snakemake.wildcards.experiment}"):
    cells = pd.read_csv(snakemake.input.cells, dtype={"category": str})
    labels = list(snakemake.params.labels)
    records = [read_record(Path(file)) for file in snakemake.input.records]
    shown, x, what = series(cells, labels)
    panels = {METRICS[m]: shown[m] for m in ("image_auroc", "pixel_auroc") if m in shown}
    xlabel = "" if labels == ["variant"] else ", ".join(labels)
    unlike = (cells["verdict"] == "not comparable").any()
    below = footnote(records) + ("; the paper's points are not comparable, see the table's notes" if unlike else "")
    figure = sweep(panels, x, xlabel, f"AUROC × 100, {what}", joined=bool(xlabel))
    save(figure, Path(snakemake.output[0]), below)
