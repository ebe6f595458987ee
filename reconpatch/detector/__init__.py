"""Photographs of your own products: fit a detector on good ones, save it, and find defects on new ones.

`estimator.ReConPatch` is the interface for Python programs, and the command line uses the other modules listed here.
This room calls the same functions of `reconpatch.method` as the workflow, and nothing of the workflow itself.
"""

__all__ = [
    "calibration",
    "comparison",
    "detector",
    "estimator",
    "evaluate",
    "evaluation_page",
    "export",
    "measures",
    "model_folder",
    "photographs",
    "predict",
    "scores_table",
    "settings",
    "threshold",
    "truth",
]
