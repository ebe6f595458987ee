"""What the published data sets contain: categories, numbers of images, kinds of anomalies, sizes.

Facts alone, from the sources that `sources` names; what could not be established is left out. The key of a data set is
the name of its layout (`layouts.LAYOUTS`). Whatever stands here is part of the code of the stages that compare a copy
with it; what only people read stands in `sources`, and what groups categories in `natures`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple


class Counts(NamedTuple):
    """Images of a category. `unlabelled` are those whose truth only a server knows."""

    train: int
    normal: int
    defective: int
    validation: int = 0
    unlabelled: int = 0


@dataclass(frozen=True)
class Contents:
    """What one data set contains. Without `counts` its categories alone are known."""

    counts: Mapping[str, Counts] = field(default_factory=dict)  # of each category, in order
    others: tuple[str, ...] = ()  # categories whose counts are not known
    # Kinds of anomalies that are measured apart -> the defect types of each.
    kinds: Mapping[str, frozenset[str]] = field(default_factory=dict)
    defect_types: frozenset[str] = frozenset()  # folders of test images, where they are known; `ok` is called good
    smallest: int = 0  # px, the shorter side of its smallest images; 0 where not known
    compressed: bool = False  # whether the originals are JPEG files

    @property
    def categories(self) -> list[str]:
        """Names of its categories."""
        return [*self.counts, *self.others]


CONTENTS: dict[str, Contents] = {
    "mvtec_ad": Contents(
        counts={
            "bottle": Counts(209, 20, 63),
            "cable": Counts(224, 58, 92),
            "capsule": Counts(219, 23, 109),
            "hazelnut": Counts(391, 40, 70),
            "metal_nut": Counts(220, 22, 93),
            "pill": Counts(267, 26, 141),
            "screw": Counts(320, 41, 119),
            "toothbrush": Counts(60, 12, 30),
            "transistor": Counts(213, 60, 40),
            "zipper": Counts(240, 32, 119),
            "carpet": Counts(280, 28, 89),
            "grid": Counts(264, 21, 57),
            "leather": Counts(245, 32, 92),
            "tile": Counts(230, 33, 84),
            "wood": Counts(247, 19, 60),
        },
        smallest=700,
    ),
    "btad": Contents(
        counts={
            "01": Counts(400, 21, 49),
            "02": Counts(399, 30, 200),
            "03": Counts(1000, 400, 41),
        },
        defect_types=frozenset({"good", "ko"}),
        smallest=600,
    ),
    "visa": Contents(
        counts={
            "candle": Counts(900, 100, 100),
            "capsules": Counts(542, 60, 100),
            "cashew": Counts(450, 50, 100),
            "chewinggum": Counts(453, 50, 100),
            "fryum": Counts(450, 50, 100),
            "macaroni1": Counts(900, 100, 100),
            "macaroni2": Counts(900, 100, 100),
            "pcb1": Counts(904, 100, 100),
            "pcb2": Counts(901, 100, 100),
            "pcb3": Counts(905, 101, 100),
            "pcb4": Counts(904, 101, 100),
            "pipe_fryum": Counts(450, 50, 100),
        },
        compressed=True,
    ),
    "mvtec_loco": Contents(
        counts={
            "breakfast_box": Counts(351, 102, 173, 62),
            "juice_bottle": Counts(335, 94, 236, 54),
            "pushpins": Counts(372, 138, 172, 69),
            "screw_bag": Counts(360, 122, 219, 60),
            "splicing_connectors": Counts(360, 119, 193, 60),
        },
        kinds={"logical": frozenset({"logical_anomalies"}), "structural": frozenset({"structural_anomalies"})},
        defect_types=frozenset({"good", "logical_anomalies", "structural_anomalies"}),
        smallest=800,
    ),
    "mpdd": Contents(
        counts={
            "bracket_black": Counts(289, 32, 47),
            "bracket_brown": Counts(185, 26, 51),
            "bracket_white": Counts(110, 30, 30),
            "connector": Counts(128, 30, 14),
            "metal_plate": Counts(54, 26, 71),
            "tubes": Counts(122, 32, 69),
        },
    ),
    "mvtec_ad_2": Contents(
        counts={
            "can": Counts(412, 72, 90, 46, 642),
            "fabric": Counts(387, 66, 90, 43, 628),
            "fruit_jelly": Counts(263, 20, 60, 37, 510),
            "rice": Counts(313, 42, 90, 35, 554),
            "sheet_metal": Counts(137, 24, 90, 19, 284),
            "vial": Counts(291, 35, 105, 41, 552),
            "wallplugs": Counts(293, 60, 90, 33, 464),
            "walnuts": Counts(432, 60, 90, 48, 456),
        },
        defect_types=frozenset({"bad", "good"}),
        smallest=1024,
    ),
    "dtd_synthetic": Contents(
        others=(
            "Blotchy_099",
            "Fibrous_183",
            "Marbled_078",
            "Matted_069",
            "Mesh_114",
            "Perforated_037",
            "Stratified_154",
            "Woven_001",
            "Woven_068",
            "Woven_104",
            "Woven_125",
            "Woven_127",
        ),
    ),
}


def category_counts(layout: str) -> Mapping[str, Counts]:
    """Layout of a data set -> the published images of each of its categories; none where they are not known."""
    return CONTENTS[layout].counts if layout in CONTENTS else {}


def kinds_of(layout: str) -> Mapping[str, frozenset[str]]:
    """Layout of a data set -> its kinds of anomalies that are measured apart, with the defect types of each."""
    return CONTENTS[layout].kinds if layout in CONTENTS else {}
