"""The manifest of a category: what the index found, and whether the files are still the same."""

import hashlib
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from reconpatch.data.images import view
from reconpatch.data.layouts import LAYOUTS, Item, Mask, category_folder, list_items, unlabelled_images
from reconpatch.errors import ReconpatchError, quote
from reconpatch.files import sha256_of

# Left out where empty.
OPTIONAL = {"pixels_sha256", "masks", "notes"}
OPTIONAL_OF_MASKS = {"classes", "saturation", "notes"}


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def manifest_json(items: list[Item]) -> str:
    """items -> JSON text: the items and a digest of them, which does not depend on where the data set lies."""
    rows = [_row(asdict(item), OPTIONAL) for item in items]
    for row in rows:
        if "masks" in row:
            row["masks"] = [_row(mask, OPTIONAL_OF_MASKS) for mask in row["masks"]]
    return json.dumps({"digest": _digest(rows), "images": rows}, indent=1) + "\n"


def _row(values: Mapping[str, Any], optional: Collection[str]) -> dict[str, Any]:
    """Fields of an item or a mask -> those that stand in a manifest."""
    return {key: value for key, value in values.items() if value or key not in optional}


def read_manifest(path: Path) -> tuple[list[Item], str]:
    """manifest file -> (items, digest). Raises ReconpatchError naming the file if it is damaged or was edited."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        rows, digest = content["images"], content["digest"]
        items = [_item(row) for row in rows]
        if set(content) != {"digest", "images"}:
            raise ValueError("keys too many or too few")
        if _digest(rows) != digest:
            raise ValueError("its digest does not fit its images")
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ReconpatchError(
            f"not a manifest as the index wrote it ({error})",
            where=path,
            fix="delete it, and the next run indexes the data again",
        ) from None
    return items, digest


def _item(row: Mapping[str, Any]) -> Item:
    """An image in a manifest -> the item. Raises ValueError, TypeError or AttributeError for another form."""
    masks = [
        Mask(**_complete(mask, Mask, OPTIONAL_OF_MASKS), notes=tuple(mask.get("notes", ())))
        for mask in row.get("masks", ())
    ]
    return Item(**_complete(row, Item, OPTIONAL), masks=tuple(masks), notes=tuple(row.get("notes", ())))


def _complete(row: Mapping[str, Any], kind: type[Item | Mask], optional: Collection[str]) -> dict[str, Any]:
    """The fields of an item or a mask in a manifest, but for its masks and notes, which are lists there."""
    if row.keys() | optional != {field.name for field in fields(kind)}:
        raise ValueError("keys too many or too few")
    return {key: value for key, value in row.items() if key not in ("masks", "notes")}


def frame_shape(items: Sequence[Item], run: Mapping[str, Any]) -> tuple[int, int]:
    """Images of a category, fields of a run -> (H, W) in px of what the network sees of each of them.

    Raises ReconpatchError, naming two images, if these differ: features and masks of a category are one array each.
    """
    size, aspect = int(run["crop"]), run.get("aspect", "crop")
    if aspect != "keep":
        return size, size
    try:
        shapes = {view(item.width, item.height, size=size, aspect=aspect).shape: item for item in items}
    except ReconpatchError as error:
        longest = max(items, key=lambda item: max(item.width / item.height, item.height / item.width))
        raise error.at(longest.path) from None
    if len(shapes) > 1:
        one, other = list(shapes.values())[:2]
        raise ReconpatchError(
            f"{one.width} x {one.height} px, but {quote(other.path)} has {other.width} x {other.height}: with aspect "
            "keep all images of a category must be seen in one shape",
            where=one.path,
            fix="set aspect to stretch, pad or crop",
        )
    return next(iter(shapes))


def check_unchanged(folder: Path, items: Iterable[Item], files: str = "images", threads: int = 1) -> None:
    """A category's folder, its items, "images" or "masks" -> nothing, if these files are as the index found them.

    Size and SHA-256 are compared: about 1 ms for a PNG of 1,024 px, a twentieth of its decoding. Raises one
    ReconpatchError that lists every file changed, removed or unreadable since.
    """
    expected = [(i.path, i.bytes, i.sha256) for i in items]
    if files == "masks":
        expected = [(mask.path, mask.bytes, mask.sha256) for item in items for mask in item.masks]

    def problem(entry: tuple[str, int, str]) -> str | None:
        path, size, sha256 = folder / entry[0], *entry[1:]
        try:
            if not path.is_file():
                return f"{quote(path)}: gone"
            if path.stat().st_size != size:
                return f"{quote(path)}: {path.stat().st_size} bytes, were {size}"
            return None if sha256_of(path) == sha256 else f"{quote(path)}: other bytes"
        except OSError as error:
            return f"{quote(path)}: cannot be read ({error.strerror})"

    with ThreadPoolExecutor(threads) as pool:
        problems = [line for line in pool.map(problem, expected) if line]
    if problems:
        heading = (
            f"{len(problems)} of {len(expected)} {files} changed since they were indexed; put them back, or run again "
            "with `--forcerun index_category`, which makes everything of this category again:"
        )
        raise ReconpatchError("\n  ".join([heading, *problems]))


def listing(layout: str, root: Path, category: str) -> str:
    """category -> digest of names, sizes and times of its images and masks: cheap, and changes whenever one does.

    It also holds the place of every image, which masks are its own, and the file that says how much of each kind of
    defect must be found.
    """
    folder, problems = category_folder(layout, root, category), list[str]()
    items = list(list_items(layout, folder, problems))
    facts: list[tuple[str, int, int]] = []
    withheld = [path.relative_to(folder).as_posix() for path in unlabelled_images(layout, folder)]
    names = set(withheld) | {name for i in items for name in (i.path, *(mask.path for mask in i.masks))}
    for name in sorted(names | ({LAYOUTS[layout].saturations} - {""})):
        try:
            status = (folder / name).stat()
            facts.append((name, status.st_size, status.st_mtime_ns))
        except OSError:  # a broken link: the index reports it
            facts.append((name, 0, 0))
    places = [(i.path, i.split, i.defect, [mask.path for mask in i.masks]) for i in items]
    return _digest([facts, places, sorted(problem.replace(str(root), "") for problem in problems)])[:16]
