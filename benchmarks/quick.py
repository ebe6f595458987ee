"""In under three minutes: has something become slower? Each part beside what limits it, and beside the last time.

    python benchmarks/quick.py            # prints the table
    python benchmarks/quick.py --keep     # writes it to quick.csv, too, to be committed

A ratio is CPU time of ours over that of a lower bound or a plain way, measured in turns on one core, so that machines
can be compared. The noise of a shared machine is 5 to 10 %, so this is for people to read and no test.
"""

import argparse
import csv
import os
import platform
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from bench import measure
from machine import field, output
from parts import Run

KEPT = Path(__file__).with_name("quick.csv")
TURNS = 3
COLUMNS = ("what", "ratio", "commit", "date", "processor")


class Pair(NamedTuple):
    """A command with {} for the variant, ours, what it is compared with, and that in words."""

    what: str
    command: str
    own: str
    other: str
    against: str


PAIRS = (
    Pair(
        "training step, 1,024 patches, 1024-512-128",
        "step.py {} --inputs 1024 --dim 512 --projection 128 --batch 1024 --steps 20",
        *("train", "products", "its matrix products alone"),
    ),
    Pair(
        "training step, 1,024 patches, 64-32-16",
        "step.py {} --inputs 64 --dim 32 --projection 16 --batch 1024 --steps 20",
        *("train", "products", "its matrix products alone"),
    ),
    Pair(
        "coreset, 20,000 x 128, 5 %",
        "coreset.py {} --points 20000 --ratio 0.05 --picks 100",
        *("ours", "brute", "one pass a pick"),
    ),
    Pair(
        "extraction, 224 px",
        "extraction.py {} --size 224 --batch 4 --batches 1",
        *("ours", "forward", "the network's forward pass alone"),
    ),
    Pair("search, 6,000 in 1,600", "scoring.py search {} --queries 6000 --bank 1600", "ours", "torch", "one product"),
    Pair("maps, 28 to 224 px", "scoring.py maps {} --count 50 --grid 28 --size 224", "ours", "torch", "plain PyTorch"),
    Pair("pixel metrics, 30 maps of 224 px", "pixels.py {} --maps 30 --size 224", "ours", "sklearn", "scikit-learn"),
)


def ratio_of(pair: Pair, given: argparse.Namespace) -> float | None:
    """A pair -> CPU time of ours over that of the other, the least of some turns each; None if one failed."""
    least: dict[str, float] = {}
    for _ in range(TURNS):
        for variant in (pair.own, pair.other):
            values = measure(Run(variant, tuple(pair.command.format(variant).split())), given)
            if "missing" in values:
                return None
            least[variant] = min(values["cpu_s"], least.get(variant, values["cpu_s"]))
    return least[pair.own] / least[pair.other]


def rows(given: argparse.Namespace) -> Iterator[tuple[Pair, float | None]]:
    """Every pair with its ratio, as soon as it is measured."""
    for pair in PAIRS:
        yield pair, ratio_of(pair, given)


def main() -> int:
    """Measure, print beside what was kept, and perhaps keep; 1 if a part failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keep", action="store_true", help="write the ratios to quick.csv")
    given = parser.parse_args()
    given.threads, given.anomalib, given.patchcore = 1, None, None
    began = time.perf_counter()
    kept = {row["what"]: row for row in csv.DictReader(KEPT.open())} if KEPT.exists() else {}
    about = {
        "commit": output("git", "-C", str(KEPT.parent), "describe", "--always", "--dirty"),
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "processor": f"{field('/proc/cpuinfo', 'model name')}, {platform.machine()}",
    }
    print(f"load before: {', '.join(f'{load:.1f}' for load in os.getloadavg())} (1, 5, 15 minutes)")
    print("| what | against | now | last kept | change |\n| --- | --- | --- | --- | --- |")
    found, failed = dict(kept), 0
    for pair, ratio in rows(given):
        last = float(kept[pair.what]["ratio"]) if pair.what in kept else None
        shown = "failed" if ratio is None else f"{ratio:.3g}"
        change = "" if ratio is None or last is None else f"{ratio / last - 1:+.0%}"
        print(f"| {pair.what} | {pair.against} | {shown} | {'' if last is None else f'{last:.3g}'} | {change} |")
        sys.stdout.flush()
        failed += ratio is None
        if ratio is not None:
            found[pair.what] = {"what": pair.what, "ratio": f"{ratio:.4g}", **about}
    print("Ratios of CPU time, ours to the other's: lower is faster. Within 10 % is noise.")
    for row in sorted({(row["commit"], row["date"], row["processor"]) for row in kept.values()}):
        print(f"last kept: {', '.join(row)}")
    print(f"{time.perf_counter() - began:.0f} s")
    if given.keep:
        with KEPT.open("w", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
            writer.writeheader()
            writer.writerows(found.values())
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
