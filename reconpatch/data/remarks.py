"""What a reader must know of a category's data before trusting a number: none of it stops a run."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import PurePosixPath

from reconpatch.data.index import Item
from reconpatch.data.layouts import shown
from reconpatch.data.published import REMARK, alterations

SUFFIXES = {  # format -> suffixes that announce it; a camera's MPO is a JPEG
    "PNG": {".png"},
    "JPEG": {".jpg", ".jpeg"},
    "MPO": {".jpg", ".jpeg"},
    "BMP": {".bmp"},
    "TIFF": {".tif", ".tiff"},
    "WEBP": {".webp"},
}
RULES = {"LA": "alpha dropped", "PA": "alpha dropped", "RGBA": "alpha dropped", "1": "black and white", "P": "palette"}
STORED: dict[str, Callable[[Item], object]] = {  # what might tell images apart whatever they show
    "format": lambda i: i.format,
    "mode": lambda i: i.mode,
    "size": lambda i: f"{i.width}x{i.height}",
}


def data_flags(layout: str, category: str, items: Sequence[Item]) -> list[str]:
    """Images of a category -> all that is to be said of them: how they differ from the published ones, and remarks."""
    altered = [f"data altered: {what}" for what in alterations(layout, category, items)]
    return altered + [f"{REMARK}{remark}" for remark in remarks(items)]


def record_flags(weights: str, layout: str, category: str, items: Sequence[Item]) -> list[str]:
    """Source of the weights, images of a category -> what a reader of its record must know before comparing."""
    untrained = ["untrained (random) weights"] if weights == "random" else []
    drawn = ["embedded sample: defects drawn by us"] if layout == "sample" else []
    return [*untrained, *drawn, *data_flags(layout, category, items)]


def remarks(items: Sequence[Item]) -> list[str]:
    """Images of a category, as indexed -> short sentences with counts and the first two paths, if any are due.

    A function of the manifest alone, so that the same data give the same words everywhere.
    """
    train, test = [i for i in items if i.split == "train"], [i for i in items if i.split == "test"]
    normal, defective = [i for i in test if not i.label], [i for i in test if i.label]
    groups = {"training": train, "normal test": normal, "defective test": defective}
    found = [*_undefined(normal, defective), *_copies(groups), *_masks(items), *_files(items), *_told_apart(groups)]
    return [*found, *_warnings(items)]


def _said(what: str, names: Sequence[str]) -> Iterator[str]:
    """ "what: count (first, second, ...)", or nothing without names."""
    if names:
        yield f"{what}: {len(names)} ({', '.join(map(shown, names[:2]))}{', ...' if len(names) > 2 else ''})"


def _undefined(normal: Sequence[Item], defective: Sequence[Item]) -> Iterator[str]:
    if not defective:
        yield "no defective test images, so that AUROC and AUPRO are undefined"
    if not normal:
        yield "no normal test images, so that the image AUROC is undefined"


def _copies(groups: dict[str, list[Item]]) -> Iterator[str]:
    """The same bytes at several places: within a group, and in two."""
    names = list(groups)
    for n, name in enumerate(names):
        first: dict[str, str] = {}
        repeated = [
            f"{i.path} = {first[i.sha256]}" for i in groups[name] if first.setdefault(i.sha256, i.path) != i.path
        ]
        yield from _said(f"{name} images that repeat others byte for byte", repeated)
        for other in names[n + 1 :]:
            same = [f"{i.path} = {first[i.sha256]}" for i in groups[other] if i.sha256 in first]
            yield from _said(f"{other} images that are {name} images byte for byte", same)


def _masks(items: Sequence[Item]) -> Iterator[str]:
    """What the reading "above 0 is a defect" hides."""
    masks = [(i.mask, i) for i in items if i.mask is not None]
    total = sum(i.mask_between for i in items)
    between = f"masks with values between black and white, {total} px in all, a defect as all above 0"
    yield from _said(between, [mask for mask, i in masks if i.mask_between])
    yield from _said("masks of the whole image", [mask for mask, i in masks if i.mask_pixels == i.width * i.height])
    empty = [mask for mask, i in masks if i.label and not i.mask_pixels]
    yield from _said("empty masks of defective images, whose pixels all count as normal", empty)
    turned = [i.path for _, i in masks if i.orientation != i.mask_orientation]
    yield from _said("images whose masks have another EXIF orientation, each turned as its own says", turned)


def _files(items: Sequence[Item]) -> Iterator[str]:
    """How the images are stored, and what was decided to read them."""
    stems = Counter(PurePosixPath(i.path).with_suffix("") for i in items)
    twins = [i.path for i in items if stems[PurePosixPath(i.path).with_suffix("")] > 1]
    yield from _said("images whose names differ from another's only in suffix", twins)
    misnamed = [i for i in items if PurePosixPath(i.path).suffix.lower() not in SUFFIXES.get(i.format, ())]
    yield from _said(
        "images of another format than their suffix says", [f"{i.path} holds {i.format}" for i in misnamed]
    )
    for mode in sorted({i.mode for i in items} - {"RGB", "L"}):
        rule = "16-bit grey, scaled by 1/257" if mode.startswith("I") else RULES.get(mode, "converted to RGB")
        yield from _said(f"images of mode {mode} ({rule})", [i.path for i in items if i.mode == mode])
    turned = [i.path for i in items if i.orientation != 1]
    yield from _said("images turned as their EXIF orientation says", turned)


def _told_apart(groups: dict[str, list[Item]]) -> Iterator[str]:
    """Properties of files that no image of one group shares with the other: scores might follow them, not defects.

    Where a property has many values, as the sizes of crops, groups are apart by chance, and nothing is said.
    """
    train, normal, defective = groups.values()
    pairs = (("normal test", normal, "training", train), ("defective", defective, "normal", [*train, *normal]))
    for name, ours, other, theirs in pairs:
        for what, of in STORED.items():
            mine, others = sorted({str(of(i)) for i in ours}), sorted({str(of(i)) for i in theirs})
            if 1 <= len(mine) <= 2 and 1 <= len(others) <= 2 and not set(mine) & set(others):
                yield f"{name} images differ from all {other} ones in {what}: {', '.join(mine)}; {', '.join(others)}"


def _warnings(items: Sequence[Item]) -> Iterator[str]:
    for text in sorted({i.warning for i in items if i.warning}):
        yield from _said(f'images read with the warning "{shown(text)}"', [i.path for i in items if i.warning == text])
