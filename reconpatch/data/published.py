"""What the published data sets contain, and what a reader must know of a category's images before trusting a number.

Nothing here stops a run. Everything follows from the manifest alone, so the same data give the same words everywhere.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import ClassVar, Literal

from reconpatch.data.catalogue import CONTENTS, Counts, category_counts, kinds_of
from reconpatch.data.layouts import Item, Mask, called_like_masks, differ_in_suffix
from reconpatch.data.remarks import (
    MADE_UP,
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
    if any(MADE_UP in item.notes for item in items):
        drawn.append(Flag("sample", "miniature: images made up by us, which no number says anything about"))
    return [*untrained, *drawn, *data_flags(layout, category, items)]


def data_flags(layout: str, category: str, items: Sequence[Item]) -> list[Flag]:
    """Images of a category -> how they differ from the published ones, then remarks on them."""
    altered = [Flag("altered", f"data altered: {text}") for text in alterations(layout, category, items)]
    return altered + [Flag("remark", text) for text in remarks(items)]


def image_counts(items: Sequence[Item]) -> Counts:
    """Images of a category -> how many of each kind; those without truth are no items."""
    test = [item.label for item in items if item.split == "test"]
    splits = [item.split for item in items]
    return Counts(splits.count("train"), test.count(0), test.count(1), splits.count("validation"))


def as_published(layout: str, category: str, items: Sequence[Item]) -> bool:
    """Whether a category has as many images of each kind as the published one."""
    known = category_counts(layout).get(category)
    return known is not None and known._replace(unlabelled=0) == image_counts(items)


def alterations(layout: str, category: str, items: Sequence[Item]) -> list[str]:
    """Images of a category -> how they differ from the published ones, in words; nothing for other data sets.

    Counts, size and lossless format are compared, not contents.
    """
    if layout not in CONTENTS:
        return []
    data_set = CONTENTS[layout]
    if category not in data_set.categories:
        return [f"{category} is no category of the published data set"]
    differences: list[str] = []
    found, published = image_counts(items), data_set.counts.get(category)
    if published is not None and found != published._replace(unlabelled=0):
        kinds = ("training", "normal", "defective", "validation")[: 4 if published.validation else 3]
        ours, theirs = (tuple(counts)[: len(kinds)] for counts in (found, published))
        differences.append(f"images ({', '.join(kinds)}): {ours}, published {theirs}")
    strange = sorted({item.defect for item in items} - data_set.defect_types) if data_set.defect_types else []
    if strange:
        differences.append(f"defects that the published data do not have: {', '.join(map(quote, strange))}")
    side = min(min(item.width, item.height) for item in items)
    if side < data_set.smallest:
        differences.append(f"images scaled down to {side} px")
    compressed = (i.format in ("JPEG", "MPO") or i.path.lower().endswith((".jpg", ".jpeg")) for i in items)
    if not data_set.compressed and any(compressed):
        differences.append("images compressed again (JPEG)")
    return differences


def anomaly_kinds(layout: str, items: Sequence[Item]) -> list[str]:
    """Layout, images -> of each the kind of its anomaly where the data set measures kinds apart, else ""."""
    kind_of = {defect: kind for kind, defects in kinds_of(layout).items() for defect in defects}
    return [kind_of.get(item.defect, "") for item in items]


def remarks(items: Sequence[Item]) -> list[str]:
    """Images of a category, as indexed -> short sentences, each with a count and the first two paths."""
    train, validation, test = ([i for i in items if i.split == s] for s in ("train", "validation", "test"))
    normal, defective = [i for i in test if not i.label], [i for i in test if i.label]
    groups = {"training": train, "validation": validation, "normal test": normal, "defective test": defective}
    return [
        *_undefined_metrics(normal, defective),
        *_copies(groups),
        *mask_remarks([(_mask_of(mask, i), _image_of(i), i.label) for i in items for mask in i.masks]),
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
        notes=tuple(note for note in i.notes if note != MADE_UP),
    )


def _mask_of(mask: Mask, i: Item) -> MaskFacts:
    """A mask of an item -> its facts."""
    return MaskFacts(
        name=mask.path,
        width=i.width,
        height=i.height,
        orientation=mask.orientation,
        marked=mask.pixels,
        between=mask.between,
        notes=mask.notes,
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
