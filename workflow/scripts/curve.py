"""Draw one category's loss, mean pairwise similarity and AUROC over epochs."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

from reconpatch.errors import ReconpatchError
from reconpatch.pipeline.job import job
from reconpatch.records.record import read_record
from reconpatch.results.captions import footnote
from reconpatch.results.figures.maps import save
from reconpatch.results.figures.sweeps import curve

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

with job(snakemake.log[0], f"curve {snakemake.wildcards.category}"):
    records = [read_record(Path(file)) for file in snakemake.input.runs]
    ours = [r for r in records if r.description["method"] == "reconpatch"]
    theirs = [r for r in records if r.description["method"] == "patchcore"]
    if len(snakemake.input.training) != len(ours) or len(set(snakemake.input.training)) != 1:
        raise ReconpatchError("figures: curve: draws one training of ReconPatch; choose axis values that leave one")
    epochs = json.loads(Path(snakemake.input.training[0]).read_text())["epochs"]
    ours.sort(key=lambda r: r.description.get("epoch") or r.description["epochs"])
    names = ("image_auroc", "pixel_auroc")
    figure = curve(
        [e["epoch"] for e in epochs],
        [e["loss"] for e in epochs],
        [e["pairwise"] for e in epochs],
        [r.description.get("epoch") or r.description["epochs"] for r in ours],
        *([100 * (r.metrics[name] or float("nan")) for r in ours] for name in names),
        tuple(100 * (theirs[0].metrics[name] or float("nan")) for name in names) if theirs else None,
    )
    save(figure, Path(snakemake.output[0]), footnote(records))
