"""The steps that draw figures, one module for each kind, so that an edit of one redraws no other: they read records,
scores and images, and `results.figures` draws.
"""

__all__ = ["curve", "effects", "examples", "histogram", "positions", "ranks", "sweep", "umap"]
