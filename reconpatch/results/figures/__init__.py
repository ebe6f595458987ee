"""Figures, one module for each kind of drawing, so that an edit of one redraws no other.

`maps` draws test images with their anomaly maps and histograms of scores, `sweeps` draws experiments and training,
`embedding` draws patches by UMAP, `ranks` compares methods over categories. `common` holds what all of them share. Only
`pipeline.figures` uses this room.
"""

__all__ = ["common", "embedding", "maps", "ranks", "sweeps"]
