"""What is written on figures: panels' titles and the line below that says how the numbers were made."""

from collections.abc import Sequence

from reconpatch.errors import ReconpatchError
from reconpatch.records.record import Record
from reconpatch.results.names import METHODS


def panels(records: Sequence[Record]) -> list[str]:
    """records of one figure -> a title for each: its method, and its run where methods repeat.

    Raises ReconpatchError when their images or maps are not of one geometry and so cannot stand side by side.
    """
    for key in ("resize", "crop", "interpolation", "blur", "augment", "mask_rule"):
        values = [record.description.get(key) for record in records]
        if len(set(values)) > 1:
            raise ReconpatchError(f"figures: the runs drawn differ in {key}: {values}; choose one value under figures")
    titles = [METHODS[record.description["method"]] for record in records]
    return [f"{t} {r.run}" if titles.count(t) > 1 else t for t, r in zip(titles, records, strict=True)]


def footnote(records: Sequence[Record]) -> str:
    """records of one figure -> the line below it: backbone, weights, settings of the runs and every flag."""
    backbones = sorted({f"{r.description['backbone']} ({r.weights.source} weights)" for r in records})
    settings = sorted({f"{r.description['dim']} dimensions, coreset {r.description['coreset']:g}" for r in records})
    shown = settings if len(settings) < 3 else []  # a sweep's axis says what differs
    return "; ".join([*backbones, *shown, *sorted({str(flag) for record in records for flag in record.flags})])
