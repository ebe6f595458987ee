"""A quarter of a data set in MVTec AD's layout: every fourth training and every third test image, with their masks.

python benchmarks/quarter.py MVTEC_ROOT DESTINATION
"""

import argparse
import shutil
import sys
from pathlib import Path


def copy(source: Path, root: Path, destination: Path) -> None:
    """Copy a file to its place below the destination."""
    target = destination / source.relative_to(root)
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)


def main() -> None:
    """Entry point of the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("root", type=Path)
    parser.add_argument("destination", type=Path)
    arguments = parser.parse_args()
    root, destination = arguments.root, arguments.destination
    if not root.is_dir():
        sys.exit(f"{root}: no such folder")
    if destination.exists() and any(destination.iterdir()):
        sys.exit(f"{destination}: not empty; name a folder that is, or does not exist")
    for category in sorted(path for path in root.iterdir() if (path / "train/good").is_dir()):
        for image in sorted((category / "train/good").iterdir())[::4]:
            copy(image, root, destination)
        for defect in sorted((category / "test").iterdir()):
            for image in sorted(defect.iterdir())[::3]:
                copy(image, root, destination)
                mask = category / "ground_truth" / defect.name / f"{image.stem}_mask.png"
                if mask.is_file():
                    copy(mask, root, destination)


if __name__ == "__main__":
    main()
