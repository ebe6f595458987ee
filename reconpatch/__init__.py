"""ReConPatch (Hyun et al., WACV 2024) on top of PatchCore.

The package has eight rooms. A room imports only from the rooms below it:

    cli                   the `reconpatch` command
    pipeline, detector    the steps of the workflow; fit, predict and evaluate on your own photographs
    results               tables, figures and the report
    records               what a result says of itself, and whether it follows from what is saved
    experiments           parameters of a run, configuration, plan, stages and what they need
    method, data          the paper's equations on arrays; data sets, photographs and masks

For use from Python: `from reconpatch import ReConPatch`.
"""

from typing import TYPE_CHECKING

from reconpatch.version import VERSION

if TYPE_CHECKING:
    from reconpatch.detector.estimator import ReConPatch

__version__ = VERSION
__all__ = ["ReConPatch", "__version__"]


def __getattr__(name: str) -> object:
    """`reconpatch.ReConPatch`, imported on demand: the import takes seconds, and most jobs do not need it."""
    if name == "ReConPatch":
        from reconpatch.detector.estimator import ReConPatch

        return ReConPatch
    raise AttributeError(f"module 'reconpatch' has no attribute {name!r}")
