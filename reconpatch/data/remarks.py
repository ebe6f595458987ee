"""What is known of images and masks once they were read, why a mask is refused, and what is remarked on.

The same rules hold for the images of a category, which `index` reads, and for photographs of your own. `pictures` finds
the facts; here no pixel is looked at.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from reconpatch.data.layouts import FORMAT_SUFFIXES
from reconpatch.errors import ReconpatchError, quote

MODE_RULES = {  # Pillow's mode of a file -> how it becomes RGB
    "LA": "alpha dropped",
    "PA": "alpha dropped",
    "RGBA": "alpha dropped",
    "1": "black and white",
    "P": "palette",
}
MADE_UP = "made up"  # a note on images of a miniature
# Notes: what the content of a file gives cause to remark on. Each is said of "images" or "masks".
ONE_COLOUR = "of a single colour"
FEW_VALUES = "that use less than an eighth of the range of values"
FEW_BITS = (
    "whose 16-bit values use at most a quarter of their range (12 bits of a camera?), so that few grey levels are left"
)
TRANSPARENT = "with transparent parts, where the invisible colours count"
EXTRA_BANDS = "with extra bands, which are dropped"
MASK_ALPHA = "with an alpha channel, which does not count"
MASK_JPEG = (
    "saved as JPEG, whose compression leaves grey values around every edge, which count as defects and change the "
    "pixel metrics (save masks as png, from their originals)"
)
INVERTED = (
    "that mark most of the image, or all of its border, as if black and white were exchanged (black is normal, white "
    "the defect)"
)


@dataclass(frozen=True)
class ImageFacts:
    """What is known of an image once it was read."""

    name: str
    sha256: str  # of the file; of an image in memory, of its pixels; "" where it is not needed, as is the next
    pixels_sha256: str  # digest of what was decoded, which copies share however they are saved
    width: int  # px, after the rotation in the EXIF data
    height: int
    mode: str = "RGB"  # Pillow's, of the file
    format: str = ""  # what the file holds, whatever its suffix; "" for an image that was in memory
    orientation: int = 1  # EXIF's; 1 is upright
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class MaskFacts:
    """What is known of a mask once it was read."""

    name: str
    width: int  # px, after the rotation in the EXIF data
    height: int
    orientation: int  # EXIF's; 1 is upright
    marked: int  # px on the defect
    between: int  # px above 0 and not white; 0 of a mask whose values are 0 and 1
    notes: tuple[str, ...] = ()


REPEATS = "that repeat others pixel for pixel"
FAR_SMALLER = 3  # times, by the shorter side
ENLARGED = 2  # times as long sides: what the network sees of an image then has four times the image's own pixels

FILE_PROPERTIES: dict[str, Callable[[ImageFacts], str]] = {  # may tell images apart whatever they show
    "format": lambda image: image.format,
    "mode": lambda image: image.mode,
    "size": lambda image: f"{image.width}x{image.height}",
}


def mask_problems(
    mask: MaskFacts,
    path: object,
    image: object,
    size: tuple[int, int] | None,
    label: int,
    *,
    may_be_empty: bool = False,
) -> list[ReconpatchError]:
    """Facts of a mask, its path, its image's path and (width, height), None if that is not known, label (1 is
    anomalous), whether a mask of a defective image may be empty -> why the mask cannot be used.
    """
    problems: list[tuple[str, str]] = []  # each with its fix
    if size is not None and size != (mask.width, mask.height):
        what = f"mask is {mask.width}x{mask.height} px, its image {size[0]}x{size[1]}"
        problems.append((what, "make them equal"))
    if label and not mask.marked and not may_be_empty:
        problems.append(("mask of a defective image is empty", "mark the defect, or leave the image out"))
    elif mask.marked and not label:
        what = f"marks {mask.marked} px of a normal image, {quote(image)}"
        problems.append((what, "move the image or empty the mask"))
    return [ReconpatchError(what, where=path, fix=fix) for what, fix in problems]


def counted(what: str, names: Sequence[str], most: int = 2) -> Iterator[str]:
    """ "what: count (first, second, ...)" with at most `most` names, or nothing without names."""
    if names:
        yield f"{what}: {len(names)} ({', '.join(map(quote, names[:most]))}{', ...' if len(names) > most else ''})"


def grouped(errors: Iterable[ReconpatchError], most: int = 2) -> list[str]:
    """Errors of files -> a line for each problem, with its number and at most `most` files where it has several."""
    groups: dict[tuple[str, str], list[ReconpatchError]] = {}
    for error in errors:
        groups.setdefault((error.what, error.fix), []).append(error)
    lines: list[str] = []
    for (what, fix), of_problem in groups.items():
        if len(of_problem) == 1:
            lines.append(str(of_problem[0]))
        else:
            lines += counted(f"{what}; {fix}" if fix else what, [error.where for error in of_problem], most)
    return lines


def mask_remarks(masks: Sequence[tuple[MaskFacts, ImageFacts, int]], least: int = 1) -> Iterator[str]:
    """Masks, each with its image and label -> what the rule "every value of at least `least` is a defect" hides."""
    grey = [mask for mask, _, _ in masks if mask.between and MASK_JPEG not in mask.notes]
    between = f"masks with values between black and white, {sum(mask.between for mask in grey)} px in all"
    rule = "which count" if least == 1 else f"of which those of at least {least} count"
    yield from counted(f"{between}, {rule} as defects", [mask.name for mask in grey])
    yield from counted("masks of the whole image", [m.name for m, _, _ in masks if m.marked == m.width * m.height])
    empty = [mask.name for mask, _, label in masks if label and not mask.marked]
    yield from counted("empty masks of defective images, whose pixels all count as normal", empty)
    yield from _noted("masks", [mask for mask, _, _ in masks])
    turned = [image.name for mask, image, _ in masks if mask.orientation != image.orientation]
    yield from counted("images whose masks have another EXIF orientation, each turned as its own says", turned)


def image_remarks(images: Sequence[ImageFacts], fitted_modes: Collection[str] = ()) -> Iterator[str]:
    """Images, modes of those that a model was fitted to (none: not known) -> how the images are stored, by which rule
    they are read, and what is odd in them.
    """
    misnamed = [
        f"{i.name} holds {i.format}"
        for i in images
        if (suffix := PurePosixPath(i.name).suffix.lower()) and suffix not in FORMAT_SUFFIXES.get(i.format, ())
    ]
    yield from counted("images of another format than their suffix says", misnamed)
    for mode in sorted({i.mode for i in images} - {"RGB", "L"}):
        rule = "16-bit grey, scaled by 1/257" if mode.startswith("I") else MODE_RULES.get(mode, "converted to RGB")
        yield from counted(f"images of mode {mode} ({rule})", [i.name for i in images if i.mode == mode])
    if fitted_modes:
        others = [f"{i.name}: {i.mode}" for i in images if i.mode not in fitted_modes]
        yield from counted(f"images of other modes than the model was fitted to ({', '.join(fitted_modes)})", others)
    yield from _noted("images", images)
    yield from counted("images turned as their EXIF orientation says", [i.name for i in images if i.orientation != 1])


def repeated(images: Iterable[tuple[str, str]]) -> list[str]:
    """(name, digest of the pixels) of each image -> "copy = first" of each whose pixels an earlier one has."""
    first: dict[str, str] = {}
    return [f"{name} = {first[digest]}" for name, digest in images if first.setdefault(digest, name) != name]


def unlike_remarks(images: Sequence[ImageFacts]) -> Iterator[str]:
    """Images that a model is fitted to -> what may be no photograph of its own among them: copies of others, and images
    far smaller than most.
    """
    yield from counted(f"images {REPEATS}", repeated((i.name, i.pixels_sha256) for i in images))
    sides = sorted(min(i.width, i.height) for i in images)
    usual = sides[len(sides) // 2] if sides else 0
    small = [i.name for i in images if min(i.width, i.height) * FAR_SMALLER <= usual]
    yield from counted(f"images at least {FAR_SMALLER} times smaller than most (thumbnails?)", small)


def enlarged_remarks(names: Sequence[str], factors: Sequence[float]) -> Iterator[str]:
    """Names of N images, how many times longer than its own the sides are at which the network sees each -> a remark on
    those that are far smaller than what it sees.
    """
    small = [name for name, factor in zip(names, factors, strict=True) if factor > ENLARGED]
    most = max(factors, default=0)
    yield from counted(
        f"images that are enlarged more than {ENLARGED} times for the network, up to {most:.1f} times (are these small "
        "copies? larger images show more)",
        small,
    )


def _noted(what: str, files: Sequence[ImageFacts | MaskFacts]) -> Iterator[str]:
    """One remark for each note."""
    for note in sorted({note for each in files for note in each.notes}):
        yield from counted(f"{what} {note}", [each.name for each in files if note in each.notes])


def told_apart_by_files(
    name: str, images: Sequence[ImageFacts], other_name: str, others: Sequence[ImageFacts]
) -> Iterator[str]:
    """Two groups -> properties of files that no image of one shares with the other: scores might follow them, not
    defects.

    A property with many values, for example the sizes of crops, separates groups by chance and is left out.
    """
    for what, value_of in FILE_PROPERTIES.items():
        # An image that was in memory has no format.
        values, other_values = ({value_of(i) for i in group} - {""} for group in (images, others))
        if 1 <= len(values) <= 2 and 1 <= len(other_values) <= 2 and not values & other_values:
            apart = f"{', '.join(sorted(values))}; {', '.join(sorted(other_values))}"
            yield f"{name} images differ from all {other_name} ones in {what}: {apart}"
