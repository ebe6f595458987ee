"""Figures, one module for each kind of drawing, so that an edit of one redraws no other.

`maps` draws test images with their anomaly maps and histograms of scores, `sweeps` draws experiments and training,
`effects` draws what each row of a table changes, `embedding` patches by UMAP, `ranks` methods over categories. `common`
holds what all of them share. `pipeline.figures` uses this room, and the page of `reconpatch evaluate`.
"""

__all__ = ["common", "effects", "embedding", "maps", "ranks", "sweeps"]
