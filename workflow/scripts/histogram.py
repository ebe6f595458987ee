"""Draw one category's histograms of image scores."""

from pathlib import Path
from typing import TYPE_CHECKING

from safetensors.numpy import load_file

from reconpatch.data.index import read_manifest
from reconpatch.pipeline.job import job
from reconpatch.records.record import read_record
from reconpatch.results.captions import footnote, panels
from reconpatch.results.figures.maps import histogram, save

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

import numpy as np

with job(snakemake.log[0], f"histogram {snakemake.wildcards.category}"):
    records = [read_record(Path(file)) for file in snakemake.input.runs]
    scores = [load_file(file)["image"] for file in snakemake.input.scores]
    tests = [i for i in read_manifest(Path(snakemake.input.manifest))[0] if i.split == "test"]
    labels = np.array([item.label for item in tests])
    names = panels(records)
    save(histogram(scores, labels, names), Path(snakemake.output[0]), footnote(records))
