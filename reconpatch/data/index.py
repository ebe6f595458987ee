"""Data sets: their categories, and the manifest that says what a category holds."""

import hashlib
import json
import re
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, fields
from pathlib import Path

from reconpatch.data.layouts import LAYOUTS, hidden, list_items, shown, top
from reconpatch.data.layouts import Item as Item  # everyone else takes it from here
from reconpatch.errors import ReconpatchError
from reconpatch.files import NAME, sha256_of

# Order of the paper's Table 5: objects, then textures.
MVTEC_AD = (
    *("bottle", "cable", "capsule", "hazelnut", "metal_nut", "pill", "screw", "toothbrush", "transistor", "zipper"),
    *("carpet", "grid", "leather", "tile", "wood"),
)


def categories(layout: str, root: Path) -> list[str]:
    """root folder -> names of the categories in it, MVTec AD's in the paper's order, others sorted.

    Raises ReconpatchError when the root is missing, cannot be listed or holds no category.
    """
    names = LAYOUTS[layout]
    train = top(names.train)
    try:
        if not root.is_dir():
            what = f"{train}/ and {top(names.test)}/" if names.single else "the categories"
            raise ReconpatchError(f"data root {root}: no such folder; give the one that holds {what}")
        if names.single and (root / train).is_dir():
            return [_checked(root.resolve().name)]
        found = {p.name for p in root.iterdir() if not hidden(p.name) and (p / train).is_dir()}
    except OSError as error:
        raise ReconpatchError(f"data root {root}: {shown(error.filename)}: {error.strerror}") from None
    if not found:
        raise ReconpatchError(
            f"data root {root}: no folder in it has a {train}/ folder, so it holds no {layout} category"
        )
    return [c for c in MVTEC_AD if c in found] + [_checked(c) for c in sorted(found.difference(MVTEC_AD))]


def _checked(name: str) -> str:
    """Category names become folders of the results."""
    if not re.fullmatch(NAME, name):
        raise ReconpatchError(f"category folder {name!r}: rename it, names hold only letters, digits, '.', '_' and '-'")
    return name


def category_folder(layout: str, root: Path, category: str) -> Path:
    """The folder of one category; where the layout allows it, the root may be a single category itself."""
    names = LAYOUTS[layout]
    return root if names.single and (root / top(names.train)).is_dir() else root / category


def _digest(rows: object) -> str:
    return hashlib.sha256(json.dumps(rows, sort_keys=True).encode()).hexdigest()


def manifest(items: list[Item]) -> str:
    """items -> JSON text: the items and a digest of them, the same wherever the data set lies."""
    rows = [asdict(item) for item in items]
    return json.dumps({"digest": _digest(rows), "images": rows}, indent=1) + "\n"


def read_manifest(path: Path) -> tuple[list[Item], str]:
    """manifest file -> (items, digest). Raises ReconpatchError naming the file unless it is whole and as written."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        rows, digest = content["images"], content["digest"]
        items = [Item(**row) for row in rows]
        if set(content) != {"digest", "images"} or any(len(row) != len(fields(Item)) for row in rows):
            raise ValueError("keys too many or too few")
        if _digest(rows) != digest:
            raise ValueError("its digest does not fit its images")
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise ReconpatchError(
            f"{path}: not a manifest as the index wrote it ({error}); delete it, and the next run indexes the data anew"
        ) from None
    return items, digest


def check_unchanged(folder: Path, items: Iterable[Item], kind: str = "images", threads: int = 1) -> None:
    """A category's folder, items, "images" or "masks" -> nothing, if each of these files is as the index found it.

    Size and SHA-256 are compared: about 0.3 ms for a PNG of 800 px, a hundredth of its decoding. Raises one
    ReconpatchError that lists every file changed, removed or unreadable since.
    """
    wanted = [(i.path, i.bytes, i.sha256) for i in items]
    if kind == "masks":
        wanted = [(i.mask, i.mask_bytes, i.mask_sha256) for i in items if i.mask is not None]

    def found(entry: tuple[str, int, str]) -> str | None:
        path, size, sha256 = folder / entry[0], *entry[1:]
        try:
            if not path.is_file():
                return f"{shown(path)}: gone"
            if path.stat().st_size != size:
                return f"{shown(path)}: {path.stat().st_size} bytes, were {size}"
            return None if sha256_of(path) == sha256 else f"{shown(path)}: other bytes"
        except OSError as error:
            return f"{shown(path)}: cannot be read ({error.strerror})"

    with ThreadPoolExecutor(threads) as pool:
        problems = [problem for problem in pool.map(found, wanted) if problem]
    if problems:
        raise ReconpatchError(
            "\n  ".join(
                [
                    f"{len(problems)} of {len(wanted)} {kind} changed since they were indexed; put them back, or run "
                    "again with `--forcerun index_category`, which makes everything of this category anew:",
                    *problems,
                ]
            )
        )


def listing(layout: str, root: Path, category: str) -> str:
    """category -> digest of names, sizes and times of its images and masks: cheap, changes whenever one does."""
    folder, problems = category_folder(layout, root, category), list[str]()
    items = list(list_items(layout, folder, problems))
    facts: list[tuple[str, int, int]] = []
    for name in sorted({name for i in items for name in (i.path, i.mask) if name is not None}):
        try:
            status = (folder / name).stat()
            facts.append((name, status.st_size, status.st_mtime_ns))
        except OSError:  # a broken link: the index says so
            facts.append((name, 0, 0))
    return _digest([facts, sorted(problem.replace(str(folder), "") for problem in problems)])[:16]


def count_images(layout: str, folder: Path) -> tuple[int, int]:
    """The folder of a category -> (training, test) images in it, none of them opened."""
    splits = [item.split for item in list_items(layout, folder, [])]
    return splits.count("train"), splits.count("test")
