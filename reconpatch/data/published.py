"""What the published data sets contain, to tell an altered or partial copy from the original."""

from collections.abc import Sequence

from reconpatch.data.index import Item
from reconpatch.data.layouts import shown

# Category -> images: (training, normal test, defective test). MVTec AD: as inspected by three independent sources.
# BTAD: the total of 2,540 images and 290 masks is certain, its split is supported by published AUROCs.
KNOWN: dict[str, dict[str, tuple[int, int, int]]] = {
    "mvtec_ad": {
        "bottle": (209, 20, 63),
        "cable": (224, 58, 92),
        "capsule": (219, 23, 109),
        "hazelnut": (391, 40, 70),
        "metal_nut": (220, 22, 93),
        "pill": (267, 26, 141),
        "screw": (320, 41, 119),
        "toothbrush": (60, 12, 30),
        "transistor": (213, 60, 40),
        "zipper": (240, 32, 119),
        "carpet": (280, 28, 89),
        "grid": (264, 21, 57),
        "leather": (245, 32, 92),
        "tile": (230, 33, 84),
        "wood": (247, 19, 60),
    },
    "btad": {"01": (400, 21, 49), "02": (399, 30, 200), "03": (1000, 400, 41)},
}
TEXTURES = frozenset({"carpet", "grid", "leather", "tile", "wood"})  # MVTec AD's; the other ten are objects
DEFECTS = {"btad": {"good", "ko"}}  # where the folders of test/ are known; ok is called good here
REMARK = "data: "  # how a record's flag begins that tells of the data, but forbids no comparison with the paper
SMALLEST = {"mvtec_ad": 700, "btad": 600}  # px, the shorter side of the data set's smallest images


def image_counts(items: Sequence[Item]) -> tuple[int, int, int]:
    """Images of a category -> how many are for training, normal and defective test images."""
    test = [item.label for item in items if item.split == "test"]
    return len(items) - len(test), test.count(0), test.count(1)


def as_published(layout: str, category: str, items: Sequence[Item]) -> bool:
    """Whether a category has as many images of each kind as the published one."""
    return KNOWN.get(layout, {}).get(category) == image_counts(items)


def alterations(layout: str, category: str, items: Sequence[Item]) -> list[str]:
    """Images of a category -> what tells them from the published ones, in words; nothing for other data sets.

    Counts, size and lossless format are compared, not contents.
    """
    if layout not in KNOWN:
        return []
    if category not in KNOWN[layout]:
        return [f"{category} is no category of the published data set"]
    counts, found = image_counts(items), []
    if counts != KNOWN[layout][category]:
        found.append(f"images (training, normal, defective): {counts}, published {KNOWN[layout][category]}")
    strange = sorted({item.defect for item in items} - DEFECTS[layout]) if layout in DEFECTS else []
    if strange:
        found.append(f"defects that the published data do not have: {', '.join(map(shown, strange))}")
    side = min(min(item.width, item.height) for item in items)
    if side < SMALLEST[layout]:
        found.append(f"images scaled down to {side} px")
    if any(item.format in ("JPEG", "MPO") or item.path.lower().endswith((".jpg", ".jpeg")) for item in items):
        found.append("images compressed again (JPEG)")
    return found
