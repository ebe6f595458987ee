"""Three products shaped as BTAD's, made of MVTec AD categories, so that BTAD's path can be run without BTAD.

    python benchmarks/btad_shaped.py MVTEC_ROOT DESTINATION

Numbers on them say nothing about BTAD. What is BTAD's: the folders, and what tends to break readers of it. Images are
bmp in products 01 and 03 and png in 02; masks are png in 01 and 02 and bmp in 03, so suffixes differ within a product.
Every folder counts from 0000, so stems repeat between train, ok and ko. Images of 03 are not square (4:3), so a centre
crop cuts their sides. 01 and 03 show the first category found, 02 the second.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from PIL import Image

# product: (which category found, suffix of images, suffix of masks, width to height or None for as it is)
PRODUCTS = {"01": (0, ".bmp", ".png", None), "02": (1, ".png", ".png", None), "03": (0, ".bmp", ".bmp", (4, 3))}


T = TypeVar("T")


def evenly(items: Sequence[T], most: int) -> list[T]:
    """Items -> at most so many of them, at even distances, so that defect types keep their shares."""
    count = min(most, len(items))
    return [items[i * len(items) // count] for i in range(count)]


def files(folder: Path) -> list[Path]:
    """Folder -> the files in it, sorted."""
    return sorted(p for p in folder.iterdir() if p.is_file() and not p.name.startswith("."))


def defective(category: Path) -> list[tuple[Path, Path]]:
    """Category folder -> its defective images in sorted order, each with its mask; an image without one is left out."""
    pairs = []
    for truth in sorted(p for p in (category / "ground_truth").iterdir() if (category / "test" / p.name).is_dir()):
        masks = {p.stem.removesuffix("_mask"): p for p in files(truth)}
        pairs += [(p, masks[p.stem]) for p in files(category / "test" / truth.name) if p.stem in masks]
    return pairs


def read(file: Path, mode: str, shape: tuple[int, int] | None) -> Image.Image:
    """File -> image in this mode, its centre cut to the shape (width to height)."""
    with Image.open(file) as opened:
        image = opened.convert(mode)
    if shape is None:
        return image
    unit = min(image.width // shape[0], image.height // shape[1])
    width, height = unit * shape[0], unit * shape[1]
    left, top = (image.width - width) // 2, (image.height - height) // 2
    return image.crop((left, top, left + width, top + height))


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("mvtec_root", type=Path, help="folder that holds at least two categories in MVTec AD's layout")
    parser.add_argument("destination", type=Path, help="new or empty folder")
    parser.add_argument("--train", type=int, default=60, help="at most so many images in train/ok (60)")
    parser.add_argument("--test", type=int, default=40, help="at most so many in each of test/ok and test/ko (40)")
    given = parser.parse_args()
    if given.train < 1 or given.test < 1:
        parser.error(f"--train {given.train} --test {given.test}: must be at least 1")
    if given.destination.exists() and (not given.destination.is_dir() or any(given.destination.iterdir())):
        parser.error(f"{given.destination}: exists and is not an empty folder; name another or empty it")
    parts = ("train/good", "test/good", "ground_truth")
    found = sorted(c for c in given.mvtec_root.glob("*") if all((c / part).is_dir() for part in parts))
    if len(found) < 2:
        parser.error(f"{given.mvtec_root}: {len(found)} categories with {', '.join(parts)} in it; two are needed")

    for product, (source, suffix, mask_suffix, shape) in PRODUCTS.items():
        category, folder = found[source], given.destination / product
        # A crop can cut a defect off; a defective image needs a mask that is not empty.
        shown = [(i, m) for i, m in defective(category) if read(m, "L", shape).getbbox() is not None]
        images = evenly(files(category / "train/good"), given.train)
        normal, pairs = evenly(files(category / "test/good"), given.test), evenly(shown, given.test)
        for part, mode, end, chosen in (
            ("train/ok", "RGB", suffix, images),
            ("test/ok", "RGB", suffix, normal),
            ("test/ko", "RGB", suffix, [image for image, _ in pairs]),
            ("ground_truth/ko", "L", mask_suffix, [mask for _, mask in pairs]),
        ):
            if not chosen:
                parser.error(f"{category}: nothing in it to make {product}/{part} of")
            (folder / part).mkdir(parents=True)
            for i, file in enumerate(chosen):
                read(file, mode, shape).save(folder / part / f"{i:04}{end}")
        print(f"{product}: {category.name}, {len(images)} train/ok, {len(normal)} test/ok, {len(pairs)} test/ko")


if __name__ == "__main__":
    main()
