"""The step that draws UMAP layouts of normal and defective test patches among the memory bank, one panel a method."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from reconpatch.data.manifest import read_manifest
from reconpatch.method.memory_bank import MemoryBank
from reconpatch.records.record import read_record
from reconpatch.results.figures.common import panel_titles, save
from reconpatch.results.figures.embedding import embed, scatter
from reconpatch.rng import named_rng

SHOWN = 500  # patches of each kind at most


@dataclass(frozen=True)
class UmapFiles:
    """What the step reads: manifest of the category and, for every run, record, features of the test images, masks and
    memory bank. What it writes: the figure.
    """

    manifest: Path
    runs: list[Path]
    features: list[Path]
    masks: list[Path]
    banks: list[Path]
    figure: Path


def draw_umap(files: UmapFiles, departures: Sequence[str]) -> None:
    """Results of the runs to draw -> figure. The same test patches are drawn for every run."""
    records = [read_record(file) for file in files.runs]
    seed = records[0].seed
    rng = named_rng(seed, "umap")
    names, masks = panel_titles(records), np.load(files.masks[0])
    labels = np.array([item.label for item in read_manifest(files.manifest)[0] if item.split == "test"])
    chosen: list[NDArray[np.int64]] = []
    layouts = []
    for record, features_file, bank_file in zip(records, files.features, files.banks, strict=True):
        features, bank = np.load(features_file, mmap_mode="r"), MemoryBank.load(bank_file)
        if not chosen:
            groups = _normal_and_defective(labels, masks, features.shape[1], features.shape[2])
            chosen = [rng.permutation(np.flatnonzero(group))[:SHOWN] for group in groups]
        kept = rng.permutation(bank.patches[: record.bank.patches])[:SHOWN]
        flat = features.reshape(-1, features.shape[-1])
        patches = [bank.representation(flat[np.sort(rows)]) for rows in chosen]
        layouts.append(embed(np.concatenate([kept, *patches]), seed))
    kinds = np.repeat(["memory bank", "normal patch", "patch in a defect"], [len(kept), *map(len, patches)])
    save(scatter(layouts, kinds, names), files.figure, records, departures)


def _normal_and_defective(
    labels: NDArray[np.int64], masks: NDArray[np.bool_], height: int, width: int
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """((N,) labels, (N, H, W) masks, grid of patches) -> two of (N height width) bool: patches of normal images,
    and patches whose centre lies in a defect.
    """
    rows, columns = (
        ((np.arange(n) + 0.5) * side / n).astype(int) for n, side in zip((height, width), masks.shape[1:], strict=True)
    )
    return np.repeat(labels == 0, height * width), masks[:, rows[:, None], columns].ravel()
