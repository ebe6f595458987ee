"""The method of the paper, as arrays in and arrays out. Other subpackages use only the modules in `__all__`.

A photograph goes through them in this order: `backbones` (the pretrained network), `patches` and `features` (patch
features, written to disk), `training` (f, g and their teacher) with `loss` (equations 1 to 8; on a processor
`fused_training` and `fused_loss` do the same by rows), `memory_bank` with `coreset`, `search`, `scoring` (equations 9
and 10, maps), `ensemble`, and `metrics` with `bootstrap` (intervals) and `saturated` (defects of which a part must be
found).

Nothing here knows of configuration files, of the workflow or of records. Modules that need not import PyTorch do not.
"""

__all__ = [
    "backbones",
    "batching",
    "bootstrap",
    "coreset",
    "cuda_graph",
    "embedded",
    "ensemble",
    "feature_files",
    "features",
    "initialisation",
    "levels",
    "loss",
    "memory_bank",
    "metrics",
    "patches",
    "pretrained",
    "rows",
    "saturated",
    "scoring",
    "search",
    "training",
    "training_settings",
]
