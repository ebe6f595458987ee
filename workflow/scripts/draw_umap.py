"""Draw UMAP layouts of normal and defective test patches among the memory bank, one panel a method."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from reconpatch.data.index import read_manifest
from reconpatch.method.memory_bank import MemoryBank
from reconpatch.pipeline.job import job
from reconpatch.records.record import read_record
from reconpatch.results.captions import footnote, panels
from reconpatch.results.figures.maps import embed, save, scatter
from reconpatch.rng import stream

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

SHOWN = 500  # patches of each kind at most

with job(snakemake.log[0], f"umap {snakemake.wildcards.category}"):
    records = [read_record(Path(file)) for file in snakemake.input.runs]
    rng = stream(records[0].seed, "umap")
    names, masks = panels(records), np.load(snakemake.input.masks[0])
    tests = [i for i in read_manifest(Path(snakemake.input.manifest))[0] if i.split == "test"]
    normal_images = np.array([item.label == 0 for item in tests])
    layouts = []
    for record, features_file, bank_file in zip(records, snakemake.input.features, snakemake.input.banks, strict=True):
        features, bank = np.load(features_file, mmap_mode="r"), MemoryBank.load(Path(bank_file))
        if not layouts:  # the same test patches for every method
            rows, columns = (((np.arange(n) + 0.5) * masks.shape[1] / n).astype(int) for n in features.shape[1:3])
            defect = masks[:, rows[:, None], columns].ravel()  # whether a patch's centre lies in a defect
            normal = np.repeat(normal_images, len(rows) * len(columns))
            chosen = [rng.permutation(np.flatnonzero(c))[:SHOWN] for c in (normal, defect)]
        kept = rng.permutation(bank.patches[: record.bank["patches"]])[:SHOWN]
        flat = features.reshape(-1, features.shape[-1])
        patches = [bank.representation(flat[np.sort(c)]) for c in chosen]
        layouts.append(embed(np.concatenate([kept, *patches]), records[0].seed))
    groups = np.repeat(["memory bank", "normal patch", "patch in a defect"], [len(kept), *map(len, patches)])
    save(scatter(layouts, groups, names), Path(snakemake.output[0]), footnote(records))
