"""ReConPatch (Hyun et al., WACV 2024) on top of PatchCore: one module a concept, in the order data flows.

config, plan -> data, sample, images -> backbones, patches, features -> recon, training -> coreset, memory
-> scoring -> metrics -> records -> tables, figures, report. For photographs of one's own: photographs, geometry ->
fitting -> threshold, saved -> detector -> overlays, behind `estimator.ReConPatch` and `commands`.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from reconpatch.detector.estimator import ReConPatch

__all__ = ["ReConPatch"]


def __getattr__(name: str) -> object:
    """`reconpatch.ReConPatch`, imported when it is asked for: it takes seconds, and most jobs do not need it."""
    if name == "ReConPatch":
        from reconpatch.detector.estimator import ReConPatch

        return ReConPatch
    raise AttributeError(f"module 'reconpatch' has no attribute {name!r}")
