"""What the published data sets contain, and what a reader must know of a category's images before trusting a number.

Nothing here stops a run. Everything follows from the manifest alone, so the same data give the same words everywhere.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import ClassVar, Literal

from reconpatch.data.layouts import Item, called_like_masks, differ_in_suffix
from reconpatch.data.remarks import (
    REPEATS,
    ImageFacts,
    MaskFacts,
    counted,
    image_remarks,
    mask_remarks,
    repeated,
    told_apart_by_files,
)
from reconpatch.errors import quote

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
# Groups of categories whose means tables show beside the mean of all. The paper prints objects and textures. It is
# said to gain by learnt positions, so the pose of the objects may matter, too. Of MVTec AD, its publication (Bergmann
# et al., CVPR 2019) names toothbrush, capsule and pill as roughly aligned, and metal nut, screw and hazelnut as placed
# with a random rotation. The other four are our judgement: cable, transistor and zipper lie the same way in all normal
# images; the bottle is seen from above, centred and round, so that turning it changes little.
GROUPS: dict[str, dict[str, frozenset[str]]] = {
    "mvtec_ad": {
        "object": frozenset(KNOWN["mvtec_ad"]) - TEXTURES,
        "aligned": frozenset({"bottle", "cable", "capsule", "pill", "toothbrush", "transistor", "zipper"}),
        "rotated": frozenset({"hazelnut", "metal_nut", "screw"}),
        "texture": TEXTURES,
    }
}
DEFECT_TYPES = {"btad": {"good", "ko"}}  # of data sets whose folders below test/ are known; `ok` is called good here
SMALLEST = {"mvtec_ad": 700, "btad": 600}  # px, the shorter side of the data set's smallest images


@dataclass(frozen=True, order=True)
class Flag:
    """One thing a reader must know before comparing a number with a published one.

    The kind is "weights" (the network is untrained), "sample" (the defects are drawn), "altered" (the data differ from
    the published ones) or "remark" (something about the data that forbids no comparison).
    """

    kind: Literal["weights", "sample", "altered", "remark"]
    text: str

    __pydantic_config__: ClassVar[dict[str, str]] = {
        "extra": "forbid"
    }  # records hold flags as {"kind": ..., "text": ...}

    @property
    def forbids_comparison(self) -> bool:
        """Whether a number with this flag is no replication of a published one."""
        return self.kind != "remark"

    def __str__(self) -> str:
        return f"data: {self.text}" if self.kind == "remark" else self.text


def record_flags(weights: str, layout: str, category: str, items: Sequence[Item]) -> list[Flag]:
    """Source of the weights, layout, category and its images -> the flags of a record."""
    untrained = [Flag("weights", "untrained (random) weights")] if weights == "random" else []
    drawn = [Flag("sample", "embedded sample: defects drawn by us")] if layout == "sample" else []
    return [*untrained, *drawn, *data_flags(layout, category, items)]


def data_flags(layout: str, category: str, items: Sequence[Item]) -> list[Flag]:
    """Images of a category -> how they differ from the published ones, then remarks on them."""
    altered = [Flag("altered", f"data altered: {text}") for text in alterations(layout, category, items)]
    return altered + [Flag("remark", text) for text in remarks(items)]


def image_counts(items: Sequence[Item]) -> tuple[int, int, int]:
    """Images of a category -> how many are for training, normal test images and defective test images."""
    test = [item.label for item in items if item.split == "test"]
    return len(items) - len(test), test.count(0), test.count(1)


def as_published(layout: str, category: str, items: Sequence[Item]) -> bool:
    """Whether a category has as many images of each kind as the published one."""
    return KNOWN.get(layout, {}).get(category) == image_counts(items)


def alterations(layout: str, category: str, items: Sequence[Item]) -> list[str]:
    """Images of a category -> how they differ from the published ones, in words; nothing for other data sets.

    Counts, size and lossless format are compared, not contents.
    """
    if layout not in KNOWN:
        return []
    if category not in KNOWN[layout]:
        return [f"{category} is no category of the published data set"]
    counts, differences = image_counts(items), []
    if counts != KNOWN[layout][category]:
        differences.append(f"images (training, normal, defective): {counts}, published {KNOWN[layout][category]}")
    strange = sorted({item.defect for item in items} - DEFECT_TYPES[layout]) if layout in DEFECT_TYPES else []
    if strange:
        differences.append(f"defects that the published data do not have: {', '.join(map(quote, strange))}")
    side = min(min(item.width, item.height) for item in items)
    if side < SMALLEST[layout]:
        differences.append(f"images scaled down to {side} px")
    if any(item.format in ("JPEG", "MPO") or item.path.lower().endswith((".jpg", ".jpeg")) for item in items):
        differences.append("images compressed again (JPEG)")
    return differences


def remarks(items: Sequence[Item]) -> list[str]:
    """Images of a category, as indexed -> short sentences, each with a count and the first two paths."""
    train, test = [i for i in items if i.split == "train"], [i for i in items if i.split == "test"]
    normal, defective = [i for i in test if not i.label], [i for i in test if i.label]
    groups = {"training": train, "normal test": normal, "defective test": defective}
    return [
        *_undefined_metrics(normal, defective),
        *_copies(groups),
        *mask_remarks([(_mask_of(i), _image_of(i), i.label) for i in items if i.mask is not None]),
        *_names(items),
        *image_remarks(_images_of(items)),
        *told_apart_by_files("normal test", _images_of(normal), "training", _images_of(train)),
        *told_apart_by_files("defective", _images_of(defective), "normal", _images_of([*train, *normal])),
        *_warnings(items),
    ]


def _images_of(items: Sequence[Item]) -> list[ImageFacts]:
    return [_image_of(item) for item in items]


def _image_of(i: Item) -> ImageFacts:
    return ImageFacts(
        name=i.path,
        sha256=i.sha256,
        pixels_sha256=i.pixels_sha256,
        width=i.width,
        height=i.height,
        mode=i.mode,
        format=i.format,
        orientation=i.orientation,
        notes=i.notes,
    )


def _mask_of(i: Item) -> MaskFacts:
    """An item that has a mask -> the facts of it."""
    return MaskFacts(
        name=i.mask or "",
        width=i.width,
        height=i.height,
        orientation=i.mask_orientation,
        marked=i.mask_pixels,
        between=i.mask_between,
        notes=i.mask_notes,
    )


def _undefined_metrics(normal: Sequence[Item], defective: Sequence[Item]) -> Iterator[str]:
    if not defective:
        yield "no defective test images: AUROC and AUPRO are undefined"
    if not normal:
        yield "no normal test images: the image AUROC is undefined"


def _copies(groups: dict[str, list[Item]]) -> Iterator[str]:
    """Images with the same pixels: within a group, and in two."""
    groups = {name: [i for i in images if i.pixels_sha256] for name, images in groups.items()}
    names = list(groups)
    for n, name in enumerate(names):
        yield from counted(f"{name} images {REPEATS}", repeated((i.path, i.pixels_sha256) for i in groups[name]))
        first = {i.pixels_sha256: i.path for i in reversed(groups[name])}
        for other in names[n + 1 :]:
            same = [f"{i.path} = {first[i.pixels_sha256]}" for i in groups[other] if i.pixels_sha256 in first]
            yield from counted(f"{other} images that are {name} images pixel for pixel", same)


def _names(items: Sequence[Item]) -> Iterator[str]:
    """Images whose names leave open what they are."""
    paths = [PurePosixPath(i.path) for i in items]
    twins = list(map(str, differ_in_suffix(paths)))
    yield from counted("images whose names differ from another's only in suffix", twins)
    masks = [f"{mask} of {image}" for mask, image in called_like_masks(paths).items()]
    yield from counted("images that are called like masks of others", masks)


def _warnings(items: Sequence[Item]) -> Iterator[str]:
    for text in sorted({i.warning for i in items if i.warning}):
        affected = [i.path for i in items if i.warning == text]
        yield from counted(f'images read with the warning "{quote(text)}"', affected)
