from typing import Any

import pytest
from drawing import make_record

from reconpatch.errors import ReconpatchError
from reconpatch.records.record import Record
from reconpatch.results.captions import footnote, panels

GEOMETRY = {"method": "patchcore", "resize": 256, "crop": 224, "interpolation": "bilinear", "blur": 4.0}
GEOMETRY |= {"augment": "none", "mask_rule": "any"}


def drawn(*, flags: tuple[str, ...] = (), source: str = "random", **description: Any) -> Record:
    fields = {"backbone": "net", "dim": 64, "coreset": 0.01}
    return make_record(description=GEOMETRY | fields | description, flags=list(flags), weights={"source": source})


def test_panels_are_named_by_method() -> None:
    assert panels([drawn(), drawn(method="reconpatch")]) == ["PatchCore", "ReConPatch"]
    assert panels([]) == []


def test_methods_that_repeat_are_named_by_run() -> None:
    records = [drawn(), drawn(dim=512).model_copy(update={"run": "dim=512-2"}), drawn(method="reconpatch")]
    assert panels(records) == ["PatchCore base-1", "PatchCore dim=512-2", "ReConPatch"]


@pytest.mark.parametrize(
    ("key", "value", "shown"),
    [
        ("resize", 366, "256, 366"),
        ("crop", 320, "224, 320"),
        ("blur", 2.0, "4.0, 2.0"),
        ("interpolation", "b", "'bi.*'b'"),
        ("augment", "both", "'none', 'both'"),
        ("mask_rule", "official", "'any', 'official'"),
    ],
)
def test_figures_of_different_geometry_are_refused(key, value, shown) -> None:
    with pytest.raises(ReconpatchError, match=rf"differ in {key}: \[{shown}\]; choose one value"):
        panels([drawn(), drawn(**{key: value})])


def test_footnote_tells_backbone_settings_and_flags_once() -> None:
    flag = "untrained (random) weights"
    text = footnote(
        [drawn(flags=(flag,)), drawn(method="reconpatch", flags=(flag, "a flag")), drawn(dim=512, source="file")]
    )
    assert text.split("; ") == [
        *("net (file weights)", "net (random weights)", "512 dimensions, coreset 0.01", "64 dimensions, coreset 0.01"),
        *("a flag", flag),
    ]


def test_footnote_without_flags() -> None:
    assert footnote([drawn(coreset=0.1)]) == "net (random weights); 64 dimensions, coreset 0.1"
