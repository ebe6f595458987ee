"""Synthetic inputs, drawn from a seed: features, pictures, a category of them, anomaly maps."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's, which every contestant normalises with


def clustered(n: int, dim: int, seed: int = 0) -> NDArray[np.float32]:
    """(n, dim) float32 that lie as a network's patch features do.

    Blobs of unequal width in few inner dimensions, a little noise in all of them, and one point in fifty far out.
    """
    rng = np.random.default_rng(seed)
    inner, blobs = 12, 64
    axes = rng.standard_normal((inner, dim), np.float32) / np.float32(np.sqrt(dim))
    centres = 2 * rng.standard_normal((blobs, inner), np.float32)
    widths = rng.gamma(2.0, 0.35, blobs).astype(np.float32)
    points = np.empty((n, dim), np.float32)
    for start in range(0, n, 1 << 16):  # blocks, so that a million points need no second copy
        part = points[start : start + (1 << 16)]
        blob = rng.integers(0, blobs, len(part))
        place = centres[blob] + rng.standard_normal((len(part), inner), np.float32) * widths[blob, None]
        place[rng.random(len(part)) < 0.02] *= np.float32(1.75)
        rng.standard_normal(part.shape, np.float32, out=part)
        part *= np.float32(0.05 * np.sqrt(inner / dim))
        part += place @ axes
    return points


def picture(side: int, rng: np.random.Generator, defect: bool = False) -> tuple[Image.Image, Image.Image]:
    """side in px -> (RGB texture, its mask): broad shades, a weave and camera noise; a defect is one or two blots."""
    shade = Image.fromarray(rng.integers(60, 190, (8, 8, 3), np.uint8)).resize((side, side), Image.Resampling.BICUBIC)
    y, x = np.mgrid[:side, :side].astype(np.float32)
    pitch = rng.uniform(6, 14)
    weave = 14 * np.sin(x * np.float32(2 * np.pi / pitch)) * np.sin(y * np.float32(2 * np.pi / pitch))
    values = np.asarray(shade, np.float32) + weave[..., None] + 3 * rng.standard_normal((side, side, 1), np.float32)
    mask = np.zeros((side, side), bool)
    for _ in range(int(rng.integers(1, 3)) if defect else 0):
        cx, cy = rng.uniform(0.3, 0.7, 2) * side
        mask |= ((x - cx) / rng.uniform(0.03, 0.1)) ** 2 + ((y - cy) / rng.uniform(0.03, 0.1)) ** 2 < side**2
    values[mask] += rng.choice([-60, 60])
    return Image.fromarray(np.clip(values, 0, 255).astype(np.uint8)), Image.fromarray(mask)


def write_pictures(folder: Path, count: int, side: int, seed: int = 0) -> list[Path]:
    """Write so many PNGs of textures, unless they are there -> their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{i:04}.png" for i in range(count)]
    for i, path in enumerate(paths):
        if not path.exists():
            picture(side, np.random.default_rng([seed, i]))[0].save(path)
    return paths


def write_category(folder: Path, train: int, test: int, side: int) -> None:
    """Write a category in MVTec AD's layout: normal training images, and test images of which half are defective."""
    (folder / "ground_truth/blot").mkdir(parents=True, exist_ok=True)
    for part, count in (("train/good", train), ("test/good", test // 2), ("test/blot", test - test // 2)):
        (folder / part).mkdir(parents=True, exist_ok=True)
        defect = part == "test/blot"
        for i in range(count):
            image, mask = picture(side, np.random.default_rng([*part.encode(), i]), defect)
            image.save(folder / part / f"{i:03}.png")
            if defect:
                mask.convert("L").save(folder / "ground_truth/blot" / f"{i:03}_mask.png")


def copy_as_png(source: Path, folder: Path, most: int | None = None) -> None:
    """Copy a category, `most` of every folder, every image as PNG: not every contestant reads other formats."""
    folders = sorted(p for part in ("train", "test", "ground_truth") for p in (source / part).iterdir() if p.is_dir())
    for path in (p for inner in folders for p in sorted(inner.iterdir())[:most]):
        target = (folder / path.relative_to(source)).with_suffix(".png")
        target.parent.mkdir(parents=True, exist_ok=True)
        with Image.open(path) as image:
            image.convert("L" if "ground_truth" in path.parts else "RGB").save(target)


def maps_and_masks(count: int, side: int, seed: int = 0) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """(count, side, side) anomaly maps and masks: smooth noise, raised on the one or two regions of every other map."""
    rng = np.random.default_rng(seed)
    masks = np.stack([np.asarray(picture(side, rng, defect=bool(i % 2))[1]) for i in range(count)])
    maps = np.empty((count, side, side), np.float32)
    for out, mask in zip(maps, masks, strict=True):
        rough = rng.standard_normal((max(4, side // 8),) * 2, np.float32) + 2
        out[:] = np.asarray(Image.fromarray(rough).resize((side, side), Image.Resampling.BICUBIC)) + mask
    return maps, masks


def batches(count: int, batch: int, side: int, seed: int = 0) -> list[NDArray[np.uint8]]:
    """(batch, side, side, 3) uint8 images, `count` batches of them."""
    rng = np.random.default_rng(seed)
    return [np.stack([np.asarray(picture(side, rng)[0]) for _ in range(batch)]) for _ in range(count)]


def normalised(images: NDArray[np.uint8]) -> Any:
    """(B, H, W, 3) uint8 -> (B, 3, H, W) float32 tensor in the ordinary memory order, normalised for ImageNet."""
    import torch

    x = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
    mean, std = (torch.tensor(v)[:, None, None] for v in (MEAN, STD))
    return ((x - mean) / std).contiguous()
